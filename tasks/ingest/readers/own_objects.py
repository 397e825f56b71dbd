"""Own objects: JSON, lines of JSON, GeoJSON and KML of one's own, whose records are objects."""

from __future__ import annotations

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.config.pipeline import ColumnsConfig
from tasks.ingest.archive import Unreadable
from tasks.ingest.readers.field_columns import chosen, decimal_mark, refuse_letters
from tasks.ingest.readers.kml import kml_rows
from tasks.ingest.readers.nested_rows import (
    AXES,
    INSTANT,
    NUM_FIRST_ROWS,
    TRACK,
    flat,
    is_feature,
    only_list,
    paths_of,
    rows_of,
    value_at,
)
from tasks.ingest.readers.own_fields import as_line, in_utf8, table_of, with_place, written
from tasks.ingest.readers.records import Integers, Piece, RecordBlock, placed
from tasks.runtime.progress import log


def read_json_lines(
    pieces: Iterator[Piece], columns: ColumnsConfig, told: set[str]
) -> Iterator[RecordBlock]:
    """One object a line, or a feature, or an object with a list of them."""
    known: dict[str, str] | None = None
    for raw in pieces:
        piece = in_utf8(raw, columns)
        lines = [(number, parsed_json(text, columns)) for number, text in piece.lines()]
        rows = [(n, row) for n, value in lines for row in line_rows(n, value, columns)]
        if known is None and any(isinstance(row, dict) for _number, row in rows):
            known = known_paths([row for _number, row in rows], columns, told)
        numbers = [number for number, _row in rows]
        yield cells_block(piece, numbers, [row for _number, row in rows], known or {}, columns)


def line_rows(number: int, value: Any, columns: ColumnsConfig) -> list[Any]:
    """The records of a line, which is one itself unless it is a feature or holds a list."""
    holds_many = columns.records or is_feature(value)
    return rows_of(value, columns.records, f"{number}.") if holds_many else [value]


def read_json(
    pieces: Iterator[Piece], columns: ColumnsConfig, told: set[str]
) -> Iterator[RecordBlock]:
    """One array of objects, or a value that holds one; the place of an object is its number."""
    parts = [in_utf8(piece, columns) for piece in pieces]
    value = parsed_json(b"".join(part.body for part in parts), columns)
    if not isinstance(value, list | dict):
        raise Unreadable("is not one whole JSON array or object")
    rows = rows_of(value, columns.records)
    if isinstance(value, dict) and not is_feature(value) and not columns.records:
        tell_list(".".join(only_list(value)), told)
    if columns.records and not any(isinstance(row, dict) for row in rows):
        raise Unreadable(f"holds no object at {columns.records!r}, which is columns.records")
    yield rows_block(parts[0].file_id, rows, columns, told)


def tell_list(name: str, told: set[str]) -> None:
    """Log once which list inside an object holds the records."""
    line = f"own records: those of the list {name!r}"
    if name and line not in told:
        told.add(line)
        log(line)


def read_kml(
    pieces: Iterator[Piece], columns: ColumnsConfig, told: set[str]
) -> Iterator[RecordBlock]:
    """The places of tracks and timed points; the number of each is its place."""
    first = next(pieces)
    rows: list[Any] = []
    broken: Unreadable | None = None
    mark = decimal_mark(columns)
    try:
        for row in kml_rows(whole_characters(piece.body for piece in chain([first], pieces))):
            rows.append(row | {axis: row[axis].replace(".", mark) for axis in AXES})
    except Unreadable as error:
        broken = error
    if rows:
        yield rows_block(first.file_id, rows, columns, told)
    if broken:
        raise broken


def whole_characters(bodies: Iterator[bytes]) -> Iterator[bytes]:
    """The bytes of a file, in UTF-16 without the half of a line end that was put behind them."""
    last, num_bytes = next(bodies), 0
    is_wide = last.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    for body in bodies:
        yield last
        last, num_bytes = body, num_bytes + len(last)
    yield last[:-1] if is_wide and (num_bytes + len(last)) % 2 else last


def rows_block(
    file_id: int, rows: Sequence[Any], columns: ColumnsConfig, told: set[str]
) -> RecordBlock:
    """The records of a whole file, of which only the values that are asked for stay."""
    known = known_paths(rows, columns, told) if any(isinstance(row, dict) for row in rows) else {}
    body = b"".join(as_line(kept_of(row, known)) for row in rows)
    piece = Piece(file_id, 1, body)
    return cells_block(piece, range(1, len(rows) + 1), rows, known, columns)


def kept_of(row: Any, known: Mapping[str, str]) -> Any:
    is_object = isinstance(row, dict)
    return {name: value_at(row, name) for name in known.values()} if is_object else row


def known_paths(rows: Sequence[Any], columns: ColumnsConfig, told: set[str]) -> dict[str, str]:
    """The path behind each field. The tracks that a format tells end trips unless others do."""
    paths = paths_of(rows)
    known = chosen(paths, columns, told)
    refuse_letters(known, flat(rows[:NUM_FIRST_ROWS]))
    return {"trip": TRACK} | known if INSTANT in paths and TRACK in paths else known


def parsed_json(text: bytes, columns: ColumnsConfig) -> Any:
    """The value of a JSON text with numbers left as they are written, or None."""
    mark = decimal_mark(columns)
    try:
        return json.loads(
            text.decode("utf-8"),
            parse_float=lambda number: number.replace(".", mark),
            parse_int=str,
            parse_constant=str,
        )
    except (ValueError, RecursionError):
        return None


def cells_block(
    piece: Piece,
    numbers: Sequence[int],
    rows: Sequence[Any],
    known: Mapping[str, str],
    columns: ColumnsConfig,
) -> RecordBlock:
    """The named values of objects as texts; a row that is no object is malformed."""
    objects = [(n, row) for n, row in zip(numbers, rows, strict=True) if isinstance(row, dict)]
    fields = {
        field: pa.array([cell_text(value_at(row, name)) for _n, row in objects], pa.string())
        for field, name in known.items()
    }
    line_number = np.array([number for number, _row in objects], dtype=np.int64)
    table = table_of(len(objects), with_place(fields, decimal_mark(columns)))
    records = placed(piece.file_id, line_number, table, index_in_line(line_number))
    malformed = [n for n, row in zip(numbers, rows, strict=True) if not isinstance(row, dict)]
    return RecordBlock.of(piece, records, malformed)


def index_in_line(line_number: Integers) -> Integers:
    """0, 1, 2, ... within each line, whose records stand together."""
    return np.arange(len(line_number)) - np.searchsorted(line_number, line_number)


def cell_text(value: Any) -> str:
    """A JSON value as the text of a cell; nothing is an empty cell."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else written(value)
    return text.encode("utf-8", "replace").decode()
