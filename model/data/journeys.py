"""Journeys: whole trips of any length, each read as a few numbers without its points in between.

Shapes: J journeys, K places of a path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..earth.arrays import Floats, Ints
from ..interface.lines import line_of
from .shards import Shards, ints, read_group, stretches, window_index, window_rows

TASK = "travel_time"


@dataclass(frozen=True)
class Journeys:
    """When journeys began, how long they took, how long their path is, and the path.

    It is told at even shares of its way, the first and the last place of which are its ends, so
    that nothing of it tells when and how often it was recorded; `path_m_J` is the whole way.
    """

    window_id_J: tuple[int, ...]
    entity_id_J: tuple[str, ...]
    started_us_J: Ints
    duration_s_J: Floats
    path_m_J: Floats
    lon_deg_JK: Floats
    lat_deg_JK: Floats

    def at(self, chosen: slice) -> Journeys:
        """Some of the journeys."""
        return Journeys(*(values[chosen] for values in vars(self).values()))

    @property
    def ends_deg(self) -> tuple[Floats, Floats, Floats, Floats]:
        """(lon_deg_J, lat_deg_J) of the origin, then of the destination."""
        return (
            self.lon_deg_JK[:, 0],
            self.lat_deg_JK[:, 0],
            self.lon_deg_JK[:, -1],
            self.lat_deg_JK[:, -1],
        )


def read_journeys(shards: Shards, split: str, num_places: int) -> Journeys:
    """The stored journeys of a split in the order of window_id, each told at so many places."""
    windows = window_index(shards, split, TASK)
    start_J, size_J = ints(windows["start"]), ints(windows["num_points"])
    shape = (len(windows), num_places)
    found = Journeys(
        tuple(windows["window_id"].to_pylist()),
        tuple(windows["entity_id"].to_pylist()),
        np.zeros(len(windows), np.int64),
        np.zeros(len(windows)),
        np.zeros(len(windows)),
        np.zeros(shape),
        np.zeros(shape),
    )
    if not len(windows):
        return found
    row_J, groups = window_rows(shards, split, windows)
    for inside, points, trip, first in stretches(read_group, groups, row_J, start_J, size_J):
        last = first + size_J[inside] - 1
        found.started_us_J[inside] = points.instant_us(trip, first)
        found.duration_s_J[inside] = points.t_s_N[last] - points.t_s_N[first]
        places = torch.tensor(points.lon_deg_N), torch.tensor(points.lat_deg_N)
        line = line_of(*places, torch.tensor(first), torch.tensor(last), num_places)
        found.lon_deg_JK[inside], found.lat_deg_JK[inside], found.path_m_J[inside] = line
    return found
