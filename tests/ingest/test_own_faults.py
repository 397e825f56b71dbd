"""Faults of loggers and tables in your own files: names, dates, places that are not what they say.

Each input of `tests/fixtures/own` that a test names was made for one kind of fault.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from helpers.own_files import CASES, HEADER, cleaned, ingested, read, read_one, rules_of, utc
from helpers.points import rows_of, total
from helpers.raw_files import points_of
from hypothesis import example, given
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


starts = st.datetimes(datetime(2024, 1, 2), datetime(2024, 1, 3))


@given(
    start=starts,
    steps_min=st.lists(st.integers(1, 11 * 60), min_size=1, max_size=40),
    is_backward=st.booleans(),
)
@example(start=datetime(2024, 1, 2, 23, 50), steps_min=[20], is_backward=False)
def test_no_row_of_a_watch_is_kept_at_a_wrong_instant(start, steps_min, is_backward):
    """A date written once, in the order of recording or turned round."""
    instants = [start]
    for step_min in steps_min:
        instants.append(instants[-1] + timedelta(minutes=step_min))
    written = instants[::-1] if is_backward else instants
    body = CLOCK_HEADER + "".join(f"a,{start:%Y-%m-%d},{t:%H:%M:%S},1,2\n" for t in written)
    rows, rejects = read_one(body, **CLOCK)
    assert len(rows) + len(rejects) == len(instants)
    told = [row["tracked_at"].replace(tzinfo=None) for row in rows]
    if not is_backward:
        assert told == [t.replace(microsecond=0) for t in instants]


def test_dates_that_are_told_stay_as_they_are():
    """Rows of three days with their dates, in order, turned round, and a silence of 15 hours."""
    instants = [datetime(2024, 1, day, hour) for day in (1, 2, 3) for hour in (1, 2, 3, 4, 19, 20)]
    for written in (instants, instants[::-1]):
        body = CLOCK_HEADER + "".join(f"a,{t:%Y-%m-%d},{t:%H:%M:%S},1,2\n" for t in written)
        rows, _rejects = read_one(body, **CLOCK)
        assert [row["tracked_at"].replace(tzinfo=None) for row in rows] == written


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
