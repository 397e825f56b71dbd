"""The formats that raw files come in: how files are cut into records, and how those are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tasks.archive import Member
from tasks.decode import DECODERS, Decoder, Piece, pieces_of
from tasks.decode_delimited import (
    decode_ais_noaa,
    decode_bus_avl,
    decode_cabspotting,
    decode_plt,
    decode_porto,
    decode_tdrive,
)
from tasks.decode_gpx import decode_gpx, gpx_pieces
from tasks.decode_icebergs import decode_icebergs
from tasks.decode_json import decode_opensky, json_pieces
from tasks.decode_traj import decode_traj


@dataclass(frozen=True)
class Format:
    """One format. Most have lines; the others are cut so that one record stands on each line."""

    decode: Decoder
    cut: Callable[[Iterable[Member]], Iterator[Piece]] = pieces_of


FORMATS = {name: Format(decode) for name, decode in DECODERS.items()} | {
    "ais_noaa": Format(decode_ais_noaa),
    "bus_avl": Format(decode_bus_avl),
    "cabspotting": Format(decode_cabspotting),
    "plt": Format(decode_plt),
    "porto": Format(decode_porto),
    "tdrive": Format(decode_tdrive),
    "gpx": Format(decode_gpx, gpx_pieces),
    "icebergs": Format(decode_icebergs),
    "opensky": Format(decode_opensky, json_pieces),
    "traj": Format(decode_traj),
}
