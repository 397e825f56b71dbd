"""Baselines of recovery: oracles on the sphere and in the plane, and no look at what is hidden."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from geographiclib.geodesic import Geodesic
from helpers.strategies import latitudes, longitudes
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline

from model.baselines.recovery import HERMITE, LINEAR, RecoveryBaseline, linear_m
from model.earth.constants import EARTH_RADIUS_M
from model.earth.geometry import haversine_m, step_from
from model.interface.contexts import Partial

SPHERE = Geodesic(EARTH_RADIUS_M, 0.0)
BASELINES = (LINEAR, HERMITE)


def places(baseline, partial):
    """Where a baseline puts all points."""
    found = baseline.recover(partial)
    return found.lon_deg_BT, found.lat_deg_BT


def partial_of(lon_deg, lat_deg, time_s, is_known, times_given=True) -> Partial:
    """One row; what is hidden keeps its value, for a baseline must not care."""
    places = [torch.tensor([list(values)], dtype=torch.float64) for values in (lon_deg, lat_deg)]
    known_BT = torch.tensor([list(is_known)])
    return Partial(
        *places,
        torch.tensor([list(time_s)], dtype=torch.float64),
        known_BT,
        torch.ones_like(known_BT) if times_given else known_BT,
        torch.tensor([1_700_000_000_000_000]),
        "UTC",
        torch.zeros_like(known_BT),
    )


def walk(generator: np.random.Generator, num_points: int, lon_deg=10.0, lat_deg=50.0):
    """A walk of steps of about 100 m and 10 s: (lon_deg, lat_deg, time_s)."""
    time_s = np.concatenate([[0.0], np.cumsum(generator.uniform(5, 15, num_points - 1))])
    steps = generator.normal(60, 60, (2, num_points)).cumsum(axis=1)
    start = [torch.full((num_points,), value, dtype=torch.float64) for value in (lon_deg, lat_deg)]
    lon, lat = step_from(*start, *(torch.from_numpy(axis) for axis in steps))
    return lon.numpy(), lat.numpy(), time_s


def masks(min_points: int = 3, max_points: int = 14):
    """Which points are known, both ends among them."""
    inner = st.lists(st.booleans(), min_size=min_points - 2, max_size=max_points - 2)
    return inner.map(lambda between: [True, *between, True])


@given(
    ends=st.tuples(longitudes(), latitudes(), longitudes(), latitudes()),
    share=st.floats(0.01, 0.99),
)
def test_linear_lies_on_the_great_circle_at_its_time(ends, share):
    lon_a, lat_a, lon_b, lat_b = ends
    line = SPHERE.Inverse(lat_a, lon_a, lat_b, lon_b)
    if line["a12"] > 179.9:  # between antipodes there are many
        return
    expected = SPHERE.Direct(lat_a, lon_a, line["azi1"], share * line["s12"])
    time_s = (0, 100 * share, 100)
    asked = partial_of((lon_a, 0, lon_b), (lat_a, 0, lat_b), time_s, (True, False, True))
    lon_deg_BT, lat_deg_BT = places(LINEAR, asked)
    place = torch.tensor([expected["lon2"], expected["lat2"]], dtype=torch.float64)
    assert float(haversine_m(lon_deg_BT[0, 1], lat_deg_BT[0, 1], *place)) < 0.01


@given(mask=masks(), seed=st.integers(0, 2**16), hides_times=st.booleans())
def test_linear_agrees_with_a_slow_loop(mask, seed, hides_times):
    lon, lat, time_s = walk(np.random.default_rng(seed), len(mask))
    found = places(LINEAR, partial_of(lon, lat, time_s, mask, times_given=not hides_times))
    for place, is_known in enumerate(mask):
        if is_known:
            continue
        before = max(k for k in range(place) if mask[k])
        after = min(k for k in range(place, len(mask)) if mask[k])
        ahead = (time_s[place] - time_s[before]) / (time_s[after] - time_s[before])
        if hides_times:
            ahead = (place - before) / (after - before)
        line = SPHERE.Inverse(lat[before], lon[before], lat[after], lon[after])
        expected = SPHERE.Direct(lat[before], lon[before], line["azi1"], ahead * line["s12"])
        away = SPHERE.Inverse(
            float(found[1][0, place]), float(found[0][0, place]), expected["lat2"], expected["lon2"]
        )
        assert away["s12"] < 1e-3


@given(mask=masks(6), seed=st.integers(0, 2**16))
def test_hermite_is_the_cubic_of_the_plane_on_a_small_patch(mask, seed):
    """On the equator, some hundred metres across, degrees are a plane to a millimetre."""
    lon, lat, time_s = walk(np.random.default_rng(seed), len(mask), 0.0, 0.0)
    found = places(HERMITE, partial_of(lon, lat, time_s, mask))
    known = [place for place, is_known in enumerate(mask) if is_known]
    for before, after in pairwise(known):
        between = range(before + 1, after)
        elapsed_s = time_s[after] - time_s[before]
        for axis, deg in enumerate((lon, lat)):
            mean = (deg[after] - deg[before]) / elapsed_s
            earlier = [place for place in known if place < before][-1:]
            later = [place for place in known if place > after][:1]
            arriving, leaving = mean, mean
            if earlier:
                arriving = (deg[before] - deg[earlier[0]]) / (time_s[before] - time_s[earlier[0]])
            if later:
                leaving = (deg[later[0]] - deg[after]) / (time_s[later[0]] - time_s[after])
            spline = CubicHermiteSpline(
                [time_s[before], time_s[after]], [deg[before], deg[after]], [arriving, leaving]
            )
            for place in between:
                away_m = np.radians(float(found[axis][0, place]) - spline(time_s[place]))
                assert abs(away_m * EARTH_RADIUS_M) < 0.01


@given(
    start=st.tuples(longitudes(), latitudes()),
    heading=st.floats(0, 360),
    step_m=st.floats(10, 200_000),
)
def test_hermite_follows_a_great_circle_anywhere(start, heading, step_m):
    """At an even speed straight on, over the poles and the date line too."""
    points = [SPHERE.Direct(start[1], start[0], heading, number * step_m) for number in range(8)]
    lon, lat = ([point[name] for point in points] for name in ("lon2", "lat2"))
    mask = [True, True, False, False, False, True, True, True]
    for baseline in BASELINES:
        found = places(baseline, partial_of(lon, lat, 60.0 * np.arange(8), mask))
        truth = [torch.tensor([values], dtype=torch.float64) for values in (lon, lat)]
        assert float(haversine_m(*found, *truth).max()) < 1e-6 * step_m + 1e-3


@given(num_points=st.integers(3, 12), seed=st.integers(0, 2**16))
def test_with_the_ends_alone_hermite_is_linear(num_points, seed):
    lon, lat, time_s = walk(np.random.default_rng(seed), num_points, 179.9995, -72.0)
    asked = partial_of(lon, lat, time_s, [True, *[False] * (num_points - 2), True])
    away_m = haversine_m(*places(HERMITE, asked), *places(LINEAR, asked))
    assert float(away_m.max()) < 1e-6


@given(mask=masks(5), seed=st.integers(0, 2**16), hides_times=st.booleans())
def test_hidden_values_have_no_effect(mask, seed, hides_times):
    lon, lat, time_s = walk(np.random.default_rng(seed), len(mask))
    asked = partial_of(lon, lat, time_s, mask, times_given=not hides_times)
    blind = blinded(asked)
    for baseline in BASELINES:
        for one, other in zip(places(baseline, asked), places(baseline, blind), strict=True):
            assert torch.equal(one, other)
            assert bool(other.isfinite().all())


def blinded(partial: Partial) -> Partial:
    """NaN in place of whatever is hidden."""
    return replace(
        partial,
        lon_deg_BT=partial.lon_deg_BT.where(partial.shows_place_BT, torch.nan),
        lat_deg_BT=partial.lat_deg_BT.where(partial.shows_place_BT, torch.nan),
        time_s_BT=partial.time_s_BT.where(partial.shows_time_BT, torch.nan),
    )


class Peeking(RecoveryBaseline):
    """The fault: it looks up what it should tell."""

    def recover(self, partial):
        found = super().recover(partial)
        return replace(found, lon_deg_BT=partial.lon_deg_BT, lat_deg_BT=partial.lat_deg_BT)


def test_a_peek_would_be_seen():
    lon, lat, time_s = walk(np.random.default_rng(0), 6)
    asked = partial_of(lon, lat, time_s, [True, False, True, False, False, True])
    one, other = (
        places(Peeking("linear", linear_m), asked)[0],
        places(Peeking("linear", linear_m), blinded(asked))[0],
    )
    assert not torch.equal(one, other)


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda item: item.name)
def test_pads_and_neighbours_in_the_batch_change_nothing(baseline):
    generator = np.random.default_rng(3)
    mask = [True, True, False, False, True, False, True, True]
    alone = partial_of(*walk(generator, 8), mask)
    other = partial_of(*walk(generator, 8, -60.0, 12.0), mask[::-1])
    joined = {
        name: torch.cat([getattr(alone, name), getattr(other, name)])
        for name in ("lon_deg_BT", "lat_deg_BT", "time_s_BT", "shows_place_BT", "shows_time_BT")
    }
    padded = {name: torch.nn.functional.pad(value, (0, 3)) for name, value in joined.items()}
    is_pad_BT = torch.arange(11).expand(2, 11) >= 8
    both = Partial(**padded, started_us_B=torch.zeros(2).long(), zone="UTC", is_pad_BT=is_pad_BT)
    for one, many in zip(places(baseline, alone), places(baseline, both), strict=True):
        assert torch.equal(one[0], many[0, :8])


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda item: item.name)
def test_equal_instants_and_missing_sides_have_an_answer(baseline):
    """Two known points at one instant, and a row that begins and ends hidden."""
    lon, lat, _ = walk(np.random.default_rng(1), 6)
    still = partial_of(lon, lat, [0, 0, 0, 0, 5, 9], [True, True, False, True, False, True])
    assert all(bool(value.isfinite().all()) for value in places(baseline, still))
    open_ended = partial_of(lon, lat, range(6), [False, True, False, False, True, False])
    found = places(baseline, blinded(open_ended))
    for column, truth in zip(found, (lon, lat), strict=True):
        assert column[0, [0, -1]].tolist() == pytest.approx(truth[[1, 4]].tolist())
    nothing = partial_of(lon, lat, range(6), [False] * 6)
    assert all(bool(value.isnan().all()) for value in places(baseline, nothing))
