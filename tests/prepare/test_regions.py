"""Regions: fitted on train whatever the order, told right, and windows that look back only."""

from __future__ import annotations

import json
from datetime import timedelta

import h3
import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers.points import START, point, rows_of, snapshot_of, table_of, walks
from helpers.strategies import places
from hypothesis import given, settings
from hypothesis import strategies as st

import sql
from model.earth.geometry import haversine_m
from tasks.config.datasets import DATASETS
from tasks.config.pipeline import CleanConfig, PipelineConfig, RegionConfig, StayConfig
from tasks.config.slices import RegionRules
from tasks.database import check
from tasks.prepare import clean, split
from tasks.prepare.regions import LINES_A_DEGREE, cells_of, fit_regions, regions
from tasks.runtime.errors import DataError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

RULES = RegionRules(resolution=8, min_count=2, min_history=2, max_history=3)
SPLITS = {"a": "train", "b": "train", "c": "validation", "d": "test"}


@given(place=places(), resolution=st.integers(0, 15))
def test_a_cell_is_that_of_the_library_and_fits_a_signed_number(place, resolution):
    lon_deg, lat_deg = place
    [cell] = cells_of(np.array([lon_deg]), np.array([lat_deg]), resolution).tolist()
    assert h3.int_to_str(cell) == h3.latlng_to_cell(lat_deg, lon_deg, resolution)
    assert 0 < cell < 2**63


@given(place=places())
def test_the_grid_of_points_moves_them_by_8_m_at_most(connection, place):
    query = "select round($x * $n) / $n, round($y * $n) / $n"
    given = {"x": place[0], "y": place[1], "n": LINES_A_DEGREE}
    [moved] = connection.execute(query, given).fetchall()
    ends = torch.tensor([*place, *moved], dtype=torch.float64)
    assert float(haversine_m(*ends)) < 8
    four = tuple(round(value, 4) for value in place)
    assert connection.execute(query, given | {"x": four[0], "y": four[1]}).fetchall() == [four]


def test_every_dataset_has_a_resolution_that_the_configuration_can_change():
    sizes = {name: PipelineConfig(dataset=name).region_rules.resolution for name in DATASETS}
    assert sizes == {name: row.region_resolution for name, row in DATASETS.items()}
    assert sizes["hurdat2"] < sizes["ais_noaa"] < sizes["geolife"]
    assert PipelineConfig(region=RegionConfig(resolution=0)).region_rules.resolution == 0


# The vocabulary -----------------------------------------------------------------------------------

ROUNDS = 20
rows_of_visits = st.lists(
    st.tuples(st.sampled_from(sorted(SPLITS)), st.integers(0, 5)), min_size=1, max_size=ROUNDS
)


def visits_of(rows):
    """Visits of an entity each hour; a place is a number of kilometres to the east."""
    return pa.table(
        {
            "visit_id": range(len(rows)),
            "entity_id": [entity for entity, _ in rows],
            "arrived_at": [START + timedelta(hours=number) for number in range(len(rows))],
            "departed_at": [START + timedelta(hours=number + 0.5) for number in range(len(rows))],
            "lon_deg": [7 + 0.03 * km for _, km in rows],
            "lat_deg": [51.0 for _ in rows],
        }
    )


def fitted(connection, visits):
    """The regions, visits and windows of visits, which stand for the points too."""
    connection.register("visits", visits)
    names = {"visit_id": "point_id", "entity_id": "trip_id", "arrived_at": "tracked_at"}
    connection.register(
        "clean_points",
        visits.select([*names, "lon_deg", "lat_deg"]).rename_columns(
            [*names.values(), "lon_deg", "lat_deg"]
        ),
    )
    whole = pa.nulls(len(SPLITS), pa.timestamp("us", "UTC"))
    spans = {"trip_id": list(SPLITS), "split": list(SPLITS.values())}
    connection.register("split", pa.table(spans | {"from_at": whole, "until_at": whole}))
    counts = fit_regions(connection, RULES)
    tables = ("regions", "region_visits", "visit_windows")
    return counts, *(connection.table(name).to_arrow_table().to_pylist() for name in tables)


@settings(max_examples=20)
@given(rows=rows_of_visits, seed=st.integers(0, 99))
def test_neither_the_order_of_rows_nor_test_rows_change_the_vocabulary(connection, rows, seed):
    visits = visits_of(rows)
    _, vocabulary, told, windows = fitted(connection, visits)
    shuffled = visits.take(np.random.default_rng(seed).permutation(len(rows)))
    assert fitted(connection, shuffled)[1:] == (vocabulary, told, windows)
    changed = visits_of([(e, km if SPLITS[e] == "train" else km + 100) for e, km in rows])
    assert fitted(connection, changed)[1] == vocabulary


@settings(max_examples=20)
@given(rows=rows_of_visits)
def test_regions_visits_and_windows_equal_a_slow_loop(connection, rows):
    counts, vocabulary, told, windows = fitted(connection, visits_of(rows))
    cell_of = {km: h3.str_to_int(h3.latlng_to_cell(51.0, 7 + 0.03 * km, 8)) for km in range(6)}
    train = [cell_of[km] for entity, km in rows if SPLITS[entity] == "train"]
    sizes = {cell: train.count(cell) for cell in train if train.count(cell) >= 2}
    ranked = sorted(sizes, key=lambda cell: (-sizes[cell], cell))
    assert [(row["cell"], row["num_train"]) for row in vocabulary if row["kind"] == "visit"] == [
        (cell, sizes[cell]) for cell in ranked
    ]
    for row in told:
        entity, km = rows[row["visit_id"]]
        cell = cell_of[km]
        expected = ranked.index(cell) + 1 if cell in ranked else 0
        assert (row["cell"], row["region_id"], row["split"]) == (cell, expected, SPLITS[entity])
    seen = {}
    expected = set()
    for visit_id, (entity, _) in enumerate(rows):
        history = seen.setdefault(entity, [])
        if len(history) >= 2:
            expected.add((visit_id, tuple(history[-3:])))
        history.append(visit_id)
    order = {(row["entity_id"], row["visit_number"]): row["visit_id"] for row in told}
    found = {
        (
            row["visit_id"],
            tuple(order[row["entity_id"], row["start"] + n] for n in range(row["num_visits"] - 1)),
        )
        for row in windows
    }
    assert found == expected
    unseen = [km for entity, km in rows if entity == "d" and cell_of[km] not in train]
    if num_test := sum(entity == "d" for entity, _ in rows):
        assert counts["visits_test"] == num_test
        assert counts["visits_test_unseen_share"] == round(len(unseen) / num_test, 4)


def test_a_vocabulary_fitted_on_test_is_caught(connection):
    """The check must be able to fail: the same tables, with a region that only test knows."""
    fitted(connection, visits_of([("a", 0), ("a", 0), ("d", 1), ("d", 1)]))
    leaky = sql.read("marts/regions").replace("where places.split = 'train'", "")
    assert leaky != sql.read("marts/regions")
    connection.execute(f"create or replace table regions as {leaky}", {"min_count": 2})
    with pytest.raises(DataError, match="regions_come_from_train"):
        check(connection, "checks/regions_come_from_train", min_count=2)


# The stage ----------------------------------------------------------------------------------------


def routine(number: int):
    """Four days between home and work, 3 km apart, half an hour each, with points on the way."""
    lat_deg = 51.0 + 0.001 * number
    return [
        point(f"e{number:02d}", 7_200 * day + at_s, lon_deg, lat_deg)
        for day in range(4)
        for at_s, lon_deg in (
            *((120 * n, 7.0) for n in range(15)),
            *((2_000 + 60 * n, 7.0 + 0.0043 * n) for n in range(1, 10)),
            *((3_000 + 120 * n, 7.043) for n in range(15)),
        )
    ]


def regions_of(store: Store, points, **more):
    config = PipelineConfig(clean=CleanConfig(max_gap_s=600, min_points=2), **more)
    snapshot = snapshot_of(store, table_of(points))
    with without_orchestrator():
        cleaned = clean.clean(config, snapshot, store)
        drawn = split.split(config, cleaned, store)
        return regions(config, cleaned, drawn, store)


def test_the_stage_keeps_what_it_fitted_beside_what_it_tells(store: Store):
    points = [made for number in range(12) for made in routine(number)]
    receipt = regions_of(store, points, region=RegionConfig(resolution=7))
    visits = rows_of(store, [receipt], "visits.parquet")
    vocabulary = rows_of(store, [receipt], "regions.parquet")
    id_of = {row["cell"]: row["region_id"] for row in vocabulary if row["kind"] == "visit"}
    cells = cells_of(
        *(np.array([row[name] for row in visits]) for name in ("lon_deg", "lat_deg")), 7
    )
    assert [row["cell"] for row in visits] == cells.tolist()
    assert [row["region_id"] for row in visits] == [id_of.get(cell, 0) for cell in cells.tolist()]
    first = [row for row in visits if row["entity_id"] == "e00"]
    assert [row["travel_s"] for row in first] == [None, *[1_320.0, 2_520.0] * 3, 1_320.0]
    assert {row["duration_s"] for row in first} == {1_680.0}
    windows = rows_of(store, [receipt], "visit_windows.parquet")
    assert len(windows) == 12 * (8 - 3)
    described = json.loads((store.folder(receipt) / "regions.json").read_text())
    assert (described["resolution"], described["unknown_id"]) == (7, 0)
    assert described["visit_regions"] == len(id_of) > 1


def test_a_dataset_without_a_stay_has_regions_of_points_alone(store: Store):
    receipt = regions_of(store, walks(12), stay=StayConfig(radius_m=1.0))
    assert receipt.counts["point_regions"] > 0
    assert receipt.counts["visit_regions"] == 0
    assert rows_of(store, [receipt], "visit_windows.parquet") == []
