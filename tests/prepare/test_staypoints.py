"""Stays, visits, shared identities and rolled-over weeks: kernels against slow oracles, and cases.

Places of the made-up tracks lie on the equator, in steps of 11.1 m.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from helpers.points import (
    START,
    cleaned_of,
    point,
    read_csv,
    rows_of,
    snapshot_of,
    table_of,
    total,
    walk,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from model.earth import point_rules
from tasks.config.pipeline import CleanConfig, PipelineConfig, StayConfig
from tasks.database import scratch
from tasks.runtime.store import Store

STEP_DEG = 1e-4
REACH = {"max_speed_mps": 20.0, "max_gap_s": 900.0}


def arrays(track):
    """The arrays of a list of (is start, seconds since the point before, place)."""
    is_start = np.array([n == 0 or row[0] for n, row in enumerate(track)], np.bool_)
    tracked_us = np.cumsum([row[1] for row in track]).astype(np.int64) * 1_000_000
    lon_deg = np.array([row[2] for row in track], np.float64) * STEP_DEG
    return is_start, tracked_us, lon_deg, np.zeros_like(lon_deg)


# Stays --------------------------------------------------------------------------------------------


def stays_of(track, is_exit_awaited=False, radius_m=100.0, min_stay_s=300.0, max_gap_s=900.0):
    limits = radius_m, min_stay_s, max_gap_s, is_exit_awaited
    return list(zip(*(a.tolist() for a in point_rules.stays(*arrays(track), *limits)), strict=True))


def slow_stays(track, is_exit_awaited):
    """The definition in its own words, run by run between silences."""
    is_start, tracked_us, lon_deg, _ = arrays(track)
    cuts = [
        n
        for n in range(len(track))
        if is_start[n] or tracked_us[n] - tracked_us[n - 1] > 900_000_000
    ]
    found = []
    for first, end in zip(cuts, [*cuts[1:], len(track)], strict=True):
        left = list(range(first, end))
        while left:
            anchor = left[0]
            inside = []
            for n in left:
                if abs(lon_deg[n] - lon_deg[anchor]) * 111_195.08 >= 100:
                    break
                inside.append(n)
            left = left[len(inside) :]
            last = (left[0] if left else None) if is_exit_awaited else inside[-1]
            if last is not None and tracked_us[last] - tracked_us[anchor] >= 300_000_000:
                found.append((anchor, inside[-1], last))
    return found


stay_tracks = st.lists(
    st.tuples(
        st.sampled_from([False] * 9 + [True]),
        st.sampled_from([0, 1, 60, 120, 299, 300, 301, 899, 900, 901]),
        st.sampled_from([0, 0, 1, 4, 8, 9, 20, 28, 29]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=100)
@given(track=stay_tracks, is_exit_awaited=st.booleans())
def test_stays_equal_their_slow_definition(track, is_exit_awaited):
    assert stays_of(track, is_exit_awaited) == slow_stays(track, is_exit_awaited)


@given(track=stay_tracks)
def test_stays_neither_overlap_nor_cross_a_silence(track):
    is_start, tracked_us, *_ = arrays(track)
    before = -1
    for first, last, _end in stays_of(track):
        assert before < first <= last
        assert not is_start[first + 1 : last + 1].any()
        assert (np.diff(tracked_us[first : last + 1]) <= 900_000_000).all()
        before = last


def test_a_point_at_the_radius_is_outside():
    track = [(True, 0, 0), (False, 300, 0), (False, 1, 9)]
    inside_m = 9 * STEP_DEG * 111_195.080233
    assert stays_of(track, radius_m=inside_m * (1 + 1e-9)) == [(0, 2, 2)]
    assert stays_of(track, radius_m=inside_m * (1 - 1e-9)) == [(0, 1, 1)]


def test_a_silence_ends_a_stay_and_does_not_lengthen_it():
    track = [(True, 0, 0), (False, 300, 0), (False, 901, 0)]
    assert stays_of(track) == [(0, 1, 1)]
    assert stays_of(track, is_exit_awaited=True) == []


def test_the_exit_may_be_awaited():
    track = [(True, 0, 0), (False, 240, 0), (False, 60, 20)]
    assert stays_of(track) == []
    assert stays_of(track, is_exit_awaited=True) == [(0, 1, 2)]


def test_no_points_give_no_stays():
    assert stays_of([]) == []


def test_locations_are_founded_once_and_never_move():
    """The third stay is 88.9 m from the second and 177.9 m from the first; the fourth is new."""
    lon_deg = np.array([0, 8, 16, 30, 0]) * STEP_DEG
    is_start = np.array([True, False, False, False, True])
    founders = point_rules.location_numbers(is_start, lon_deg, np.zeros(5), 100.0)
    assert founders.tolist() == [0, 0, 2, 3, 4]


# Identities ---------------------------------------------------------------------------------------


def identities_of(track, max_speed_mps=20.0):
    return point_rules.identities(*arrays(track), max_speed_mps).tolist()


def slow_identities(track):
    """The rule in its own words, on one track, with lines as lists of points."""
    _, tracked_us, lon_deg, lat_deg = arrays(track)
    lines: list[list[int]] = []
    is_open: list[int] = []
    for n in range(len(track)):
        away_m = {
            line: point_rules.distance_m(
                lon_deg[lines[line][-1]], lat_deg[0], lon_deg[n], lat_deg[0]
            )
            for line in is_open
        }
        reached = [
            line
            for line in is_open
            if away_m[line] <= 20.0 * (tracked_us[n] - tracked_us[lines[line][-1]]) / 1e6
        ]
        if reached:
            lines[min(reached, key=lambda line: (away_m[line], line))].append(n)
            continue
        if len(is_open) == 4:
            is_open.remove(min(is_open, key=lambda line: (len(lines[line]), line)))
        is_open.append(len(lines))
        lines.append([n])
    line_of = {n: number for number, line in enumerate(lines) for n in line}
    large = [line_of[n] for n in range(len(track)) if len(lines[line_of[n]]) >= 5]
    returns = {number: 0 for number in large}
    for before, now in pairwise(large):
        returns[now] += before != now
    entities = [number for number, count in returns.items() if count >= 3]
    if len(entities) < 2:
        return [1] * len(track)
    return [
        entities.index(line_of[n]) + 1 if line_of[n] in entities else 1 for n in range(len(track))
    ]


ship_tracks = st.lists(
    st.tuples(
        st.just(False),
        st.sampled_from([0, 1, 30, 60, 60, 600]),
        st.sampled_from([0, 1, 3, 5_000, 5_001, 5_004, 90_000, 90_002, 250_000, 400_000, 700_000]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=100)
@given(track=ship_tracks)
def test_identities_equal_their_slow_definition(track):
    assert identities_of(track) == slow_identities(track)


def test_two_lines_in_turns_are_two_entities():
    track = [(False, 60, n if n % 2 else 90_000 - n) for n in range(12)]
    assert identities_of(track) == [1, 2] * 6


def test_two_ships_at_one_instant_are_told_apart():
    track = [(False, 0 if n % 2 else 60, n if n % 2 else 90_000) for n in range(12)]
    assert identities_of(track) == [1, 2] * 6


@pytest.mark.parametrize(
    "places",
    [
        [0] * 10 + [90_000] * 10,
        [0, 0, 90_000, 0, 0, 5_000, 0, 0, 0, 90_000, 0, 0],
        list(range(0, 240, 20)),
    ],
    ids=["a jump", "spikes", "one ship"],
)
def test_what_does_not_alternate_is_one_entity(places):
    assert set(identities_of([(False, 60, place) for place in places])) == {1}


def test_tracks_do_not_lend_each_other_points():
    track = [(n == 6, 60, n if n % 2 else 90_000) for n in range(12)]
    assert set(identities_of(track)) == {1}


# The stage ----------------------------------------------------------------------------------------


def cleaned(store: Store, rows, clean: dict | None = None, stay: dict | None = None):
    limits = {"max_speed_mps": 60.0, "max_gap_s": 900.0, "min_points": 2} | (clean or {})
    config = PipelineConfig(
        dataset="hurdat2", clean=CleanConfig(**limits), stay=StayConfig(**(stay or {}))
    )
    snapshot = snapshot_of(store, table_of(rows))
    return cleaned_of(config, snapshot, store)


def reports(name: str, entity: str, instant: str, received: str = ""):
    for row in read_csv(name):
        made = point(row[entity], 0, float(row["lon"]), float(row["lat"]))
        made["tracked_at"] = datetime.fromisoformat(row[instant])
        if received:
            made["received_at"] = datetime.fromisoformat(row[received])
        yield made


def test_two_ships_under_one_identity_are_two_tracks(store: Store):
    """12.0 and 9.0 knots, 16,347 and 12,213 m, and no report is lost to the speed limit."""
    found = cleaned(
        store, reports("shared_identity/reports.csv", "mmsi", "t"), {"split_identities": True}
    )
    counts = total(found)
    assert (counts["points"], counts["kept"], counts["parted"]) == (24, 24, 12)
    north, south = sorted(rows_of(store, found, "trips.parquet"), key=lambda row: row["entity_id"])
    assert (north["entity_id"], south["entity_id"]) == ("227000555", "227000555#2")
    assert (north["num_points"], south["num_points"]) == (12, 12)
    assert north["length_m"] == pytest.approx(16_347, rel=0.006)
    assert south["length_m"] == pytest.approx(12_213, rel=0.006)


def test_an_identity_is_left_whole_where_nobody_asks(store: Store):
    counts = total(cleaned(store, reports("shared_identity/reports.csv", "mmsi", "t")))
    assert (counts["kept"], counts["rejected_impossible_speed"]) == (12, 12)
    assert counts["parted"] == 0


@settings(max_examples=6)
@given(track=ship_tracks)
def test_telling_entities_apart_loses_no_point(tmp_path_factory, track):
    store = Store(tmp_path_factory.mktemp("store"))
    store.prepare()
    _, tracked_us, lon_deg, _ = arrays(track)
    rows = [
        point("m", at_us / 1e6, lon or 1e-9, 0.0)
        for at_us, lon in zip(tracked_us.tolist(), lon_deg.tolist(), strict=True)
    ]
    found = cleaned(store, rows, {"split_identities": True})
    kept = [row["point_id"] for row in rows_of(store, found, "clean_points.parquet")]
    rejected = [row["point_id"] for row in rows_of(store, found, "clean_rejects.parquet")]
    assert sorted(kept + rejected) == table_of(rows)["point_id"].to_pylist()


def test_weeks_that_rolled_over_are_put_right(store: Store):
    """A lasts 45 s, B (truly of 2003) 90 s, C 20 s over midnight; 9 of 19 rows move."""
    rows = reports("week_rollover/loggers.csv", "device", "fix_time", "uploaded_at")
    found = cleaned(store, rows)
    assert total(found)["redated"] == 9
    points = rows_of(store, found, "clean_points.parquet")
    moved = {name: 0 for name in "ABC"}
    for row in points:
        moved[row["entity_id"]] += row["num_rollovers"]
    assert moved == {"A": 4, "B": 0, "C": 5}
    trips = {row["entity_id"]: row for row in rows_of(store, found, "trips.parquet")}
    spans = {
        name: (f"{trip['started_at']:%Y-%m-%dT%H:%M:%S}", trip["finished_at"] - trip["started_at"])
        for name, trip in trips.items()
    }
    assert spans == {
        "A": ("2021-05-14T09:30:00", timedelta(seconds=45)),
        "B": ("2003-06-10T12:00:00", timedelta(seconds=90)),
        "C": ("2022-11-30T23:59:50", timedelta(seconds=20)),
    }
    assert len(points) == 19


def test_a_clock_that_was_not_set_and_one_that_ran_ahead_are_rejected(store: Store):
    """T1 keeps 32 and T2 35 rows, all of 2024-05-11; 15 show no set clock, 8 the year 2080."""
    rows = reports("unset_clock/loggers.csv", "id", "t", "uploaded_at")
    found = cleaned(store, rows, {"first_fix_date": "1990-01-01"})
    counts = total(found)
    assert (counts["points"], counts["kept"], counts["rejected"], counts["redated"]) == (
        90,
        67,
        23,
        0,
    )
    assert counts["rejected_unset_clock"] == 15
    assert counts["rejected_later_than_upload"] == 8
    points = rows_of(store, found, "clean_points.parquet")
    spans = {
        name: [
            f"{edge(row['tracked_at'] for row in points if row['entity_id'] == name):%F %T}"
            for edge in (min, max)
        ]
        for name in ("T1", "T2")
    }
    assert spans == {
        "T1": ["2024-05-11 08:01:20", "2024-05-11 08:06:30"],
        "T2": ["2024-05-11 08:01:10", "2024-05-11 08:08:10"],
    }
    assert sum(row["entity_id"] == "T1" for row in points) == 32
    assert all(row["tracked_at"] <= row["received_at"] for row in points)


def test_a_stay_ends_with_its_last_point_and_not_after_the_silence(store: Store):
    """08:00 to 08:12 with 13 fixes; the pause of four minutes is no stay."""
    stay = {"radius_m": 50.0, "min_stay_s": 300.0, "max_gap_s": 900.0}
    found = cleaned(store, reports("long_silence/fixes.csv", "user", "t"), stay=stay)
    [one] = rows_of(store, found, "stays.parquet")
    assert f"{one['started_at']:%H:%M} {one['finished_at']:%H:%M}" == "08:00 08:12"
    assert (one["num_points"], one["duration_s"]) == (13, 720.0)
    assert (one["lat_deg"], one["lon_deg"]) == pytest.approx((46.95001, 7.44), abs=1e-5)
    marked = [row for row in rows_of(store, found, "clean_points.parquet") if row["staypoint_id"]]
    assert len(marked) == 13
    assert {row["staypoint_id"] for row in marked} == {one["staypoint_id"]}
    [visit] = rows_of(store, found, "visits.parquet")
    assert visit["location_id"] == one["staypoint_id"]
    assert (visit["arrived_at"], visit["departed_at"]) == (one["started_at"], one["finished_at"])


def test_one_place_visited_twice_is_one_location(store: Store):
    def stop(at_s, lon_deg):
        return [point("a", at_s + 60 * n, lon_deg, 51.0) for n in range(7)]

    rows = [*stop(0, 7.0), *stop(3_600, 7.01), *stop(7_200, 7.0003)]
    found = cleaned(store, rows)
    first, other, again = rows_of(store, found, "visits.parquet")
    assert first["location_id"] == again["location_id"] != other["location_id"]
    assert (again["lon_deg"], again["arrived_at"]) == (7.0, START + timedelta(seconds=7_200))


def test_marking_stays_cuts_no_trip(store: Store):
    """Everything but the marks is the same whatever the radius."""
    names = ("trips.parquet", "clean_rejects.parquet")
    found = [cleaned(store, walk("a", 120, 1), stay={"radius_m": r}) for r in (1.0, 50.0, 5_000.0)]
    assert (
        len({repr([rows_of(store, receipts, name) for name in names]) for receipts in found}) == 1
    )
    assert [total(receipts)["stays"] for receipts in found] == [0, 1, 1]


@pytest.mark.slow
def test_the_stays_of_geolife_are_those_of_trackintel(shared_dir, tmp_path):
    """6,598 stays of 4,954,672 s were found by trackintel 1.4.2 on the raw points of the sample."""
    from tasks.ingest.ingest import SNAPSHOT, snapshot_job
    from tasks.ingest.snapshot import read_snapshot

    store = Store(tmp_path / "store")
    store.prepare()
    source = str(shared_dir / "data" / "geolife-sample.zip")
    config = PipelineConfig(dataset="geolife")
    snapshot = read_snapshot(store, SNAPSHOT.plain(snapshot_job(config, source, store)))
    num_stays = duration_us = 0
    for bucket in snapshot.buckets:
        [(path, _)] = snapshot.points(bucket)
        with scratch(tmp_path, path.parent) as con:
            raw = con.execute(
                "select entity_id, epoch_us(tracked_at) as us, lon_deg, lat_deg"
                " from read_parquet($path)"
                " order by entity_id, tracked_at, source_trip_id, line_number",
                {"path": str(path)},
            ).fetchnumpy()
        entity = np.asarray(raw["entity_id"])
        us_N = np.asarray(raw["us"])
        first_S, _, end_S = point_rules.stays(
            np.r_[True, entity[1:] != entity[:-1]],
            us_N,
            np.asarray(raw["lon_deg"]),
            np.asarray(raw["lat_deg"]),
            100.0,
            300.0,
            900.0,
            True,
        )
        num_stays += len(first_S)
        duration_us += int((us_N[end_S] - us_N[first_S]).sum())
    assert (num_stays, duration_us) == (6_598, 4_954_672_000_000)
