"""Reader of the consolidated iceberg database: a row a day, three columns for each sensor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from model.data.streams import gathered
from tasks.ingest.readers.column_names import shown
from tasks.ingest.readers.records import Line, Piece, Reader, RecordBlock, merged, placed

# Where several sensors give a place for one day, the observed ones come before the interpolated
# ones, and these in this order, the mapped ones before the reports by hand; cleaning keeps the
# first.
SENSORS = ("ascat", "qscat", "oscat", "seawinds", "ers", "nscat", "sass", "nic")
SENSOR_COLUMN = re.compile(r"([a-z]+)_[123]")
BLOCK_RECORDS = 100_000  # a row of the files makes up to eight of them
OWN_COLUMNS = {"date", "size_1", "size_2"}


def decode_icebergs(pieces: Iterable[Piece]) -> Iterator[RecordBlock]:
    """One record for each row and sensor; all fields stay text."""
    blocks = icebergs_blocks(pieces)
    for group in gathered(blocks, lambda block: block.num_records.total(), BLOCK_RECORDS):
        yield merged(group)


def icebergs_blocks(pieces: Iterable[Piece]) -> Iterator[RecordBlock]:
    """The records of each piece. A file's header is its own."""
    file_id, names = -1, [""]
    for piece in pieces:
        lines = piece.lines()
        if piece.file_id != file_id:
            file_id, names = piece.file_id, names_of(lines[0][1]) if lines else [""]
            if lines and not sensors_of(names):
                yield replace(icebergs_block(piece, names, []), failed={file_id: problem_of(names)})
            lines = lines[1:]
        yield icebergs_block(piece, names, lines)


def names_of(header: bytes) -> list[str]:
    """The names of columns, however they are cased and spaced."""
    return [name.strip().lower() for name in fields_of(header)]


def problem_of(names: Sequence[str]) -> str:
    known = "date, and _1, _2 and _3 of one of " + ", ".join(SENSORS)
    return f"has not the columns {known}; its columns are: {shown(names)}"


def fields_of(line: bytes) -> list[str]:
    text = line.decode("utf-8", "replace").removeprefix("\ufeff")
    return text.strip().split(",")


def sensors_of(names: Sequence[str]) -> list[str]:
    """The sensors of a header; none where it is no header of this database."""
    found = {match[1] for name in names if (match := SENSOR_COLUMN.fullmatch(name))} - {"size"}
    wanted = {f"{sensor}_{axis}" for sensor in found for axis in (1, 2)} | {"date"}
    known = OWN_COLUMNS | {f"{sensor}_{axis}" for sensor in SENSORS for axis in (1, 2, 3)}
    is_header = wanted <= set(names) <= known and len(set(names)) == len(names)
    return [sensor for sensor in SENSORS if sensor in found] if is_header else []


def icebergs_block(piece: Piece, names: Sequence[str], lines: Sequence[Line]) -> RecordBlock:
    """The records of one piece; a row of another width, or without a header, is one malformed."""
    sensors = sensors_of(names)
    rows: dict[int, dict[str, str]] = {}
    malformed: list[int] = []
    for number, line in lines:
        fields = fields_of(line)
        if sensors and len(fields) == len(names):
            rows[number] = dict(zip(names, fields, strict=True))
        else:
            malformed.append(number)
    return RecordBlock.of(piece, icebergs_records(piece.file_id, sensors, rows), malformed)


def icebergs_records(
    file_id: int, sensors: Sequence[str], rows: Mapping[int, Mapping[str, str]]
) -> pa.Table:
    """Rows times sensors, in order of rows; the index in the line gives the order of preference."""

    def texts(name: str) -> pa.Array:
        """A column of each sensor, or the row's own column for every sensor."""
        names = [name.format(sensor) for sensor in sensors]
        return pa.array([row.get(name) for row in rows.values() for name in names], pa.string())

    columns = {
        "date": texts("date"),
        "sensor": pa.array(list(sensors) * len(rows), pa.string()),
        "lat": texts("{}_1"),
        "lon": texts("{}_2"),
        "observed": texts("{}_3"),
        "size_1": texts("size_1"),
        "size_2": texts("size_2"),
    }
    preference = np.tile([SENSORS.index(name) for name in sensors], len(rows)).astype(np.int64)
    is_observed = np.array(columns["observed"].to_pylist()) == "1"
    return placed(
        file_id,
        np.repeat(np.array(list(rows), dtype=np.int64), len(sensors)),
        pa.table(columns),
        preference + len(SENSORS) * ~is_observed,
    )


READER = Reader(decode_icebergs)
