"""Labels that a source gives beside its points: which mode of transport, from when to when.

They are counted apart from the records of points, since no point is lost with a label.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Sequence

import pyarrow as pa

import sql
from tasks.database import Connection
from tasks.ingest.inventory import Member
from tasks.ingest.readers.records import pieces_of, readable

LABELS = "labels"
HEADER = b"start time"
FIELDS = ("started", "finished", "mode")
LINE_SCHEMA = pa.schema(
    {
        "file_id": pa.int64(),
        "file_name": pa.string(),
        "line_number": pa.int64(),
        **dict.fromkeys((*FIELDS, "raw_text"), pa.string()),
    }
)


def staged_labels(con: Connection, members: Sequence[Member], staging: str) -> pa.Table:
    """All lines of label files in order, typed, each with the rule that rejects it, if any."""
    rows = [row for member in members for row in lines_of(member)]
    con.register("labels", pa.Table.from_pylist(rows, LINE_SCHEMA))
    return con.sql(sql.read(staging)).to_arrow_table()


def lines_of(member: Member) -> list[dict[str, object]]:
    """The lines of a file as fields of text; the header is none, and a short line has gaps."""
    rows: list[dict[str, object]] = []
    for piece in pieces_of([member]):
        for number, text in piece.lines():
            if number == 1 and text.removeprefix(BOM_UTF8).lower().startswith(HEADER):
                continue
            place = {"file_id": member.file_id, "file_name": member.name, "line_number": number}
            parts = text.decode("utf-8", "replace").rstrip("\r").split("\t")
            fields = dict(zip(FIELDS, parts, strict=True)) if len(parts) == len(FIELDS) else {}
            rows.append({**place, **fields, "raw_text": readable(text)})
    return rows
