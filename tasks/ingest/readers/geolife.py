"""GeoLife reader: six header lines, then lat, lon, 0, altitude (ft), days, date, time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from tasks.config.datasets import Layout
from tasks.ingest.readers.delimited import decode_delimited
from tasks.ingest.readers.records import Piece, Reader, RecordBlock


def decode_plt(pieces: Iterable[Piece], layout: Layout) -> Iterator[RecordBlock]:
    """Trajectories of GeoLife."""
    for block in decode_delimited(pieces, layout):
        yield replace(block, records=with_instant(block.records))


def with_instant(records: pa.Table) -> pa.Table:
    day = records["date"].combine_chunks().cast(pa.int32()).to_numpy().astype(np.int64)
    second = records["time"].combine_chunks().cast(pa.int32()).to_numpy().astype(np.int64)
    tracked_at = pa.array((day * 86_400 + second) * 1_000_000, pa.timestamp("us", "UTC"))
    return records.drop_columns(["date", "time"]).append_column("tracked_at", tracked_at)


READER = Reader(decode_plt)
