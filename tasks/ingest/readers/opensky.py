"""OpenSky reader: state vectors as the traffic library writes them, one each second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pyarrow as pa

from tasks.ingest.readers.json_records import object_lines, objects_block
from tasks.ingest.readers.records import Piece, Reader, RecordBlock

OPENSKY_SCHEMA = pa.schema(
    {
        "icao24": pa.string(),
        "callsign": pa.string(),
        "timestamp": pa.float64(),  # milliseconds since 1970
        "longitude": pa.float64(),
        "latitude": pa.float64(),
        "altitude": pa.float64(),  # feet
        "groundspeed": pa.float64(),  # knots
        "track": pa.float64(),  # degrees
        "vertical_rate": pa.float64(),  # feet a minute
        "onground": pa.bool_(),
        "squawk": pa.string(),
    }
)


def decode_opensky(pieces: Iterable[Piece]) -> Iterator[RecordBlock]:
    """State vectors, each with whether its place is that of the aircraft's record before it."""
    file_id = -1
    last_places: dict[str | None, list[float | None]] = {}
    for piece in pieces:
        if piece.file_id != file_id:
            file_id, last_places = piece.file_id, {}
        block = objects_block([piece], OPENSKY_SCHEMA)
        repeated = is_repeated(block.records, last_places)
        records = block.records.append_column("is_repeated", pa.array(repeated, pa.bool_()))
        yield replace(block, records=records)


def is_repeated(records: pa.Table, last_places: dict[str | None, list[float | None]]) -> list[bool]:
    """Whether a record repeats the place of the record before it of the same aircraft."""
    columns = records.select(["icao24", "longitude", "latitude"]).to_pydict()
    repeated = []
    for icao24, *place in zip(*columns.values(), strict=True):
        repeated.append(last_places.get(icao24) == place)
        last_places[icao24] = place
    return repeated


READER = Reader(decode_opensky, object_lines)
