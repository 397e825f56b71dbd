"""Past journeys: tables worked by hand, and searches and spreads by other implementations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import lognorm
from sklearn.neighbors import KNeighborsRegressor

from model.baselines.past_journeys import (
    NEIGHBOURS,
    POWERS,
    PRIOR_JOURNEYS,
    Memory,
    PastJourneys,
    Ways,
    fitted_memory,
    slowness,
)
from model.interface.contexts import Partial

MONDAY_US = 1_704_067_200_000_000  # 2024-01-01 00:00 UTC
HOUR_US = 3_600_000_000


def question(origin, destination, hour, path_m=None) -> Partial:
    """Journeys between (lon_deg, lat_deg) places, some hours after a Monday began."""
    origin, destination = np.atleast_2d(origin), np.atleast_2d(destination)
    lon_deg, lat_deg = (
        torch.from_numpy(np.stack([origin[:, axis], destination[:, axis]], 1)) for axis in (0, 1)
    )
    shows_time = torch.tensor([True, False]).expand_as(lon_deg)
    hour = np.broadcast_to(np.asarray(hour, float), len(lon_deg))
    return Partial(
        lon_deg,
        lat_deg,
        torch.where(shows_time, 0.0, torch.nan).double(),
        torch.ones_like(shows_time),
        shows_time,
        torch.from_numpy(MONDAY_US + np.rint(hour * HOUR_US).astype(np.int64)),
        "UTC",
        torch.zeros_like(shows_time),
        path_m_B=None if path_m is None else torch.as_tensor(path_m).double(),
    )


def made_up(seed, size):
    """Journeys in a town of 10 km whose seconds grow with the way, faster by night."""
    generator = np.random.default_rng(seed)
    origin, destination = (generator.uniform(0, 0.1, (size, 2)) for _ in range(2))
    hour = generator.uniform(0, 168, size)
    asked = question(origin, destination, hour)
    mps = np.where(hour % 24 < 6, 16.0, 8.0)
    noise = np.exp(generator.normal(0, 0.2, size))
    return asked, (Ways.of(asked).length_m_J + 200) / mps * noise


def memory(asked, seconds, num_neighbours=5, power=0.0):
    found = Memory.of(Ways.of(asked), np.asarray(seconds, float))
    return replace(found, num_neighbours=num_neighbours, power=power)


def told_s(one, asked):
    return np.exp(one.median_log_s(Ways.of(asked)))


def test_a_table_worked_by_hand():
    """Two journeys from west to east took 100 s and 400 s: 200 s is half way for a log-normal."""
    west, east, far = (0.0, 0.0), (0.01, 0.0), (1.0, 0.0)
    train = question([west, west, far], [east, east, west], [8, 8, 8])
    flat = replace(memory(train, [100.0, 400.0, 9_000.0], 2), slowness_W=np.ones(168))
    flat = replace(flat, log_s_J=np.log([100.0, 400.0, 9_000.0]))
    assert told_s(flat, question([west], [east], 30))[0] == pytest.approx(200.0)
    # A way of twice the length, as its path tells, takes twice as long with power 1.
    metres = float(flat.ways.length_m_J[0])
    longer = question([west], [east], 30, [2 * metres + flat.way_m])
    assert told_s(replace(flat, power=1.0), longer)[0] == pytest.approx(400.0)
    assert told_s(replace(flat, power=0.5), longer)[0] == pytest.approx(200.0 * 2**0.5)
    # At an hour that is half as fast as that of the past it takes twice as long.
    slow_W = np.ones(168)
    slow_W[30] = 2.0
    assert told_s(replace(flat, slowness_W=slow_W), question([west], [east], 30))[
        0
    ] == pytest.approx(400.0)


def test_the_speed_of_an_hour_is_pulled_to_that_of_all():
    asked, seconds = made_up(0, 500)
    ways = Ways.of(asked)
    found = slowness(ways, seconds)
    mean_s, mean_m = np.mean(seconds), np.mean(ways.length_m_J)
    for hour in (0, 30, 100, 167):
        here = [n for n in range(500) if ways.hour_of_week_J[n] == hour]
        total_s = sum(seconds[n] for n in here) + PRIOR_JOURNEYS * mean_s
        total_m = sum(ways.length_m_J[n] for n in here) + PRIOR_JOURNEYS * mean_m
        assert found[hour] == pytest.approx(total_s / total_m * mean_m / mean_s)
    assert ways.hour_of_week_J.tolist() == [
        (int(us) - MONDAY_US) // HOUR_US for us in asked.started_us_B
    ]
    # Who never got anywhere has no speed.
    still = question([(0.0, 0.0)] * 3, [(0.0, 0.0)] * 3, 5)
    assert slowness(Ways.of(still), np.ones(3)).tolist() == [1.0] * 168


def test_neighbours_are_those_of_another_search():
    (train, seconds), (asked, _) = made_up(1, 300), made_up(2, 40)
    found = memory(train, seconds, 7)
    level = np.log(seconds) - np.log(found.slowness_W)[Ways.of(train).hour_of_week_J]
    search = KNeighborsRegressor(7).fit(Ways.of(train).ends_m_J6, level)
    ways = Ways.of(asked)
    expected = search.predict(ways.ends_m_J6) + np.log(found.slowness_W)[ways.hour_of_week_J]
    np.testing.assert_allclose(found.median_log_s(ways), expected, rtol=1e-12)


def test_the_spread_is_that_of_each_journey_around_the_others():
    train, seconds = made_up(3, 80)
    found = memory(train, seconds, 5, 1.0).with_spread()
    misses = []
    for number in range(80):
        others = np.delete(np.arange(80), number)
        rest = memory(train, seconds, 5, 1.0)
        kept = rest.ways.at(others)
        rest = replace(
            rest, ways=kept, log_s_J=rest.log_s_J[others], tree=type(rest.tree)(kept.ends_m_J6)
        )
        one = rest.median_log_s(Ways.of(train).at(slice(number, number + 1)))
        misses.append(np.log(seconds[number]) - one[0])
    assert found.sigma == pytest.approx(np.sqrt(np.mean(np.square(misses))))
    answer = PastJourneys(found, found).travel_time(train)
    for share, told in ((0.1, answer.p10_s_B), (0.5, answer.median_s_B), (0.9, answer.p90_s_B)):
        expected = lognorm.ppf(share, found.sigma, scale=answer.median_s_B)
        np.testing.assert_allclose(told, expected, rtol=1e-9)


def test_four_fifths_of_new_journeys_lie_between_the_deciles():
    (train, seconds), (asked, truth) = made_up(4, 2_000), made_up(5, 1_000)
    (chosen_on, chosen_s) = made_up(6, 300)
    found = fitted_memory(Ways.of(train), seconds, Ways.of(chosen_on), chosen_s)
    answer = PastJourneys(found, found).travel_time(asked)
    is_within = (answer.p10_s_B.numpy() <= truth) & (truth <= answer.p90_s_B.numpy())
    assert 0.76 < is_within.mean() < 0.84
    mean_error_s = np.abs(answer.median_s_B.numpy() - truth).mean()
    assert mean_error_s < 0.5 * np.abs(np.median(seconds) - truth).mean()


def test_the_fit_chooses_what_is_best_on_validation():
    (train, seconds), (asked, truth) = made_up(7, 200), made_up(8, 100)
    found = fitted_memory(Ways.of(train), seconds, Ways.of(asked), truth)

    def error_s(num, power):
        return np.abs(told_s(memory(train, seconds, num, power), asked) - truth).mean()

    best = min(((num, power) for num in NEIGHBOURS for power in POWERS), key=lambda c: error_s(*c))
    assert (found.num_neighbours, found.power) == best


def test_rows_do_not_see_each_other_and_few_journeys_are_enough():
    (train, seconds), (asked, _) = made_up(9, 30), made_up(10, 6)
    found = memory(train, seconds, 20, 1.0)
    together = told_s(found, asked)
    for row in range(6):
        assert told_s(found, asked.at(slice(row, row + 1)))[0] == pytest.approx(together[row])
    one = memory(train.at(slice(0, 1)), seconds[:1], 20)
    assert np.isfinite(told_s(one, asked)).all()
    # A single journey asked about itself is told by the mean of train, which it is.
    assert told_s(one, train.at(slice(0, 1)))[0] == pytest.approx(seconds[0])
