"""Every case in tests/cases: given these rows, a SELECT or a check returns those rows.

A case lists only the columns that matter. Others are NULL, but for ids, which count the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from helpers.places import TESTS

import sql

CASES = TESTS / "cases"
PLACE = {"tracked_at": "timestamptz", "lon_deg": "double", "lat_deg": "double"}
POINT = {"point_id": "bigint", "entity_id": "varchar", "source_trip_id": "varchar", **PLACE}
SOURCE = {"file_id": "bigint", "line_number": "bigint"}
TRIP = {
    "trip_id": "varchar",
    "entity_id": "varchar",
    "source_trip_id": "varchar",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
    "num_points": "bigint",
    "length_m": "double",
}
WINDOW = {
    "window_id": "bigint",
    "trip_id": "varchar",
    "entity_id": "varchar",
    "start": "integer",
    "num_points": "integer",
    "split": "varchar",
}
STORED_WINDOW = {
    **WINDOW,
    "task": "varchar",
    "num_context": "integer",
    "is_observed": "boolean[]",
}
LIKENESS = {
    "interval_s": "double",
    "speed_mps": "double",
    "has_stop": "boolean",
    "is_at_rest": "boolean",
    "turn_rad": "double",
}
SPAN = {
    "trip_id": "varchar",
    "split": "varchar",
    "from_at": "timestamptz",
    "until_at": "timestamptz",
}
STEP = dict.fromkeys(
    (
        *("step_s", "step_m", "step_east_m", "step_north_m"),
        *("speed_mps", "acceleration_mps2", "turn_rad"),
    ),
    "double",
)
VISIT = {
    "visit_id": "bigint",
    "entity_id": "varchar",
    "arrived_at": "timestamptz",
    "departed_at": "timestamptz",
    "lon_deg": "double",
    "lat_deg": "double",
}
SHARD_VISIT = {
    "entity_id": "varchar",
    "split": "varchar",
    "visit_number": "bigint",
    "arrived_us": "bigint",
    **dict.fromkeys(("duration_s", "travel_s", "lon_deg", "lat_deg"), "double"),
    **dict.fromkeys(("is_censored", "is_way_seen"), "boolean"),
}
TABLES = {
    "int_points_in_force": {
        **POINT,
        **SOURCE,
        "altitude_m": "double",
        "speed_mps": "double",
        "received_at": "timestamptz",
    },
    "int_points_redated": {
        "point_id": "bigint",
        "num_rollovers": "integer",
        "tracked_at": "timestamptz",
    },
    "int_instants_refused": {"point_id": "bigint", "rule": "varchar"},
    "int_point_identities": {"point_id": "bigint", "identity": "bigint"},
    "int_point_modes": {"point_id": "bigint", "mode": "varchar"},
    "int_labels_in_force": {
        "file_id": "bigint",
        "line_number": "bigint",
        "entity_id": "varchar",
        "started_at": "timestamptz",
        "finished_at": "timestamptz",
        "mode": "varchar",
    },
    "int_modes": {"entity_id": "varchar", "from_at": "timestamptz", "mode": "varchar"},
    "labels": {
        **SOURCE,
        **dict.fromkeys(("file_name", "started", "finished", "mode", "raw_text"), "varchar"),
    },
    "int_stay_points": {"point_id": "bigint", "staypoint_id": "bigint"},
    "int_stay_ends": {"staypoint_id": "bigint", "finished_at": "timestamptz"},
    "int_stay_locations": {"staypoint_id": "bigint", "location_id": "bigint"},
    "stays": {
        "staypoint_id": "bigint",
        "entity_id": "varchar",
        "started_at": "timestamptz",
        "finished_at": "timestamptz",
        "lon_deg": "double",
        "lat_deg": "double",
    },
    "int_points_screened": {
        **POINT,
        **SOURCE,
        "tracked_us": "bigint",
        "speed_mps": "double",
        "rule": "varchar",
    },
    "int_points_stale": {"point_id": "bigint"},
    "int_points_tracked": {
        **POINT,
        **SOURCE,
        "tracked_us": "bigint",
    },
    "int_points_reached": {
        "point_id": "bigint",
        "first_point_id": "bigint",
        "step_mm": "bigint",
    },
    "int_points_tripped": {
        **POINT,
        **SOURCE,
        "first_point_id": "bigint",
        "step_mm": "bigint",
    },
    "int_trips": {"first_point_id": "bigint", **TRIP},
    "int_points_shared": {"entity_id": "varchar", "trip_id": "varchar", **PLACE},
    "int_trips_copied": {"trip_a_id": "varchar", "trip_b_id": "varchar"},
    "int_content_groups": {"entity_id": "varchar", "content_group": "varchar"},
    "clean_points": {
        **POINT,
        "speed_mps": "double",
        "course_deg": "double",
        "trip_id": "varchar",
        "staypoint_id": "bigint",
        "mode": "varchar",
        "is_observed": "boolean",
    },
    "clean_rejects": {"point_id": "bigint", **SOURCE, "rule": "varchar"},
    "trips": TRIP,
    "int_entities_drawn": {
        "entity_id": "varchar",
        "content_group": "varchar",
        "percentile": "bigint",
    },
    "int_spans": SPAN,
    "split": {
        "part_id": "varchar",
        "entity_id": "varchar",
        "content_group": "varchar",
        **SPAN,
    },
    "int_points_parted": {
        "trip_id": "varchar",
        "entity_id": "varchar",
        "split": "varchar",
        "point_id": "bigint",
        "place": "bigint",
        **PLACE,
        "is_stay": "boolean",
        "is_interpolated": "boolean",
        **STEP,
    },
    "int_windows_measured": {
        **WINDOW,
        "longest_step_s": "double",
        "duration_s": "double",
        **LIKENESS,
    },
    "all_stretches": {"trip_id": "varchar"},
    "all_named": {"trip_id": "varchar"},
    "int_trips_measured": {**WINDOW, **LIKENESS},
    "int_windows_named": {**WINDOW, "window_name": "varchar", **LIKENESS},
    "int_windows_masked": {
        **STORED_WINDOW,
        "window_name": "varchar",
        "mask": "varchar",
        "places_interpolated": "bigint[]",
        **LIKENESS,
    },
    "normaliser": {"num_steps": "bigint"},
    "steps": {
        "point_id": "bigint",
        "entity_id": "varchar",
        "trip_id": "varchar",
        "tracked_at": "timestamptz",
        **STEP,
    },
    "visits": VISIT,
    "int_point_splits": {"point_id": "bigint", "split": "varchar"},
    "int_places": {
        "kind": "varchar",
        "lon_deg": "double",
        "lat_deg": "double",
        "split": "varchar",
        "num_here": "bigint",
    },
    "int_place_cells": {"lon_deg": "double", "lat_deg": "double", "cell": "bigint"},
    "regions": {
        "kind": "varchar",
        "region_id": "bigint",
        "cell": "bigint",
        "num_train": "bigint",
    },
    "region_visits": {
        **VISIT,
        "split": "varchar",
        "visit_number": "bigint",
        "cell": "bigint",
        "region_id": "bigint",
    },
    "all_visit_ends": {
        "visit_id": "bigint",
        "split": "varchar",
        "first_trip_id": "varchar",
        "last_trip_id": "varchar",
        "last_at": "timestamptz",
        "is_censored": "boolean",
    },
    "cell_centres": {"cell": "bigint", "lon_deg": "double", "lat_deg": "double"},
    "shard_visits": SHARD_VISIT,
    "visit_shards": {
        "entity_id": "varchar",
        "split": "varchar",
        "arrived_us": "bigint[]",
        "duration_s": "double[]",
    },
    "visit_windows": {
        "visit_window_id": "bigint",
        "entity_id": "varchar",
        "split": "varchar",
        "start": "integer",
        "num_visits": "integer",
        "visit_id": "bigint",
    },
    "zone_offsets": {"from_us": "bigint", "offset_us": "bigint"},
    "all_windows": STORED_WINDOW,
    "windows": STORED_WINDOW,
    "window_cells": {"window_id": "bigint", "cell": "bigint"},
    "shard_trips": {"trip_number": "bigint", "split": "varchar", **TRIP},
    "shards": {
        "entity_id": "varchar",
        "trip_id": "varchar",
        "split": "varchar",
        "started_at": "timestamptz",
        **dict.fromkeys(("t_s", "lon_deg", "lat_deg"), "double[]"),
        **dict.fromkeys(
            (
                *("step_s", "step_east_m", "step_north_m", "speed_mps", "turn_rad"),
                *("reported_east_mps", "reported_north_mps"),
            ),
            "float[]",
        ),
    },
}
Row = Mapping[str, Any]


def cases() -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in sorted(CASES.glob("*.yml"))
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("case", cases())
def test_given_expect(connection, case):
    for table, rows in case["given"].items():
        fill(connection, table, rows)
    result = connection.execute(sql.read(case["model"]), case.get("params", {}))
    names = [column[0] for column in result.description]
    rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    assert not missing_of(case["expect"], rows), f"found {rows}"
    assert len(rows) == len(case["expect"]), f"found {rows}"


def test_every_file_of_a_stage_that_decides_has_a_case():
    """A check that was never seen to fail may be unable to."""
    tried = {case.values[0]["model"] for case in cases()}
    caught = {case.values[0]["model"] for case in cases() if case.values[0]["expect"]}
    checks = {f"checks/{path.stem}" for path in (Path(sql.__file__).parent / "checks").glob("*")}
    needing_files = {"checks/records_conserved", "checks/points_share_no_id"}
    assert checks - needing_files <= tried & caught


def fill(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> None:
    columns = TABLES[table]
    spelt = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    connection.execute(f"create or replace table {table} ({spelt})")
    places = ", ".join("?" for _ in columns)
    for number, row in enumerate(rows, 1):
        assert row.keys() <= columns.keys(), f"{table} has no {row.keys() - columns.keys()}"
        filled = {"point_id": number, "file_id": 1, "line_number": number, **row}
        values = [filled.get(name) for name in columns]
        connection.execute(f"insert into {table} values ({places})", values)


def missing_of(expected: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """The expected rows that found no row of their own."""
    left = list(rows)
    missing = []
    for wanted in expected:
        found = next((row for row in left if is_match(wanted, row)), None)
        if found is None:
            missing.append(wanted)
        else:
            left.remove(found)
    return missing


def is_match(wanted: Row, row: Row) -> bool:
    assert wanted.keys() <= row.keys(), f"there is no column {wanted.keys() - row.keys()}"
    return all(is_equal(value, row[name]) for name, value in wanted.items())


def is_equal(wanted: Any, found: Any) -> bool:
    if isinstance(found, datetime):
        return datetime.fromisoformat(wanted) == found
    if isinstance(wanted, float):
        return found == pytest.approx(wanted, rel=1e-6, abs=1e-6, nan_ok=True)
    return wanted == found
