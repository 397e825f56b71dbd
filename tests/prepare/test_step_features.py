"""Features in SQL and in torch are the same: to a millimetre and a microsecond, all over Earth."""

from __future__ import annotations

import math
import zoneinfo
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from helpers.motion import MIN_TURN_STEP_M, motion_of
from helpers.points import SCHEMA, cleaned_of, rows_of, snapshot_of, table_of, walk
from helpers.strategies import places
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import sql
from model.earth.calendar import calendar_features, calendar_of, zone_offsets
from model.earth.constants import EARTH_RADIUS_M
from model.earth.geometry import haversine_m, step_between
from model.features.point_features import steps_of
from tasks.config.pipeline import CleanConfig, PipelineConfig
from tasks.prepare.shards import MEASURES
from tasks.prepare.step_features import features
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

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


@settings(max_examples=300)
@given(trip=trips())
def test_motion_equals_that_of_the_model(connection, trip):
    path, elapsed_us = trip
    lon_deg_T, lat_deg_T = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*path, strict=True)
    )
    time_s_T = torch.tensor(elapsed_us, dtype=torch.float64) / 1e6
    step_m = haversine_m(lon_deg_T[:-1], lat_deg_T[:-1], lon_deg_T[1:], lat_deg_T[1:])
    # Antipodes have no direction, and a step of just a millimetre may count as either.
    assume(step_m.max() < HALF_EARTH_M - 1_000)
    assume(((step_m - MIN_TURN_STEP_M).abs() > 1e-9).all())
    motion = motion_of(lon_deg_T, lat_deg_T, time_s_T)
    rows = steps_in_sql(connection, path, elapsed_us)
    for name, value_T, scale_T in (
        ("mps", motion.speed_mps_BT, motion.speed_mps_BT),
        ("mps2", motion.acceleration_mps2_BT, sum_of_speeds_between(motion, time_s_T)),
    ):
        found_T = torch.tensor([0.0, *(row[name] for row in rows)], dtype=torch.float64)
        assert ((found_T - value_T).abs() <= 1e-9 * scale_T + 1e-9).all()
    turn_rad_T = torch.tensor([0.0, *(row["rad"] for row in rows)], dtype=torch.float64)
    assert (wrapped_rad(turn_rad_T - motion.turn_rad_BT).abs() < 1e-9).all()


def sum_of_speeds_between(motion, time_s_T):
    """What an acceleration is a difference of: its digits are those of these speeds."""
    speed_mps_T = motion.speed_mps_BT
    before_mps_T = torch.nn.functional.pad(speed_mps_T[:-1], (1, 0))
    step_s_T = torch.nn.functional.pad(time_s_T.diff(), (1, 0), value=1.0)
    return (speed_mps_T + before_mps_T) / step_s_T


def wrapped_rad(angle_rad):
    return torch.remainder(angle_rad + math.pi, 2 * math.pi) - math.pi


@given(trip=trips())
@example(trip=([(-180.0, 1.0), (180.0, 1.0)], [0, 1_000_000]))
def test_stored_steps_are_the_cast_of_the_steps(connection, trip):
    """Shards hold float32: the nearest one to the number here, and to the model's own within one.

    The two float64 numbers differ in their last digits, so that their casts may be neighbours.
    """
    path, elapsed_us = trip
    lon_deg_T, lat_deg_T = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*path, strict=True)
    )
    step_m = haversine_m(lon_deg_T[:-1], lat_deg_T[:-1], lon_deg_T[1:], lat_deg_T[1:])
    assume(step_m.max() < HALF_EARTH_M - 1_000)
    steps_in_sql(connection, path, elapsed_us)
    query = "select step_s, step_s::float, step_m, step_m::float from made order by point_id"
    found = [np.array(column) for column in zip(*connection.execute(query).fetchall(), strict=True)]
    assert np.array_equal(found[0].astype(np.float32), found[1].astype(np.float32))
    assert np.array_equal(found[2].astype(np.float32), found[3].astype(np.float32))
    time_s_T = torch.tensor(elapsed_us, dtype=torch.float64) / 1e6
    step_TF = steps_of(lon_deg_T, lat_deg_T, time_s_T)[1:]
    assert np.array_equal(step_TF[:, 2].float().numpy(), found[1].astype(np.float32))
    length_m = torch.hypot(step_TF[:, 0], step_TF[:, 1]).float().numpy()
    stored_m = found[3].astype(np.float32)
    # From one name of the date line to the other SQL's sine of half a turn leaves a nanometre.
    is_still_T = (length_m < 1e-6) & (stored_m < 1e-6)
    np.testing.assert_array_max_ulp(length_m[~is_still_T], stored_m[~is_still_T], maxulp=1)


def test_what_compares_two_steps_is_zero_at_the_first_and_where_nothing_moves(connection):
    """East 111 km in 100 s, a stand of 10 s, north 111 km in 100 s."""
    path = [(0.0, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 1.0)]
    first, stand, last = steps_in_sql(connection, path, [0, 10**8, 11 * 10**7, 21 * 10**7])
    fast_mps = math.radians(1) * EARTH_RADIUS_M / 100
    assert (first["mps2"], first["rad"]) == (0, 0)
    assert (stand["mps"], stand["rad"]) == (0, 0)
    assert stand["mps2"] == pytest.approx(-fast_mps / 55)
    assert (last["mps2"], last["rad"]) == (pytest.approx(fast_mps / 55), 0)


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
    assert (wrapped_rad(turn_rad[1:] - expected_rad).abs() < 1e-6).all()


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
    names |= {"speed_mps": "mps", "acceleration_mps2": "mps2", "turn_rad": "rad"}
    connection.execute("create or replace table made as " + sql.read("marts/steps"))
    table = connection.sql("select * from made order by point_id").to_arrow_table()
    return [{short: row[name] for name, short in names.items()} for row in table.to_pylist()]


# The normaliser -----------------------------------------------------------------------------------

positive = st.floats(0, 1e6)


@settings(max_examples=40)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), positive, positive, positive), min_size=1),
    seed=st.integers(0, 99),
)
def test_neither_the_order_of_steps_nor_test_steps_move_the_normaliser(connection, rows, seed):
    """Entity a trains, b validates, c tests."""
    before = normaliser_in_sql(connection, rows)
    shuffled = [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]
    assert normaliser_in_sql(connection, shuffled) == before
    changed = [
        row if row[0] == "a" else (row[0], *(7 * amount for amount in row[1:])) for row in rows
    ]
    assert normaliser_in_sql(connection, [*changed, ("c", 1.0, 2.0, 3.0)]) == before


def normaliser_in_sql(connection, rows):
    """Each row as a trip of one step; what arrives at its first point is no step."""
    split_of = {"a": "train", "b": "validation", "c": "test"}
    entities, step_s, speed_mps, step_m = map(list, zip(*rows, strict=True))
    columns = {
        "step_s": step_s,
        "speed_mps": speed_mps,
        "step_east_m": step_m,
        "step_north_m": [0.0] * len(rows),
    }
    shards = {name: [[99.0, value] for value in values] for name, values in columns.items()}
    shards["split"] = [split_of[entity] for entity in entities]
    connection.register("shards", pa.table(shards))
    query = sql.read("marts/normaliser")
    return [connection.execute(query, {"measure": name}).fetchall() for name in MEASURES]


# Local time ---------------------------------------------------------------------------------------

ZONES = sorted(zoneinfo.available_timezones())
AWKWARD = (
    "UTC",
    "Asia/Kolkata",  # half an hour
    "Asia/Kathmandu",  # a quarter
    "Australia/Lord_Howe",  # summer time of half an hour
    "America/St_Johns",
    "Europe/Lisbon",
    "Pacific/Apia",  # a day that never was
    "Africa/Casablanca",  # clocks that follow the moon
    "America/Vancouver",  # new rules, which an old table does not know
    "Africa/Monrovia",  # 44 minutes and 30 seconds until 1972
)


@st.composite
def instants(draw):
    """A zone and microseconds since 1970, 1970 to 2038, often beside a change of its clocks."""
    zone = draw(st.sampled_from(AWKWARD) | st.sampled_from(ZONES))
    anywhere = st.integers(0, int(datetime(2039, 1, 1, tzinfo=UTC).timestamp()) * 10**6)
    changes_us = [us for us in zone_offsets(zone)[0].tolist() if 0 <= us < 2_145_916_800_000_000]
    beside = st.sampled_from(changes_us or [0])
    near = st.tuples(beside, st.integers(-7_200 * 10**6, 7_200 * 10**6) | st.integers(-1, 1))
    return zone, max(0, draw(anywhere | near.map(sum)))


@settings(max_examples=150)
@given(instant=instants())
def test_the_calendar_is_that_of_the_zone_in_sql_and_in_the_model(connection, instant):
    zone, instant_us = instant
    names = ("weekday", "hour", "minute", "second", "day_of_year")
    local = datetime.fromtimestamp(instant_us // 10**6, zoneinfo.ZoneInfo(zone))
    expected = [local.weekday(), local.hour, local.minute, local.second, local.timetuple().tm_yday]
    fields = calendar_of(np.array([instant_us]), zone)
    assert [int(fields[name][0]) for name in names] == expected
    [row] = calendar_in_sql(connection, [instant_us], zone)
    assert [row[f"local_{name}"] for name in names] == expected
    assert row["local_at"] == local.replace(tzinfo=None, microsecond=instant_us % 10**6)
    turns = [value / cycle for value, cycle in zip(expected[:4], (7, 24, 60, 60), strict=True)]
    waves = [wave(2 * math.pi * turn) for turn in turns for wave in (math.sin, math.cos)]
    np.testing.assert_allclose(calendar_features(np.array([instant_us]), zone)[0], waves, atol=1e-6)


def test_the_calendar_equals_that_of_arrow_until_2037():
    instant_us = np.random.default_rng(0).integers(0, 2_145_916_800, 20_000) * 10**6
    for zone in AWKWARD:
        zoned = pa.array(instant_us).cast(pa.timestamp("us", tz=zone))
        local = pc.local_timestamp(zoned)
        fields = calendar_of(instant_us, zone)
        for name, read in (("hour", pc.hour), ("weekday", pc.day_of_week)):
            assert np.array_equal(fields[name], read(local).to_numpy()), (zone, name)


def test_each_point_has_one_local_time_before_the_first_change_too(connection):
    rows = calendar_in_sql(connection, [-(10**16), 0, 0, 10**15], "Europe/Berlin")
    assert [row["point_id"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["local_at"] == datetime(1653, 2, 10, 7, 13, 20)  # noqa: DTZ001


def calendar_in_sql(connection, instant_us, zone):
    from_us, offset_us = zone_offsets(zone)
    connection.register("zone_offsets", pa.table({"from_us": from_us, "offset_us": offset_us}))
    points = {
        "point_id": range(len(instant_us)),
        "entity_id": ["a"] * len(instant_us),
        "trip_id": ["t"] * len(instant_us),
        "tracked_at": pa.array(instant_us, pa.timestamp("us", tz="UTC")),
    }
    connection.register("clean_points", pa.table(points))
    return connection.sql(sql.read("marts/calendar")).to_arrow_table().to_pylist()


# The stage ----------------------------------------------------------------------------------------


def featured(store: Store, table: pa.Table):
    """Cleaned buckets and their features."""
    config = PipelineConfig(clean=CleanConfig(max_gap_s=600, min_points=2))
    cleaned = cleaned_of(config, snapshot_of(store, table), store)
    with without_orchestrator():
        return cleaned, features(config, cleaned, store)


def test_each_point_but_the_first_of_a_trip_has_its_step(store: Store):
    later = [
        row | {"tracked_at": row["tracked_at"] + timedelta(hours=1)} for row in walk("a", 30, 2)
    ]
    points = walk("a", 20, 1) + later
    cleaned, features = featured(store, table_of(points))
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


def test_made_points_have_the_columns_of_ingest():
    assert table_of(walk("a", 2, 1)).schema == SCHEMA
