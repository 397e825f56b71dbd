"""Travel times: journeys read without their points, baselines fitted on train, rows that add up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from geographiclib.geodesic import Geodesic
from helpers import masked_ships
from hypothesis import given
from hypothesis import strategies as st

from model.baselines.travel_time import Boosting, Departures, MeanSpeed, OdHour, fitted_on
from model.data.journeys import read_journeys
from model.data.shards import Shards
from model.earth.constants import EARTH_RADIUS_M
from model.earth.geometry import haversine_m, step_between, step_from
from model.evaluation.fitted_baselines import fitted_baselines
from model.evaluation.judged_tasks import ENDS, PATH_GIVEN, TRAVEL_TIME
from model.evaluation.question import Errors, Judging
from model.evaluation.scores import scored
from model.evaluation.travel_time_scores import TravelTimeScorer, travel_question
from model.inference.api import Partial, travel_time
from model.inference.serving import load_trained
from model.interface import lines
from model.interface.answerer import max_points_of
from model.interface.answers import Durations
from model.interface.calibration import Calibration
from model.interface.lines import PATH_PLACES
from tasks.evaluate.evaluate import evaluate
from tasks.report.error_tables import read_scores
from tasks.runtime.stage import without_orchestrator

SPHERE = Geodesic(EARTH_RADIUS_M, 0.0)
BASELINES = {"mean_speed", "od_hour", "boosting"}


def opened() -> Shards:
    store, shards, _ = masked_ships.trained("trajfm")
    return Shards.open(store.folder(shards), "UTC")


def trips_of(split: str) -> list[dict]:
    """The journeys in the order of window_id, read without the project's reader."""
    folder = opened().folder
    trips = {
        row["trip_id"]: row for row in pq.read_table(folder / f"{split}-000.parquet").to_pylist()
    }
    windows = pq.read_table(folder / "windows.parquet").sort_by("window_id").to_pylist()
    return [
        trips[row["trip_id"]]
        for row in windows
        if (row["split"], row["task"]) == (split, "travel_time")
    ]


# Reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_places", [2, 5, 64])
def test_journeys_agree_with_a_slow_loop(num_places):
    """Places at even shares of the way, by geographiclib on each leg."""
    journeys = read_journeys(opened(), "test", num_places)
    trips = trips_of("test")
    assert journeys.entity_id_J == tuple(trip["entity_id"] for trip in trips)
    for number, trip in enumerate(trips):
        lon, lat = trip["lon_deg"], trip["lat_deg"]
        legs = zip(lat, lon, lat[1:], lon[1:], strict=False)
        leg_m = [SPHERE.Inverse(*leg)["s12"] for leg in legs]
        path_m = sum(leg_m)
        assert journeys.path_m_J[number] == pytest.approx(path_m, rel=1e-6)
        assert journeys.duration_s_J[number] == trip["t_s"][-1] - trip["t_s"][0]
        started_us = trip["started_at"].timestamp() * 1e6 + trip["t_s"][0] * 1e6
        assert journeys.started_us_J[number] == round(started_us)
        for place in range(1, num_places - 1):
            left_m, leg = path_m * place / (num_places - 1), 0
            while left_m > leg_m[leg]:
                left_m, leg = left_m - leg_m[leg], leg + 1
            line = SPHERE.InverseLine(lat[leg], lon[leg], lat[leg + 1], lon[leg + 1])
            there = line.Position(left_m)
            shown = journeys.lat_deg_JK[number, place], journeys.lon_deg_JK[number, place]
            away_m = SPHERE.Inverse(there["lat2"], there["lon2"], *shown)["s12"]
            assert away_m < 1e-3
        ends_deg = [value[number] for value in journeys.ends_deg]
        assert ends_deg == [lon[0], lat[0], lon[-1], lat[-1]]


# Baselines --------------------------------------------------------------------------------------


def departures_of(distance_m, hour=None, cells=None) -> Departures:
    """Journeys that go east from the null island, at a distance each."""
    distance_m = np.asarray(distance_m, float)
    zeros = np.zeros(len(distance_m), np.int64)
    pairs = zeros if cells is None else np.asarray(cells)
    return Departures(
        distance_m,
        distance_m,
        zeros if hour is None else np.asarray(hour),
        zeros,
        pairs,
        pairs + 1,
        (zeros * 1.0, zeros * 1.0, distance_m / 111_195, zeros * 1.0),
    )


def test_mean_speed_is_that_of_the_whole_of_train():
    fitted = MeanSpeed.fit(departures_of([100, 500]), np.array([20.0, 40.0]))
    assert fitted.speed_mps == 10.0
    assert fitted.seconds(departures_of([50, 0])).tolist() == [5.0, 0.0]


def test_where_train_stood_still_the_mean_duration_is_told():
    fitted = MeanSpeed.fit(departures_of([0, 0]), np.array([20.0, 40.0]))
    assert fitted.seconds(departures_of([50, 0])).tolist() == [30.0, 30.0]


def test_cells_and_hour_back_off_to_cells_and_then_to_mean_speed():
    train = departures_of([100] * 4, hour=[7, 7, 8, 9], cells=[1, 1, 1, 5])
    fitted = OdHour.fit(train, np.array([10.0, 20.0, 60.0, 30.0]))
    asked = departures_of([100] * 4, hour=[7, 8, 23, 7], cells=[1, 1, 1, 9])
    assert fitted.seconds(asked).tolist() == [15.0, 60.0, 30.0, 100 / (400 / 120)]


def test_trees_learn_a_law_of_distance():
    generator = np.random.default_rng(0)
    distance_m = generator.uniform(100, 10_000, 600)
    known, asked = departures_of(distance_m[:500]), departures_of(distance_m[500:])
    told_s = Boosting.fit(known, distance_m[:500] / 5, seed=0).seconds(asked)
    assert np.abs(told_s / (distance_m[500:] / 5) - 1).mean() < 0.05


@pytest.mark.parametrize("num_journeys", [1, 2, 30])
def test_few_journeys_of_train_will_do(num_journeys):
    train = departures_of(100.0 * np.arange(num_journeys))
    for baseline in fitted_on(train, np.arange(num_journeys) * 10.0, seed=0):
        assert np.isfinite(baseline.seconds(departures_of([5.0, 5_000.0]))).all()


def test_departures_are_read_on_local_clocks_and_in_cells():
    import h3

    journeys = read_journeys(opened(), "test", 2)
    known = Departures.of(travel_question(journeys, ENDS, "Asia/Kathmandu"), 4)
    for number, trip in enumerate(trips_of("test")):
        at = datetime.fromtimestamp(journeys.started_us_J[number] / 1e6, UTC)
        clock = at.astimezone(ZoneInfo("Asia/Kathmandu"))
        assert (known.hour_J[number], known.weekday_J[number]) == (clock.hour, clock.weekday())
        cell = h3.latlng_to_cell(trip["lat_deg"][-1], trip["lon_deg"][-1], 4)
        assert h3.int_to_str(int(known.destination_cell_J[number])) == cell
        line = SPHERE.Inverse(
            trip["lat_deg"][0], trip["lon_deg"][0], trip["lat_deg"][-1], trip["lon_deg"][-1]
        )
        assert known.distance_m_J[number] == pytest.approx(line["s12"], rel=1e-6)
    given_path = Departures.of(travel_question(journeys, PATH_GIVEN, "UTC"), 4)
    assert (given_path.distance_m_J == journeys.path_m_J).all()
    assert given_path.straight_m_J == pytest.approx(known.distance_m_J)


def test_baselines_know_nothing_of_when_the_judged_arrived():
    """Other durations of the judged journeys leave everything that is told as it was."""
    journeys = read_journeys(opened(), "test", 8)
    later = read_journeys(opened(), "test", 8)
    later.duration_s_J[:] = 1e6
    for track in (ENDS, PATH_GIVEN):
        for baseline in fitted_baselines(opened(), [TRAVEL_TIME]):
            one, other = (
                baseline.travel_time(travel_question(item, track, "UTC"))
                for item in (journeys, later)
            )
            assert torch.equal(one.median_s_B, other.median_s_B)


class Listens:
    """Answers any journey with the same time, and keeps what it was asked."""

    is_baseline, tasks = False, (TRAVEL_TIME,)

    def __init__(self, name: str, max_points: int) -> None:
        self.name, self.max_points = name, max_points
        self.asked: list[Partial] = []

    def travel_time(self, partial: Partial) -> Durations:
        self.asked.append(partial)
        return Durations.of(torch.full((len(partial.is_pad_BT),), 60.0).double())


def test_everyone_is_told_the_same_of_a_path():
    """Trees and models see as many places of every path, however many points it has."""
    model, other = Listens("model", 1_000), Listens("reads less", 5)
    told = []
    baselines = fitted_baselines(opened(), [TRAVEL_TIME])
    for baseline in baselines:
        listener = Listens(baseline.name, max_points_of(baseline))
        told.append(listener)
    scored(opened(), [model, other, *told], "test")
    asked = {one.name: one.asked for one in (model, other, *told)}
    for name in BASELINES:
        for one, another in zip(asked["model"], asked[name], strict=True):
            for column, value in one.columns().items():
                assert torch.equal(value.nan_to_num(-1), another.columns()[column].nan_to_num(-1))
    for name, num_places in (("model", PATH_PLACES), ("reads less", 5)):
        shapes = {partial.lon_deg_BT.shape[1] for partial in asked[name]}
        assert shapes == {2, num_places}
        assert not any(bool(partial.is_pad_BT.any()) for partial in asked[name])


# Points of a path ---------------------------------------------------------------------------------


def recorded(lon_deg_T, lat_deg_T, share_S):
    """A path recorded at further points on its legs, at shares between 0 and 1 of each."""
    starts, ends = (
        [value[part, None] for value in (lon_deg_T, lat_deg_T)]
        for part in (slice(None, -1), slice(1, None))
    )
    step_m = step_between(*starts, *ends)
    share_S = torch.cat([torch.zeros(1, dtype=torch.float64), share_S.sort().values])
    more = step_from(*starts, *(share_S * axis_m for axis_m in step_m))
    return [
        torch.cat([value.flatten(), last[-1:]])
        for value, last in zip(more, (lon_deg_T, lat_deg_T), strict=True)
    ]


class ReadsPoints:
    """Planted fault: places at even shares of the points, as paths were told before."""

    @staticmethod
    def line_of(lon_deg_N, lat_deg_N, first_J, last_J, num_places):
        place_JK = torch.linspace(0, 1, num_places).double() * (last_J - first_J).unsqueeze(1)
        places = lines.placed(lon_deg_N, lat_deg_N, place_JK, first_J, last_J)
        way_m_N = lines.so_far_m(lon_deg_N, lat_deg_N)
        return *places, way_m_N[last_J] - way_m_N[first_J]


def check_points_do_not_matter(line_of, seed, share_S):
    generator = torch.Generator().manual_seed(seed)
    lon_deg_T = 179.99 + 0.02 * torch.rand(9, generator=generator).double()
    lat_deg_T = 80 * torch.rand(1, generator=generator).double()
    lat_deg_T = lat_deg_T + 0.02 * torch.rand(9, generator=generator).double()
    lon_deg_T[4], lat_deg_T[4] = lon_deg_T[3], lat_deg_T[3]  # a rest
    coarse, fine = (
        line_of(*places, torch.tensor([0]), torch.tensor([len(places[0]) - 1]), 24)
        for places in ((lon_deg_T, lat_deg_T), recorded(lon_deg_T, lat_deg_T, share_S))
    )
    torch.testing.assert_close(coarse[2], fine[2], rtol=1e-9, atol=1e-6)
    away_m_1K = haversine_m(*coarse[:2], *fine[:2])
    assert float(away_m_1K.max()) < 1e-3


@given(st.integers(0, 999), st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_a_path_is_told_alike_however_densely_it_was_recorded(seed, shares):
    """More points on its legs, at uneven distances, change neither its places nor its length."""
    check_points_do_not_matter(lines.line_of, seed, torch.tensor(shares).double())


def test_places_that_are_shares_of_points_are_caught():
    with pytest.raises(AssertionError):
        check_points_do_not_matter(ReadsPoints.line_of, 0, torch.tensor([0.1, 0.2, 0.3]).double())


def test_nothing_of_a_question_counts_the_points_of_train():
    """Each trip recorded three times as often: trees are fitted on the same numbers."""
    journeys = read_journeys(opened(), "test", PATH_PLACES)
    for number, trip in enumerate(trips_of("test")):
        places = (torch.tensor(trip[name], dtype=torch.float64) for name in ("lon_deg", "lat_deg"))
        finer = recorded(*places, torch.tensor([1 / 3, 2 / 3]).double())
        line = lines.line_of(
            *finer, torch.tensor([0]), torch.tensor([len(finer[0]) - 1]), PATH_PLACES
        )
        for told, kept in zip(
            line, (journeys.lon_deg_JK, journeys.lat_deg_JK, journeys.path_m_J), strict=True
        ):
            np.testing.assert_allclose(told[0], kept[number], atol=1e-8, rtol=1e-9)


# Rows -------------------------------------------------------------------------------------------


def test_every_stored_journey_is_judged_by_all():
    made = masked_ships.evaluated("trajfm")
    rows = masked_ships.rows_of(made, TRAVEL_TIME)
    keys = {(row["split"], row["track"], row["model"]) for row in rows}
    assert keys == {
        (split, track, model)
        for split in ("validation", "test")
        for track in (ENDS, PATH_GIVEN)
        for model in (*BASELINES, "trajfm")
    }
    for row in rows:
        trips = trips_of(row["split"])
        assert row["num_windows"] == len(trips)
        assert row["num_entities"] == len({trip["entity_id"] for trip in trips})
        assert row["low"] <= row["mae_s"] <= row["high"]
        assert row["rmse_s"] >= row["mae_s"]
        spread = {"coverage_50", "coverage_80", "coverage_95", "crps_s", "nll"}
        assert spread & {*row} == (set() if row["model"] in BASELINES else spread)
        rivals = [
            other["mae_s"]
            for other in rows
            if (other["split"], other["track"]) == (row["split"], row["track"])
            and other["model"] in BASELINES
        ]
        assert row["skill"] == pytest.approx(1 - row["mae_s"] / min(rivals))
    counts = made.evaluated.counts
    assert counts["test_travel_time_windows"] == len(trips_of("test"))
    assert counts["test_travel_time_mae_s"] > 0
    assert "test_travel_time_skill" in counts


@pytest.mark.parametrize("track", [ENDS, PATH_GIVEN])
def test_the_model_rows_agree_with_a_slow_loop(track):
    made = masked_ships.evaluated("trajfm")
    trained = replace(
        load_trained(made.store.folder(made.trained)),
        calibration=Calibration.read(made.store.folder(made.evaluated)),
    )
    misses_s, relative, inside, inside_raw = [], [], [], []
    for trip in trips_of("test"):
        points = [torch.tensor(trip[name], dtype=torch.float64) for name in ("lon_deg", "lat_deg")]
        if track == PATH_GIVEN:
            num_places = min(PATH_PLACES, trained.max_points)
            ends = torch.tensor([0]), torch.tensor([len(points[0]) - 1])
            lon, lat, path_m = lines.line_of(*points, *ends, num_places)
        else:
            (lon, lat), path_m = (value[None, [0, -1]] for value in points), None
        is_first = torch.arange(lon.shape[1])[None] == 0
        asked = Partial(
            lon,
            lat,
            torch.zeros_like(lon),
            torch.ones_like(is_first),
            is_first,
            torch.tensor([int(trip["started_at"].timestamp()) * 1_000_000]),
            "UTC",
            torch.zeros_like(is_first),
            path_m,
        )
        found, raw = trained.travel_time(asked), travel_time(trained.model, asked)
        true_s = trip["t_s"][-1] - trip["t_s"][0]
        misses_s.append(abs(float(found.median_s_B) - true_s))
        relative.append(misses_s[-1] / true_s)
        inside.append(float(found.p10_s_B) <= true_s <= float(found.p90_s_B))
        inside_raw.append(float(raw.p10_s_B) <= true_s <= float(raw.p90_s_B))
    (row,) = (
        row
        for row in masked_ships.rows_of(made, TRAVEL_TIME)
        if (row["split"], row["track"], row["model"]) == ("test", track, "trajfm")
    )
    assert row["mae_s"] == pytest.approx(np.mean(misses_s), rel=1e-4)
    assert row["rmse_s"] == pytest.approx(np.sqrt(np.mean(np.square(misses_s))), rel=1e-4)
    assert row["mape"] == pytest.approx(np.mean(relative), rel=1e-4)
    assert row["coverage_80"] == np.mean(inside)
    assert row["raw_coverage_80"] == np.mean(inside_raw)


def test_the_question_shows_no_time_but_that_of_the_departure():
    journeys = read_journeys(opened(), "test", 8)
    for track in (ENDS, PATH_GIVEN):
        asked = travel_question(journeys, track, "UTC")
        assert bool(asked.time_s_BT[:, 1:].isnan().all())
        assert asked.time_s_BT[:, 0].tolist() == [0.0] * len(journeys.duration_s_J)


def test_a_journey_that_took_no_time_is_left_out_of_mape():
    miss_s_J, true_s_J = torch.tensor([3.0, 5.0, 0.0]), torch.tensor([6.0, 10.0, 0.0])
    relative_J = torch.where(true_s_J > 0, miss_s_J / true_s_J, torch.nan)
    errors = {"mae_s": miss_s_J, "relative": relative_J}
    told = TravelTimeScorer().told(Errors(errors, ["a", "b", "c"]), Judging())
    found = {metric.metric: metric for metric in told}
    assert found["mape"].value == pytest.approx(0.5)
    assert found["mae_s"].num_windows == 3
    assert {*found} == {"mae_s", "rmse_s", "mape"}


def test_the_size_of_a_batch_changes_nothing():
    made = masked_ships.evaluated("trajfm")
    trained = load_trained(made.store.folder(made.trained))
    answerers = [trained, *fitted_baselines(opened(), [TRAVEL_TIME], 6)]
    whole, parts = (
        scored(
            opened(), answerers, "test", Judging(tasks=(TRAVEL_TIME,), windows_at_once=size)
        ).table.to_pylist()
        for size in (1_000, 5)
    )
    for one, other in zip(whole, parts, strict=True):
        assert one == {
            name: pytest.approx(value, rel=1e-5, nan_ok=True) if isinstance(value, float) else value
            for name, value in other.items()
        }


@pytest.mark.parametrize("journeys_of", [("validation", "test"), ("train",)])
def test_without_journeys_to_fit_or_to_judge_nothing_is_told(journeys_of):
    store, _, model = masked_ships.trained("trajfm")
    tasks = ("forecast", "travel_time")
    shards = masked_ships.stored_shards(store, tasks, journeys_of)
    with without_orchestrator():
        made = evaluate(masked_ships.config_of("trajfm", tasks), shards, model, store)
    judged = set(read_scores(store.folder(made))["task"].to_pylist())
    assert TRAVEL_TIME not in judged
    assert not [name for name in made.counts if "travel_time" in name]
