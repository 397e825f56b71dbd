"""Times of your own data: each is the instant that it says, or rejected with its rule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from helpers.own_files import HEADER, read, read_one, rules_of, utc
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.ingest import archive
from tasks.ingest.readers import own_files, records


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("2024-03-07T22:40:00Z", {}, "2024-03-07T22:40:00"),
        ("2024-03-07T22:40:00Z", {"zone": "Asia/Tokyo"}, "2024-03-07T22:40:00"),
        ("2024-03-07 22:40", {}, "2024-03-07T22:40:00"),
        ("2024-03-07", {}, "2024-03-07T00:00:00"),
        ("2024-03-07 22:40:00.123456789", {}, "2024-03-07T22:40:00.123456"),
        ("2024-03-07T22:40:00.5+05:30", {}, "2024-03-07T17:10:00.5"),
        ("2024-03-07T22:40:00-0330", {}, "2024-03-08T02:10:00"),
        ("2024-03-07 22:40:00 +01", {}, "2024-03-07T21:40:00"),
        ("2024-03-07 22:40:00 UTC", {"zone": "Asia/Tokyo"}, "2024-03-07T22:40:00"),
        ("2024-03-07t22:40:00z", {}, "2024-03-07T22:40:00"),
        ("2024-03-07 22:40:00", {"zone": "Asia/Tokyo"}, "2024-03-07T13:40:00"),
        ("2024-07-07 22:40:00", {"zone": "Europe/Oslo"}, "2024-07-07T20:40:00"),
        ("2024-01-07 22:40:00", {"zone": "Europe/Oslo"}, "2024-01-07T21:40:00"),
        ("1900-01-01 12:00:00", {}, "1900-01-01T12:00:00"),
        ("1709851200", {"time_form": "epoch_s"}, "2024-03-07T22:40:00"),
        ("1709851200", {"time_form": "epoch_s", "zone": "Asia/Tokyo"}, "2024-03-07T22:40:00"),
        ("1709851200.123456", {"time_form": "epoch_s"}, "2024-03-07T22:40:00.123456"),
        ("1.709851200123456e+09", {"time_form": "epoch_s"}, "2024-03-07T22:40:00.123456"),
        ("0", {"time_form": "epoch_s"}, "1970-01-01T00:00:00"),
        ("1709851200123", {"time_form": "epoch_ms"}, "2024-03-07T22:40:00.123"),
        ("1709851200123.456", {"time_form": "epoch_ms"}, "2024-03-07T22:40:00.123456"),
        ("1709851200123456", {"time_form": "epoch_us"}, "2024-03-07T22:40:00.123456"),
        ("1709851200123456000", {"time_form": "epoch_ns"}, "2024-03-07T22:40:00.123456"),
        ("07.03.24 22:40", {"time_pattern": "%d.%m.%y %H:%M"}, "2024-03-07T22:40:00"),
        ("3/7/2024 10:40 pm", {"time_pattern": "%-m/%-d/%Y %I:%M %p"}, "2024-03-07T22:40:00"),
        ("07-Mar-2024 22:40:00.25", {"time_pattern": "%d-%b-%Y %H:%M:%S.%f"},
         "2024-03-07T22:40:00.25"),
        ("2024067 2240", {"time_pattern": "%Y%j %H%M"}, "2024-03-07T22:40:00"),
        ("20240307T224000+0100", {"time_pattern": "%Y%m%dT%H%M%S%z"}, "2024-03-07T21:40:00"),
    ],
)  # fmt: skip
def test_a_time_is_the_instant_that_it_says(text, columns, expected):
    form = {"time_form": "pattern"} if "time_pattern" in columns else {}
    rows, _rejects = read_one(f"{HEADER}a,{text},1,2\n", **columns, **form)
    assert [row["tracked_at"] for row in rows] == [utc(expected)]


@pytest.mark.parametrize(
    ("text", "columns", "rule"),
    [
        ("yesterday", {}, "bad_time"),
        ("", {}, "bad_time"),
        ("1709851200", {}, "bad_time"),
        ("2024-02-30 00:00:00", {}, "bad_time"),
        ("2024-03-07 25:00:00", {}, "bad_time"),
        ("2024-03-07 22:40:00+99:00", {}, "bad_time"),
        ("07/03/2024 22:40:00", {}, "bad_time"),
        ("9999-12-31 00:00:00", {}, "implausible_time"),
        ("0001-01-01 00:00:00", {}, "implausible_time"),
        ("1709851200000", {"time_form": "epoch_s"}, "implausible_time"),
        ("1709851200000000000000000000000", {"time_form": "epoch_s"}, "implausible_time"),
        ("-1", {"time_form": "epoch_s"}, "implausible_time"),
        ("1709851200", {"time_form": "epoch_ms"}, "implausible_time"),
        ("1709851200123", {"time_form": "epoch_us"}, "implausible_time"),
        ("1709851200123456", {"time_form": "epoch_ns"}, "implausible_time"),
        ("nan", {"time_form": "epoch_s"}, "bad_time"),
        ("epoch", {"time_form": "pattern", "time_pattern": "%Y"}, "bad_time"),
        ("infinity", {"time_form": "pattern", "time_pattern": "%Y"}, "bad_time"),
    ],
)
def test_a_time_that_cannot_be_is_rejected_with_its_rule(text, columns, rule):
    rows, rejects = read_one(f"{HEADER}a,{text},1,2\n", **columns)
    assert (rows, rules_of(rejects)) == ([], [(2, rule)])
    assert rejects[0]["raw_text"] == f"a,{text},1,2"


def test_date_and_clock_may_stand_in_two_columns():
    body = "id,date,time,lon,lat\na,2024-03-07,22:40:00,1,2\n"
    for columns in ({}, {"date": "date", "clock": "time"}):
        [row], _rejects = read_one(body, **columns)
        assert row["tracked_at"] == utc("2024-03-07T22:40:00")


ZONES = ("America/Chicago", "Europe/Oslo", "Australia/Lord_Howe", "America/Havana", "Asia/Tokyo")


@settings(max_examples=5)
@given(
    zone=st.sampled_from(ZONES),
    starts=st.lists(st.integers(0, 730 * 96), max_size=6, unique=True),
    step_min=st.sampled_from([1, 7, 10, 14]),
)
@example(zone="America/Chicago", starts=[308 * 96 + 24, 70 * 96 + 24], step_min=5)
@example(zone="Australia/Lord_Howe", starts=[91 * 96 + 48, 273 * 96 + 48], step_min=10)
@example(zone="America/Havana", starts=[308 * 96 + 12, 70 * 96 + 12], step_min=14)
def test_a_clock_written_in_local_time_gives_its_instants_back(zone, starts, step_min):
    """Any ten hours of two years, in zones that go back by an hour, by half an hour, or never."""
    tracks = {}
    for start in starts:
        first = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * start)
        tracks[f"{start}"] = [
            first + timedelta(minutes=step_min * i) for i in range(600 // step_min)
        ]
    files = {
        f"{name}.csv": ("t,lon,lat\n" + "".join(map(local_line(zone), instants))).encode()
        for name, instants in tracks.items()
    }
    rows, _rejects = read(files, zone=zone)
    for name, instants in tracks.items():
        assert [row["tracked_at"] for row in rows if row["entity_id"] == name] == instants


def local_line(zone: str) -> Callable[[datetime], str]:
    return lambda instant: f"{instant.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S},1,2\n"


REPEATED = HEADER + "".join(
    f"{who},2023-11-05 {clock},1,2\n"
    for who, clock in [
        ("a", "01:10:00"), ("b", "01:50:00"), ("a", "01:50:00"), ("b", "01:55:00"),
        ("a", "01:10:00"), ("a", "01:50:00"), ("b", "02:10:00"), ("a", "02:10:00"),
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("repeated_hour", "hours"),
    [
        ("recorded", [6, 6, 6, 6, 7, 7, 8, 8]),
        ("first", [6, 6, 6, 6, 6, 6, 8, 8]),
        ("second", [7, 7, 7, 7, 7, 7, 8, 8]),
    ],
)
def test_the_repeated_hour_goes_by_each_entity_in_the_order_of_the_file(repeated_hour, hours):
    rows, _rejects = read_one(REPEATED, zone="America/Chicago", repeated_hour=repeated_hour)
    assert [row["tracked_at"].hour for row in rows] == hours


def test_the_repeated_hour_does_not_depend_on_how_a_file_is_divided(monkeypatch):
    monkeypatch.setattr(archive, "CHUNK_BYTES", 50)
    monkeypatch.setattr(records, "PIECE_BYTES", 1)
    monkeypatch.setattr(own_files, "BLOCK_BYTES", 1)
    rows, _rejects = read_one(REPEATED, zone="America/Chicago")
    assert [row["tracked_at"].hour for row in rows] == [6, 6, 6, 6, 7, 7, 8, 8]


def test_a_file_of_blank_lines_is_one_reject_where_clocks_are_put_back():
    good = f"{HEADER}a,2024-03-07,1,2\n".encode()
    for files in ({"blank.csv": b"\n \n"}, {"blank.csv": b"\n \n", "good.csv": good}):
        rows, rejects = read(files, zone="Europe/Oslo")
        assert [(row["file_name"], row["rule"]) for row in rejects] == [("blank.csv", "empty")]
        assert len(rows) == len(files) - 1


def test_a_local_time_that_the_clocks_skip_is_rejected_or_read_as_asked():
    body = HEADER + "a,2023-03-12 01:50:00,1,2\na,2023-03-12 02:10:00,1,2\n"
    rows, rejects = read_one(body, zone="America/Chicago")
    assert [row["tracked_at"] for row in rows] == [utc("2023-03-12T07:50:00")]
    assert rules_of(rejects) == [(3, "skipped_local_time")]
    rows, rejects = read_one(body, zone="America/Chicago", skipped_hour="before")
    assert rows[1]["tracked_at"] == utc("2023-03-12T08:10:00")
    assert rejects == []
