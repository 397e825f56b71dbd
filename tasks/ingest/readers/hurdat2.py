"""HURDAT2 reader: best tracks of storms, a header line for each, then a line every six hours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from tasks.ingest.readers.records import NO_TEXT, Piece, Reader, RecordBlock, placed

# A header line for each storm (id, name, number of rows), then one line every six hours.
HEADER = re.compile(r"([A-Z]{2}\d{6}),([^,]*),\s*(\d{1,9})\s*,?")
HEADER_LIKE = re.compile(r"[A-Za-z]{2}\s*\d")
NUM_FIELDS = (20, 21)  # the Pacific file has the radius of maximum wind as its 21st
COLUMNS = ("date", "time", "record_identifier", "status", "lat", "lon", "wind_kn", "pressure_hpa")


def decode_hurdat2(pieces: Iterable[Piece]) -> Iterator[RecordBlock]:
    """Best tracks of storms; all fields stay text, and the storm's id is joined to its rows."""
    storm = Storm()
    for piece in pieces:
        if piece.file_id != storm.file_id:
            storm = Storm(piece.file_id)
        yield hurdat2_block(piece, storm)


@dataclass
class Storm:
    """The header last read: the storm of the next rows, and how many of them are still awaited."""

    file_id: int = -1
    storm_id: str | None = None
    num_awaited: int = 0


def hurdat2_block(piece: Piece, storm: Storm) -> RecordBlock:
    """The rows of one piece. An announced row counts as missing until it comes."""
    rows: list[tuple[int, str | None, list[str]]] = []
    malformed: list[int] = []
    num_missing = 0
    for number, line in piece.lines():
        text = line.decode("utf-8", "replace").removeprefix("\ufeff").strip()
        if header := HEADER.fullmatch(text):
            storm.storm_id, storm.num_awaited = header[1], int(header[3])
            num_missing += storm.num_awaited
            continue
        if storm.num_awaited:
            storm.num_awaited -= 1
            num_missing -= 1
        if fields := hurdat2_fields(text):
            rows.append((number, storm.storm_id, fields))
        else:
            malformed.append(number)
            if HEADER_LIKE.match(text):
                storm.storm_id = None  # a broken header: the rows below are not the last storm's
    return RecordBlock.of(piece, hurdat2_records(piece.file_id, rows), malformed, num_missing)


def hurdat2_fields(text: str) -> list[str] | None:
    """The eight fields that are read, or None where the line is no row of the format."""
    fields = [part.strip() for part in text.removesuffix(",").split(",")]
    if len(fields) not in NUM_FIELDS or NO_TEXT in text:
        return None
    return fields[: len(COLUMNS)]


def hurdat2_records(file_id: int, rows: list[tuple[int, str | None, list[str]]]) -> pa.Table:
    columns = {"storm_id": pa.array([storm_id for _number, storm_id, _row in rows], pa.string())}
    for i, name in enumerate(COLUMNS):
        columns[name] = pa.array([row[i] for _number, _storm_id, row in rows], pa.string())
    return placed(file_id, [number for number, _storm_id, _row in rows], pa.table(columns))


READER = Reader(decode_hurdat2)
