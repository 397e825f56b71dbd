"""Path of something made up: where it truly is at the instants of its points, and what happens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..earth.arrays import Floats, Ints


@dataclass(frozen=True)
class Event:
    """Something that is true from one second to another of a trajectory, at a place or on it."""

    event: str
    name: str
    started_s: float
    finished_s: float
    east_m: float = math.nan
    north_m: float = math.nan


@dataclass(frozen=True)
class Path:
    """Seconds since the start, places in metres around the centre, and codes of `modes`."""

    elapsed_T: Floats
    place_TC: Floats
    mode_T: Ints
    modes: Sequence[str]
    events: Sequence[Event]
