"""Clocks of data sets: what repeats in train comes back exactly, and all else as far as it was."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import QuantileTransformer

from model.families.gdm.clock import Clock


def clock_of(seconds_N):
    clock = Clock(math.log(60.0), 1.0)
    clock.fit(torch.from_numpy(np.log(seconds_N)))
    return clock


def log_normal(number, seed=0):
    return np.exp(4 + 0.7 * np.random.default_rng(seed).standard_normal(number))


def ticking(number=4_000):
    """Every minute, every ten minutes, and now and then anything."""
    return np.concatenate([np.full(number, 60.0), np.full(number // 2, 600.0), log_normal(200)])


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_deviates_are_seconds_and_back(asked):
    clock = clock_of(ticking())
    log_s = torch.tensor(asked, dtype=torch.float64).log()
    found = clock.log_seconds(clock.deviates(log_s))
    torch.testing.assert_close(found, log_s, rtol=1e-9, atol=1e-9)


def test_what_ticks_comes_back_exactly():
    generator = torch.Generator().manual_seed(0)
    deviate_N = torch.randn(20_000, generator=generator, dtype=torch.float64)
    second_N = clock_of(ticking()).log_seconds(deviate_N).exp()
    for seconds, share in ((60.0, 4_000 / 6_200), (600.0, 2_000 / 6_200)):
        is_it_N = (second_N - seconds).abs() < 1e-9
        assert float(is_it_N.double().mean()) == pytest.approx(share, abs=0.02)
    only = clock_of(np.full(50, 21_600.0)).log_seconds(5 * deviate_N).exp()
    torch.testing.assert_close(only, torch.full_like(only, 21_600.0), rtol=1e-12, atol=0)


def test_deviates_agree_with_scikit_learn():
    seconds_N = log_normal(1_001)
    oracle = QuantileTransformer(n_quantiles=1_001, output_distribution="normal")
    expected_N = oracle.fit_transform(np.log(seconds_N)[:, None])[:, 0]
    found_N = clock_of(seconds_N).deviates(torch.from_numpy(np.log(seconds_N))).numpy()
    inner = np.abs(expected_N) < 2
    np.testing.assert_allclose(found_N[inner], expected_N[inner], atol=0.02)


def test_deviates_rise_with_seconds():
    log_s_N = torch.linspace(-3, 15, 2_001, dtype=torch.float64)
    assert bool((clock_of(ticking()).deviates(log_s_N).diff() >= 0).all())
    assert bool((Clock(4.0, 0.5).deviates(log_s_N).diff() > 0).all())
