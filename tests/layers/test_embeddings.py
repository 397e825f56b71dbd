"""Embeddings against a slow computation of the published formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.layers.embeddings import LearnableFourier

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


def test_fourier_keeps_the_leading_shape(fourier):
    assert fourier(torch.zeros(3, 5, 2).double()).shape == (3, 5, 2 * WIDTH)
