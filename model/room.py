"""The points of one pool after the other, each read into memory that held an earlier one's.

Decoded row groups are copied and let go, so that each is decoded into the pages of the one before:
new pages cost more than the copy. Arrow uses them again in one and the same thread alone.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from .gather import Points
from .plan import Pool
from .shards import read_group

NUM_READERS = 2  # row groups that are decoded at once; the columns of one cost more


class Room:
    """Memory for the points of a pool; grows with the largest."""

    def __init__(self) -> None:
        self.held: Points | None = None

    def of(self, pool: Pool) -> Points:
        """Memory for the points of a pool, in place of those that were here before."""
        if self.held is None or len(self.held.t_s_N) < pool.offset_R[-1]:
            self.held = None  # the old goes before the larger one comes
            self.held = Points.empty(pool.offset_R)
        return self.held.of(pool.offset_R)


class Reading:
    """A pool whose row groups are being read by threads."""

    def __init__(self, pool: Pool, room: Room, threads: ThreadPoolExecutor) -> None:
        self.pool, self.points = pool, room.of(pool)
        self.parts: list[Future[Points]] = []
        first_trip = 0
        for group in pool.groups:
            part = self.points.part(first_trip, first_trip + group.num_rows)
            self.parts.append(threads.submit(read_group, group, part))
            first_trip += group.num_rows

    def wait(self) -> None:
        """Go on when every thread is done with it, whether it failed or not."""
        for part in self.parts:
            part.exception()

    def done(self) -> Points:
        """The points, all of them; what failed in a thread fails here."""
        self.wait()
        for part in self.parts:
            part.result()
        return self.points


class PointsAhead:
    """The points of the pool in use, while threads read those of the one that follows."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(NUM_READERS)
        self.used, self.free = Room(), Room()
        self.pool: Pool | None = None
        self.points: Points | None = None
        self.ahead: Reading | None = None

    def of(self, pool: Pool, following: Pool | None) -> Points:
        """The points of a pool; those of the pool before it are no longer there."""
        if self.points is None or pool is not self.pool:
            begun, self.ahead = self.ahead, None
            if begun is None or begun.pool is not pool:
                if begun is not None:
                    begun.wait()  # its room is needed
                begun = self._begin(pool)
            self.points = begun.done()
            self.pool, self.used, self.free = pool, self.free, self.used
            self.ahead = None if following is None else self._begin(following)
        return self.points

    def close(self) -> None:
        """Let the threads end."""
        self.threads.shutdown(cancel_futures=True)

    def _begin(self, pool: Pool) -> Reading:
        return Reading(pool, self.free, self.threads)
