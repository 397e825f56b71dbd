"""Journeys: whole trips of any length, each read as a few numbers without its points in between.

Shapes: J journeys, K points of a thinned path, N points of a row group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..earth.arrays import Floats, Ints
from ..earth.geometry import haversine_m
from ..interface.flat_points import even_places
from .collate import PointColumns
from .shards import Shards, ints, read_group, stretches, window_index, window_rows

TASK = "travel_time"


@dataclass(frozen=True)
class Journeys:
    """When journeys began, how long they took, how long their path is, and the path thinned.

    The path keeps both its ends and is padded on the right; `path_m_J` is of
    all its points, `num_kept_J` counts those that are here.
    """

    window_id_J: tuple[int, ...]
    entity_id_J: tuple[str, ...]
    started_us_J: Ints
    duration_s_J: Floats
    path_m_J: Floats
    num_kept_J: Ints
    lon_deg_JK: Floats
    lat_deg_JK: Floats

    def at(self, chosen: slice) -> Journeys:
        """Some of the journeys."""
        return Journeys(*(values[chosen] for values in vars(self).values()))

    @property
    def ends_deg(self) -> tuple[Floats, Floats, Floats, Floats]:
        """(lon_deg_J, lat_deg_J) of the origin, then of the destination."""
        row_J, last_J = np.arange(len(self.num_kept_J)), self.num_kept_J - 1
        return (
            self.lon_deg_JK[:, 0],
            self.lat_deg_JK[:, 0],
            self.lon_deg_JK[row_J, last_J],
            self.lat_deg_JK[row_J, last_J],
        )


def read_journeys(shards: Shards, split: str, max_points: int) -> Journeys:
    """The stored journeys of a split in the order of window_id, thinned to `max_points` points."""
    windows = window_index(shards, split, TASK)
    start_J, size_J = ints(windows["start"]), ints(windows["num_points"])
    kept_J = np.minimum(size_J, max_points)
    shape = (len(windows), int(kept_J.max(initial=2)))
    found = Journeys(
        tuple(windows["window_id"].to_pylist()),
        tuple(windows["entity_id"].to_pylist()),
        np.zeros(len(windows), np.int64),
        np.zeros(len(windows)),
        np.zeros(len(windows)),
        kept_J,
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
        so_far_m_N = so_far_m(points)
        found.path_m_J[inside] = so_far_m_N[last] - so_far_m_N[first]
        place = first[:, None] + even_places(size_J[inside], kept_J[inside], shape[1])
        found.lon_deg_JK[inside] = points.lon_deg_N[place]
        found.lat_deg_JK[inside] = points.lat_deg_N[place]
    return found


def so_far_m(points: PointColumns) -> Floats:
    """The way from the first point of a row group to each; only differences within a trip count."""
    lon_deg_N, lat_deg_N = torch.tensor(points.lon_deg_N), torch.tensor(points.lat_deg_N)
    step_m = haversine_m(lon_deg_N[:-1], lat_deg_N[:-1], lon_deg_N[1:], lat_deg_N[1:])
    return np.concatenate([[0.0], np.cumsum(step_m.numpy())])
