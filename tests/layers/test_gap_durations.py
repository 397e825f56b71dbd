"""Densities of stays in a gap: whole over the gap, as scipy has them, and those of others apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from model.layers.durations import DurationMixture
from model.layers.gap_durations import GapDuration, GapDurationHead

EDGE_S, ROOM_S = 1_200.0, 9_000.0
OWN = ((0.3, 8.0, 0.5), (0.2, 6.5, 0.2))  # weight, mean and deviation of log seconds
REST = ((0.4, 6.0, 0.3), (0.1, 8.5, 0.6))


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def law(whole=0.1, room_s=ROOM_S, edge_s=EDGE_S):
    own, rest = (torch.tensor(part, dtype=torch.float64).T for part in (OWN, REST))
    return GapDuration(
        log_zero=numbers(-math.inf)[0],
        log_weight_M=own[0].log(),
        log_mean_M=own[1],
        log_scale_M=own[2],
        edge_s=edge_s,
        log_weight_rest_M=rest[0].log(),
        log_mean_rest_M=rest[1],
        log_scale_rest_M=rest[2],
        log_whole=numbers(whole)[0].log(),
        room_s=numbers(room_s)[0],
    )


def density_by_scipy(seconds):
    """Of the parts, before they are made whole."""
    own = sum(w * stats.lognorm(sd, scale=math.exp(m)).pdf(seconds) for w, m, sd in OWN)
    rest = sum(w * stats.lognorm(sd, scale=math.exp(m)).pdf(ROOM_S - seconds) for w, m, sd in REST)
    return own + rest


def test_a_density_agrees_with_scipy_and_is_whole_within_the_gap():
    mass, _ = integrate.quad(density_by_scipy, EDGE_S, ROOM_S, limit=200, points=[8_500.0])
    seconds = np.linspace(EDGE_S + 1, ROOM_S - 1, 60)
    found = law().log_density(torch.from_numpy(seconds)).exp()
    np.testing.assert_allclose(found, 0.9 * density_by_scipy(seconds) / mass, rtol=1e-6)
    for second in (1_500.0, 5_000.0, 8_700.0):
        above, _ = integrate.quad(density_by_scipy, second, ROOM_S, limit=200)
        told = float(law().log_survival(numbers(second)).exp())
        assert told == pytest.approx(0.1 + 0.9 * above / mass, rel=1e-6)


def test_nothing_outlasts_the_gap_and_what_fills_it_has_its_own_share():
    assert float(law().log_density(numbers(ROOM_S)).exp()) == pytest.approx(0.1)
    assert float(law().log_density(numbers(ROOM_S + 1))) == -math.inf
    assert float(law().cumulative(numbers(ROOM_S))) == 1
    assert float(law().cumulative(numbers(EDGE_S))) == pytest.approx(0)
    draws = law().sample(torch.linspace(0.0005, 0.9995, 2_000).double())
    assert float(draws.min()) >= EDGE_S
    assert float(draws.max()) == ROOM_S
    assert float((draws == ROOM_S).double().mean()) == pytest.approx(0.1, abs=2e-3)


@given(
    st.floats(0.001, 0.999),
    st.sampled_from([0.0, 0.1, 0.6]),
    st.sampled_from([1_300.0, 4_000.0, 9_000.0, 1e6]),
)
@settings(max_examples=40, deadline=None)
def test_a_quantile_is_the_inverse_of_the_cumulative_share(share, whole, room_s):
    told = law(whole, room_s)
    seconds = told.quantile(share)
    assert EDGE_S <= float(seconds) <= room_s
    if share > 1 - whole:
        assert float(seconds) == room_s
    elif share < 1 - whole:
        assert float(told.cumulative(seconds)) == pytest.approx(share, abs=1e-7)


@given(st.floats(1_201.0, 1e6), st.floats(0.01, 0.99))
@settings(max_examples=25, deadline=None)
def test_a_stay_that_fills_no_gap_is_told_as_any_other(seconds, share):
    torch.manual_seed(0)
    head = GapDurationHead(4, 2, 3, 3_600.0, 600.0, EDGE_S)
    with torch.no_grad():
        told = head(torch.randn(3, 4), torch.randn(3, 2), torch.full((3,), math.inf))
    parts = told.log_zero, told.log_weight_M, told.log_mean_M, told.log_scale_M
    plain = DurationMixture(*parts, edge_s=EDGE_S)
    asked = torch.full((3,), seconds, dtype=torch.float64)
    for name in ("log_density", "log_survival", "cumulative"):
        torch.testing.assert_close(getattr(told, name)(asked), getattr(plain, name)(asked))
    torch.testing.assert_close(told.quantile(share), plain.quantile(share))


@pytest.mark.parametrize("room_s", [1_200.0, 1_201.0, 7_200.0, 1e7, math.inf])
def test_sharp_edges_stay_finite_with_their_gradients(room_s):
    torch.manual_seed(0)
    head = GapDurationHead(4, 2, 3, 600.0, 60.0, EDGE_S)
    law_N = head(torch.randn(3, 4), torch.randn(3, 2), torch.full((3,), room_s))
    longest_s = min(room_s, 30 * 86_400.0)
    for asked in (EDGE_S, (EDGE_S + longest_s) / 2, longest_s):
        told_N = law_N.log_density(torch.full((3,), asked, dtype=torch.float64))
        assert bool(told_N.isfinite().all()), (room_s, asked)
        head.zero_grad()
        told_N.sum().backward(retain_graph=True)
        assert all(bool(value.grad.isfinite().all()) for value in head.parameters())


def test_the_rest_of_a_gap_is_learnt_as_sharply_as_it_is():
    """Of stays of all lengths that leave a way of ten minutes, give or take, to the end."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    way_s = 600 * np.exp(0.2 * generator.standard_normal(400))
    room_s = torch.from_numpy(generator.uniform(3_000, 80_000, 400))
    stay_s = room_s - torch.from_numpy(way_s)
    head = GapDurationHead(2, 1, 3, 20_000.0, 1_000.0, EDGE_S)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
    nothing_ND, room_N1 = torch.zeros(400, 2), torch.log(room_s).float().unsqueeze(1) - 10
    for _ in range(150):
        optimiser.zero_grad()
        loss = -head(nothing_ND, room_N1, room_s).log_density(stay_s).mean()
        loss.backward()
        optimiser.step()
    least = float(np.mean(-stats.lognorm(0.2, scale=600).logpdf(way_s)))
    assert loss.item() < least + 0.05
