"""Past gaps: the path through both ends as a slow loop finds it, and no look at what is hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.past import SPHERE, STARTED_US, paths_of, place_after, step_m, walks

from model.baselines.past_gaps import RATES, PastGaps, fitted_past_gaps, past_trip_recovery
from model.baselines.recovery import HERMITE, LINEAR
from model.earth.geometry import haversine_m
from model.interface.contexts import Partial


def memory(trips, entity=None, most_misfit=np.inf):
    gaps = PastGaps.of(paths_of(trips, entity))
    return past_trip_recovery(replace(gaps, most_misfit=most_misfit))


def question(trips, is_known_T, started_us=STARTED_US + 10**15, times_given=True) -> Partial:
    """Trips of one length with some points hidden, whose values stay: a baseline must not care."""
    columns = zip(*trips, strict=True)
    time_s, lon_deg, lat_deg = (torch.from_numpy(np.stack(column)) for column in columns)
    is_known_BT = torch.tensor(is_known_T).expand_as(lon_deg)
    shows_time_BT = torch.ones_like(is_known_BT) if times_given else is_known_BT
    started_us_B = torch.full((len(trips),), started_us)
    is_pad_BT = torch.zeros_like(is_known_BT)
    return Partial(
        lon_deg, lat_deg, time_s, is_known_BT, shows_time_BT, started_us_B, "UTC", is_pad_BT
    )


def apart_m(one, other):
    away = haversine_m(one.lon_deg_BT, one.lat_deg_BT, other.lon_deg_BT, other.lat_deg_BT)
    return float(away.max())


def cut(trip, first, end):
    """A part of a trip whose times begin at 0."""
    time_s, lon_deg, lat_deg = (column[first:end] for column in trip)
    return time_s - time_s[0], lon_deg, lat_deg


GAP = [True, True, *[False] * 6, True, True]


@pytest.mark.parametrize("rate", RATES)
def test_a_way_taken_before_is_found_again_at_its_own_speed(rate):
    trips = walks(1, [40, 40, 40])
    time_s, lon_deg, lat_deg = cut(trips[1], 12, 22)
    asked = question([(time_s / rate, lon_deg, lat_deg)], GAP)
    found = memory(trips).recover(asked)
    error_m = haversine_m(found.lon_deg_BT, found.lat_deg_BT, asked.lon_deg_BT, asked.lat_deg_BT)
    assert float(error_m.max()) < 0.01
    assert float((LINEAR.recover(asked).lon_deg_BT - asked.lon_deg_BT).abs().max()) > 1e-4


def slow_recovery(trips, asked, first, last):
    """Places of the hidden points by a loop over all points of train and all rates."""
    time_s, lon_deg, lat_deg = asked
    start, end = (lat_deg[first], lon_deg[first]), (lat_deg[last], lon_deg[last])
    gap_s = time_s[last] - time_s[first]
    starts = [
        (np.linalg.norm(step_m(start, (trip[2][point], trip[1][point]))), trip, point)
        for trip in trips
        for point in range(len(trip[0]))
    ]
    starts = sorted(starts, key=lambda one: one[0])[:64]
    misfits = [
        (np.hypot(away_m, np.linalg.norm(step_m(end, place_after(trip, point, rate * gap_s)))), n)
        for n, (away_m, trip, point, rate) in enumerate(
            (*one, rate) for one in starts for rate in RATES
        )
    ]
    _, best = min(misfits)
    _, trip, point = starts[best // len(RATES)]
    rate = RATES[best % len(RATES)]
    origin = trip[2][point], trip[1][point]
    miss_m = step_m(start, end) - step_m(origin, place_after(trip, point, rate * gap_s))
    places = []
    for at in range(first + 1, last):
        share = (time_s[at] - time_s[first]) / gap_s
        went_m = step_m(origin, place_after(trip, point, share * rate * gap_s)) + share * miss_m
        found = SPHERE.Direct(*start, np.rad2deg(np.arctan2(*went_m)), np.hypot(*went_m))
        places.append((found["lon2"], found["lat2"]))
    return torch.tensor(places, dtype=torch.float64).T


@pytest.mark.parametrize("lon_deg", [10.0, 180.0])
def test_recovery_agrees_with_a_slow_loop(lon_deg):
    trips, asked = walks(2, [30] * 4, lon_deg=lon_deg), walks(3, [10] * 5, lon_deg=lon_deg)
    found = memory(trips).recover(question(asked, GAP))
    for row, one in enumerate(asked):
        expected = slow_recovery(trips, one, 1, 8)
        places = found.lon_deg_BT[row, 2:8], found.lat_deg_BT[row, 2:8]
        assert float(haversine_m(*places, *expected).max()) < 0.05


def test_a_gap_that_no_path_fits_is_crossed_by_the_cubic():
    asked = question(walks(4, [10] * 6), GAP)
    trips = walks(5, [30] * 4)
    expected = HERMITE.recover(asked)
    assert apart_m(memory(trips, most_misfit=0.0).recover(asked), expected) == 0
    far = walks(6, [30] * 4, lat_deg=-20.0)
    assert apart_m(memory(far, most_misfit=0.5).recover(asked), expected) == 0
    assert apart_m(memory(trips).recover(asked), expected) > 10


def test_known_points_stay_and_open_ends_are_those_of_the_cubic():
    mask = [False, True, False, False, True, False, True, True, False, False]
    asked = question(walks(7, [10] * 4), mask)
    found, cubic = memory(walks(8, [30] * 4)).recover(asked), HERMITE.recover(asked)
    is_known_T = torch.tensor(mask)
    assert found.lon_deg_BT[:, is_known_T].equal(asked.lon_deg_BT[:, is_known_T])
    for column in (0, 8, 9):
        assert found.lon_deg_BT[:, column].equal(cubic.lon_deg_BT[:, column])
    assert found.is_recovered_BT.equal(cubic.is_recovered_BT)


@pytest.mark.parametrize("times_given", [True, False])
def test_hidden_values_have_no_effect(times_given):
    asked = question(walks(9, [10] * 4), GAP, times_given=times_given)
    spoiled = replace(
        asked,
        lon_deg_BT=asked.lon_deg_BT.where(asked.shows_place_BT, torch.nan),
        lat_deg_BT=asked.lat_deg_BT.where(asked.shows_place_BT, 77.0),
        time_s_BT=asked.time_s_BT.where(asked.shows_time_BT, torch.nan),
    )
    baseline = memory(walks(10, [30] * 4))
    found = baseline.recover(asked)
    assert apart_m(found, baseline.recover(spoiled)) == 0
    assert bool(found.lon_deg_BT.isfinite().all())


def test_rows_do_not_see_each_other():
    asked, baseline = question(walks(11, [10] * 5), GAP), memory(walks(12, [30] * 4))
    together = baseline.recover(asked)
    for row in range(5):
        alone = baseline.recover(asked.at(slice(row, row + 1)))
        assert alone.lon_deg_BT[0].tolist() == pytest.approx(
            together.lon_deg_BT[row].tolist(), abs=1e-10
        )


def test_the_asked_entity_is_left_out():
    trips = walks(13, [30] * 4)
    time_s, lon_deg, lat_deg = cut(trips[0], 0, 10)
    asked = question([(trips[0][0][:10], lon_deg, lat_deg)], GAP, STARTED_US)
    rest = memory(trips[1:3]).recover(asked)
    # The fourth trip is a later one of the same entity.
    assert apart_m(memory(trips, [0, 1, 2, 0]).recover(asked), rest) < 1e-6
    # The control: at another instant it is somebody else, who went the same way.
    later = question([(time_s, lon_deg, lat_deg)], GAP)
    found = memory(trips, [0, 1, 2, 0]).recover(later)
    error_m = haversine_m(found.lon_deg_BT, found.lat_deg_BT, later.lon_deg_BT, later.lat_deg_BT)
    assert float(error_m.max()) < 0.01


def test_nothing_but_the_entity_itself_leaves_the_cubic():
    trip = walks(14, [10])[0]
    asked = question([trip], GAP, STARTED_US)
    assert apart_m(memory([trip]).recover(asked), HERMITE.recover(asked)) == 0


def test_the_fit_takes_the_misfit_of_least_error():
    trips = walks(15, [60] * 3)
    asked = question([cut(trips[0], 20, 30), cut(trips[1], 30, 40)], GAP)

    def error_m(baseline):
        found = baseline.recover(asked)
        places = found.lon_deg_BT, found.lat_deg_BT, asked.lon_deg_BT, asked.lat_deg_BT
        return float(haversine_m(*places).mean())

    # Those who follow the past are best told by it; what fits no path is best left to the cubic.
    assert error_m(fitted_past_gaps(paths_of(trips), error_m)) < 0.01
    cubic = HERMITE.recover(asked)
    found = fitted_past_gaps(paths_of(trips), lambda one: apart_m(one.recover(asked), cubic))
    assert apart_m(found.recover(asked), cubic) == 0
