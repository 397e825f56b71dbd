"""Memory for the points of one pool after the other.

Decoded row groups are copied here and let go, so that each is decoded into the pages of the one
before: new pages cost more than the copy.

Shapes: N points and R trips of a row group or of a pool.
"""

from __future__ import annotations

import numpy as np

from .gather import NUM_STEP, Points
from .plan import Pool
from .shards import POINT_COLUMNS, Group, ShardError, read_group

class Room:
    """Holds the points of the last pool that was read."""

    def __init__(self) -> None:
        self.num_points = 0
        self.columns: list[np.ndarray] = []

    def points(self, pool: Pool) -> Points:
        """The points of a pool, in place of those that were here before."""
        points = self._empty(pool)
        first_trip = 0
        for group in pool.groups:
            _keep(group, points, first_trip)
            first_trip += group.num_rows
        return points

    def _empty(self, pool: Pool) -> Points:
        num_points, num_trips = int(pool.offset_R[-1]), len(pool.offset_R) - 1
        if num_points > self.num_points:
            self.columns = []  # the old room goes before a larger one comes
            self.columns = [np.empty(num_points) for _ in POINT_COLUMNS]
            self.columns.append(np.empty((num_points, NUM_STEP), np.float32))
            self.num_points = num_points
        columns = [column[:num_points] for column in self.columns]
        return Points(pool.offset_R, np.empty(num_trips, np.int64), *columns)


def _keep(group: Group, points: Points, first_trip: int) -> None:
    """Put the points of a row group in their place among those of a pool."""
    read = read_group(group)
    offset_R = points.offset_R[first_trip : first_trip + group.num_rows + 1]
    if not np.array_equal(read.offset_R, offset_R - offset_R[0]):
        raise ShardError(f"{group.path.name}, row group {group.number}: changed since it was planned")
    points.started_us_R[first_trip : first_trip + group.num_rows] = read.started_us_R
    for to_N, from_N in zip(points.columns(), read.columns(), strict=True):
        to_N[offset_R[0] : offset_R[-1]] = from_N
