"""Embeddings of time and place against a slow computation of the published formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.layers.embeddings import LearnableFourier, Space2Vec, Time2Vec

WIDTH = 6


def moved_weights(module):
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.double().requires_grad_(False)


@pytest.fixture
def fourier():
    return moved_weights(LearnableFourier(2, WIDTH))


@pytest.fixture
def time2vec():
    return moved_weights(Time2Vec(WIDTH))


@pytest.fixture
def space2vec():
    return moved_weights(Space2Vec(WIDTH, 4, 10.0, 10_000.0))


@given(first=st.floats(-100, 100), second=st.floats(-100, 100))
def test_fourier_follows_the_formula(first, second):
    module = moved_weights(LearnableFourier(2, WIDTH))
    found = module(torch.tensor([first, second], dtype=torch.float64))
    for number, value in enumerate((first, second)):
        for column in range(WIDTH):
            frequency = float(module.frequency_VD[number, column])
            angle = frequency * value + float(module.phase_VD[number, column])
            expected = math.sqrt(1 / WIDTH) * math.cos(angle)
            assert float(found[number * WIDTH + column]) == pytest.approx(expected, abs=1e-9)


def test_fourier_begins_with_frequencies_from_one_to_a_billionth():
    frequency_D = LearnableFourier(1, 4).frequency_VD[0].tolist()
    assert frequency_D == pytest.approx([1, 1e-3, 1e-6, 1e-9])


@given(time=st.floats(-100, 100))
def test_time2vec_follows_the_formula(time):
    module = moved_weights(Time2Vec(WIDTH))
    found = module(torch.tensor(time, dtype=torch.float64)).tolist()
    for column in range(WIDTH):
        angle = float(module.frequency_D[column]) * time + float(module.phase_D[column])
        expected = angle if column == 0 else math.sin(angle)
        assert found[column] == pytest.approx(expected, abs=1e-9)


@given(east_m=st.floats(-1e5, 1e5), north_m=st.floats(-1e5, 1e5))
def test_space2vec_follows_the_formula(east_m, north_m):
    """Directions by their coordinates, scales by their ratio: S - 1 in the exponent, not S."""
    module = Space2Vec(WIDTH, 4, 10.0, 10_000.0)
    found = iter(module.grid(torch.tensor([east_m, north_m], dtype=torch.float64)).tolist())
    root = math.sqrt(3) / 2
    for scale_m in (10.0, 100.0, 1_000.0, 10_000.0):
        for x, y in ((1.0, 0.0), (-0.5, root), (-0.5, -root)):
            angle = (east_m * x + north_m * y) / scale_m
            assert next(found) == pytest.approx(math.cos(angle), abs=1e-8)
            assert next(found) == pytest.approx(math.sin(angle), abs=1e-8)
    assert next(found, None) is None


def test_space2vec_projects_its_grid(space2vec):
    place_m_NC = torch.tensor([[3.0, -4.0], [5e3, 70.0]]).double()
    linear = space2vec.grid(place_m_NC) @ space2vec.project.weight.T + space2vec.project.bias
    torch.testing.assert_close(space2vec(place_m_NC), linear.clamp(min=0))
    assert (linear < 0).any()


def test_each_keeps_the_leading_shape(fourier, time2vec, space2vec):
    assert fourier(torch.zeros(3, 5, 2).double()).shape == (3, 5, 2 * WIDTH)
    assert time2vec(torch.zeros(3, 5).double()).shape == (3, 5, WIDTH)
    assert space2vec(torch.zeros(3, 5, 2).double()).shape == (3, 5, WIDTH)


@pytest.mark.parametrize("wrong", [(1, 1.0, 2.0), (3, 0.0, 2.0), (3, 2.0, 2.0)])
def test_impossible_scales_are_refused(wrong):
    with pytest.raises(ValueError, match="at least 2 scales"):
        Space2Vec(WIDTH, *wrong)
