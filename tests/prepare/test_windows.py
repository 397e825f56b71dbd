"""Stored windows and the shards they lie in, for every kind of split; planted leaks are seen."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from datetime import timedelta
from itertools import groupby, pairwise
from typing import Any

import h3.api.basic_int as h3
import pyarrow.parquet as pq
import pytest
from helpers import ships
from helpers.points import START, prepared, rows_of, snapshot_of, table_of, walk, walks

import sql
from model.data.reading import read_windows
from model.data.shards import Shards
from model.training.config import FitConfig
from tasks.config.datasets import DATASETS
from tasks.config.pipeline import CleanConfig, PipelineConfig, SplitConfig, WindowConfig
from tasks.config.sections import SplitKind
from tasks.prepare import shards as shards_module
from tasks.prepare import split as split_module
from tasks.prepare.learning_shards import learning_shards
from tasks.prepare.split import SPLITS
from tasks.release.champion_gate import leak_refusal
from tasks.release.promote import judge
from tasks.report.facts import RunSteps
from tasks.runtime.errors import DataError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store

SPLIT = {
    "entity": SplitConfig(validation_percent=30, test_percent=30),
    "time": SplitConfig(kind="time", validation_percent=20, test_percent=20),
    # The walks start near the date line, a tenth of a degree apart from south to north.
    "region": SplitConfig(
        kind="region",
        validation_percent=40,
        west_deg=179,
        east_deg=-179,
        south_deg=-17.05,
        north_deg=-16.45,
    ),
    "random_window": SplitConfig(kind="random_window", validation_percent=20, test_percent=20),
}
NUM_CONTEXT, NUM_HORIZON = 6, 6
NUM_WALKS, NUM_POINTS = 14, 120
WALKS = walks(NUM_WALKS, NUM_POINTS)
TASKS = ("forecast", "path_inference", "recover", "travel_time")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """One store for all: what a recipe names is made once."""
    shared = Store(tmp_path_factory.mktemp("store"))
    shared.prepare()
    return shared


def config_of(kind: SplitKind = "entity", seed: int = 0, **window: Any) -> PipelineConfig:
    """Windows of 12 points of people's data, with steps of 10 s at most."""
    sizes = {"num_context": NUM_CONTEXT, "num_horizon": NUM_HORIZON, "stride": 4} | window
    return PipelineConfig(
        dataset="geolife",
        clean=CleanConfig(max_gap_s=600, min_points=2),
        split=SPLIT[kind],
        window=WindowConfig(**sizes),
        assess={"horizons": (1, 2), "gate_horizon": 2},
        seed=seed,
    )


def made(store: Store, config: PipelineConfig, points: list | None = None) -> Receipt:
    """The shards of points, by default of some walks."""
    given = WALKS if points is None else points
    # A file is known by its content.
    file_id = int(hashlib.md5(repr(given).encode()).hexdigest()[:6], 16)
    table = table_of(given, file_id)
    return prepared(config, snapshot_of(store, table, dataset="geolife", num_buckets=1), store)


def windows_of(store: Store, receipt: Receipt, task: str = "") -> list[dict[str, Any]]:
    rows = rows_of(store, [receipt], "windows.parquet")
    return [row for row in rows if task in ("", row["task"])]


def trips_of(store: Store, receipt: Receipt) -> list[dict[str, Any]]:
    folder = store.folder(receipt)
    return [
        row
        for path in sorted(folder.glob("*-[0-9]*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


# Splits of every kind ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPLIT)
def test_every_point_is_in_one_part_or_counted_as_purged(store: Store, kind):
    receipt = made(store, config_of(kind))
    trips = trips_of(store, receipt)
    instants = [
        (trip["entity_id"], trip["started_at"] + timedelta(seconds=t_s))
        for trip in trips
        for t_s in trip["t_s"]
    ]
    assert len(set(instants)) == len(instants)
    counts = receipt.counts
    assert len(instants) == sum(counts[f"points_{split}"] for split in SPLITS)
    assert len(instants) + counts["points_purged"] == NUM_WALKS * NUM_POINTS
    assert (counts["points_purged"] > 0) == (kind in ("time",))
    assert (counts["split_kind"], counts["is_leaky"]) == (kind, int(kind == "random_window"))
    assert len(counts["split_hash"]) == 64
    for trip in trips:
        assert trip["t_s"][0] == trip["step_s"][0] == trip["turn_rad"][0] == 0
        assert trip["turn_rad"][1:2] in ([0], [])


def test_in_time_validation_comes_after_train_and_test_after_both(store: Store):
    config = config_of("time")
    trips = trips_of(store, made(store, config))
    gap_s = config.split_rules.purge_gap_s
    assert gap_s == 11 * 2 * 5
    for _, own in groupby(
        sorted(trips, key=lambda row: row["entity_id"]), lambda row: row["entity_id"]
    ):
        parts = sorted(own, key=lambda row: row["started_at"])
        assert [part["split"] for part in parts] == list(SPLITS)
        for before, after in pairwise(parts):
            ended_at = before["started_at"] + timedelta(seconds=before["t_s"][-1])
            assert (after["started_at"] - ended_at).total_seconds() >= gap_s
    sizes = {trip["split"]: len(trip["t_s"]) for trip in trips}
    # 71, 24 and 25 points, one every 10 s; those in the 110 s before a border are left out.
    assert sizes == {"train": 60, "validation": 13, "test": 25}
    assert Counter(trip["split"] for trip in trips) == dict.fromkeys(SPLITS, NUM_WALKS)


def test_copies_are_cut_at_the_same_instants(store: Store):
    path = walk("a", 120, 1)
    copy = [row | {"entity_id": "z"} for row in path[:100]]
    trips = trips_of(store, made(store, config_of("time"), path + copy + walks(3, 120)))
    parts = {
        name: [(trip["split"], trip["started_at"]) for trip in trips if trip["entity_id"] == name]
        for name in "az"
    }
    assert len(parts["z"]) > 1
    assert set(parts["z"]) <= set(parts["a"])


def test_the_region_is_held_out_whole(store: Store):
    trips = trips_of(store, made(store, config_of("region")))
    for trip in trips:
        inside = [-17.05 <= lat_deg <= -16.45 for lat_deg in trip["lat_deg"]]
        assert set(inside) == {trip["split"] == "test"}
    assert {trip["split"] for trip in trips} == set(SPLITS)


def test_storms_are_too_short_for_a_split_in_time(store: Store):
    config = config_of("time").model_copy(update={"dataset": "hurdat2"})
    with pytest.raises(DataError, match=r"none with 12 points in each of train.*once 475,200 s"):
        prepared(config, snapshot_of(store, table_of(walks(5, 60))), store)


@pytest.mark.parametrize("kind", SPLIT)
def test_what_test_rows_say_does_not_move_the_normaliser(store: Store, kind):
    points = WALKS
    before = made(store, config_of(kind), points)
    held = {
        (trip["entity_id"], trip["started_at"] + timedelta(seconds=t_s))
        for trip in trips_of(store, before)
        if trip["split"] == "test"
        for t_s in trip["t_s"]
    }
    moved = [
        row | {"lat_deg": row["lat_deg"] + 1e-6 * ((row["entity_id"], row["tracked_at"]) in held)}
        for row in points
    ]
    assert moved != points
    after = made(store, config_of(kind), moved)
    assert before.recipe != after.recipe
    texts = [(store.folder(it) / "normaliser.json").read_text() for it in (before, after)]
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["num_steps"] > 0


# Windows ----------------------------------------------------------------------------------------


def test_masks_hide_what_their_names_say(store: Store):
    receipt = made(store, config_of(num_context=20, num_horizon=20))
    windows = windows_of(store, receipt)
    assert {row["task"] for row in windows} == set(TASKS)
    for row in windows:
        observed = row["is_observed"]
        runs = [(seen, len(list(same))) for seen, same in groupby(observed)]
        assert len(observed) == row["num_points"]
        assert row["num_context"] == runs[0][1]
        if row["task"] == "forecast":
            assert runs == [(True, 20), (False, 20)]
        elif row["mask"] == "ends":
            assert runs == [(True, 1), (False, row["num_points"] - 2), (True, 1)]
        elif row["mask"].startswith("keep_1_"):
            assert sum(observed) == 40 // int(row["mask"].removeprefix("keep_1_"))
            assert observed[0]
            assert observed[-1]
        else:
            size = int(row["mask"].removeprefix("block_"))
            assert [seen for seen, _ in runs] == [True, False, True]
            assert runs[1][1] == size
    masks = Counter(row["mask"] for row in windows if row["task"] == "recover")
    assert set(masks) == {f"keep_1_{k}" for k in (2, 4, 8)} | {f"block_{k}" for k in (5, 10, 20)}
    assert len(set(masks.values())) == 1
    assert {row["split"] for row in windows if row["task"] == "recover"} == {"validation", "test"}
    assert len({tuple(row["is_observed"]) for row in windows if row["mask"] == "keep_1_4"}) > 20


def test_a_sparser_mask_keeps_points_of_a_denser_one(store: Store):
    by_stretch: dict[tuple[str, int], dict[str, list[bool]]] = {}
    for row in windows_of(store, made(store, config_of()), "recover"):
        by_stretch.setdefault((row["trip_id"], row["start"]), {})[row["mask"]] = row["is_observed"]
    assert by_stretch
    for masks in by_stretch.values():
        for sparse, dense in (("keep_1_8", "keep_1_4"), ("keep_1_4", "keep_1_2")):
            assert all(d for s, d in zip(masks[sparse], masks[dense], strict=True) if s)


def test_the_seed_draws_other_masks_of_the_same_windows(store: Store):
    found = []
    for seed, points in ((0, WALKS), (0, WALKS[::-1]), (3, WALKS)):
        # In a region whoever is test does not hang on the seed.
        rows = windows_of(store, made(store, config_of("region", seed=seed), points), "recover")
        found.append(
            {row["window_id"]: row["is_observed"] for row in rows if row["split"] == "test"}
        )
    assert found[0] == found[1] != found[2]
    assert found[0].keys() == found[2].keys()


def test_the_reader_of_the_model_observes_what_is_stored(store: Store):
    receipt = made(store, config_of())
    for task in TASKS:
        reads_what_is_stored(store, receipt, task)


def reads_what_is_stored(store: Store, receipt: Receipt, task: str) -> None:
    shards = Shards.open(store.folder(receipt))
    rows = {row["window_id"]: row for row in windows_of(store, receipt, task)}
    seen = 0
    for part in read_windows(shards, "test", 7, task=task):
        batch = part.batch
        for place, name in enumerate(batch.window_id_B.tolist()):
            row = rows[name]
            size = row["num_points"]
            assert batch.is_observed_BT[place, :size].tolist() == row["is_observed"]
            assert batch.is_target_BT[place, :size].tolist() == [
                not known for known in row["is_observed"]
            ]
            assert not (batch.is_observed_BT | batch.is_target_BT)[place, size:].any()
            seen += 1
    assert seen == sum(row["split"] == "test" for row in rows.values()) > 0


def test_only_the_tasks_that_are_asked_for_are_stored(store: Store):
    few = made(store, config_of(tasks=("forecast",)))
    assert {row["task"] for row in windows_of(store, few)} == {"forecast"}
    all_of_them = made(store, config_of())
    assert windows_of(store, few) == windows_of(store, all_of_them, "forecast")
    with pytest.raises(ValueError, match="forecast must be among the tasks"):
        WindowConfig(tasks=("recover",))


def test_a_stretch_over_a_long_step_is_not_judged_but_counted(store: Store):
    """Steps are 10 s, and a window may hold one of 20 s; one in the middle is 21 s.

    Trips are so long that it is less than a hundredth of the steps of train.
    """
    points = walks(NUM_WALKS, NUM_POINTS)
    late = [
        row | {"tracked_at": row["tracked_at"] + timedelta(seconds=11 * (n % NUM_POINTS >= 30))}
        for n, row in enumerate(points)
    ]
    whole, torn = made(store, config_of(), points), made(store, config_of(), late)
    starts = {row["start"] for row in windows_of(store, torn, "forecast")}
    assert {row["start"] for row in windows_of(store, whole, "forecast")} == set(range(0, 109, 4))
    assert starts == {0, 4, 8, 12, 16, *range(32, 109, 4)}
    assert (whole.counts["windows_with_long_steps"], torn.counts["windows_with_long_steps"]) == (
        0,
        NUM_WALKS * 3,
    )
    assert torn.counts["windows_with_long_steps_share"] == pytest.approx(3 / 28, abs=1e-4)
    assert torn.counts["longest_step_s"] == 20
    assert len(windows_of(store, torn, "travel_time")) == NUM_WALKS


def test_windows_are_the_datasets_own_and_flags_come_first():
    storms = PipelineConfig()
    assert (storms.windowing.num_context, storms.windowing.num_horizon) == (8, 20)
    assert (storms.evaluate_rules.horizons[-1], storms.evaluate_rules.gate_horizon) == (20, 12)
    assert storms.training.members[0].window == storms.windowing
    short = PipelineConfig(window={"num_horizon": 5, "stride": 2})
    assert (short.windowing.num_context, short.windowing.stride) == (8, 2)
    assert (short.evaluate_rules.horizons, short.evaluate_rules.gate_horizon) == ((2, 4, 5), 5)
    asked = PipelineConfig(assess={"horizons": (3,), "gate_horizon": 4})
    assert asked.evaluate_rules.horizons == (3, 4)
    with pytest.raises(ValueError, match="assess asks for step 21, but windows end at"):
        PipelineConfig(assess={"gate_horizon": 21})


@pytest.mark.parametrize("name", DATASETS)
def test_what_a_dataset_says_of_its_windows_fits_together(name):
    row, rules = DATASETS[name], PipelineConfig(dataset=name).evaluate_rules
    assert row.gate_horizon in row.horizons
    assert rules.horizons == row.horizons
    assert row.horizons[-1] == row.num_horizon
    assert row.num_context + row.num_horizon <= FitConfig.max_points


def slowed(points: list[dict], *entities: str) -> list[dict]:
    """Some of them take thrice the time."""
    return [
        row | {"tracked_at": START + 3 * (row["tracked_at"] - START)}
        if row["entity_id"] in entities
        else row
        for row in points
    ]


def test_the_longest_step_is_told_by_train_alone(store: Store):
    """Long steps in test change nothing of it; in train they do."""
    where = {row["entity_id"]: row["split"] for row in windows_of(store, made(store, config_of()))}
    for slow, longest_s in (("train", 60), ("test", 20)):
        name = next(name for name, split in where.items() if split == slow)
        assert made(store, config_of(), slowed(WALKS, name)).counts["longest_step_s"] == longest_s


def test_no_window_outlasts_the_purge_gap(store: Store):
    """Steps of 30 s are usual here, but the gap is made for two of the promised 5 s."""
    names = {row["entity_id"] for row in WALKS}
    with pytest.raises(DataError, match="is long enough for a window"):
        made(store, config_of("time"), slowed(WALKS, *names))


def test_windows_at_rest_are_told(store: Store):
    """As a plain loop finds them; who stands is at rest."""
    standing = [row | {"lon_deg": 10.0, "lat_deg": 50.0} for row in walk("still", NUM_POINTS, 99)]
    receipt = made(store, config_of(), WALKS + standing)
    trips = {trip["trip_id"]: trip for trip in trips_of(store, receipt)}
    found = []
    for row in windows_of(store, receipt, "forecast"):
        trip, context = trips[row["trip_id"]], slice(row["start"], row["start"] + NUM_CONTEXT)
        places = [*zip(trip["lat_deg"][context], trip["lon_deg"][context], strict=True)]
        away_m = [h3.great_circle_distance(place, places[-1], unit="m") for place in places]
        assert row["is_at_rest"] == (max(away_m) <= 50)
        assert row["is_at_rest"] or row["entity_id"] != "still"
        found.append(row["is_at_rest"])
    assert {True, False} == {*found}


def test_windows_tell_what_they_are_like(store: Store):
    receipt = made(store, config_of())
    trips = {trip["trip_id"]: trip for trip in trips_of(store, receipt)}
    for row in windows_of(store, receipt, "forecast")[:200]:
        trip = trips[row["trip_id"]]
        steps = slice(row["start"] + 1, row["start"] + row["num_points"])
        turns = slice(row["start"] + 2, row["start"] + row["num_points"])
        step_s, speed_mps = trip["step_s"][steps], trip["speed_mps"][steps]
        length_m = sum(s * mps for s, mps in zip(step_s, speed_mps, strict=True))
        assert row["interval_s"] == sorted(step_s)[(len(step_s) - 1) // 2]
        assert row["speed_mps"] == pytest.approx(length_m / sum(step_s), rel=1e-3)
        turned = sum(abs(turn) for turn in trip["turn_rad"][turns])
        assert row["turn_rad"] == pytest.approx(turned, abs=1e-4)
        assert row["num_history"] == row["start"]
        # The walkers of ten minutes stay within 100 m for more than five.
    assert any(row["has_stop"] for row in windows_of(store, receipt, "forecast"))


REPORTS = {  # what a source says, and the metres a second to the east and to the north of it
    (4.0, 0.0): (0.0, 4.0),
    (4.0, 90.0): (4.0, 0.0),
    (4.0, 210.0): (-2.0, -math.sqrt(12)),
    (4.0, 360.0): (0.0, 4.0),
    (0.0, 77.0): (0.0, 0.0),
    (0.0, None): (0.0, 0.0),
    (4.0, None): None,
    (None, 90.0): None,
    (-1.0, 90.0): None,
    (4.0, 361.0): None,
    (math.inf, 90.0): None,
}


def test_a_reported_motion_goes_along_with_its_point(store: Store):
    """One walker in two reports nothing, and what is no motion counts as nothing reported."""
    told = list(REPORTS)
    silent = walks(NUM_WALKS, 60)
    points = [
        row | dict(zip(("speed_mps", "course_deg"), told[number % len(told)], strict=True))
        if row["entity_id"] < "e007"
        else row
        for number, row in enumerate(silent)
    ]
    receipt = made(store, config_of(), points)
    given = {(row["entity_id"], row["tracked_at"]): row for row in points}
    expected_at = {}
    num_told = 0
    for trip in trips_of(store, receipt):
        east_north = zip(trip["reported_east_mps"], trip["reported_north_mps"], strict=True)
        for place, (seconds, found) in enumerate(zip(trip["t_s"], east_north, strict=True)):
            row = given[trip["entity_id"], trip["started_at"] + timedelta(seconds=seconds)]
            expected = REPORTS.get((row.get("speed_mps"), row.get("course_deg")))
            expected_at[trip["trip_id"], place] = expected
            num_told += expected is not None
            assert found == pytest.approx(expected or (math.nan,) * 2, abs=1e-6, nan_ok=True)
    assert num_told > 100
    windows = windows_of(store, receipt, "forecast")
    last = [(row["trip_id"], row["start"] + NUM_CONTEXT - 1) for row in windows]
    expected = sum(expected_at[place] is not None for place in last)
    assert receipt.counts["windows_with_reported_motion"] == expected
    assert 0 < expected < len(windows)


def test_a_source_that_reports_no_motion_has_shards_without(store: Store):
    """Its shards are those that it would have had before anybody asked; learners get the same."""
    silent = walks(NUM_WALKS, 60)
    reporting = [row | {"speed_mps": 2.0, "course_deg": 8.0} for row in silent]
    plain, told = (made(store, config_of(), points) for points in (silent, reporting))
    assert "windows_with_reported_motion" not in plain.counts
    motion = {"reported_east_mps", "reported_north_mps"}
    for receipt, expected in ((plain, set()), (told, motion)):
        with without_orchestrator():
            learnt = learning_shards(config_of(), receipt, 100.0, store)
        for one in (receipt, learnt):
            for path in store.folder(one).glob("train-*.parquet"):
                assert {*pq.read_schema(path).names} & motion == expected
    trips = [
        {name: value for name, value in trip.items() if name not in motion}
        for trip in trips_of(store, told)
    ]
    assert trips == trips_of(store, plain)


def walked_again(store: Store, receipt: Receipt, points: list[dict]) -> list[dict]:
    """The path of one of train, which one of test walks days later."""
    where = {row["entity_id"]: row["split"] for row in windows_of(store, receipt, "forecast")}
    train, test = (next(name for name, own in where.items() if own == s) for s in ("train", "test"))
    return [
        row | {"entity_id": test, "tracked_at": row["tracked_at"] + timedelta(days=9)}
        for row in points
        if row["entity_id"] == train
    ]


def test_windows_tell_whether_train_knows_where_they_begin_to_ask(store: Store):
    """Held against H3 itself: the cells of all points of train, and that of the last known one."""
    config = config_of()
    again = walked_again(store, made(store, config), WALKS)
    receipt = made(store, config, WALKS + again)
    resolution = config.region_rules.resolution
    trips = {trip["trip_id"]: trip for trip in trips_of(store, receipt)}

    def cell(trip: dict[str, Any], place: int) -> int:
        lat_deg, lon_deg = (round(trip[name][place], 4) for name in ("lat_deg", "lon_deg"))
        return h3.latlng_to_cell(lat_deg, lon_deg, resolution)

    number = Counter(
        cell(trip, place)
        for trip in trips.values()
        if trip["split"] == "train"
        for place in range(len(trip["t_s"]))
    )
    known = {cell for cell, times in number.items() if times >= config.region_rules.min_count}
    answers = Counter()
    for row in windows_of(store, receipt):
        origin = cell(trips[row["trip_id"]], row["start"] + row["num_context"] - 1)
        assert row["is_seen"] == (None if row["split"] == "train" else origin in known)
        answers[row["is_seen"]] += 1
    assert answers.keys() == {None, True, False}


def test_a_path_that_is_walked_again_later_is_a_near_duplicate(store: Store):
    points = walks(NUM_WALKS, 60)
    before = made(store, config_of(), points)
    after = made(store, config_of(), points + walked_again(store, before, points)[7:])
    assert before.counts["near_duplicates_test"] == 0
    added = after.counts["windows_test"] - before.counts["windows_test"]
    assert after.counts["near_duplicates_test"] == added == 11


# Planted leaks ----------------------------------------------------------------------------------


def plant(monkeypatch, name: str, sound: str, leaky: str) -> None:
    """Change the text of one SQL file."""
    read = sql.read

    def changed(wanted: str) -> str:
        text = read(wanted)
        if wanted != name:
            return text
        assert sound in text
        return text.replace(sound, leaky)

    monkeypatch.setattr(sql, "read", changed)


@pytest.mark.parametrize(
    ("kind", "name", "sound", "leaky", "check"),
    [
        (
            "entity",
            "marts/windows",
            "    start,\n    num_points,\n",
            "    start + 110 as start,\n    num_points,\n",
            "windows_match_shards",
        ),
        (
            "entity",
            "intermediate/int_windows_forecast",
            "place < $num_context",
            "place < $num_context or place = num_points - 1",
            "windows_respect_origin",
        ),
        (
            "entity",
            "intermediate/int_windows_forecast",
            "place < $num_context",
            "place <= $num_context",
            "windows_respect_origin",
        ),
        ("entity", "marts/normaliser", "where split = 'train'", "", "normaliser_is_of_train"),
        (
            "time",
            "intermediate/int_spans_time",
            "$purge_gap_s * 1e6",
            "$purge_gap_s * 0",
            "purge_gap_is_kept",
        ),
        (
            "time",
            "intermediate/int_points_parted",
            "where cut.until_at is null or points.tracked_at < cut.until_at",
            "",
            "shards_conserve_points",
        ),
        (
            "region",
            "intermediate/int_spans_region",
            "if(placed.lies_inside, 'test', allotted.split)",
            "if(placed.lies_inside and trips.entity_id != 'e003', 'test', allotted.split)",
            "region_is_held_out",
        ),
        (
            "time",
            "marts/split",
            "numbered.from_at,",
            "numbered.from_at - interval 9 minutes as from_at,",
            "split_spans_are_disjoint",
        ),
    ],
)
def test_a_planted_leak_stops_the_run(store: Store, monkeypatch, kind, name, sound, leaky, check):
    plant(monkeypatch, name, sound, leaky)
    with pytest.raises(DataError, match=check):
        made(store, config_of(kind))


def test_an_instant_in_two_splits_stops_the_run(store: Store, monkeypatch):
    """Parts reach over their end, into the next; no other check looks."""
    name, sound = "intermediate/int_points_parted", "asof join cut"
    plant(monkeypatch, name, sound, "inner join cut")
    made(store, config_of("time"))
    plant(monkeypatch, name, "points.tracked_at < cut.until_at", "true")
    for checks in (shards_module.CHECKS, ("checks/splits_share_no_points",)):
        monkeypatch.setattr(shards_module, "CHECKS", checks)
        with pytest.raises(DataError, match=checks[0].rsplit("/", 1)[-1]):
            made(store, config_of("time"))


def test_copies_cut_one_by_one_stop_the_run(store: Store, monkeypatch):
    """A copy of a part only has its last points elsewhere, so it is cut elsewhere."""
    path = walk("a", 120, 1)
    points = path + [row | {"entity_id": "z"} for row in path[:90]] + walks(3, 120)

    def everyone_alone(con):
        query = "select distinct entity_id, entity_id as content_group from trips"
        return con.sql(query).to_arrow_table()

    monkeypatch.setattr(split_module, "content_groups", everyone_alone)
    with pytest.raises(DataError, match="No trip has a copy in another split"):
        made(store, config_of("time"), points)


# The control that leaks -------------------------------------------------------------------------


@pytest.mark.parametrize("is_leaky", [0, 1])
def test_what_was_judged_on_the_control_is_never_promoted(store: Store, is_leaky, tmp_path):
    shards = ships.stored_shards(store, is_leaky=is_leaky)
    refusal = leak_refusal(shards, shards)
    assert (refusal is not None) == bool(is_leaky)
    if refusal is not None:
        assert not refusal.is_promoted
        assert "control that leaks" in refusal.reason
        # It is refused before the registry or any number is looked at.
        steps = RunSteps(ships.config_of(), store, shards, shards, shards)
        assert judge(None, steps, None, tmp_path) == refusal
