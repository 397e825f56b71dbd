"""Reader of tracktable's .traj files: one track a line, a header and then its points."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from itertools import repeat

import numpy as np
import pyarrow as pa

from tasks.ingest.readers.records import Piece, Reader, RecordBlock, placed

# *T*, track id, domain, number of points, number of track properties, *P*, domain, dimensions,
# has id, has time, number of point properties. Only points without properties are known here.
HEADER = re.compile(rb"\*T\*,([^,]*),terrestrial,(\d{1,9}),0,\*P\*,terrestrial,2,1,1,0(?:,|$)")
POINT_COLUMNS = ("object_id", "time", "lon", "lat")


def decode_traj(pieces: Iterable[Piece]) -> Iterator[RecordBlock]:
    """Tracks on Earth; all fields stay text. A record is a point, its index counts in the line."""
    for piece in pieces:
        yield traj_block(piece)


def traj_block(piece: Piece) -> RecordBlock:
    """The points of one piece.

    A line without header or points, one of too many values, or a cut point, is malformed.
    """
    columns: list[list[str]] = [[] for _name in POINT_COLUMNS]
    track_ids: list[str] = []
    line_numbers: list[int] = []
    indices: list[int] = []
    malformed: list[int] = []
    num_missing = 0
    for number, line in piece.lines():
        line = line.removeprefix(BOM_UTF8 if number == 1 else b"").rstrip()
        header = HEADER.match(line)
        if not header or header.end() == len(line):
            malformed.append(number)
            continue
        points = line[header.end() :].decode("utf-8", "replace").removesuffix(",")
        values = points.split(",")
        num_points, num_left = divmod(len(values), len(POINT_COLUMNS))
        if len(values) > int(header[2]) * len(POINT_COLUMNS):
            # No telling which value is one too many: all behind it would be taken for others.
            malformed.append(number)
            continue
        if num_left:
            malformed.append(number)
        num_missing += max(int(header[2]) - num_points - bool(num_left), 0)
        for i, column in enumerate(columns):
            column.extend(values[i : num_points * len(columns) : len(columns)])
        track_ids.extend(repeat(header[1].decode("utf-8", "replace"), num_points))
        line_numbers.extend(repeat(number, num_points))
        indices.extend(range(num_points))
    texts = dict(zip((*POINT_COLUMNS, "track_id"), (*columns, track_ids), strict=True))
    fields = {name: pa.array(values, pa.string()) for name, values in texts.items()}
    index = np.array(indices, dtype=np.int64)
    records = placed(piece.file_id, line_numbers, pa.table(fields), index)
    return RecordBlock.of(piece, records, malformed, num_missing)


READER = Reader(decode_traj)
