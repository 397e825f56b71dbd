"""NOAA AIS reader: one CSV a day, whose columns differ in order and name between years."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tasks.ingest.readers.delimited import (
    NUMBER,
    TEXT,
    Layout,
    decode_delimited,
)
from tasks.ingest.readers.records import Block, Piece, Reader

AIS_NOAA = Layout(
    columns={
        "mmsi": TEXT,
        "utc_time": TEXT,
        "lat_deg": NUMBER,
        "lon_deg": NUMBER,
        "sog_kn": NUMBER,
        "cog_deg": NUMBER,
        "heading_deg": NUMBER,
        "vessel_name": TEXT,
        "imo": TEXT,
        "vessel_type": NUMBER,
        "status": NUMBER,
        "transceiver_class": TEXT,
    },
    names={
        "MMSI": "mmsi",
        "BaseDateTime": "utc_time",
        "LAT": "lat_deg",
        "LON": "lon_deg",
        "SOG": "sog_kn",
        "COG": "cog_deg",
        "Heading": "heading_deg",
        "VesselName": "vessel_name",
        "IMO": "imo",
        "VesselType": "vessel_type",
        "Status": "status",
        "TranscieverClass": "transceiver_class",
        "TransceiverClass": "transceiver_class",
    },
    optional=frozenset({"transceiver_class"}),
    is_quoted=True,
    null_values=("",),
)


def decode_ais_noaa(pieces: Iterable[Piece]) -> Iterator[Block]:
    """Position reports of ships."""
    return decode_delimited(pieces, AIS_NOAA)


READER = Reader(decode_ais_noaa)
