"""Habits of CSV: what stands above a header, behind a row and within quotes loses no record."""

from __future__ import annotations

import csv
import io

import pytest
from helpers.own_files import CASES, HEADER, ingested, read_one, rules_of, utc
from helpers.raw_files import points_of, rejects_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.config.datasets import dataset_named
from tasks.ingest.readers import csv_habits
from tasks.ingest.readers.delimited import decode_delimited
from tasks.ingest.readers.records import Piece
from tasks.runtime import progress
from tasks.runtime.store import Store

LAYOUT = dataset_named("bus_avl").layout
ROW = b'"4716","1091","2030-01-26 15:57:02",%d,-2.925173,,"a, ""b""",outbound,MADE'
BUS_HEADER = (
    b'"vehicle_id","trip_id","timestamp","latitude","longitude","bearing","route_name",'
    b'"direction","operator"\n'
)


def places(body: bytes) -> tuple[list[tuple[int, float]], list[int], list[int]]:
    """Of each record its line and latitude; the lines that are none; the files that failed."""
    blocks = list(decode_delimited([Piece(0, 1, body + b"\n")], LAYOUT))
    rows = [row for block in blocks for row in block.records.to_pylist()]
    malformed = [number for block in blocks for _file_id, number in block.malformed]
    failed = [file_id for block in blocks for file_id in block.failed]
    return [(row["line_number"], row["lat_deg"]) for row in rows], malformed, failed


# A public layout.


def test_a_line_that_names_the_delimiter_is_no_header() -> None:
    body = (BUS_HEADER + ROW % 1).replace(b",", b";").replace(b'"a; ', b'"a, ')
    assert places(b"sep=;\r\n" + body) == ([(3, 1.0)], [], [])


def test_lines_above_the_header_are_passed_over_and_told(monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(progress, "log", told.append)
    body = b"# made, 2030-01-01\n\nAll buses\n" + BUS_HEADER + ROW % 1
    assert places(body) == ([(5, 1.0)], [], [])
    assert told == ["passed over above the header of a file: # made, 2030-01-01, All buses"]


def test_a_record_above_the_header_is_rejected_and_not_passed_over() -> None:
    padded = b"Buses" + b"," * 8 + b"\n"
    body = padded + ROW % 1 + b"\n\n" + ROW % 2 + b"\n" + BUS_HEADER + ROW % 3
    assert places(body) == ([(6, 3.0)], [2, 4], [])


def test_a_delimiter_too_many_at_the_end_of_each_row_is_no_column() -> None:
    rows = b"\r\n".join([ROW % 1 + b",", ROW % 2 + b",x", ROW % 3, ROW % 4 + b","])
    assert places(BUS_HEADER + rows) == ([(2, 1.0), (5, 4.0)], [3, 4], [])
    header = BUS_HEADER.rstrip() + b",\n"
    assert places(header + ROW % 1 + b"\n" + ROW % 2) == ([(2, 1.0), (3, 2.0)], [], [])


def test_a_line_end_within_quotes_is_inside_the_record_that_begins_above_it() -> None:
    long = (ROW % 1).replace(b'"a, ""b"""', b'"a,\r\n\n ""b"" 3"')
    body = BUS_HEADER + b"\n".join([ROW % 0, long, ROW % 2, b'"open', ROW % 3])
    assert places(body) == ([(2, 0.0), (3, 1.0), (6, 2.0), (8, 3.0)], [7], [])


def test_two_stray_quotes_swallow_no_records_between_them() -> None:
    rows = [(ROW % 1)[:-4] + b'"MADE', ROW % 2, ROW % 3, ROW % 4 + b'"', ROW % 5]
    assert places(BUS_HEADER + b"\n".join(rows)) == ([(3, 2.0), (4, 3.0), (6, 5.0)], [2, 5], [])


@settings(max_examples=200)
@given(
    rows=st.lists(st.lists(st.text('a"\n ', max_size=6), min_size=3, max_size=3), max_size=8),
    num_lines=st.integers(1, 9),
)
def test_records_of_an_independent_writer_are_found_however_files_are_cut(rows, num_lines) -> None:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    lines = sink.getvalue().encode().split(b"\n")[:-1]
    pieces = [
        Piece(0, at + 1, b"".join(line + b"\n" for line in lines[at : at + num_lines]))
        for at in range(0, len(lines), num_lines)
    ]
    found = [
        line
        for piece in csv_habits.uncut(pieces)
        for line in csv_habits.quoted(piece, b",", 3).lines()
    ]
    numbers = [1]
    for row in rows:
        numbers.append(numbers[-1] + 1 + sum(cell.count("\n") for cell in row))
    assert [number for number, _text in found] == numbers[:-1]
    read = [next(csv.reader([text.decode()])) for _number, text in found]
    assert [[cell.split() for cell in row] for row in read] == [
        [cell.split() for cell in row] for row in rows
    ]


# One's own files.


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_four_loggers_have_four_habits(number: int, store: Store) -> None:
    _receipt, snapshot = ingested(CASES / "logger_habits" / f"b{number}.csv", store)
    assert rejects_of(snapshot) == []
    rows = points_of(snapshot)
    assert {row["entity_id"] for row in rows} == {f"B{number}"}
    assert [row["tracked_at"] for row in (rows[0], rows[-1])] == [
        utc("2024-03-02T11:00:00"),
        utc("2024-03-02T11:04:05"),
    ]
    assert [round(row["lat_deg"] - 44 - number, 4) for row in rows] == [
        i / 10_000 for i in range(50)
    ]
    assert [round(row["lon_deg"] - 7, 4) for row in rows] == [i / 5_000 for i in range(50)]


def test_a_delimiter_that_is_asked_for_comes_before_the_one_that_a_file_names() -> None:
    body = "sep=;\n" + HEADER + "a,2024-03-07,1,2\n"
    rows, rejects = read_one(body, delimiter="comma")
    assert [row["line_number"] for row in rows] == [3]
    assert rejects == []
    rows, [reject] = read_one(body)
    assert rows == []
    assert "needs columns.tracked_at" in reject["raw_text"]


def test_lines_above_a_header_of_ones_own_are_told(monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(progress, "log", told.append)
    body = "Track of a cow\n# t in UTC\n\n" + HEADER + "a,2024-03-07,1,2\n"
    rows, rejects = read_one(body)
    assert ([row["line_number"] for row in rows], rejects) == ([5], [])
    assert told[0] == "passed over above the header of a file: Track of a cow, # t in UTC"


@pytest.mark.parametrize("body", ["sep=;", "sep=;\n\n", "# nothing\n", "\n" * 90 + "x\n"])
def test_a_file_of_nothing_but_habits_is_named(body: str) -> None:
    for columns in ({}, {"is_headerless": True, "tracked_at": "1", "lon": "2", "lat": "3"}):
        rows, [reject] = read_one(body, **columns)
        assert rows == []
        assert reject["rule"] in ("unreadable", "empty")


def test_a_header_may_stand_below_many_blank_lines() -> None:
    rows, rejects = read_one("\n" * 90 + HEADER + "a,2024-03-07,1,2\n")
    assert ([row["line_number"] for row in rows], rejects) == ([92], [])


def test_an_empty_first_cell_is_no_comment() -> None:
    rows, [reject] = read_one((";2024-03-07,1,2\n" + HEADER).replace(",", ";"), decimal="comma")
    assert (rows, reject["rule"], reject["line_number"]) == ([], "malformed", 1)


def test_records_above_a_header_are_rejected_and_not_passed_over() -> None:
    body = "My track,,,\na,2024-03-07,1,2\n\nb,2024-03-07,1,2\n"
    rows, rejects = read_one(body + HEADER + "c,2024-03-07,1,2\n")
    assert [row["entity_id"] for row in rows] == ["c"]
    assert rules_of(rejects) == [(2, "malformed"), (4, "malformed")]
    assert [row["raw_text"] for row in rejects] == ["a,2024-03-07,1,2", "b,2024-03-07,1,2"]


def test_most_rows_tell_whether_a_delimiter_is_too_many() -> None:
    body = HEADER + "a,2024-03-07,1,2\n" + "b,2024-03-07,1,2,\n" * 2
    rows, rejects = read_one(body)
    assert [row["entity_id"] for row in rows] == ["b", "b"]
    assert rules_of(rejects) == [(2, "malformed")]


def test_a_surplus_column_that_holds_anything_is_a_fault() -> None:
    body = HEADER + "a,2024-03-07,1,2,\nb,2024-03-07,1,2,3\nc,2024-03-07,1,2\n"
    rows, rejects = read_one(body)
    assert [row["entity_id"] for row in rows] == ["a"]
    assert rules_of(rejects) == [(3, "malformed"), (4, "malformed")]


def test_an_id_may_go_on_below_its_first_line() -> None:
    rows, rejects = read_one(HEADER + '"a\r\nb",2024-03-07,1,2\n')
    assert rejects == []
    assert [(row["entity_id"], row["line_number"]) for row in rows] == [("a b", 2)]
