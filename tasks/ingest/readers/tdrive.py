"""T-Drive reader: a file a taxi, its number, local time, lon and lat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tasks.ingest.readers.delimited import (
    NUMBER,
    TEXT,
    Layout,
    decode_delimited,
)
from tasks.ingest.readers.records import Block, Piece, Reader

TDRIVE = Layout(
    columns={"taxi_id": TEXT, "local_time": TEXT, "lon_deg": NUMBER, "lat_deg": NUMBER},
    order=("taxi_id", "local_time", "lon_deg", "lat_deg"),
)


def decode_tdrive(pieces: Iterable[Piece]) -> Iterator[Block]:
    """Fixes of taxis in local time."""
    return decode_delimited(pieces, TDRIVE)


READER = Reader(decode_tdrive)
