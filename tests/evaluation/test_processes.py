"""Laws with a computable floor: their formulas against independent ones, and against draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from helpers.process_floors import Ar1Floor, IntervalFloor, RegionChainFloor
from helpers.strategies import latitudes, longitudes
from hypothesis import given
from hypothesis import strategies as st

from model.earth.geometry import step_from
from model.synthetic.processes import moved, walked

LAWS = [Ar1Floor(), Ar1Floor(noise_m=3.0), Ar1Floor(0.5, 2.0, 30.0), Ar1Floor(0.99, 0.1, 0.5)]


def covariance_of_seen(law: Ar1Floor, num: int) -> np.ndarray:
    """Covariance of seen positions 1..num less position 0, from the definition and no recursion."""
    lag = np.abs(np.subtract.outer(np.arange(num), np.arange(num)))
    step = law.step_sigma_m**2 * law.persistence**lag
    total = np.tril(np.ones((num, num)))
    # the noise of position 0 is in all of the differences
    return total @ step @ total.T + law.noise_m**2 * (np.eye(num) + 1)


def seen_by(law: Ar1Floor, num_trajectories: int, num: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    track = np.stack(
        [np.cumsum(law.draw_steps_m(generator, num), axis=0) for _ in range(num_trajectories)]
    )
    return track + law.noise_m * generator.standard_normal(track.shape)


@pytest.mark.parametrize("law", LAWS)
def test_the_filter_gives_the_joint_density_of_brute_force(law):
    seen = seen_by(law, 3, 12)
    covariance = covariance_of_seen(law, 11)
    offset = seen[:, 1:] - seen[:, :1]
    half_log_det = np.linalg.slogdet(covariance)[1] / 2
    squared = np.einsum("btc,ts,bsc->b", offset, np.linalg.inv(covariance), offset)
    joint = 2 * (half_log_det + 11 * math.log(2 * math.pi) / 2) + squared / 2
    assert law.nll(seen).sum(axis=1) == pytest.approx(joint, rel=1e-9)


@pytest.mark.parametrize("law", LAWS)
def test_the_one_step_forecast_is_the_conditional_mean_of_brute_force(law):
    seen = seen_by(law, 3, 9)
    covariance = covariance_of_seen(law, 8)
    weight = np.linalg.solve(covariance[:-1, :-1], covariance[:-1, -1])
    offset = seen[:, 1:-1] - seen[:, :1]
    mean, variance = law.one_step(seen)
    expected = seen[:, 0] + np.einsum("t,btc->bc", weight, offset)
    assert mean[:, -1] == pytest.approx(expected, rel=1e-9)
    assert variance[-1] == pytest.approx(covariance[-1, -1] - weight @ covariance[:-1, -1])


@pytest.mark.parametrize("law", LAWS)
def test_the_settled_variance_is_kolmogorovs(law):
    # Kolmogorov: the log of the one-step variance is the mean of the log of the spectrum.
    omega = 2 * np.pi * (np.arange(1 << 21) + 0.5) / (1 << 21)
    spectrum = law.innovation_m**2 / abs(1 - law.persistence * np.exp(-1j * omega)) ** 2
    spectrum += law.noise_m**2 * abs(1 - np.exp(-1j * omega)) ** 2
    expected = math.exp(np.log(spectrum).mean())
    assert law.one_step_variance_m2 == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("law", LAWS[:3])
def test_draws_reach_the_floor_and_no_other_law_does(law):
    seen = seen_by(law, 200, 300)
    settled = law.nll(seen)[:, 100:].mean()
    assert settled == pytest.approx(law.entropy, abs=0.03)
    for wrong in (
        Ar1Floor(law.persistence * 0.8, law.innovation_m, law.noise_m),
        Ar1Floor(law.persistence, law.innovation_m * 1.3, law.noise_m),
        Ar1Floor(law.persistence, law.innovation_m, law.noise_m + 2.0),
    ):
        assert wrong.nll(seen)[:, 100:].mean() > settled


def test_without_noise_the_floor_is_that_of_the_innovation():
    law = Ar1Floor(0.9, 5.0)
    assert law.one_step_variance_m2 == pytest.approx(25.0)
    assert law.entropy == pytest.approx(1 + math.log(2 * math.pi * 25))
    weights = [(1 - 0.9**j) / (1 - 0.9) for j in range(1, 11)]
    assert law.forecast_sigma_m(10) == pytest.approx(5 * math.sqrt(sum(w * w for w in weights)))


def test_the_best_forecast_misses_by_the_floor():
    law = Ar1Floor(0.9, 5.0)
    generator = np.random.default_rng(3)
    step = np.stack([law.draw_steps_m(generator, 20) for _ in range(4_000)])
    reach = sum(0.9**j for j in range(1, 11))
    error = step[:, 10:20].sum(axis=1) - reach * step[:, 9]
    displacement = np.hypot(*error.T).mean()
    assert displacement == pytest.approx(law.displacement_floor_m(10), rel=0.03)


def test_steps_are_stationary_from_the_first_on():
    law = Ar1Floor()
    generator = np.random.default_rng(0)
    step = np.stack([law.draw_steps_m(generator, 4) for _ in range(20_000)])
    assert step.std(axis=(0, 2)) == pytest.approx([law.step_sigma_m] * 4, rel=0.02)
    lagged = (step[:, 1:] * step[:, :-1]).mean() / law.step_sigma_m**2
    assert lagged == pytest.approx(0.9, rel=0.02)


def test_intervals_have_their_median_and_entropy():
    interval = IntervalFloor(10.0, 0.3)
    drawn = interval.draw_s(np.random.default_rng(0), 200_000)
    assert np.median(drawn) == pytest.approx(10.0, rel=0.01)
    assert np.log(drawn).std() == pytest.approx(0.3, rel=0.01)
    assert interval.nll(drawn).mean() == pytest.approx(interval.entropy, abs=0.01)
    grid = np.linspace(0.5, 60, 400_001)
    assert np.trapezoid(np.exp(-interval.nll(grid)), grid) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("chain", [RegionChainFloor(), RegionChainFloor(side=3, stay=0.1)])
def test_the_chain_is_one_and_its_shares_stay(chain):
    transition = chain.transition_RR
    assert transition.sum(axis=1) == pytest.approx(np.ones(chain.num_regions))
    assert chain.stationary_R @ transition == pytest.approx(chain.stationary_R)
    assert chain.stationary_R == pytest.approx(np.linalg.matrix_power(transition, 4_000)[0])


def test_the_entropy_rate_is_that_of_long_sequences():
    # Brute force: the entropy of three regions less that of two, over all sequences.
    chain = RegionChainFloor(side=2, stay=0.3)
    assert entropy_of(chain, 3) - entropy_of(chain, 2) == pytest.approx(chain.entropy)


def entropy_of(chain: RegionChainFloor, length: int) -> float:
    total = 0.0
    for path in itertools.product(range(chain.num_regions), repeat=length):
        chance = chain.stationary_R[path[0]]
        for a, b in itertools.pairwise(path):
            chance *= chain.transition_RR[a, b]
        total -= chance * math.log(chance) if chance else 0.0
    return total


def test_regions_drawn_follow_the_chain():
    chain = RegionChainFloor()
    region = chain.draw(np.random.default_rng(0), 200_000)
    assert chain.nll(region).mean() == pytest.approx(chain.entropy, abs=0.01)
    assert np.bincount(region, minlength=25) / 200_000 == pytest.approx(
        chain.stationary_R, abs=0.01
    )


@given(longitudes(), latitudes(), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_step_reaches_where_the_model_says(lon_deg, lat_deg, east_m, north_m):
    ours = moved(*(np.array(value) for value in (lon_deg, lat_deg, east_m, north_m)))
    theirs = step_from(
        *(torch.tensor(v, dtype=torch.float64) for v in (lon_deg, lat_deg, east_m, north_m))
    )
    assert -180 <= ours[0] < 180
    assert ours[1] == pytest.approx(theirs[1].item(), abs=1e-9)
    around = math.radians(ours[0] - theirs[0].item())
    assert math.sin(around / 2) * math.cos(math.radians(ours[1])) == pytest.approx(0, abs=1e-9)


def test_a_walk_takes_each_step_from_where_the_last_one_ended():
    step = np.random.default_rng(0).normal(0, 500.0, (50, 2))
    lon, lat = walked(179.999, -17.0, step)
    place = (np.array(179.999), np.array(-17.0))
    for t in range(50):
        place = moved(*place, np.array(step[t, 0]), np.array(step[t, 1]))
        assert (lon[t], lat[t]) == (pytest.approx(place[0]), pytest.approx(place[1]))
