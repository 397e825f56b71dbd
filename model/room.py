"""The points of one pool after the other, each read into memory that held an earlier one's.

Decoded row groups are copied and let go, so that each is decoded into the pages of the one before:
new pages cost more than the copy. Arrow uses them again in one and the same thread alone.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from .gather import Points
from .plan import Pool
from .shards import read_group


class Room:
    """Memory for the points of a pool; grows with the largest."""

    def __init__(self) -> None:
        self.held: Points | None = None

    def read(self, pool: Pool) -> Points:
        """The points of a pool, in place of those that were here before."""
        if self.held is None or len(self.held.t_s_N) < pool.offset_R[-1]:
            self.held = None  # the old goes before the larger one comes
            self.held = Points.empty(pool.offset_R)
        points = self.held.of(pool.offset_R)
        first_trip = 0
        for group in pool.groups:
            read_group(group, points.part(first_trip, first_trip + group.num_rows))
            first_trip += group.num_rows
        return points


class PointsAhead:
    """The points of the pool in use, while a thread reads those of the one that follows."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.used, self.free = Room(), Room()
        self.pool: Pool | None = None
        self.points: Points | None = None
        self.ahead: tuple[Pool, Future[Points]] | None = None

    def of(self, pool: Pool, following: Pool | None) -> Points:
        """The points of a pool; those of the pool before it are no longer there."""
        if self.points is None or pool is not self.pool:
            begun, self.ahead = self.ahead or self._begin(pool), None
            if begun[0] is not pool:
                begun = self._begin(pool)
            self.points = begun[1].result()
            self.pool, self.used, self.free = pool, self.free, self.used
            self.ahead = None if following is None else self._begin(following)
        return self.points

    def close(self) -> None:
        """Let the thread end."""
        self.thread.shutdown(cancel_futures=True)

    def _begin(self, pool: Pool) -> tuple[Pool, Future[Points]]:
        return pool, self.thread.submit(self.free.read, pool)
