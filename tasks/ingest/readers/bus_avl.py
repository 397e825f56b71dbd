"""UK bus reader: positions as one CSV, times in UTC without a mark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tasks.ingest.readers.delimited import (
    NUMBER,
    TEXT,
    Layout,
    decode_delimited,
)
from tasks.ingest.readers.records import Block, Piece, Reader

BUS_AVL = Layout(
    columns={
        "vehicle_id": TEXT,
        "journey_id": TEXT,
        "utc_time": TEXT,
        "lat_deg": NUMBER,
        "lon_deg": NUMBER,
        "bearing_deg": NUMBER,
        "route_name": TEXT,
        "direction": TEXT,
        "operator_code": TEXT,
    },
    names={
        "vehicle_id": "vehicle_id",
        "trip_id": "journey_id",
        "timestamp": "utc_time",
        "latitude": "lat_deg",
        "longitude": "lon_deg",
        "bearing": "bearing_deg",
        "route_name": "route_name",
        "direction": "direction",
        "operator": "operator_code",
    },
    is_quoted=True,
    null_values=("",),
)


def decode_bus_avl(pieces: Iterable[Piece]) -> Iterator[Block]:
    """Positions of buses."""
    return decode_delimited(pieces, BUS_AVL)


READER = Reader(decode_bus_avl)
