"""Features in SQL and in torch are the same: to a millimetre and a microsecond, all over Earth."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from points import SCHEMA, rows_of, snapshot_of, table_of, walk
from strategies import places

import sql
from model.encoding import steps_of
from model.geometry import EARTH_RADIUS_M, haversine_m, step_between
from tasks.clean import STAGE as CLEAN
from tasks.clean import clean_jobs
from tasks.config import CleanConfig, PipelineConfig, WindowConfig
from tasks.features import STAGE, features_jobs
from tasks.store import Store

START = datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
HALF_EARTH_M = math.pi * EARTH_RADIUS_M


@st.composite
def trips(draw):
    """Places and microseconds of a trip, near hops and far ones."""
    near = st.tuples(st.floats(-1e-4, 1e-4), st.floats(-1e-4, 1e-4))
    path = [draw(places())]
    for _ in range(draw(st.integers(1, 6))):
        lon_deg, lat_deg = path[-1]
        if draw(st.booleans()):
            path.append(draw(places()))
        else:
            east_deg, north_deg = draw(near)
            path.append((lon_deg + east_deg, max(-90.0, min(90.0, lat_deg + north_deg))))
    step_us = draw(st.lists(st.integers(1, 10**12), min_size=len(path) - 1, max_size=len(path) - 1))
    return path, np.cumsum([0, *step_us]).tolist()


@settings(max_examples=300)
@given(trip=trips())
def test_steps_equal_those_of_the_model(connection, trip):
    path, elapsed_us = trip
    lon_deg_T, lat_deg_T = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*path, strict=True)
    )
    time_s_T = torch.tensor(elapsed_us, dtype=torch.float64) / 1e6
    there = lon_deg_T[:-1], lat_deg_T[:-1], lon_deg_T[1:], lat_deg_T[1:]
    # To the other side of the Earth every direction is as short.
    assume(haversine_m(*there).max() < HALF_EARTH_M - 1_000)
    rows = steps_in_sql(connection, path, elapsed_us)
    expected_TF = steps_of(lon_deg_T, lat_deg_T, time_s_T)[1:]
    found = np.array([[row[name] for name in ("east_m", "north_m", "s")] for row in rows])
    assert np.abs(found[:, :2] - expected_TF[:, :2].numpy()).max() < 1e-3
    assert np.abs(found[:, 2] - expected_TF[:, 2].numpy()).max() < 1e-6
    step_m = np.array([row["m"] for row in rows])
    assert np.abs(step_m - haversine_m(*there).numpy()).max() < 1e-3
    assert [row["mps"] for row in rows] == pytest.approx((step_m / found[:, 2]).tolist())


@given(trip=trips())
def test_turns_equal_the_change_of_direction_in_the_model(connection, trip):
    path, elapsed_us = trip
    lon_deg_T, lat_deg_T = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*path, strict=True)
    )
    before, at, after = slice(0, -2), slice(1, -1), slice(2, None)
    back_m = step_between(lon_deg_T[at], lat_deg_T[at], lon_deg_T[before], lat_deg_T[before])
    on_m = step_between(lon_deg_T[at], lat_deg_T[at], lon_deg_T[after], lat_deg_T[after])
    # A direction is well said only for a step that has a length and is not half around.
    sizes_m = torch.hypot(*back_m), torch.hypot(*on_m)
    assume(all(((1 < m) & (m < HALF_EARTH_M - 1_000)).all() for m in sizes_m))
    arrived_rad = torch.atan2(-back_m[0], -back_m[1])
    expected_rad = torch.atan2(on_m[0], on_m[1]) - arrived_rad
    rows = steps_in_sql(connection, path, elapsed_us)
    turn_rad = torch.tensor([row["rad"] for row in rows], dtype=torch.float64)
    assert turn_rad[0] == 0
    assert turn_rad.abs().max() <= math.pi + 1e-12
    missed_rad = torch.remainder(turn_rad[1:] - expected_rad + math.pi, 2 * math.pi) - math.pi
    assert (missed_rad.abs() < 1e-6).all()


@given(trip=trips(), turned=st.integers(-720, 720).map(lambda half: half / 2))
def test_no_meridian_is_special(connection, trip, turned):
    """Poles, the date line and names of longitudes by whole turns included: the same steps."""
    path, elapsed_us = trip
    there = [torch.tensor(column, dtype=torch.float64) for column in zip(*path, strict=True)]
    hops_m = haversine_m(there[0][:-1], there[1][:-1], there[0][1:], there[1][1:])
    assume(hops_m.max() < HALF_EARTH_M - 1_000)
    moved = [((lon_deg + turned + 180) % 360 - 180, lat_deg) for lon_deg, lat_deg in path]
    one, other = (steps_in_sql(connection, places, elapsed_us) for places in (path, moved))
    for name in ("east_m", "north_m", "s", "m"):
        found = np.array([[row[name] for row in rows] for rows in (one, other)])
        assert np.isfinite(found).all()
        assert np.abs(found[0] - found[1]).max() < 1e-2
    assert all(math.isfinite(row[name]) for row in other for name in ("mps", "rad"))


def steps_in_sql(connection, path, elapsed_us):
    points = pa.table(
        {
            "point_id": range(len(path)),
            "entity_id": ["a"] * len(path),
            "trip_id": ["t"] * len(path),
            "tracked_at": pa.array(
                [START + timedelta(microseconds=us) for us in elapsed_us],
                pa.timestamp("us", tz="UTC"),
            ),
            "lon_deg": [lon_deg for lon_deg, _ in path],
            "lat_deg": [lat_deg for _, lat_deg in path],
        }
    )
    connection.register("clean_points", points)
    names = {"step_east_m": "east_m", "step_north_m": "north_m", "step_s": "s", "step_m": "m"}
    names |= {"speed_mps": "mps", "turn_rad": "rad"}
    table = connection.sql(sql.read("marts/steps")).to_arrow_table()
    return [{short: row[name] for name, short in names.items()} for row in table.to_pylist()]


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("set timezone = 'UTC'")
        for text in sql.macros().values():
            connection.execute(text)
        yield connection


# The stage ----------------------------------------------------------------------------------------


def featured(store: Store, table: pa.Table, window: WindowConfig):
    """Cleaned buckets and their features."""
    config = PipelineConfig(clean=CleanConfig(max_gap_s=600, min_points=2), window=window)
    jobs = clean_jobs(config, snapshot_of(store, table), store)
    cleaned = [CLEAN.plain(job) for job in jobs]
    return cleaned, [STAGE.plain(job) for job in features_jobs(config, cleaned, store)]


def test_each_point_but_the_first_of_a_trip_has_its_step(store: Store):
    later = [
        row | {"tracked_at": row["tracked_at"] + timedelta(hours=1)} for row in walk("a", 30, 2)
    ]
    points = walk("a", 20, 1) + later
    cleaned, features = featured(store, table_of(points), WindowConfig())
    steps = rows_of(store, features, "steps.parquet")
    trips_found = rows_of(store, cleaned, "trips.parquet")
    kept = rows_of(store, cleaned, "clean_points.parquet")
    firsts = {
        min(row["point_id"] for row in kept if row["trip_id"] == trip["trip_id"])
        for trip in trips_found
    }
    assert len(firsts) == 2
    assert {row["point_id"] for row in steps} == {row["point_id"] for row in kept} - firsts
    for trip in trips_found:
        length_m = sum(row["step_m"] for row in steps if row["trip_id"] == trip["trip_id"])
        assert trip["length_m"] == pytest.approx(length_m, abs=0.0005 * trip["num_points"])


@pytest.mark.parametrize(("stride", "starts"), [(20, [0, 20]), (25, [0]), (7, [0, 7, 14, 21])])
def test_windows_are_a_stride_apart(store: Store, stride, starts):
    _, features = featured(store, table_of(walk("a", 63, 1)), WindowConfig(stride=stride))
    windows = rows_of(store, features, "windows.parquet")
    assert sorted(row["start"] for row in windows) == starts
    assert {row["num_points"] for row in windows} == {40}
    assert all(0 <= row["window_id"] < 2**63 for row in windows)


def test_the_id_of_a_window_does_not_depend_on_other_trips(store: Store):
    _, alone = featured(store, table_of(walk("a", 63, 1)), WindowConfig())
    both = table_of(walk("b", 63, 2) + walk("a", 63, 1))
    _, together = featured(store, both, WindowConfig())
    own = {row["window_id"] for row in rows_of(store, alone, "windows.parquet")}
    rows = rows_of(store, together, "windows.parquet")
    assert own == {row["window_id"] for row in rows if row["entity_id"] == "a"}
    assert len({row["window_id"] for row in rows}) == 2 * len(own)


def test_made_points_have_the_columns_of_ingest():
    assert table_of(walk("a", 2, 1)).schema == SCHEMA
