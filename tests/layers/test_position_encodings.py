"""Positions against independent formulas, and what rotations promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.layers.position_encodings import (
    angles_of,
    index_frequencies,
    rotate,
    sinusoidal_positions,
    spatio_temporal_frequencies,
)

PAIRS = 8
NEAR_AND_FAR = spatio_temporal_frequencies(PAIRS, 50.0, 1e5, 10.0, 86_400.0)


def places():
    """East and north in metres, and seconds, from something near."""
    metres = st.floats(-1e5, 1e5, allow_subnormal=False)
    return (
        st.tuples(metres, metres, st.floats(0, 86_400)).map(torch.tensor).map(torch.Tensor.double)
    )


def vectors(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 2 * PAIRS, dtype=torch.float64, generator=generator)


def turned(vector_K, position_C, frequency_CP):
    angle_BQP = angles_of(position_C.view(1, 1, -1), frequency_CP)
    return rotate(vector_K.view(1, 1, 1, -1), angle_BQP).flatten()


def test_sinusoidal_positions_follow_the_formula():
    table_ND = sinusoidal_positions(50, 8)
    for index in (0, 1, 17, 49):
        for pair in range(4):
            angle = index / 10_000 ** (2 * pair / 8)
            assert float(table_ND[index, 2 * pair]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(table_ND[index, 2 * pair + 1]) == pytest.approx(math.cos(angle), abs=1e-6)


def check_score_depends_on_differences(one, other, shift, seed, turned=turned):
    query_K, key_K = vectors(seed)
    here = turned(query_K, one, NEAR_AND_FAR) @ turned(key_K, other, NEAR_AND_FAR)
    moved = turned(query_K, one + shift, NEAR_AND_FAR) @ turned(key_K, other + shift, NEAR_AND_FAR)
    assert float(here) == pytest.approx(float(moved), abs=1e-8)


@given(one=places(), other=places(), shift=places(), seed=st.integers(0, 100))
def test_a_score_depends_on_differences_only(one, other, shift, seed):
    check_score_depends_on_differences(one, other, shift, seed)


def test_an_angle_that_is_not_linear_is_noticed():
    one, other, shift = torch.tensor([[1.0, 2, 3], [40, 50, 60], [700, 800, 900]]).double()

    def bent(vector_K, position_C, frequency_CP):
        return turned(vector_K, position_C.asinh(), frequency_CP)

    with pytest.raises(AssertionError):
        check_score_depends_on_differences(one, other, shift, 0, bent)


def test_a_score_depends_on_each_coordinate():
    query_K, key_K = vectors(0)
    home = torch.zeros(3, dtype=torch.float64)
    at_home = float(turned(query_K, home, NEAR_AND_FAR) @ turned(key_K, home, NEAR_AND_FAR))
    for coordinate in range(3):
        away = home.clone()
        away[coordinate] = 37.0
        score = float(turned(query_K, home, NEAR_AND_FAR) @ turned(key_K, away, NEAR_AND_FAR))
        assert abs(score - at_home) > 1e-3


@given(position=places(), seed=st.integers(0, 100))
def test_a_rotation_keeps_the_norm(position, seed):
    vector_K = vectors(seed)[0]
    norm = float(turned(vector_K, position, NEAR_AND_FAR).norm())
    assert norm == pytest.approx(float(vector_K.norm()), rel=1e-12)


def test_rotary_over_index_equals_complex_numbers():
    """Su et al. 2021, section 3.4.2, with pairs as complex numbers in NumPy."""
    rng = np.random.default_rng(0)
    vector_BHQK = rng.standard_normal((2, 3, 5, 2 * PAIRS))
    index_BQ = rng.integers(0, 1000, (2, 5))
    position_BQ1 = torch.from_numpy(index_BQ).double().unsqueeze(-1)
    found = rotate(torch.from_numpy(vector_BHQK), angles_of(position_BQ1, index_frequencies(PAIRS)))
    theta_P = np.array([10_000 ** (-2 * pair / (2 * PAIRS)) for pair in range(PAIRS)])
    pair_BHQP = vector_BHQK[..., 0::2] + 1j * vector_BHQK[..., 1::2]
    pair_BHQP = pair_BHQP * np.exp(1j * index_BQ[:, None, :, None] * theta_P)
    expected = np.stack([pair_BHQP.real, pair_BHQP.imag], axis=-1).reshape(vector_BHQK.shape)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)


def test_spatio_temporal_rotary_equals_complex_numbers():
    """Pair by pair: its coordinate, its wavelength, its turn."""
    rng = np.random.default_rng(1)
    vector_BHQK = rng.standard_normal((2, 3, 5, 2 * PAIRS))
    position_BQC = rng.uniform(-1e4, 1e4, (2, 5, 3))
    angle_BQP = angles_of(torch.from_numpy(position_BQC), NEAR_AND_FAR)
    found = rotate(torch.from_numpy(vector_BHQK), angle_BQP).numpy()
    metres = [50 * (1e5 / 50) ** (step / 1) for step in range(2)]
    seconds = [10 * (86_400 / 10) ** (step / 3) for step in range(4)]
    waves = [(0, wave) for wave in metres] + [(1, wave) for wave in metres]
    waves += [(2, wave) for wave in seconds]
    for pair, (coordinate, wavelength) in enumerate(waves):
        turn_BQ = np.exp(2j * np.pi * position_BQC[..., coordinate] / wavelength)
        before = vector_BHQK[..., 2 * pair] + 1j * vector_BHQK[..., 2 * pair + 1]
        after = found[..., 2 * pair] + 1j * found[..., 2 * pair + 1]
        np.testing.assert_allclose(after, before * turn_BQ[:, None], rtol=0, atol=1e-9)


@pytest.mark.parametrize("wrong", [(2, 1, 2, 1, 2), (6, 0, 2, 1, 2), (6, 1, 2, 3, 2)])
def test_impossible_frequencies_are_refused(wrong):
    with pytest.raises(ValueError, match=r"at least 3 pairs|must ascend"):
        spatio_temporal_frequencies(*wrong)
