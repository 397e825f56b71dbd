"""Densities of durations: they integrate to one, agree with scipy, and tell what is not over."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from model.layers.durations import (
    MIN_DURATION_S,
    MIN_LOG_SCALE,
    DurationMixture,
    DurationMixtureHead,
)

WEIGHTS, MEANS, SCALES = (0.3, 0.7), (7.0, 8.5), (0.5, 0.2)
EDGES = (0.0, 600.0, 1_200.0)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def mixture(edge_s=0.0, at_zero=0.1):
    return DurationMixture(
        numbers(at_zero).log()[0],
        numbers(*WEIGHTS).log(),
        numbers(*MEANS),
        numbers(*SCALES),
        edge_s,
    )


def above(edge_s):
    """The same law by scipy: its density and the mass that it leaves above the edge."""
    parts = [
        stats.lognorm(scale, scale=math.exp(mean))
        for mean, scale in zip(MEANS, SCALES, strict=True)
    ]
    mass = sum(weight * part.sf(edge_s) for weight, part in zip(WEIGHTS, parts, strict=True))
    return parts, mass


@pytest.mark.parametrize("edge_s", EDGES)
def test_a_density_agrees_with_scipy(edge_s):
    parts, mass = above(edge_s)
    seconds = np.geomspace(max(edge_s, 1), 40_000, 50)[1:]
    density = sum(weight * part.pdf(seconds) for weight, part in zip(WEIGHTS, parts, strict=True))
    below = sum(weight * part.sf(seconds) for weight, part in zip(WEIGHTS, parts, strict=True))
    found = mixture(edge_s)
    given_s = torch.from_numpy(seconds)
    np.testing.assert_allclose(found.log_density(given_s).exp(), 0.9 * density / mass, rtol=1e-9)
    np.testing.assert_allclose(found.log_survival(given_s).exp(), 0.9 * below / mass, rtol=1e-9)


def check_is_whole(log_density, at_zero, low, high):
    """Between two logarithms of seconds lies all that does not lie at zero."""
    # Closer to each other near the edge: far above a sharp law the density falls off at once.
    log_s = low + (high - low) * torch.linspace(0, 1, 20_001).double() ** 3
    density_of_log = log_density(log_s.exp()).exp() * log_s.exp()
    mass = float(torch.trapezoid(density_of_log, log_s))
    assert mass + at_zero == pytest.approx(1, abs=1e-3)


def test_a_gaussian_of_seconds_loses_what_lies_below_zero():
    """The fault of the published head: a quarter of the mass lies where no duration can be."""
    gaussian = torch.distributions.Normal(600.0, 900.0)
    with pytest.raises(AssertionError):
        check_is_whole(gaussian.log_prob, 0.0, math.log(MIN_DURATION_S), math.log(1e4))


@given(st.floats(0, 0.9), st.sampled_from(EDGES), st.floats(0.01, 3), st.floats(2, 14))
@example(0.0, 0.0, 3.0, 2.0)  # a thousandth lies below a millisecond, where nothing can be
@settings(max_examples=25, deadline=None)
def test_a_density_integrates_to_one_over_positive_seconds(at_zero, edge_s, scale, mean):
    law = replace(
        mixture(edge_s, at_zero), log_mean_M=numbers(mean, mean), log_scale_M=numbers(scale, scale)
    )

    low = max(mean - 9 * scale, math.log(max(edge_s, MIN_DURATION_S)))
    check_is_whole(law.log_density, at_zero, low, max(mean + 9 * scale, low + 9 * scale))


@given(st.floats(0.001, 0.999), st.sampled_from(EDGES), st.sampled_from([0.0, 0.1, 0.6]))
@settings(max_examples=40, deadline=None)
def test_a_quantile_is_the_inverse_of_the_cumulative_share(share, edge_s, at_zero):
    law = mixture(edge_s, at_zero)
    seconds = law.quantile(share)
    if abs(share - at_zero) < 1e-6:
        return
    if share < at_zero:
        assert float(seconds) == 0
    else:
        assert float(law.cumulative(seconds)) == pytest.approx(share, abs=1e-9)
        assert float(seconds) >= edge_s


def test_the_edge_is_hard():
    law = mixture(1_200.0)
    assert float(law.cumulative(torch.tensor(1_199.0).double())) == pytest.approx(0.1)
    draws = law.sample(torch.rand(1_000, generator=torch.Generator().manual_seed(0)).double())
    assert float(draws[draws > 0].min()) >= 1_200
    assert 0.05 < float((draws == 0).double().mean()) < 0.15
    longer = law.sample(torch.linspace(0.001, 0.999, 99).double(), 5_000.0)
    within = law.sample(torch.linspace(0.001, 0.999, 99).double(), 2_000.0, 2_500.0)
    assert 2_000 <= float(within.min()) < float(within.max()) <= 2_500
    assert float(longer.min()) >= 5_000
    assert bool((longer.diff() > 0).all())


def test_what_lies_within_a_margin():
    law = mixture(1_200.0)
    low, high = (law.cumulative(numbers(seconds)) for seconds in (4_000.0, 5_200.0))
    torch.testing.assert_close(law.within(numbers(4_600.0), 600.0), high - low)
    # Nothing lies below the edge but what is at zero, and that counts once.
    assert float(law.within(numbers(0.0), 600.0)) == pytest.approx(0.1)
    torch.testing.assert_close(
        law.within(numbers(1_300.0), 600.0), law.cumulative(numbers(1_900.0))
    )


def test_a_repeated_value_has_no_infinite_density():
    torch.manual_seed(0)
    head = DurationMixtureHead(4, 2, 3, typical_s=3_600.0, has_zero=True)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.1)
    hidden_ND, codes_NF = torch.randn(8, 4), torch.randn(8, 2)
    same_s_N = torch.full((8,), 1_200.0)
    for _ in range(150):
        optimiser.zero_grad()
        loss = -head(hidden_ND, codes_NF).log_density(same_s_N).mean()
        loss.backward()
        optimiser.step()
    assert math.isfinite(loss.item())
    assert loss.item() > math.log(1_200 * MIN_LOG_SCALE * math.sqrt(2 * math.pi)) - 1e-6


@pytest.mark.parametrize("seconds", [1e-3, 1.0, 1_200.0, 30 * 86_400.0])
def test_sharp_edges_stay_finite_with_their_gradients(seconds):
    """From a millisecond to a month, far in the tails of an untrained head."""
    torch.manual_seed(0)
    head = DurationMixtureHead(4, 2, 3, typical_s=60.0, edge_s=0.0, has_zero=True)
    law = head(torch.randn(3, 4), torch.randn(3, 2))
    asked = torch.full((3,), seconds)
    for told in (law.log_density(asked), law.log_survival(asked)):
        assert bool(told.isfinite().all())
        head.zero_grad()
        told.sum().backward(retain_graph=True)
        assert all(bool(value.grad.isfinite().all()) for value in head.parameters())


def test_a_censored_stay_pulls_the_density_to_longer_ones():
    """Records end by chance while some stays last: told so, the median is right; else it is not."""
    generator = np.random.default_rng(0)
    whole_s, end_s = 3_600 * np.exp(0.5 * generator.standard_normal((2, 1_000)))
    is_cut = end_s < whole_s
    seen_s = torch.from_numpy(np.minimum(whole_s, end_s))
    is_cut_N = torch.from_numpy(is_cut)
    medians = {}
    for knows in (True, False):
        torch.manual_seed(0)
        head = DurationMixtureHead(2, 1, 1, typical_s=3_600.0)
        optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
        for _ in range(100):
            law = head(torch.zeros(1_000, 2), torch.zeros(1_000, 1))
            seen, over = law.log_density(seen_s), law.log_survival(seen_s)
            loss = -torch.where(is_cut_N & knows, over, seen).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        medians[knows] = law.quantile(0.5)[0].item()
    assert medians[True] == pytest.approx(3_600, rel=0.05)
    assert medians[False] < 0.85 * 3_600


def test_a_head_begins_with_the_durations_of_train():
    """A sharp value that repeats, and two wide bumps: told before the first step of training."""
    generator = np.random.default_rng(0)
    bumps_s = np.exp([5.0, 7.5] + 0.4 * generator.standard_normal((500, 2))).ravel()
    seconds_N = torch.from_numpy(np.concatenate([np.zeros(200), np.full(300, 5.0), bumps_s]))
    torch.manual_seed(0)
    head = DurationMixtureHead(4, 2, 3, typical_s=60.0, has_zero=True)
    hidden_ND, codes_NF = torch.zeros(len(seconds_N), 4), torch.zeros(len(seconds_N), 2)
    before = head(hidden_ND, codes_NF)
    head.begin_as(seconds_N)
    with torch.no_grad():
        law = head(hidden_ND, codes_NF)
        gain = law.log_density(seconds_N).mean() - before.log_density(seconds_N).mean()
    assert float(gain) > 1
    assert float(law.log_zero[0].exp()) == pytest.approx(200 / 1_500, abs=0.01)
    share = float(law.within(torch.full_like(seconds_N, 5.0), 0.3)[0])
    assert share == pytest.approx(300 / 1_500, abs=0.02)
    # Too few to tell components apart: all but the share at zero stays as it was.
    head = DurationMixtureHead(4, 2, 3, typical_s=60.0, has_zero=True)
    kept = head.project.bias[1:].clone()
    head.begin_as(torch.tensor([0.0, 5.0, 5.0, 6.0]))
    assert torch.equal(head.project.bias[1:], kept)
