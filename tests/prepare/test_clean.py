"""Cleaning: exact where points are compared with kept ones, and nothing lost on the way."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from helpers.points import (
    START,
    bucket_of,
    cleaned_of,
    point,
    read_csv,
    rows_of,
    snapshot_of,
    table_of,
    total,
    walk,
)
from helpers.strategies import places
from hypothesis import given, settings
from hypothesis import strategies as st

import sql
from model.earth import geometry
from model.earth.point_rules import distance_m, is_speed_possible, side_of_limit
from tasks import database
from tasks.config.pipeline import CleanConfig, PipelineConfig
from tasks.prepare.clean import RULES, tripped
from tasks.runtime.errors import DataError
from tasks.runtime.store import Receipt, Store

DEGREE_M = 111_195.080233
# The rule of the kernel in its own words: one row per point, with the lists of indices that the
# run has kept, that rival it, and that earlier runs have kept.
ORACLE = """
with recursive judged as (
    select 1 as n, [1] as kept, []::int[] as rivals, []::int[] as settled
    union all
    select
        n,
        case
            when is_new then [n]
            when is_reached then list_append(kept, n)
            when len(chain) > len(kept) then chain
            else kept
        end,
        case when is_new or is_reached or len(chain) > len(kept) then [] else chain end,
        case when is_new then list_concat(settled, kept) else settled end
    from (
        select
            point.n, kept, settled,
            point.is_track_start or point.us - last.us > $max_gap_s * 1e6 as is_new,
            haversine_m(last.lon_deg, last.lat_deg, point.lon_deg, point.lat_deg)
            <= $max_speed_mps * (point.us - last.us) / 1e6 as is_reached,
            case
                when haversine_m(rival.lon_deg, rival.lat_deg, point.lon_deg, point.lat_deg)
                <= $max_speed_mps * (point.us - rival.us) / 1e6
                then list_append(rivals, point.n)
                else [point.n]
            end as chain
        from judged
        join points as point on point.n = judged.n + 1
        join points as last on last.n = kept[-1]
        left join points as rival on rival.n = rivals[-1]
    )
)
select list_concat(settled, kept) from judged order by n desc limit 1
"""
REJECTS = "clean_rejects.parquet"
ROOMY = {"max_speed_mps": 50.0, "max_gap_s": 600.0}


def kept(at_s, lon_deg, starts=(0,), max_speed_mps=50.0, max_gap_s=600.0) -> list[int]:
    """The indices of points on the equator that the kernel keeps."""
    is_start_N = np.isin(np.arange(len(at_s)), starts)
    tracked_us_N = np.array([round(second * 1e6) for second in at_s], np.int64)
    lon_deg_N = np.array(lon_deg, np.float64)
    is_kept_N = is_speed_possible(
        is_start_N, tracked_us_N, lon_deg_N, np.zeros_like(lon_deg_N), max_speed_mps, max_gap_s
    )
    return np.flatnonzero(is_kept_N).tolist()


# The kernel ---------------------------------------------------------------------------------------


@given(a=places(), b=places())
def test_distance_equals_that_of_the_model(a, b):
    import torch

    expected_m = geometry.haversine_m(
        *(torch.tensor(value, dtype=torch.float64) for value in (*a, *b))
    )
    assert distance_m(*a, *b) == pytest.approx(float(expected_m), rel=1e-9, abs=1e-6)


@settings(max_examples=500)
@given(
    a=places(),
    step=st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6)),
    share=st.floats(0.99, 1.01) | st.floats(-2, 2),
)
def test_a_side_that_is_told_without_trigonometry_is_right(a, step, share):
    """Also where the limit is the distance but for a percent, and near the poles."""
    b = a[0] + step[0], min(max(a[1] + step[1], -90.0), 90.0)
    away_m = distance_m(*a, *b)
    side = side_of_limit(*a, *b, share * away_m)
    assert side == 0 or (away_m < share * away_m if side < 0 else away_m > share * away_m)


def test_most_points_need_no_trigonometry():
    assert side_of_limit(7.0, 51.0, 7.0001, 51.0001, 100.0) == -1
    assert side_of_limit(7.0, 51.0, 7.0001, 51.001, 100.0) == 1
    assert side_of_limit(7.0, 51.0, 7.0014, 51.0001, 100.0) == 0


def test_a_spike_goes_and_its_neighbours_stay():
    assert kept([0, 10, 20, 30], [0, 0.001, 0.5, 0.003]) == [0, 1, 3]


def test_a_run_of_spikes_goes_although_its_points_agree():
    """What a window over raw neighbours cannot see: the second and third spike look slow."""
    lon_deg = [0, 0.001, 0.002, 0.003, 0.5, 0.501, 0.502, 0.007]
    assert kept(range(0, 80, 10), lon_deg) == [0, 1, 2, 3, 7]


@pytest.mark.parametrize("num_spikes", [1, 2, 5])
def test_spikes_at_the_start_of_a_run_go_and_not_all_that_follows(num_spikes):
    lon_deg = [0.5] * num_spikes + [0.001 * n for n in range(20)]
    good = list(range(num_spikes, num_spikes + 20))
    assert kept([10 * n for n in range(len(lon_deg))], lon_deg) == good


def test_points_that_agree_with_nobody_never_take_over():
    assert kept([0, 10, 20, 30, 40, 50], [0, 0.5, 1.0, 0.5, 1.0, 0.002]) == [0, 5]


def test_a_kept_point_ends_the_rival():
    """Two and two rivals are not four in a row."""
    lon_deg = [0, 0.001, 0.5, 0.5, 0.002, 0.5, 0.5, 0.5, 0.003]
    assert kept([10 * n for n in range(9)], lon_deg) == [0, 1, 4, 8]


def test_after_a_silence_nothing_is_compared():
    assert kept([0, 10, 20, 620.000001], [0, 0, 0, 9]) == [0, 1, 2, 3]
    assert kept([0, 10, 20, 620], [0, 0, 0, 9]) == [0, 1, 2]


def test_tracks_are_not_compared():
    assert kept([0, 10, 11, 21], [0, 0, 9, 9], starts=(0, 2)) == [0, 1, 2, 3]


def test_the_limit_itself_is_possible():
    lon_deg = 500 / DEGREE_M
    assert kept([0, 10], [0, lon_deg * (1 - 1e-9)]) == [0, 1]
    assert kept([0, 10], [0, lon_deg * (1 + 1e-6)]) == [0]


def test_the_date_line_is_no_jump():
    assert kept([0, 10, 20], [179.999, -179.999, -179.998]) == [0, 1, 2]


def test_no_points_at_all():
    assert kept([], [], starts=()) == []


tracks = st.lists(
    st.tuples(
        st.booleans() | st.just(False),
        st.sampled_from([1, 7, 60, 599, 601]),
        st.sampled_from([0, 0, 0, 1, 2, 50, 51, 5_000]),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=80)
@given(track=tracks)
def test_the_kernel_equals_a_recursive_query(oracle, track):
    """Places lie 111 m apart and more, so that no distance is near what the limit allows."""
    starts = [n for n, (is_start, _, _) in enumerate(track) if is_start or n == 0]
    at_s = np.cumsum([step_s for _, step_s, _ in track]).tolist()
    lon_deg = [0.001 * place for _, _, place in track]
    oracle.execute("delete from points")
    oracle.executemany(
        "insert into points values (?, ?, ?, ?, 0)",
        [(n + 1, n in starts, round(at_s[n] * 1_000_000), lon_deg[n]) for n in range(len(track))],
    )
    [expected] = oracle.execute(ORACLE, ROOMY).fetchone()
    assert kept(at_s, lon_deg, starts) == [n - 1 for n in sorted(expected)]


@given(track=tracks)
def test_no_kept_step_is_impossible(track):
    at_s = np.cumsum([step_s for _, step_s, _ in track])
    lon_deg = np.array([0.001 * place for _, _, place in track])
    found = kept(at_s, lon_deg)
    steps = np.diff(lon_deg[found]) * DEGREE_M, np.diff(at_s[found])
    for step_m, step_s in zip(*steps, strict=True):
        assert step_s > 600 or abs(step_m) <= 50 * step_s


@pytest.fixture(scope="module")
def oracle():
    with duckdb.connect(config={"threads": 1}) as connection:
        for text in sql.macros().values():
            connection.execute(text)
        connection.execute(
            "create table points"
            " (n int, is_track_start boolean, us bigint, lon_deg double, lat_deg double)"
        )
        yield connection


# Trips --------------------------------------------------------------------------------------------

FERRY_US = 3_600_000_000  # hourly over the date line; steps of an independent geodesic library


def trips_of(*tracked: tuple, max_gap_s=300.0) -> list[tuple[int, int, int]]:
    """(point, first point of its trip, step) of (entity, source trip, tracked_us, lon, lat)."""
    names = ("entity_id", "source_trip_id", "tracked_us", "lon_deg", "lat_deg")
    kinds = (pa.string(), pa.string(), pa.int64(), pa.float64(), pa.float64())
    columns = {
        name: pa.array(column, kind)
        for name, kind, column in zip(names, kinds, zip(*tracked, strict=True), strict=True)
    }
    points = pa.table({"point_id": range(1, len(tracked) + 1), **columns})
    return [tuple(row.values()) for row in tripped(points, 50.0, max_gap_s).to_pylist()]


@pytest.mark.parametrize(
    ("tracked", "expected"),
    [
        pytest.param(
            [("a", None, us, 7, 51) for us in (0, 300_000_000, 600_000_001)],
            {1: 1, 2: 1, 3: 3},
            id="a silence longer than the limit starts a new trip, one as long does not",
        ),
        pytest.param(
            [("a", None, us, lon, 51) for us, lon in ((0, 7), (200_000_000, 8), (400_000_000, 7))],
            {1: 1, 3: 3},
            id="the silence is that between kept points",
        ),
        pytest.param(
            [("a", None, 1_714_608_000_000_000 + us, 7, 51) for us in (-1_000_000, 1_000_000)],
            {1: 1, 2: 1},
            id="midnight is no border",
        ),
        pytest.param(
            [(*names, n, 7, 51) for n, names in enumerate(["as", "at", ("a", None), "bt"])],
            {3: 3, 1: 1, 2: 2, 4: 4},
            id="a new trip of the source and a new entity start a trip",
        ),
        pytest.param(
            [("a", "s", 0, 0, 0), ("a", "s", 1, 9, 9), ("b", "s", 2, 9, 9), ("b", "s", 9, 0, 0)],
            {1: 1, 3: 3},
            id="a track begins with its first point although points between are dropped",
        ),
        pytest.param(
            [("b", "s", 5, 9, 9), ("a", "t", 5, 8, 8), ("a", "s", 7, 7, 7), ("a", "s", 1, 7, 7)],
            {4: 4, 3: 4, 2: 2, 1: 1},
            id="a track is what an entity reports in one trip of the source, in time",
        ),
    ],
)  # fmt: skip
def test_where_trips_start(tracked, expected):
    """Points come track by track, tracks without a trip of the source first."""
    assert [(point, first) for point, first, _ in trips_of(*tracked)] == list(expected.items())


def test_the_date_line_is_no_step_around_the_earth():
    ferry = ((179.4, -16.8), (179.8, -16.75), (-179.8, -16.7), (-179.4, -16.65))
    tracked = [("A", None, n * FERRY_US, *place) for n, place in enumerate(ferry)]
    expected_mm = [0, 42_946_679, 42_957_771, 42_968_831]
    found = trips_of(*tracked, max_gap_s=7_200.0)
    assert found == [(n + 1, 1, step_mm) for n, step_mm in enumerate(expected_mm)]


def test_no_points_make_no_trips():
    assert trips_of(("a", None, 0, 7, 51)) == [(1, 1, 0)]
    kinds = {"point_id": pa.int64(), "entity_id": pa.string(), "source_trip_id": pa.string()}
    fixes = {"tracked_us": pa.int64(), "lon_deg": pa.float64(), "lat_deg": pa.float64()}
    assert tripped(pa.schema(kinds | fixes).empty_table(), 50.0, 300.0).num_rows == 0


@given(track=tracks)
def test_steps_of_trips_equal_those_of_sql(oracle, track):
    at_us = np.cumsum([step_s for _, step_s, _ in track]) * 1_000_000
    tracked = [
        ("a", None, int(us), place * 0.001, 0) for us, (*_, place) in zip(at_us, track, strict=True)
    ]
    found = trips_of(*tracked, max_gap_s=600.0)
    for (a, first, _), (b, first_of_b, step_mm) in pairwise(found):
        [(away_m,)] = oracle.execute(
            "select haversine_m(?, 0, ?, 0)", [tracked[a - 1][3], tracked[b - 1][3]]
        ).fetchall()
        is_silence = at_us[b - 1] - at_us[a - 1] > 600e6
        assert first_of_b == (b if is_silence else first)
        assert step_mm == (0 if is_silence else round(away_m * 1_000))


# The stage ----------------------------------------------------------------------------------------


def cleaned(store: Store, *parts: pa.Table, num_buckets: int = 2, **limits) -> list[Receipt]:
    config = config_of(**limits)
    snapshot = snapshot_of(store, *parts, num_buckets=num_buckets)
    return cleaned_of(config, snapshot, store)


def config_of(max_speed_mps=50.0, max_gap_s=600.0, min_points=2, **more) -> PipelineConfig:
    limits = CleanConfig(
        max_speed_mps=max_speed_mps, max_gap_s=max_gap_s, min_points=min_points, **more
    )
    return PipelineConfig(dataset="hurdat2", clean=limits)


def test_each_rule_takes_its_points(store: Store):
    years_s = 365 * 86_400
    broken = [
        point("a", 1, 7.0, 51.0) | {"tracked_at": datetime(1980, 1, 6, 0, 0, 5, tzinfo=UTC)},
        point("a", -40 * years_s, 7.0, 51.0),
        point("a", 60 * years_s, 7.0, 51.0, received_at=START),
        point("a", 1, 7.0, 91.0),
        point("a", 2, 0.0, 0.0),
        *walk("b", 6, seed=1),
        walk("b", 6, seed=1)[3],
        walk("b", 6, seed=1)[3] | {"lat_deg": -16.0},
        walk("b", 6, seed=1)[5] | {"tracked_at": START + timedelta(seconds=80), "speed_mps": 9.0},
        walk("b", 6, seed=1)[5] | {"tracked_at": START + timedelta(seconds=90), "speed_mps": 9.0},
        point("b", 35, 9.0, 51.0),
        point("c", 0, 7.0, 51.0),
    ]
    receipts = cleaned(store, table_of(broken), first_fix_date="1990-01-01")
    counts = total(receipts)
    assert {name: counts[f"rejected_{name}"] for name in RULES} == dict.fromkeys(RULES, 1)
    assert (counts["points"], counts["kept"], counts["rejected"]) == (17, 7, 10)
    rejects = {row["line_number"]: row["rule"] for row in rows_of(store, receipts, REJECTS)}
    assert rejects == dict(zip((1, 2, 3, 4, 5, 12, 13, 15, 16, 17), RULES, strict=True))


@settings(max_examples=12)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(0, 40),
            st.sampled_from([0.0, 0.001, 0.002, 5.0, -180.0, 180.0, float("nan")]),
            st.sampled_from([0.0, 0.001, 90.0, 90.5]),
            st.sampled_from([None, "s"]),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_every_point_is_kept_once_or_rejected_once(tmp_path_factory, rows):
    store = Store(tmp_path_factory.mktemp("store"))
    store.prepare()
    points = [
        point(entity_id, 60 * at, lon, lat, source_trip_id=source)
        for entity_id, at, lon, lat, source in rows
    ]
    receipts = cleaned(store, table_of(points), max_gap_s=300)
    kept_ids = [row["point_id"] for row in rows_of(store, receipts, "clean_points.parquet")]
    rejected_ids = [row["point_id"] for row in rows_of(store, receipts, REJECTS)]
    assert sorted(kept_ids + rejected_ids) == table_of(points)["point_id"].to_pylist()
    trips = rows_of(store, receipts, "trips.parquet")
    in_trips = Counter(row["trip_id"] for row in rows_of(store, receipts, "clean_points.parquet"))
    assert in_trips == {row["trip_id"]: row["num_points"] for row in trips}


def test_a_lost_point_stops_the_run(store: Store, monkeypatch):
    """The check in the stage, over a query that forgets the points of short trips."""
    read = sql.read
    monkeypatch.setattr(
        database.sql,
        "read",
        lambda name: read(name).replace("anti join int_trips", "semi join int_trips"),
    )
    with pytest.raises(DataError, match="kept once or rejected once"):
        cleaned(store, table_of([point("c", 0, 7.0, 51.0)]))


def test_a_trip_may_cross_midnight_and_the_date_line(store: Store):
    receipts = cleaned(store, table_of(walk("a", 120, seed=1)))
    [trip] = rows_of(store, receipts, "trips.parquet")
    assert trip["started_at"] == START
    assert trip["finished_at"] == START + timedelta(seconds=1190)
    assert trip["num_points"] == 120
    assert trip["length_m"] < 120 * 100


def test_the_layout_of_parts_changes_no_byte(store: Store, tmp_path):
    points = walk("a", 40, 1) + walk("b", 40, 2) + walk("c", 40, 3)
    one, two = table_of(points[:70], file_id=1), table_of(points[70:], file_id=2)
    together = cleaned(store, pa.concat_tables([one, two]))
    other = Store(tmp_path / "other")
    other.prepare()
    apart = cleaned(other, two, one)
    assert together == apart
    assert [store.manifest(receipt).files for receipt in together] == [
        other.manifest(receipt).files for receipt in apart
    ]


def test_a_file_out_of_force_is_not_read(store: Store):
    """A part keeps the rows of a file that a later part replaced."""
    old, other = table_of(walk("a", 20, 1), file_id=1), table_of(walk("b", 20, 2), file_id=2)
    new = table_of(walk("a", 30, 3), file_id=3)
    parts = pa.concat_tables([old, other]), new
    buckets = cleaned_of(config_of(), snapshot_of(store, *parts, out_of_force=[1]), store)
    trips = rows_of(store, buckets, "trips.parquet")
    assert {trip["entity_id"]: trip["num_points"] for trip in trips} == {"a": 30, "b": 20}


def test_a_bucket_that_nothing_touched_is_not_cleaned_again(store: Store):
    assert [bucket_of(name, 4) for name in "abd"] == [1, 2, 1]
    first, in_two, in_one = (
        table_of(walk(name, 20, 1), file_id=file_id) for file_id, name in enumerate("abd", 1)
    )
    before = cleaned(store, first, in_two, num_buckets=4)
    after = cleaned(store, first, in_two, in_one, num_buckets=4)
    assert before[1] == after[1]
    assert before[0].recipe != after[0].recipe


def test_a_bucket_without_any_good_point_is_empty_but_whole(store: Store):
    [receipt] = cleaned(store, table_of([point("a", 0, 0.0, 0.0)]))
    assert receipt.counts["kept"] == receipt.counts["trips"] == 0
    assert rows_of(store, [receipt], "clean_points.parquet") == []


def test_two_devices_of_one_entity_do_not_cut_each_other(store: Store):
    """Two trips of the source that overlap in time are two trips, not a hundred."""
    first = [row | {"source_trip_id": "s"} for row in walk("a", 50, 1)]
    second = [
        row | {"source_trip_id": "t", "tracked_at": row["tracked_at"] + timedelta(seconds=5)}
        for row in walk("a", 50, 2)
    ]
    receipts = cleaned(store, table_of(first + second))
    trips = rows_of(store, receipts, "trips.parquet")
    assert [(trip["source_trip_id"], trip["num_points"]) for trip in trips] == [
        ("s", 50),
        ("t", 50),
    ]


# Reported faults of other systems, with answers worked out independently.


def reported(rows, entity: str, **more):
    return [
        point(row[entity], 0, float(row["lon"]), float(row["lat"]), **more)
        | {"tracked_at": datetime.fromisoformat(row["t"])}
        for row in rows
    ]


def test_two_places_in_one_second_and_a_file_sent_again(store: Store):
    """15 lines, then 18: 17 are distinct, one second has two places, so 16 points remain."""
    first, again = (
        table_of(reported(read_csv(f"resent_file/{name}.csv"), "vehicle"), file_id)
        for file_id, name in enumerate(("day1", "day1_resend"), 1)
    )
    receipts = cleaned(store, first, again)
    counts = total(receipts)
    assert (counts["points"], counts["kept"]) == (33, 16)
    trips = {row["entity_id"]: row for row in rows_of(store, receipts, "trips.parquet")}
    assert {name: trip["num_points"] for name, trip in trips.items()} == {"K1": 10, "K2": 6}
    assert trips["K2"]["length_m"] == pytest.approx(556.1, rel=0.006)


def test_a_silence_of_three_hours_parts_a_track(store: Store):
    """40 fixes; the one at 08:12 is the 23rd, and the next comes at 11:15."""
    points = table_of(reported(read_csv("long_silence/fixes.csv"), "user"))
    trips = rows_of(store, cleaned(store, points, max_gap_s=900), "trips.parquet")
    assert [trip["num_points"] for trip in trips] == [23, 17]
    assert [trip["finished_at"].strftime("%H:%M") for trip in trips] == ["08:12", "11:31"]
