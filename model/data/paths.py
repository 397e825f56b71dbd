"""Paths: whole trips of a split as flat points, and the entity of each.

Shapes: N points, R trips.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from ..earth.arrays import Ints
from ..interface.flat_points import FlatPoints
from .shards import Shards, read_entity_ids, read_group, row_groups


def read_paths(shards: Shards, split: str, max_points: int) -> tuple[FlatPoints, Ints]:
    """The trips of a split and the number of the entity of each.

    Of more points than `max_points` only every second trip is read, or every third and so on, so
    that what is kept is spread evenly over the split without any draw.
    """
    groups = row_groups(shards, split)
    stride = max(1, math.ceil(sum(group.num_points for group in groups) / max_points))
    parts: list[tuple[Any, ...]] = []
    num_paths = 0
    for group in groups:
        kept_R = np.arange(-group.first_row % stride, group.num_rows, stride)
        points = read_group(group)
        size_R = np.diff(points.offset_R)
        trip_N = np.repeat(np.arange(group.num_rows), size_R)
        (kept_N,) = np.nonzero((trip_N + group.first_row) % stride == 0)
        trip_N = trip_N[kept_N]
        path_N = np.searchsorted(kept_R, trip_N) + num_paths
        instant_us_N = points.instant_us(trip_N, kept_N)
        parts.append((path_N, instant_us_N, points.lon_deg_N[kept_N], points.lat_deg_N[kept_N]))
        num_paths += len(kept_R)
    path_N, instant_us_N, lon_deg_N, lat_deg_N = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    has_time_N = np.ones(len(path_N), bool)
    entity_R = read_entities(shards, split)[::stride]
    return FlatPoints(path_N, instant_us_N, lon_deg_N, lat_deg_N, has_time_N), entity_R


def read_entities(shards: Shards, split: str) -> Ints:
    """The number of the entity of each trip of a split, in the order of their names."""
    columns = [read_entity_ids(group) for group in row_groups(shards, split)]
    entity_ids = pa.chunked_array(columns, type=pa.string()).to_numpy()
    entity_R: Ints = np.unique(entity_ids, return_inverse=True)[1]
    return entity_R
