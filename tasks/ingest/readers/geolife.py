"""GeoLife reader: six header lines, then lat, lon, 0, altitude (ft), days, date, time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from tasks.config.datasets import Layout
from tasks.ingest.readers.delimited import decode_delimited
from tasks.ingest.readers.records import Piece, Reader, RecordBlock


def decode_plt(pieces: Iterable[Piece], layout: Layout) -> Iterator[RecordBlock]:
    """Trajectories of GeoLife."""
    for block in decode_delimited(pieces, layout):
        yield replace(block, records=with_instant(block.records))


def with_instant(records: pa.Table) -> pa.Table:
    """Records with the instant of their date and time, NULL where one is empty."""
    day, second = (records[name].cast(pa.int32()).cast(pa.int64()) for name in ("date", "time"))
    tracked_s = pc.add(pc.multiply(day, 86_400), second)
    tracked_at = pc.multiply(tracked_s, 1_000_000).cast(pa.timestamp("us", "UTC"))
    return records.drop_columns(["date", "time"]).append_column("tracked_at", tracked_at)


READER = Reader(decode_plt)
