"""Point buffer: memory for the points of one pool of row groups, used again for the next pool.

Decoded row groups are copied and let go, so that each is decoded into the pages of an earlier one:
new pages cost more than the copy. Arrow uses them again where threads stay.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from .collate import FlatColumns
from .epoch_plan import Pool
from .shards import ShardFolder

NUM_READERS = 2  # row groups that are decoded at once; the columns of one cost more


class PointBuffer:
    """Memory for the points of a pool, as large as the largest so far, which threads fill."""

    def __init__(self, shards: ShardFolder[Any], threads: ThreadPoolExecutor) -> None:
        self.shards, self.threads = shards, threads
        self.held: FlatColumns | None = None
        self.pool: Pool | None = None
        self.points: FlatColumns | None = None

    def of(self, pool: Pool) -> FlatColumns:
        """The points of a pool; those of the pool before it are no longer there."""
        if self.points is None or pool is not self.pool:
            self.pool, self.points = pool, None
            self.points = self._read(pool)
        return self.points

    def _read(self, pool: Pool) -> FlatColumns:
        if self.held is None or self.held.offset_R[-1] < pool.offset_R[-1]:
            self.held = None  # the old goes before the larger one comes
            self.held = self.shards.room(pool.offset_R)
        points = self.held.of(pool.offset_R)
        parts: list[Future[FlatColumns]] = []
        first_trip = 0
        for group in pool.groups:
            part = points.part(first_trip, first_trip + group.num_rows)
            parts.append(self.threads.submit(self.shards.read, group, part))
            first_trip += group.num_rows
        wait(parts)  # nothing is written any more when one of them has failed
        for read in parts:
            read.result()
        return points
