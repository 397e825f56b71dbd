"""Distances between sets of trips: as scipy and scikit-learn say, whatever cells are called."""

from __future__ import annotations

import math

import numpy as np
import pytest
from geographiclib.geodesic import Geodesic
from helpers.city import city
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance
from sklearn.metrics import roc_auc_score

from model.earth.constants import EARTH_RADIUS_M
from model.earth.frame import Frame, Grid
from model.evaluation.generation.comparison import (
    Comparison,
    Values,
    area_under_roc,
    jensen_shannon_bits,
    rank_divergence_bits,
    share_of,
    wasserstein_1,
)
from model.evaluation.generation.distances import (
    Ruler,
    Walk,
    cell_distances,
    counted_from_zero,
    day_distances,
    distances,
    unseen_moves,
)
from model.evaluation.generation.trip_values import (
    Steps,
    duration_s,
    features,
    gyration_m,
    path_m,
    rest_share,
    rests,
    start_hour,
    trips_a_day,
)
from model.interface.trips import NOBODY, Trips

TRAIN, TEST, HOUR_US = city(0, 12), city(1, 12), 3_600_000_000
SPHERE = Geodesic(EARTH_RADIUS_M, 0.0)


def drawn(seed: int, num_trips: int = 9, num_values: int = 60) -> tuple[Values, np.ndarray]:
    """Values of some trips, ties among them, and the weights of the trips."""
    generator = np.random.default_rng(seed)
    values = np.round(generator.normal(seed, 3, num_values), 1)
    return Values(values, generator.integers(num_trips, size=num_values)), generator.integers(
        1, 4, num_trips
    ).astype(float)


# Numbers ----------------------------------------------------------------------------------------


def test_wasserstein_1_agrees_with_scipy():
    (a, weight_A), (b, weight_B) = drawn(0), drawn(1, num_values=37)
    expected = wasserstein_distance(a.value_N, b.value_N, weight_A[a.trip_N], weight_B[b.trip_N])
    assert wasserstein_1(a, b)(weight_A, weight_B) == pytest.approx(expected, rel=1e-12)


def test_wasserstein_1_of_clocks_agrees_with_the_best_assignment():
    generator = np.random.default_rng(2)
    one, other = generator.normal(23, 2, 40) % 24, generator.normal(2, 1, 40) % 24
    apart = np.abs(one[:, None] - other)
    cost = np.minimum(apart, 24 - apart)
    expected = cost[linear_sum_assignment(cost)].mean()
    found = wasserstein_1(Values.of_trips(one), Values.of_trips(other), 24.0)
    assert found(np.ones(40), np.ones(40)) == pytest.approx(expected, rel=1e-9)
    assert expected < 6 < wasserstein_distance(one, other)


def test_jensen_shannon_agrees_with_scipy_and_is_not_its_root():
    (a, weight_A), (b, weight_B) = drawn(0), drawn(1)
    edges = np.arange(-12.0, 13.0)
    binned = [Values(np.digitize(held.value_N, edges), held.trip_N) for held in (a, b)]
    counts = [
        np.bincount(held.value_N, weight[held.trip_N], 26)
        for held, weight in zip(binned, (weight_A, weight_B), strict=True)
    ]
    expected = jensenshannon(*counts, base=2) ** 2
    found = jensen_shannon_bits(*binned)(weight_A, weight_B)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found < 0.5 * jensenshannon(*counts, base=2)  # which is what others tell
    assert found > 0.01


def test_ranks_know_how_full_cells_are_and_not_which():
    counts = np.array([50, 20, 20, 7, 3]), np.array([9, 60, 1, 0, 30])
    sides = [
        Values(np.repeat(np.arange(5), count), np.zeros(count.sum(), np.int64)) for count in counts
    ]
    once = np.ones(1), np.ones(1)
    expected = jensenshannon(*(np.sort(count) for count in counts), base=2) ** 2
    assert rank_divergence_bits(*sides)(*once) == pytest.approx(expected, rel=1e-12)
    elsewhere = Values(104 - sides[0].value_N, sides[0].trip_N)
    assert rank_divergence_bits(sides[0], elsewhere)(*once) == 0
    assert jensen_shannon_bits(sides[0], elsewhere)(*once) == 1


def test_jensen_shannon_is_zero_of_itself_and_one_where_nothing_is_shared():
    (a, weight_A), apart = drawn(0), np.ones(9)
    assert jensen_shannon_bits(a, a)(weight_A, weight_A) == 0
    assert jensen_shannon_bits(a, Values(a.value_N + 99, a.trip_N))(apart, apart) == pytest.approx(
        1
    )


def test_the_area_agrees_with_scikit_learn():
    (a, weight_A), (b, weight_B) = (drawn(seed, 50, 50) for seed in (0, 1))
    parts = np.zeros(50, np.int64), np.zeros(50, np.int64)
    found = area_under_roc(a.value_N, b.value_N, *parts)(weight_A, weight_B)
    expected = roc_auc_score(
        np.repeat([1, 0], 50),
        np.concatenate([a.value_N, b.value_N]),
        sample_weight=np.concatenate([weight_A, weight_B]),
    )
    assert found == pytest.approx(expected, rel=1e-12)


def test_scores_of_different_parts_are_not_compared():
    score = np.array([1.0, 2.0, 101.0, 102.0])
    part = np.array([0, 0, 1, 1])
    area = area_under_roc(score + 0.5, score, part, part)
    assert area(np.ones(4), np.ones(4)) == pytest.approx(6 / 8)
    # The second set is of the first part alone: 2 x 1 pairs are compared and no others.
    area = area_under_roc(score + 0.5, score[:1], part, part[:1])
    assert area(np.ones(4), np.ones(1)) == 1.0


def test_nothing_told_is_no_number():
    none = Values(np.empty(0), np.empty(0, np.int64))
    a, _ = drawn(0)
    for measured in (wasserstein_1, jensen_shannon_bits):
        compared = Comparison(measured(none, a), np.arange(3), np.arange(9))
        assert math.isnan(compared.value())
        assert all(math.isnan(end) for end in compared.interval(0, 10))


# Intervals --------------------------------------------------------------------------------------


def test_the_interval_of_a_share_is_that_of_entities():
    generator = np.random.default_rng(0)
    entity = np.repeat(np.arange(50), 20)
    is_so = (generator.random(50) < 0.4)[entity]
    compared = Comparison.of_one(share_of(Values.of_trips(is_so)), entity)
    low, high = compared.interval(0, 400)
    error = 1.96 * math.sqrt(is_so.mean() * (1 - is_so.mean()) / 50)
    assert compared.value() == is_so.mean()
    assert (low, high) == pytest.approx((is_so.mean() - error, is_so.mean() + error), abs=0.03)
    assert compared.interval(0, 400) == (low, high) != compared.interval(1, 400)
    as_if_alone = Comparison.of_one(share_of(Values.of_trips(is_so)), np.arange(1_000))
    assert np.diff(as_if_alone.interval(0, 400)) < (high - low) / 3


def test_an_interval_lies_around_its_distance():
    sides = [Values.of_trips(np.random.default_rng(seed).normal(size=200)) for seed in (0, 1)]
    one = Comparison(wasserstein_1(*sides), np.arange(200), np.arange(200), math.inf)
    low, high = one.interval(0, 200)
    assert 0 <= low < one.value() < high < 0.4


# Trips ------------------------------------------------------------------------------------------


def drawn_trips() -> Trips:
    """One trip of 300 m east and 400 m north in two steps, one that stays, and a single point."""
    east_m, north_m = np.array([0, 300.0, 300, 5, 5, 0]), np.array([0, 0.0, 400, 9, 9, 0])
    degrees = Frame(13.4, 0.0).degrees(east_m, north_m)
    instant_us = np.array([0, 60, 180, 86_400, 86_500, 90_000]) * 1_000_000
    return Trips.of(np.array([3, 2, 1]), instant_us, *degrees, np.array([4, 4, 9]))


def test_the_numbers_of_drawn_trips():
    trips = drawn_trips()
    np.testing.assert_allclose(path_m(trips, Steps.of(trips)), [700, 0, 0], atol=1e-3)
    np.testing.assert_allclose(duration_s(trips), [180, 100, 0])
    centre = np.array([200, 400 / 3])
    apart = np.array([[0, 0], [300, 0], [300, 400]]) - centre
    expected = math.sqrt((apart**2).sum() / 3)
    np.testing.assert_allclose(gyration_m(trips), [expected, 0, 0], atol=1e-3)
    np.testing.assert_allclose(start_hour(trips, "UTC"), [0, 0, 1])
    np.testing.assert_allclose(start_hour(trips, "Europe/Berlin"), [1, 1, 2])


def test_features_of_drawn_trips():
    found = features(drawn_trips(), Frame(13.4, 0.0), "UTC")
    assert 28 <= len(found) <= 36
    assert {len(value) for value in found.values()} == {3}
    np.testing.assert_allclose(found["straightness"][0], 500 / 700, rtol=1e-6)
    np.testing.assert_allclose(found["mean_turn"], [np.pi / 2, np.nan, np.nan], rtol=1e-5)
    np.testing.assert_allclose(found["speed_mps_p100"], [5, 0, np.nan], atol=1e-6)
    np.testing.assert_allclose(found["at_rest"], [0, 1, np.nan])
    np.testing.assert_allclose(found["step_s_p90"], [120, 100, np.nan])


def test_a_rest_is_a_minute_within_50_m_of_where_it_began():
    """Half a minute in the first place, 61 s in the next, and nobody rests in a trip of a point."""
    east_m, time_s = (
        np.array([0.0, 30, 60, 70, 70, 300, 0]),
        np.array([0, 30, 100, 150, 161, 200, 0]),
    )
    degrees = Frame(13.4, 0.0).degrees(east_m, np.zeros(7))
    trips = Trips.of(np.array([6, 1]), time_s * 10**6, *degrees)
    found = rests(trips)
    assert (found.value_N.tolist(), found.trip_N.tolist()) == ([61.0], [0])
    np.testing.assert_allclose(rest_share(trips, found), [61 / 200, 0])


def test_distances_see_who_waits():
    """Everyone stands ten minutes where the trip ends: a copy that does not is told by it."""
    last_R, size_R = TRAIN.offset_R[1:] - 1, np.diff(TRAIN.offset_R)
    place = np.sort(np.append(np.arange(TRAIN.offset_R[-1]), last_R))
    instant_us_N = TRAIN.points.instant_us_N[place]
    instant_us_N[np.cumsum(size_R + 1) - 1] += 600_000_000
    degrees = TRAIN.points.lon_deg_N[place], TRAIN.points.lat_deg_N[place]
    waiting = Trips.of(size_R + 1, instant_us_N, *degrees, TRAIN.entity_R)
    rest = rests(waiting)
    assert len(rest.value_N) >= len(waiting)
    assert rest.value_N.max() >= 600
    found = distances(TRAIN, waiting, Ruler.fit(waiting, "UTC"))
    share = found["w1_rest_share"].value()
    assert share == pytest.approx(
        (rest_share(waiting, rest) - rest_share(TRAIN, rests(TRAIN))).mean()
    )
    assert share > 0.2
    never = Ruler.fit(drawn_trips().chosen(np.array([0])), "UTC")
    assert not {"w1_dwell_s", "w1_rest_share"} & {*distances(TRAIN, waiting, never)}


def test_days_are_those_of_the_clocks_of_the_zone():
    trips = Trips.of(
        np.ones(4, np.int64),
        np.array([22, 25, 47, 22]) * HOUR_US,
        np.zeros(4),
        np.zeros(4),
        np.array([1, 1, 1, NOBODY]),
    )
    for zone, expected in {"UTC": [1, 2], "Europe/Berlin": [1, 1, 1], "Asia/Tokyo": [2, 1]}.items():
        assert sorted(trips_a_day(trips, zone).value_N) == sorted(expected)
    ruler = day_distances(trips.chosen(np.array([3])), trips, "UTC")
    assert all(math.isnan(one.value()) for one in ruler.values())


def test_a_set_is_no_distance_from_itself_and_real_ones_are_near():
    ruler = Ruler.fit(TRAIN, "Europe/Berlin")
    same, real = (
        {n: one.value() for n, one in distances(TRAIN, other, ruler).items()}
        for other in (TRAIN, TEST)
    )
    assert same == dict.fromkeys(same, pytest.approx(0, abs=1e-12))
    assert all(value > 0 for value in real.values())
    assert all(value <= 1 for name, value in real.items() if name.startswith("jsd"))


def test_distances_see_what_was_changed():
    """A trip twice as slow, an hour later: only durations and hours move."""
    points = TRAIN.points
    first_us = points.instant_us_N[TRAIN.offset_R[:-1]][points.trajectory_N]
    later_us = first_us + 2 * (points.instant_us_N - first_us) + HOUR_US
    changed = Trips.of(
        np.diff(TRAIN.offset_R), later_us, points.lon_deg_N, points.lat_deg_N, TRAIN.entity_R
    )
    ruler = Ruler.fit(TRAIN, "UTC")
    found = {name: one.value() for name, one in distances(changed, TRAIN, ruler).items()}
    moved = {name for name, value in found.items() if value > 1e-9}
    assert moved == {"w1_duration_s", "jsd_duration_s", "w1_start_hour", "jsd_start_hour"}
    assert found["w1_duration_s"] == pytest.approx(duration_s(TRAIN).mean())
    assert found["w1_start_hour"] == pytest.approx(1, abs=0.05)


def test_the_way_back_has_other_ends_and_nothing_else():
    there = TEST.chosen(np.arange(0, len(TEST), 2))  # from their homes to the squares
    points, offset_R = there.points, there.offset_R
    back_N = (offset_R[:-1] + offset_R[1:] - 1)[points.trajectory_N] - np.arange(offset_R[-1])
    ends_us = points.instant_us_N[offset_R[:-1]] + points.instant_us_N[offset_R[1:] - 1]
    reversed_us = ends_us[points.trajectory_N] - points.instant_us_N[back_N]
    turned = Trips.of(
        np.diff(offset_R), reversed_us, points.lon_deg_N[back_N], points.lat_deg_N[back_N]
    )
    found = distances(turned, there, Ruler.fit(TRAIN, "UTC"))
    moved = {name for name, one in found.items() if one.value() > 1e-6}
    assert moved == {"jsd_ends_500m", "jsd_ends_2km"}


# Cells ------------------------------------------------------------------------------------------


def check_names_change_nothing(distances_of, seed):
    ruler = Ruler.fit(TRAIN, "UTC")
    pair = [Walk.of(trips, Grid(ruler.frame, 2_000.0)) for trips in (TRAIN, TEST)]
    plain = counted_from_zero(*pair)
    number = 1 + max(int(walk.cell_N.max()) for walk in plain)
    name = np.random.default_rng(seed).permutation(number)
    renamed = [walk.renamed(name[walk.cell_N]) for walk in plain]
    weights = np.ones(len(TRAIN)), np.ones(len(TEST))
    expected, found = (
        {name: one(*weights) for name, one in distances_of(*walks).items()}
        for walks in (pair, renamed)
    )
    assert found == expected


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_what_cells_are_called_changes_nothing(seed):
    check_names_change_nothing(cell_distances, seed)


def test_a_histogram_of_cell_numbers_knows_what_cells_are_called():
    """The fault of a published measure: a hundred bins of numbers, as if near ones were near."""

    def by_number(one, other):
        last = max(int(walk.cell_N.max()) for walk in (one, other))
        counts = [
            np.histogram(walk.cell_N, bins=100, range=(0, max(last, 10_000)))[0]
            for walk in (one, other)
        ]
        return {"jsd_cells": lambda *_: float(jensenshannon(*counts))}

    with pytest.raises(AssertionError):
        check_names_change_nothing(by_number, 0)


@given(st.floats(-180, 179.99), st.floats(-89.9, 89.9), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_frame_has_its_inverse_and_keeps_distances_from_its_centre(lon, lat, east_m, north_m):
    frame = Frame(lon, lat)
    lon_deg, lat_deg = frame.degrees(np.array([east_m]), np.array([north_m]))
    np.testing.assert_allclose(frame.metres(lon_deg, lat_deg), [[east_m], [north_m]], atol=1e-4)
    away_m = SPHERE.Inverse(lat, lon, lat_deg[0], lon_deg[0])["s12"]
    assert away_m == pytest.approx(math.hypot(east_m, north_m), abs=1e-4)


@pytest.mark.parametrize("lon_deg", [0.0, 179.999])
def test_cells_have_their_size_on_both_sides_of_the_date_line(lon_deg):
    grid = Grid(Frame(lon_deg, 10.0), 500.0)
    east_m = np.array([-1.0, 1.0, 499.0, 501.0])
    cells = grid.cells(*grid.frame.degrees(east_m, np.full(4, 1.0)))
    assert cells[1] == cells[2]
    assert len({*cells.tolist()}) == 3
    half = np.full(4, 0.5)
    np.testing.assert_array_equal(grid.cells(*grid.places_in(cells, half, half)), cells)


def test_a_frame_is_around_the_middle_across_the_date_line():
    frame = Frame.around(np.array([179.9, -179.7]), np.zeros(2))
    assert (frame.lon_deg, frame.lat_deg) == pytest.approx((-179.9, 0.0))


def test_moves_that_train_never_made_are_told():
    """Cells a, a, b, c of one trip: two moves. Of train one of them is known."""
    cells = np.array([0.0, 10, 600, 1_200]), np.array([0.0, 600])
    grid = Grid(Frame(0.0, 0.0), 500.0)
    told, known = (
        Trips.of(np.array([len(m)]), np.arange(len(m)), *grid.frame.degrees(m + 1, m * 0 + 1))
        for m in cells
    )
    ruler = Ruler(grid.frame, {}, "UTC")
    assert unseen_moves(told, known, ruler)["unseen_moves_500m"].value() == 0.5
    assert unseen_moves(known, told, ruler)["unseen_moves_500m"].value() == 0
    assert math.isnan(unseen_moves(known, told, ruler)["unseen_moves_2km"].value())


# Sets of trips ----------------------------------------------------------------------------------


def test_chosen_trips_keep_their_points():
    trips = drawn_trips()
    chosen = trips.chosen(np.array([2, 0, 0]))
    assert chosen.entity_R.tolist() == [9, 4, 4]
    assert chosen.points.trajectory_N.tolist() == [0, 1, 1, 1, 2, 2, 2]
    assert chosen.points.instant_us_N.tolist() == [
        90_000_000_000,
        *2 * [0, 60_000_000, 180_000_000],
    ]
    assert len(trips.chosen(np.arange(0))) == 0


def test_halves_share_no_entity_and_nobody_is_alone():
    is_in_R = TRAIN.half_R(0)
    assert not {*TRAIN.entity_R[is_in_R]} & {*TRAIN.entity_R[~is_in_R]}
    assert 0.4 < is_in_R.mean() < 0.6
    of_nobody = Trips(drawn_trips().points, np.array([NOBODY, 3, NOBODY]))
    assert len({*of_nobody.group_R.tolist()}) == 3


def test_trips_without_a_number_are_refused():
    trips = drawn_trips()
    with pytest.raises(ValueError, match="3 of them for 2 entities"):
        Trips(trips.points, trips.entity_R[:2])
