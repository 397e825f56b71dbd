"""Tracks of the storms that come with the project, as the notebooks need them.

A run of the pipeline reads, checks and cleans the same files (`tasks/ingest/`); here they are read
as they stand.

Shapes: T points.
"""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from model.earth.arrays import Floats
from tasks.ingest.readers.hurdat2 import HEADER, hurdat2_fields

FILES = ("hurdat2-atlantic.txt.xz", "hurdat2-pacific.txt.xz")


@dataclass(frozen=True)
class Track:
    """Where a storm was: degrees and seconds since 1970, its wind in knots.

    The first two letters of its id tell the basin: AL, EP or CP.
    """

    storm_id: str
    name: str
    lon_deg_T: Floats
    lat_deg_T: Floats
    time_s_T: Floats
    wind_kn_T: Floats

    def __len__(self) -> int:
        return len(self.lon_deg_T)

    @property
    def year(self) -> int:
        return int(self.storm_id[4:])


@cache
def storms(min_points: int = 2) -> tuple[Track, ...]:
    """All tracks with so many points, the Atlantic first, then by number and year."""
    folder = resources.files("tasks") / "ingest" / "samples"
    lines = [
        line
        for name in FILES
        for line in lzma.decompress((folder / name).read_bytes()).decode().splitlines()
    ]
    starts = [place for place, line in enumerate(lines) if HEADER.fullmatch(line.strip())]
    found = (_track(lines[start : start + 1 + _num_rows(lines[start])]) for start in starts)
    return tuple(track for track in found if len(track) >= min_points)


def storm(storm_id: str) -> Track:
    return next(track for track in storms() if track.storm_id == storm_id)


def _num_rows(header: str) -> int:
    return int(header.split(",")[2])


def _track(lines: list[str]) -> Track:
    storm_id, name = (part.strip() for part in lines[0].split(",")[:2])
    rows = [fields for line in lines[1:] if (fields := hurdat2_fields(line.strip()))]
    return Track(
        storm_id,
        name.title(),
        np.array([_degrees(row[5], "E") for row in rows]),
        np.array([_degrees(row[4], "N") for row in rows]),
        np.array([_instant(*row[:2]) for row in rows], "datetime64[s]").astype(np.float64),
        np.array([float(row[6]) for row in rows]),
    )


def _degrees(text: str, positive: str) -> float:
    return float(text[:-1]) if text[-1] == positive else -float(text[:-1])


def _instant(date: str, time: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:]}T{time[:2]}:{time[2:]}"
