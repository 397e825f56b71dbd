"""Past trips: other searches find the same neighbours, and nothing of the asked entity is used."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from helpers import masked_ships
from helpers.past import (
    SPHERE,
    STARTED_US,
    context_of,
    flat,
    paths_of,
    place_after,
    step_m,
    walks,
)
from helpers.shards import write_shards
from sklearn.neighbors import KNeighborsRegressor

from model.baselines.forecast import CONSTANT_VELOCITY
from model.baselines.past_trips import Crops, Motion, PastTrips, cut_points, fitted_past_trips
from model.baselines.windows import Windows
from model.data.paths import read_paths
from model.data.shards import ShardError, Shards
from model.earth.constants import EARTH_RADIUS_M
from model.earth.geometry import haversine_m, step_between
from model.evaluation.fitted_baselines import fitted_baselines
from model.interface.contexts import Context

MOTION_S = 60.0
TARGET_S = torch.tensor([15.0, 40.0, 90.0], dtype=torch.float64)


def memory(trips, entity=None, num_neighbours=5, tau_s=0.0, motion_s=MOTION_S) -> PastTrips:
    paths = paths_of(trips, entity)
    now_P = cut_points(paths)
    crops = Crops.of(paths, now_P, Motion.at_points(paths, now_P), motion_s)
    return PastTrips(crops, num_neighbours, tau_s)


def told(baseline, context, target_s=TARGET_S):
    """The forecast at some seconds after the last point of each context."""
    return baseline.forecast(context, len(target_s), context.last_B1()[2] + target_s)


def apart_m(one, other) -> float:
    """How far two forecasts are apart at most, their samples among it."""
    points = haversine_m(one.lon_deg_BH, one.lat_deg_BH, other.lon_deg_BH, other.lat_deg_BH)
    samples = haversine_m(
        one.sample_lon_deg_BSH,
        one.sample_lat_deg_BSH,
        other.sample_lon_deg_BSH,
        other.sample_lat_deg_BSH,
    )
    return max(float(points.max()), float(samples.max()))


# Oracles ----------------------------------------------------------------------------------------


def velocity_mps(trip, point, lag):
    """On arrival at a point, by another implementation."""
    time_s, lon_deg, lat_deg = trip
    start = max(point - lag, 0)
    found = SPHERE.Inverse(lat_deg[start], lon_deg[start], lat_deg[point], lon_deg[point])
    course = np.deg2rad(found["azi2"])
    elapsed_s = time_s[point] - time_s[start]
    return np.array([np.sin(course), np.cos(course)]) * found["s12"] / elapsed_s


def key(trip, point):
    lon, lat = np.deg2rad(trip[1][point]), np.deg2rad(trip[2][point])
    place = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    last, third, eighth = (velocity_mps(trip, point, lag) for lag in (1, 3, 8))
    motion = MOTION_S * (last + third) / 2, MOTION_S * eighth / 2
    return np.concatenate([place * EARTH_RADIUS_M, *motion])


def slow_forecast(trips, asked, num_known, num_neighbours, tau_s=0.0):
    """Places (H, 2) by a loop over all crops."""
    here = num_known - 1
    crops = [(trip, point) for trip in trips for point in range(1, len(trip[0]) - 1)]
    away = np.array([np.linalg.norm(key(*crop) - key(asked, here)) for crop in crops])
    is_short = [trip[0][-1] - trip[0][point] < float(TARGET_S.max()) for trip, point in crops]
    wanted = np.argsort(away)[: 3 * num_neighbours]
    wanted = sorted(wanted, key=lambda crop: (is_short[crop], away[crop]))[:num_neighbours]
    weight = np.exp(-(away[wanted] ** 2) / (2 * np.mean(away[wanted] ** 2)))
    places = []
    for elapsed_s in TARGET_S.tolist():
        moved_m = np.zeros(2)
        driven_s = tau_s * -np.expm1(-elapsed_s / tau_s) if tau_s else 0.0
        for share, crop in zip(weight / weight.sum(), wanted, strict=True):
            trip, point = crops[crop]
            start = trip[2][point], trip[1][point]
            faster_mps = velocity_mps(asked, here, 1) - velocity_mps(trip, point, 1)
            went_m = step_m(start, place_after(trip, point, elapsed_s))
            moved_m += share * (went_m + faster_mps * driven_s)
        course_deg = np.rad2deg(np.arctan2(*moved_m))
        found = SPHERE.Direct(asked[2][here], asked[1][here], course_deg, np.hypot(*moved_m))
        places.append((found["lon2"], found["lat2"]))
    return torch.tensor(places, dtype=torch.float64).T


@pytest.mark.parametrize("tau_s", [0.0, 25.0])
@pytest.mark.parametrize("lon_deg", [10.0, 180.0])
def test_a_forecast_agrees_with_a_slow_loop(lon_deg, tau_s):
    trips = walks(1, [40, 25, 12, 33, 8, 3], lon_deg=lon_deg)
    asked = walks(2, [12] * 6, lon_deg=lon_deg)
    found = told(memory(trips, tau_s=tau_s), context_of(asked, 12))
    for row, one in enumerate(asked):
        expected = slow_forecast(trips, one, 12, 5, tau_s)
        error_m = haversine_m(found.lon_deg_BH[row], found.lat_deg_BH[row], *expected)
        assert float(error_m.max()) < 0.01


def test_the_mean_is_that_of_a_regression_on_neighbours():
    trips, asked = walks(3, [60] * 8), context_of(walks(4, [15] * 20), 15)
    # Every crop goes on for the 15 seconds that are asked, so none is passed over.
    baseline = memory(trips, num_neighbours=12)
    now_P = baseline.crops.now_P
    is_long_P = baseline.crops.paths.left_us(now_P) >= 15_000_000
    keys = baseline.crops.motion_P.keys(MOTION_S)[is_long_P]
    ends = baseline.crops.paths.place_after(now_P[is_long_P], np.int64(15_000_000))
    moved_m = torch.stack(step_between(*baseline.crops.paths.place(now_P[is_long_P]), *ends), 1)

    def kernel(away):
        return np.exp(-(away**2) / (2 * (away**2).mean(axis=1, keepdims=True)))

    regression = KNeighborsRegressor(12, weights=kernel).fit(keys, moved_m.numpy())
    expected_m = regression.predict(Motion.of(asked).keys(MOTION_S))
    found = told(baseline, asked, TARGET_S[:1])
    lon_deg_B1, lat_deg_B1, _ = asked.last_B1()
    went_m = torch.stack(
        step_between(lon_deg_B1, lat_deg_B1, found.lon_deg_BH, found.lat_deg_BH), -1
    )
    np.testing.assert_allclose(went_m[:, 0].numpy(), expected_m, atol=1e-4)


def bent(lon_deg=0.0):
    """East along the equator for five steps of 10 s and 0.001 degrees, then north."""
    lon = lon_deg + np.array([0.0, 1, 2, 3, 4, 5, 5, 5, 5]) / 1e3
    return np.arange(9) * 10.0, lon, np.array([0.0, 0, 0, 0, 0, 0, 1, 2, 3]) / 1e3


def test_a_turn_of_the_past_is_taken_again():
    found = told(
        memory([bent()], num_neighbours=1),
        context_of([bent()], 6),
        torch.tensor([15.0, 30]).double(),
    )
    assert found.lon_deg_BH[0].tolist() == pytest.approx([0.005, 0.005], abs=1e-9)
    assert found.lat_deg_BH[0].tolist() == pytest.approx([0.0015, 0.003], abs=1e-9)


def test_the_own_speed_wears_off():
    """Twice as fast as the past: on without decay it gains a step on each step."""
    time_s, lon, lat = bent()
    fast = (time_s / 2, lon, lat)
    for tau_s, ahead in ((0.0, 0.0), (np.inf, 0.002), (20.0, 0.002 * -np.expm1(-1.0))):
        baseline = memory([bent()], num_neighbours=1, tau_s=tau_s, motion_s=0.0)
        found = told(baseline, context_of([fast], 6), torch.tensor([20.0]).double())
        assert float(found.lon_deg_BH) == pytest.approx(0.005 + ahead, abs=1e-7)
        assert float(found.lat_deg_BH) == pytest.approx(0.002, abs=1e-7)


def test_samples_are_the_neighbours_and_radii_are_theirs():
    trips, asked = walks(5, [40] * 6), context_of(walks(6, [15] * 4), 15)
    found = told(memory(trips, num_neighbours=7), asked)
    assert found.sample_lon_deg_BSH.shape == (4, 7, 3)
    away_m = haversine_m(
        found.lon_deg_BH[:, None],
        found.lat_deg_BH[:, None],
        found.sample_lon_deg_BSH,
        found.sample_lat_deg_BSH,
    )
    expected = np.quantile(away_m.numpy(), [0.5, 0.8], axis=1)
    np.testing.assert_allclose(found.radius_p50_m_BH, expected[0], rtol=1e-9)
    np.testing.assert_allclose(found.radius_p80_m_BH, expected[1], rtol=1e-9)


def test_paths_that_go_on_come_first_and_others_stay_at_their_end():
    short, long = tuple(column[:7] for column in bent()), bent(lon_deg=1e-4)
    asked = context_of([bent()], 6)
    both = told(memory([short, long], num_neighbours=1), asked, TARGET_S[1:2])
    assert float(both.lat_deg_BH) == pytest.approx(0.003)
    alone = told(memory([short], num_neighbours=1), asked, TARGET_S[1:2])
    assert float(alone.lat_deg_BH) == pytest.approx(0.001)


def test_without_a_neighbour_nothing_moves():
    asked = context_of([bent()], 6, STARTED_US)
    found = told(memory([bent()], num_neighbours=3), asked)
    assert float(haversine_m(found.lon_deg_BH, found.lat_deg_BH, *asked.last_B1()[:2]).max()) == 0


# What is not used -------------------------------------------------------------------------------


def test_the_asked_entity_is_left_out_with_all_its_trips_and_copies():
    trips = walks(7, [40] * 5)
    asked = context_of(trips[:1], 15, STARTED_US)
    entity = [0, 1, 2, 0, 3]  # the fourth trip is a later one of the asked entity
    rest = memory([trips[number] for number in (1, 2, 4)])
    assert apart_m(told(memory(trips, entity), asked), told(rest, asked)) < 1e-6
    # A copy under another name: of the same instants, which `flat` does not give it.
    points = flat([*trips, trips[0]])
    points.instant_us_N[-40:] -= 5 * 3_600_000_000
    copied = memory([*trips, trips[0]], [*entity, 4])
    paths = type(copied.crops.paths).of(points, np.array([*entity, 4]))
    now_P = cut_points(paths)
    crops = Crops.of(paths, now_P, Motion.at_points(paths, now_P), MOTION_S)
    assert apart_m(told(PastTrips(crops, 5), asked), told(rest, asked)) < 1e-6
    # The control: asked a second later it is somebody else, who follows the trip to the point.
    other = told(memory(trips, entity), context_of(trips[:1], 15, STARTED_US + 1_000_000))
    assert apart_m(other, told(rest, asked)) > 1


def test_rows_do_not_see_each_other():
    """Also where a row of train has to be asked again, since its entity fills the first answer."""
    trips = walks(8, [40] * 6)
    entity = [0, 0, 0, 0, 1, 2]
    baseline = memory(trips, entity)
    context = context_of([*trips[:2], *walks(9, [15] * 4)], 15, STARTED_US)
    together = told(baseline, context)
    for row in range(6):
        alone = told(baseline, context.at(slice(row, row + 1)))
        assert apart_m(together.at(slice(row, row + 1)), alone) < 1e-6
    turned = told(baseline, context.at(torch.arange(5, -1, -1)))
    assert apart_m(turned.at(torch.arange(5, -1, -1)), together) < 1e-6


def test_pads_behind_a_context_change_nothing():
    context = context_of(walks(10, [15] * 3), 15)
    room = (
        torch.nn.functional.pad(value, (0, 4), value=torch.nan)
        for value in (context.lon_deg_BT, context.lat_deg_BT, context.time_s_BT)
    )
    is_pad_BT = torch.arange(19).expand(3, 19) >= 15
    padded = Context(*room, context.started_us_B, "UTC", is_pad_BT)
    baseline = memory(walks(11, [40] * 5))
    assert apart_m(told(baseline, context), told(baseline, padded)) < 1e-6


def test_a_world_turned_around_its_axis_moves_alike():
    trips, asked = walks(12, [40] * 5), walks(13, [15] * 4)

    def turned(rows, by_deg):
        return [(time, (lon + by_deg + 180) % 360 - 180, lat) for time, lon, lat in rows]

    here = told(memory(trips), context_of(asked, 15))
    there = told(memory(turned(trips, 169.995)), context_of(turned(asked, 169.995), 15))
    error_m = haversine_m(
        here.lon_deg_BH + 169.995, here.lat_deg_BH, there.lon_deg_BH, there.lat_deg_BH
    )
    assert float(error_m.max()) < 1e-3


def test_one_known_point_is_answered():
    found = told(memory(walks(14, [40] * 3)), context_of(walks(15, [1] * 2), 1))
    assert bool(found.lon_deg_BH.isfinite().all())


# Fitting ----------------------------------------------------------------------------------------


def test_where_roads_bend_the_past_beats_going_straight_on():
    """Everyone takes the same bend; what the fit chooses is what a search over all would."""
    generator = np.random.default_rng(0)

    def driver():
        time_s, lon, lat = bent()
        return (time_s * generator.uniform(0.9, 1.1), lon + generator.normal(0, 1e-5), lat)

    trips, asked = [driver() for _ in range(30)], [driver() for _ in range(40)]
    context, truth = (
        context_of(asked, 6),
        [np.stack(column)[:, 6:] for column in zip(*asked, strict=True)],
    )
    time_s, lon_deg, lat_deg = (torch.from_numpy(column) for column in truth)
    found = fitted_past_trips(
        paths_of(trips), Windows(context, lon_deg, lat_deg, time_s, torch.ones_like(time_s) > 0)
    )

    def error_m(one):
        answer = one.forecast(context, 3, time_s)
        return float(haversine_m(answer.lon_deg_BH, answer.lat_deg_BH, lon_deg, lat_deg).mean())

    assert error_m(found) < 0.2 * error_m(CONSTANT_VELOCITY)
    assert error_m(found) <= error_m(memory(trips, motion_s=100.0, num_neighbours=12)) + 1e-9


def test_read_paths_are_those_of_the_shards(tmp_path):
    shards = write_shards(tmp_path, {"train": [30, 41, 7, 50, 22, 60], "test": [40]}, 2)
    rows = pq.read_table(tmp_path / "train-000.parquet").to_pylist()
    for most, kept in ((1_000, rows), (120, rows[::2])):
        points, entity_R = read_paths(shards, "train", most)
        assert points.lon_deg_N.tolist() == [lon for row in kept for lon in row["lon_deg"]]
        assert np.diff(points.offset_R).tolist() == [len(row["t_s"]) for row in kept]
        instants = [
            round(row["started_at"].timestamp() * 1e6 + t_s * 1e6)
            for row in kept
            for t_s in row["t_s"]
        ]
        assert points.instant_us_N.tolist() == pytest.approx(instants, abs=1)
        names = [row["entity_id"] for row in kept]
        is_same = np.equal.outer(entity_R, entity_R)
        assert is_same.tolist() == [[one == other for other in names] for one in names]


def test_shards_must_say_whose_a_trip_is(tmp_path):
    write_shards(tmp_path, {"train": [30]})
    path = tmp_path / "train-000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["entity_id"]), path)
    with pytest.raises(ShardError, match="entity_id is missing"):
        Shards.open(tmp_path)


TASKS = ("forecast", "recover", "path_inference", "travel_time")


def numbers(shards) -> list[tuple[float, ...]]:
    """What is fitted for each task."""
    found = fitted_baselines(shards, TASKS, experts=("past_trips", "drift_field"))
    named = [one for one in found if one.name in ("past_trips", "drift_field")]
    trips, field, gaps, journeys = named
    memory = gaps.moved_m.__self__
    fitted = [
        (trips.crops.motion_s, trips.num_neighbours, trips.tau_s, len(trips.crops.now_P)),
        (field.resolution, field.tau_s, float(field.drift_mps_VMC.sum())),
        (memory.most_misfit, float(memory.paths.points.lon_deg_N.sum())),
    ]
    for one in (journeys.ends, journeys.path):
        fitted.append((one.num_neighbours, one.power, one.sigma, one.way_m, *one.slowness_W))
    return fitted


def test_removing_test_rows_changes_nothing(tmp_path):
    store, receipt, _ = masked_ships.trained("trajfm")
    folder = store.folder(receipt)
    before = numbers(Shards.open(folder))
    shutil.copytree(folder, tmp_path / "less")
    for path in (tmp_path / "less").glob("test-*.parquet"):
        path.unlink()
    windows = pq.read_table(folder / "windows.parquet")
    kept = windows.filter(pc.not_equal(windows["split"], "test"))
    (tmp_path / "less" / "windows.parquet").unlink()
    pq.write_table(kept, tmp_path / "less" / "windows.parquet", write_page_checksum=True)
    assert numbers(Shards.open(tmp_path / "less")) == before
    # The control: a train of half the trips is another memory.
    path = tmp_path / "less" / "train-000.parquet"
    trips = pq.read_table(path)
    known = trips["trip_id"].slice(len(trips) // 2)
    path.unlink()
    pq.write_table(trips.slice(len(trips) // 2), path, write_page_checksum=True)
    is_kept = pc.or_(pc.not_equal(kept["split"], "train"), pc.is_in(kept["trip_id"], known))
    (tmp_path / "less" / "windows.parquet").unlink()
    pq.write_table(kept.filter(is_kept), tmp_path / "less" / "windows.parquet")
    assert numbers(Shards.open(tmp_path / "less")) != before
