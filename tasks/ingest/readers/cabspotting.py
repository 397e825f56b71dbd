"""Cabspotting reader: a file a taxi, `lat lon occupied epoch`, newest first or ascending."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tasks.ingest.readers.delimited import (
    COUNT,
    NUMBER,
    TEXT,
    Layout,
    decode_delimited,
)
from tasks.ingest.readers.records import Block, Piece, Reader

CABSPOTTING = Layout(
    columns={"lat_deg": NUMBER, "lon_deg": NUMBER, "occupied": TEXT, "epoch_s": COUNT},
    order=("lat_deg", "lon_deg", "occupied", "epoch_s"),
    delimiter=" ",
)


def decode_cabspotting(pieces: Iterable[Piece]) -> Iterator[Block]:
    """Fixes of taxis; the taxi is named by the file."""
    return decode_delimited(pieces, CABSPOTTING)


READER = Reader(decode_cabspotting)
