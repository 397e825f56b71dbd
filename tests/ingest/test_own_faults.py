"""Faults of loggers and tables in your own files: names, dates, places that are not what they say.

Each input of `tests/fixtures/own` that a test names was made for one kind of fault.
"""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta
from itertools import accumulate, pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.own_files import CASES, HEADER, cleaned, ingested, read, read_one, rules_of, utc
from helpers.points import rows_of, total
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.runtime.store import Store

CLOCK_HEADER = "watch,date,clock,lat,lon\n"
CLOCK = {"entity": "watch", "date": "date", "clock": "clock"}

# Names of entities.


def test_one_number_in_three_spellings_is_one_entity(store: Store) -> None:
    """Three days of a tracker and of 0042, which is not 42: 36 rows and one trip each."""
    found = cleaned(CASES / "device_spellings", store, entity="device", tracked_at="t")
    trips = rows_of(store, found, "trips.parquet")
    assert {trip["entity_id"]: trip["num_points"] for trip in trips} == {
        "353626072891234": 36,
        "0042": 36,
    }
    assert [trip["length_m"] for trip in trips] == pytest.approx([2_508.9] * 2, rel=0.006)
    assert {trip["finished_at"] - trip["started_at"] for trip in trips} == {timedelta(seconds=700)}


@pytest.mark.parametrize(
    ("written", "entity_id"),
    [
        ("42", "42"), ("42.0", "42"), ("42.00", "42"), ("4.2E+01", "42"), ("4.20e+01", "42"),
        ("0042", "0042"), ("4.20", "4.20"), ("1e5", "1e5"), ("4010e5", "4010e5"),
        ("v4.0", "v4.0"), ("7E+00", "7"),
    ],
)  # fmt: skip
def test_a_name_is_a_number_only_where_it_says_all_its_digits(written, entity_id):
    [row], _rejects = read_one(f"{HEADER}{written},2024-03-07T22:40:00Z,1,2\n")
    assert row["entity_id"] == entity_id


def test_other_spellings_are_said_in_the_log(caplog):
    with caplog.at_level("INFO"):
        read_one(f"{HEADER}42,2024-03-07T22:40:00Z,1,2\n42.0,2024-03-07T22:41:00Z,1,2\n")
    [line] = [line for line in caplog.messages if "exponent" in line]
    assert line.startswith("own: in 1 record the entity is named by a number")


def test_a_number_that_lost_its_last_digits_names_nobody():
    rows, rejects = read_one(f"{HEADER}3.67E+08,2024-03-07T22:40:00Z,1,2\n")
    assert (rows, rules_of(rejects)) == ([], [(2, "rounded_entity")])


# Clocks without their day.


def test_a_clock_goes_on_past_midnight_beside_the_date_of_its_start(store: Store) -> None:
    """A walks past midnight twice, 33 minutes a step; two fixes of B were written late."""
    found = cleaned(CASES / "watches", store, **CLOCK)
    trips = {row["entity_id"]: row for row in rows_of(store, found, "trips.parquet")}
    spans = {name: (trip["started_at"], trip["finished_at"]) for name, trip in trips.items()}
    assert spans == {
        "A": (utc("2024-08-09T22:00:00"), utc("2024-08-11T06:27:00")),
        "B": (utc("2024-08-09T13:00:00"), utc("2024-08-09T17:50:00")),
    }
    points = [
        row["tracked_at"]
        for row in rows_of(store, found, "clean_points.parquet")
        if row["entity_id"] == "A"
    ]
    assert {after - before for before, after in pairwise(points)} == {timedelta(minutes=33)}
    assert (len(points), trips["B"]["num_points"], total(found)["rejected"]) == (60, 30, 0)


def watch(instants: list[datetime], date: str = "%Y-%m-%d") -> str:
    """A file of one watch."""
    lines = [f"a,{t.strftime(date)},{t:%H:%M:%S},1,2\n" for t in instants]
    return CLOCK_HEADER + "".join(lines)


@settings(max_examples=12)
@given(
    start_min=st.integers(0, 1_439),
    steps_min=st.lists(st.integers(1, 11 * 60), min_size=1, max_size=40),
)
@example(start_min=1_430, steps_min=[20])
def test_the_day_of_a_clock_follows_from_the_order_of_recording(start_min, steps_min):
    """A date written once, and steps of less than half a day."""
    minutes = accumulate(steps_min, initial=start_min)
    instants = [utc("2024-01-02") + timedelta(minutes=minute) for minute in minutes]
    rows, rejects = read_one(watch(instants, date="2024-01-02"), **CLOCK)
    assert ([row["tracked_at"] for row in rows], rejects) == (instants, [])


def test_the_newest_row_may_stand_first():
    instants = [utc("2024-01-02T23:00:00") + timedelta(minutes=20 * n) for n in range(12)][::-1]
    rows, _rejects = read_one(watch(instants, date="2024-01-02"), **CLOCK)
    assert [row["tracked_at"] for row in rows] == instants


@pytest.mark.parametrize("order", [1, -1])
def test_dates_that_are_told_stay_as_they_are(order):
    """Rows of three days with their dates, and silences of 15 hours."""
    hours = [24 * day + hour for day in range(3) for hour in (1, 2, 3, 4, 19, 20)]
    instants = [utc("2024-01-01") + timedelta(hours=hour) for hour in hours][::order]
    rows, _rejects = read_one(watch(instants), **CLOCK)
    assert [row["tracked_at"] for row in rows] == instants


def test_what_would_fall_among_the_rows_of_another_date_is_rejected():
    clocks = ["01 20:00", "01 21:00", "01 02:00", "02 01:00", "02 03:00"]
    lines = [f"a,2024-01-{text.replace(' ', ',')}:00,1,2\n" for text in clocks]
    rows, rejects = read_one(CLOCK_HEADER + "".join(lines), **CLOCK)
    assert rules_of(rejects) == [(4, "untold_day")]
    assert [row["line_number"] for row in rows] == [2, 3, 5, 6]


# Places.


def test_fixes_that_found_no_place_are_counted_and_in_no_limit(store: Store) -> None:
    """Of 160 rows of a collar 80 have a place; 75 have none or 999, 5 have zeros."""
    receipt, _snapshot = ingested(
        CASES / "collar", store, entity="tag", lon="longitude", lat="latitude"
    )
    assert (receipt.counts["num_records"], receipt.counts["num_no_position"]) == (160, 75)
    found = cleaned(CASES / "collar", store, entity="tag", lon="longitude", lat="latitude")
    counts = total(found)
    assert (counts["kept"], counts["rejected_null_island"]) == (80, 5)


@pytest.mark.parametrize(
    ("whole", "lon_deg"),
    [
        ("-1224000000", -122.4), ("1800000000", -180.0),
        ("3070967296", -122.4),  # -1224000000 without its sign, in 32 bits
        ("1800000001", None), ("2000000000", None), ("4294967296", None), ("-1800000001", None),
    ],
)  # fmt: skip
def test_whole_numbers_beyond_half_a_turn_are_put_right_or_refused(whole, lon_deg):
    body = f"{HEADER}a,2024-03-07T22:40:00Z,{whole},475000000\n"
    rows, rejects = read_one(body, coordinates="degrees_e7")
    assert [row["lon_deg"] for row in rows] == ([] if lon_deg is None else [lon_deg])
    assert rules_of(rejects) == ([] if rows else [(2, "bad_position")])


def test_a_file_is_named_by_its_name_and_not_read_as_a_number():
    rows, _rejects = read({"1.0.csv": b"t,lon,lat\n2024-03-07T22:40:00Z,1,2\n"})
    assert [row["entity_id"] for row in rows] == ["1.0"]


LETTERS = "id,t,lat,ns,lon,ew\na,2024-03-07T22:40:00Z,33.5,S,70.6,W\n"


def test_letters_beside_the_coordinates_are_asked_for_and_read():
    _rows, [reject] = read_one(LETTERS)
    assert reject["rule"] == "unreadable"
    assert reject["raw_text"] == (
        "column 'ns' holds the letters of 'lat': name it as columns.north_south"
    )
    [row], _rejects = read_one(LETTERS, north_south="ns", east_west="ew")
    assert (row["lat_deg"], row["lon_deg"]) == (-33.5, -70.6)


@pytest.mark.parametrize("letter", ["", "X", "E", "-"])
def test_a_letter_of_another_kind_is_no_place(letter):
    body = LETTERS.replace(",S,", f",{letter},")
    rows, rejects = read_one(body, north_south="ns", east_west="ew")
    assert (rows, rules_of(rejects)) == ([], [(2, "bad_position")])


@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_letters_are_asked_for_in_other_forms_too(form):
    row = '{"t": "2024-03-07T22:40:00Z", "lat": "33.5", "ns": "S", "lon": "70.6", "ew": "W"}'
    body = f"[{row}]" if form == "json" else row + "\n"
    _rows, [reject] = read({f"a.{form}": body.encode()}, form=form)
    assert "columns.north_south" in reject["raw_text"]


def test_a_flag_that_is_no_letter_of_a_half_is_passed_over():
    header = "id,t,valid,lat,lon,estimated\n"
    rows, _rejects = read_one(f"{header}a,2024-03-07T22:40:00Z,N,-33.5,-70,E\n")
    assert len(rows) == 1


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_rows_that_a_column_marks_are_left_out_and_counted(form):
    rows = [
        {"id": "a", "t": f"2024-03-07T22:4{n}:00Z", "lon": "1", "lat": "2", "visible": mark}
        for n, mark in enumerate(("true", "False", "", " FALSE ", "maybe"))
    ]
    body = {
        "csv": lambda: "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]),
        "jsonl": lambda: "\n".join(map(json.dumps, rows)),
        "parquet": lambda: written(rows),
    }[form]()
    content = body if isinstance(body, bytes) else f"{body}\n".encode()
    kept, rejects = read({f"a.{form}": content}, form=form, mark="visible", marked_out=("false",))
    assert [row["tracked_at"].minute for row in kept] == [40, 42, 44]
    assert {row["rule"] for row in rejects} == {"marked_out"}
    assert len(rejects) == 2


def written(rows: list[dict[str, str]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def test_a_share_of_marked_rows_stops_no_run(store: Store) -> None:
    """Forty rows of the accelerometer and no position: half of the file, and no limit is broken."""
    receipt, _snapshot = ingested(
        CASES / "collar", store, entity="tag", mark="sensor", marked_out=("accelerometer",)
    )
    assert receipt.counts["num_marked_out"] == 40
    assert receipt.counts["num_no_position"] == 35
