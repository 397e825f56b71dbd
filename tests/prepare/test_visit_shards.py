"""Shards of visits: every visit once, nothing of another split, and fitted on train alone."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h3
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.points import point, rows_of, snapshot_of, table_of

from model.data.reading import read_windows
from model.data.visits import PLACES_FILE, TASK, VisitShards
from model.earth.cells import cells_of
from model.features.places import NUM_SPECIAL, Places, Special
from model.interface.infilling import with_gaps
from tasks.config.pipeline import CleanConfig, PipelineConfig, SplitConfig
from tasks.config.sections import RegionConfig, SyntheticConfig
from tasks.ingest.ingest import ingest
from tasks.prepare import clean, regions, split, visit_shards
from tasks.prepare.conventions import SPLITS
from tasks.runtime.errors import DataError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PEOPLE = PipelineConfig(
    dataset="synthetic",
    synthetic=SyntheticConfig(kind="people", num_entities=8, num_points=700, interval_s=12.0),
    split=SplitConfig(kind="time", validation_percent=30, test_percent=30),
)
ROUTINE = PipelineConfig(
    clean=CleanConfig(max_gap_s=600, min_points=2),
    split=SplitConfig(validation_percent=30, test_percent=30),
    region=RegionConfig(resolution=8),
)


@dataclass(frozen=True, eq=False)
class Made:
    """Shards of visits, and all that they are made of."""

    store: Store
    config: PipelineConfig
    cleaned: list[Receipt]
    split: list[Receipt]
    regions: list[Receipt]
    receipt: Receipt

    @property
    def folder(self) -> Path:
        return self.store.folder(self.receipt)

    @property
    def places(self) -> Places:
        return Places.from_json(json.loads((self.folder / PLACES_FILE).read_text()))


def made(store: Store, config: PipelineConfig, snapshot: Receipt) -> Made:
    cleaned = clean.clean(config, snapshot, store)
    drawn = split.split(config, cleaned, store)
    known = regions.regions(config, cleaned, drawn, store)
    receipt = visit_shards.visit_shards(config, cleaned, drawn, known, store)
    return Made(store, config, cleaned, [drawn], [known], receipt)


def rows_in(folder):
    """Each visit of each split as a row, in the order of the file."""
    names = [*visit_shards.LISTS]
    return [
        dict(zip(names, values, strict=True), entity_id=row["entity_id"], split=row["split"])
        for path in sorted(folder.glob("*-[0-9]*.parquet"))
        for row in pq.read_table(path).to_pylist()
        for values in zip(*(row[name] for name in names), strict=True)
    ]


def micros(instant):
    return (instant - EPOCH) // timedelta(microseconds=1)


def windows_of(step):
    return rows_of(step.store, step.regions, "visit_windows.parquet")


def visits_of(step):
    return rows_of(step.store, step.regions, "visits.parquet")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("people"))
    store.prepare()
    with without_orchestrator():
        return made(store, PEOPLE, ingest(PEOPLE, "", store))


def instants_by_split(people):
    """{(entity, split): instants and stays of its points}, told by a slow loop."""
    spans = defaultdict(list)
    for row in rows_of(people.store, people.split, "split.parquet"):
        spans[row["trip_id"]].append(row)
    found = defaultdict(list)
    for row in rows_of(people.store, people.cleaned, "clean_points.parquet"):
        at = row["tracked_at"]
        for span in spans[row["trip_id"]]:
            is_since = span["from_at"] is None or at >= span["from_at"]
            if is_since and (span["until_at"] is None or at < span["until_at"]):
                found[row["entity_id"], span["split"]].append((at, row["staypoint_id"]))
    return {key: sorted(points, key=lambda one: one[0]) for key, points in found.items()}


def test_every_visit_is_there_once_and_ends_in_its_split(people):
    """Against a slow loop over the points; a stay that goes on over a border ends at it."""
    points = instants_by_split(people)
    split_of = {(entity, at): name for (entity, name), told in points.items() for at, _ in told}
    visits = rows_of(people.store, people.cleaned, "visits.parquet")
    silence = timedelta(seconds=people.config.stay.max_gap_s)
    expected, num_cut = {}, 0
    for visit in visits:
        entity, arrived_at = visit["entity_id"], visit["arrived_at"]
        name = split_of.get((entity, arrived_at))
        if name is None:
            continue
        told = points[entity, name]
        last_at = max(at for at, stay in told if stay == visit["visit_id"])
        next_at = min((at for at, _ in told if at > last_at), default=None)
        is_censored = next_at is None or next_at - last_at > silence
        num_cut += last_at < visit["departed_at"]
        expected[name, entity, arrived_at] = (last_at, is_censored)
    found = rows_in(people.folder)
    assert len(found) == len(expected)
    for row, key in zip(found, sorted(expected), strict=True):
        last_at, is_censored = expected[key]
        assert (row["split"], row["entity_id"]) == key[:2]
        assert row["arrived_us"] == micros(key[2])
        assert round(row["duration_s"] * 1e6) == micros(last_at) - micros(key[2])
        assert row["is_censored"] == is_censored
    assert num_cut > 0  # else no stay lay on a border
    assert {row["is_censored"] for row in found} == {False, True}
    counts = people.receipt.counts
    assert counts["visits_purged"] == len(visits) - len(found)
    assert sum(counts[f"visits_{name}"] for name in SPLITS) == len(found)


def test_travel_is_from_the_end_of_the_visit_before(people):
    """It is known where one trip holds both, and the stay before was seen to end."""
    trips, points = {}, defaultdict(list)
    for row in rows_of(people.store, people.cleaned, "clean_points.parquet"):
        points[row["entity_id"]].append((micros(row["tracked_at"]), row["trip_id"]))
    for entity, told in points.items():
        trips.update({(entity, at_us): trip for at_us, trip in told})
    found = set()
    for before, row in itertools.pairwise(rows_in(people.folder)):
        if before["entity_id"] == row["entity_id"] and before["split"] == row["split"]:
            left_us = before["arrived_us"] + round(before["duration_s"] * 1e6)
            ends = (trips[row["entity_id"], at_us] for at_us in (left_us, row["arrived_us"]))
            is_seen = len({*ends}) == 1 and not before["is_censored"]
            assert row["is_way_seen"] == is_seen
            found.add((is_seen, before["is_censored"]))
        else:
            assert not row["is_way_seen"]
    assert {(True, False), (False, True)} <= found
    before = {}
    for row in rows_in(people.folder):
        key = row["entity_id"], row["split"]
        if key not in before:
            assert row["travel_s"] is None
        else:
            assert round(row["travel_s"] * 1e6) == row["arrived_us"] - before[key]
            assert row["travel_s"] >= 0
        before[key] = row["arrived_us"] + round(row["duration_s"] * 1e6)


def test_a_window_shows_visits_of_its_entity_and_split_alone(people):
    """Nothing of a window is outside of the instants that its entity has in its split."""
    span_us = {
        key: (micros(told[0][0]), micros(told[-1][0]))
        for key, told in instants_by_split(people).items()
    }
    asked = {row["visit_window_id"]: row for row in windows_of(people)}
    arrived = {row["visit_id"]: row["arrived_at"] for row in visits_of(people)}
    shards = VisitShards.open(people.folder, "Europe/Berlin")
    seen = 0
    for name in SPLITS:
        for part in read_windows(shards, name, 16, task=TASK):
            batch, started_us_B = part.batch, part.started_us_B
            left_s_B = batch.left_s_BV.amax(dim=1)
            for row, number in enumerate(batch.window_id_B.tolist()):
                window = asked[number]
                first_us, last_us = span_us[part.entity_id_B[row], name]
                assert (window["entity_id"], window["split"]) == (part.entity_id_B[row], name)
                assert first_us <= started_us_B[row]
                assert started_us_B[row] + round(float(left_s_B[row]) * 1e6) <= last_us
                last = window["num_visits"] - 1
                assert batch.is_target_BV[row].nonzero().tolist() == [[last]]
                since_s = (micros(arrived[window["visit_id"]]) - int(started_us_B[row])) / 1e6
                assert float(batch.arrived_s_BV[row, last]) == since_s
                seen += 1
    assert seen == len(asked) > 0


def test_windows_of_gaps_are_those_of_next_visits_with_inner_visits_hidden(people):
    asked = {row["visit_window_id"]: row for row in windows_of(people)}
    shards = VisitShards.open(people.folder)
    assert not [*read_windows(shards, "train", 16, task="infill")]
    for name in ("validation", "test"):
        parts = [*read_windows(shards, name, 1_000, task="infill")]
        sizes = [row["num_visits"] for row in asked.values() if row["split"] == name]
        assert sum(len(part.mask_B) for part in parts) == sum(size >= 4 for size in sizes) > 0
        for part in parts:
            shown, is_gap_BV = with_gaps(part.batch)
            for row, number in enumerate(part.batch.window_id_B.tolist()):
                hidden = part.batch.is_target_BV[row].nonzero()[:, 0].tolist()
                last = asked[number]["num_visits"] - 1
                assert 0 < min(hidden) <= max(hidden) < last
                assert int((~shown.is_pad_BV[row]).sum()) == last + 1 - len(hidden)
                assert bool(is_gap_BV[row].any())


def test_regions_are_numbered_behind_the_special_ids_and_placed_at_their_centre(people):
    vocabulary = rows_of(people.store, people.regions, "regions.parquet")
    cells = [row["cell"] for row in vocabulary if row["kind"] == "visit"]
    assert people.places.cells == tuple(cells)
    found = rows_in(people.folder)
    exact, placed = (
        [np.array([row[f"{kind}{name}"] for row in found]) for name in ("lon_deg", "lat_deg")]
        for kind in ("exact_", "")
    )
    resolution = people.config.region_rules.resolution
    cell_N = cells_of(*exact, resolution).tolist()
    ids = [cells.index(cell) + NUM_SPECIAL if cell in cells else 0 for cell in cell_N]
    assert [row["region_id"] for row in found] == ids
    assert Special.UNKNOWN in ids
    lat_lon = [h3.cell_to_latlng(h3.int_to_str(cell)) for cell in cell_N]
    assert np.array(lat_lon)[:, ::-1].T == pytest.approx(np.array(placed), abs=1e-12)


def check_scales_and_limits_are_those_of(train, people):
    places = people.places
    assert places.num_visits == len(train)
    ended = [row["duration_s"] for row in train if not row["is_censored"]]
    known = [row["travel_s"] for row in train if row["is_way_seen"]]
    lon_deg, lat_deg = (np.radians([row[name] for row in train]) for name in ("lon_deg", "lat_deg"))
    lon_0, lat_0 = np.radians([places.centroid_lon_deg, places.centroid_lat_deg])
    cosine = np.sin(lat_0) * np.sin(lat_deg)
    cosine += np.cos(lat_0) * np.cos(lat_deg) * np.cos(lon_deg - lon_0)
    away_m = 6_371_008.8 * np.arccos(cosine)
    for told, values in (
        (places.duration_s, ended),
        (places.travel_s, known),
        (places.distance_m, away_m),
    ):
        deciles = np.quantile(values, [0.1, 0.5, 0.9], method="inverted_cdf")
        assert [told.p10, told.p50, told.p90] == pytest.approx(deciles, rel=1e-5)
    assert places.max_distance_m == pytest.approx(away_m.max(), rel=1e-5)
    by_entity = defaultdict(list)
    for row in train:
        by_entity[row["entity_id"]].append(row)
    num_visits = people.config.region.max_history + 1
    longest_us = max(
        last["arrived_us"] + round(last["duration_s"] * 1e6) - first["arrived_us"]
        for rows in by_entity.values()
        for number, first in enumerate(rows)
        for last in rows[number : number + num_visits]
    )
    assert places.max_elapsed_s == pytest.approx(longest_us / 1e6, abs=1e-6)
    assert places.min_stay_s == people.config.stay.min_stay_s


def test_scales_and_limits_are_those_of_train(people):
    rows = rows_in(people.folder)
    check_scales_and_limits_are_those_of([r for r in rows if r["split"] == "train"], people)
    with pytest.raises(AssertionError):
        check_scales_and_limits_are_those_of(rows, people)


# Fitted on train --------------------------------------------------------------------------------


def routine(number: int, east_deg: float = 0.0):
    """Four days between home and work, 3 km apart, half an hour each, with points on the way."""
    lat_deg = 51.0 + 0.001 * number
    return [
        point(f"e{number:02d}", 7_200 * day + at_s, lon_deg + east_deg, lat_deg)
        for day in range(4)
        for at_s, lon_deg in (
            *((120 * n, 7.0) for n in range(15)),
            *((2_000 + 60 * n, 7.0 + 0.0043 * n) for n in range(1, 10)),
            *((3_000 + 120 * n, 7.043) for n in range(15)),
        )
    ]


@pytest.fixture(scope="module")
def routines(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("routines"))
    store.prepare()
    points = itertools.chain(*(routine(number) for number in range(12)))
    with without_orchestrator():
        return made(store, ROUTINE, snapshot_of(store, table_of(points)))


def test_what_others_do_changes_nothing_that_is_fitted(routines):
    """Entities of validation and test go elsewhere: only what is told of them changes."""
    train = {
        row["entity_id"]
        for row in rows_of(routines.store, routines.split, "split.parquet")
        if row["split"] == "train"
    }
    moved = [routine(n, 0.0 if f"e{n:02d}" in train else 1.0) for n in range(12)]
    with without_orchestrator():
        table = table_of(itertools.chain(*moved))
        after = made(routines.store, ROUTINE, snapshot_of(routines.store, table))
    assert after.places == routines.places
    name = "train-000.parquet"
    assert (after.folder / name).read_bytes() == (routines.folder / name).read_bytes()
    regions_of = {
        step: {row["region_id"] for row in rows_in(step.folder) if row["split"] != "train"}
        for step in (routines, after)
    }
    assert regions_of[after] == {Special.UNKNOWN}
    assert max(regions_of[routines]) > NUM_SPECIAL


def test_a_stay_before_a_silence_is_censored_and_one_before_a_way_is_not(routines):
    """People are seen on the way to work; nobody knows when they left it."""
    rows = rows_in(routines.folder)
    assert [row["is_censored"] for row in rows] == [False, True] * (4 * 12)
    assert {row["duration_s"] for row in rows} == {1_680.0}
    assert routines.receipt.counts["visits_purged"] == 0


def test_regions_that_train_does_not_know_are_refused(routines):
    config = ROUTINE.model_copy(update={"region": RegionConfig(resolution=15, min_count=1_000)})
    with without_orchestrator():
        known = regions.regions(config, routines.cleaned, *routines.split, routines.store)
        with pytest.raises(DataError, match="train knows no region"):
            visit_shards.visit_shards(
                config, routines.cleaned, *routines.split, known, routines.store
            )


def test_visits_without_a_next_one_are_refused(connection):
    [cell] = cells_of(np.array([7.0]), np.array([51.0]), 8).tolist()
    connection.execute(
        """
        create or replace table region_visits as
        select 'a' as entity_id, 'train' as split, 0 as visit_number, 1 as visit_id,
            0 as region_id, $cell as cell, 7.0 as lon_deg, 51.0 as lat_deg,
            '2024-05-01 08:00:00+00'::timestamptz as arrived_at, arrived_at as departed_at
        """,
        {"cell": cell},
    )
    connection.execute(
        "create or replace table all_visit_ends as select visit_id, split, 't' as first_trip_id, "
        "'t' as last_trip_id, arrived_at as last_at, false as is_censored from region_visits"
    )
    with pytest.raises(DataError, match="no entity in train has two visits"):
        visit_shards.place_visits(connection)
