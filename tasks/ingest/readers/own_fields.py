"""Own fields: the texts of the fields of own files, as the staging SQL takes them."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tasks.config.pipeline import ColumnsConfig
from tasks.ingest.archive import Unreadable
from tasks.ingest.readers.field_columns import FIELDS
from tasks.ingest.readers.geometry import point_of
from tasks.ingest.readers.records import Piece


def with_place(fields: dict[str, pa.Array], decimal: str) -> dict[str, pa.Array]:
    """The fields with longitude and latitude in place of a geometry, if there is one."""
    if "geometry" not in fields:
        return fields
    places = [point_of(geometry) for geometry in fields["geometry"].to_pylist()]
    for number, axis in enumerate(("lon", "lat")):
        texts = [place[number].replace(".", decimal) for place in places]
        fields[axis] = pa.array(texts, pa.string())
    return fields


def table_of(num_rows: int, fields: Mapping[str, pa.Array]) -> pa.Table:
    """The texts of all fields; one that was not asked for is null everywhere."""
    absent = pa.nulls(num_rows, pa.string())
    return pa.table({name: fields.get(name, absent) for name in FIELDS})


def in_utf8(piece: Piece, columns: ColumnsConfig) -> Piece:
    body = piece.body
    if piece.first_line == 1 and body.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("is written in UTF-16; save it as UTF-8")
    if columns.encoding == "latin-1":
        body = body.decode("latin-1").encode()
    elif piece.first_line == 1:
        body = body.removeprefix(BOM_UTF8)
    return Piece(piece.file_id, piece.first_line, body)


def as_line(row: Any) -> bytes:
    return written(row).encode() + b"\n"


def written(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "[...]"
