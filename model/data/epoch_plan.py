"""Epoch plan: which crops of which trips make up each batch of an epoch, and on which rank.

The plan follows from (shards, seed, epoch) and the lengths of the trips alone: it is made without
reading a point, so that a reader skips to any place at once and ranks agree without a word.

Pools, neighbouring row groups of the epoch's shuffled order, are what is mixed at a time. Batches
are numbered over the whole epoch; of each round of `world` batches every rank takes one. A last
round with fewer batches than ranks is dealt out row by row; a rank that gets none takes a row of
pads. So ranks take the same number of steps, and nothing is dropped or doubled.

Shapes: Q crops of a pool, R trips of a row group, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic

import numpy as np

from ..earth.arrays import Floats, Ints, places_within
from ..interface.batch import ROW_BITS
from .collate import Fed, first_fit
from .options import Reading
from .shards import Group, ShardFolder, read_lengths, row_groups
from .streams import gathered


@dataclass(frozen=True)
class Crops:
    """Stretches of the points of some trips: where each lies, and its identity."""

    trip_Q: Ints
    first_Q: Ints
    num_points_Q: Ints
    window_id_Q: Ints


@dataclass(frozen=True, eq=False)
class Pool:
    """Row groups that are read together, one after the other, and their crops.

    Trip r of the pool owns its points offset_R[r] up to offset_R[r + 1].
    """

    groups: tuple[Group, ...]
    offset_R: Ints
    crops: Crops


@dataclass(frozen=True)
class BatchRows:
    """Rows of a batch: crops of one pool, row after row, and the number of crops in each row."""

    pool: Pool
    crop_Q: Ints
    num_crops_B: Ints

    def rows(self, first: int, end: int) -> BatchRows:
        """Some of the rows."""
        edges = np.concatenate([[0], np.cumsum(self.num_crops_B)])
        return BatchRows(
            self.pool, self.crop_Q[edges[first] : edges[end]], self.num_crops_B[first:end]
        )


@dataclass(frozen=True)
class EpochPlan(Generic[Fed]):
    """How a split is read; remembers four bytes a trip, the lengths, from the first use on."""

    shards: ShardFolder[Fed]
    reading: Reading
    groups: tuple[Group, ...]
    lengths: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, shards: ShardFolder[Fed], reading: Reading) -> EpochPlan[Fed]:
        return cls(shards, reading, tuple(row_groups(shards, reading.split)))

    def rounds(
        self, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[int, tuple[BatchRows, ...]]]:
        """A rank's batches of an epoch from batch number `start` on, with the number after each.

        A batch of no pieces is a row of pads.
        """
        batches = islice(self.batches(epoch), start, None)
        while round_ := list(islice(batches, world)):
            start += len(round_)
            yield start, (round_[rank],) if len(round_) == world else dealt(round_, rank, world)

    def batches(self, epoch: int) -> Iterator[BatchRows]:
        """All batches of an epoch, in order."""
        reading = self.reading
        order = generator(reading.seed, epoch, 0).permutation(len(self.groups))
        shuffled = [self.groups[place] for place in order]
        pools = gathered(shuffled, lambda group: group.num_points, reading.pool_points)
        for number, groups in enumerate(pools):
            pool = self._pool(tuple(groups), epoch)
            draws = generator(reading.seed, epoch, 2, shuffled[0].first_row, number)
            batched = buckets if reading.batching == "bucketed" else packs
            sizes = (pool.crops.num_points_Q, reading.batch_size, reading.max_points)
            for crop_Q, num_crops_B in batched(*sizes, draws):
                yield BatchRows(pool, crop_Q, num_crops_B)

    def _pool(self, groups: tuple[Group, ...], epoch: int) -> Pool:
        seed, max_points = self.reading.seed, self.reading.max_points
        lengths = [self._num_points_R(group) for group in groups]
        row_R = np.concatenate([group.first_row + np.arange(group.num_rows) for group in groups])
        draws = [
            generator(seed, epoch, 1, group.first_row).random(num_crops(part_R, max_points).sum())
            for group, part_R in zip(groups, lengths, strict=True)
        ]
        num_points_R = np.concatenate(lengths)
        crops = random_crops(num_points_R, row_R, max_points, np.concatenate(draws))
        return Pool(groups, np.append(0, num_points_R.cumsum()), crops)

    def _num_points_R(self, group: Group) -> Ints:
        if group.first_row not in self.lengths:
            self.lengths[group.first_row] = read_lengths(group).astype(np.int32)
        return self.lengths[group.first_row].astype(np.int64)


def dealt(round_: list[BatchRows], rank: int, world: int) -> tuple[BatchRows, ...]:
    """A rank's share of the rows of a round, as even as whole rows can be."""
    num_rows = sum(len(piece.num_crops_B) for piece in round_)
    first, end = num_rows * rank // world, num_rows * (rank + 1) // world
    mine, base = [], 0
    for piece in round_:
        size = len(piece.num_crops_B)
        low, high = np.clip([first - base, end - base], 0, size)
        if low < high:
            mine.append(piece.rows(low, high))
        base += size
    return tuple(mine)


def num_crops(num_points_R: Ints, max_points: int) -> Ints:
    """How often each trip is cropped: ceil(N / max_points) times, never where N is below 2."""
    return np.where(num_points_R < 2, 0, -(-num_points_R // max_points))


def random_crops(num_points_R: Ints, row_R: Ints, max_points: int, uniform_Q: Floats) -> Crops:
    """Crops of at most `max_points`, each by a draw from U(0, 1).

    A long trip's starts are drawn one from each equal part of their range, so that crops of one
    trip spread over it.
    """
    num_crops_R = num_crops(num_points_R, max_points)
    trip_Q = np.repeat(np.arange(len(num_points_R)), num_crops_R)
    num_points_Q = np.minimum(num_points_R[trip_Q], max_points)
    num_starts_Q = num_points_R[trip_Q] - num_points_Q + 1
    place_Q = (places_within(num_crops_R) + uniform_Q) / num_crops_R[trip_Q]
    start_Q = np.minimum((place_Q * num_starts_Q).astype(np.int64), num_starts_Q - 1)
    first_R = np.cumsum(num_points_R) - num_points_R
    window_id_Q = (row_R[trip_Q] << ROW_BITS) + start_Q
    first_Q = first_R[trip_Q] + start_Q
    return Crops(trip_Q, first_Q, num_points_Q, window_id_Q)


def buckets(
    num_points_Q: Ints, batch_size: int, max_points: int, draws: np.random.Generator
) -> list[tuple[Ints, Ints]]:
    """Shuffled batches of crops of like length, one a row; every crop is in exactly one."""
    mixed_Q = draws.permutation(len(num_points_Q))
    by_length_Q = mixed_Q[np.argsort(num_points_Q[mixed_Q], kind="stable")]
    return [
        (by_length_Q[first:end], np.ones(end - first, np.int64))
        for first, end in _spans(len(num_points_Q), batch_size, draws)
    ]


def packs(
    num_points_Q: Ints, batch_size: int, max_points: int, draws: np.random.Generator
) -> list[tuple[Ints, Ints]]:
    """Shuffled batches of rows that are filled up to `max_points` with crops.

    Long crops are placed first (first-fit decreasing), and chance pairs those of one length.
    """
    mixed_Q = draws.permutation(len(num_points_Q))
    long_first_Q = mixed_Q[np.argsort(-num_points_Q[mixed_Q], kind="stable")]
    row_Q = first_fit(num_points_Q[long_first_Q], max_points)
    num_crops_B = np.bincount(row_Q)
    # Rows change places, so that a batch holds rows of every kind.
    place_B = draws.permutation(len(num_crops_B))
    by_row_Q = long_first_Q[np.argsort(place_B[row_Q], kind="stable")]
    num_crops_B = num_crops_B[np.argsort(place_B)]
    edges = np.concatenate([[0], np.cumsum(num_crops_B)])
    return [
        (by_row_Q[edges[first] : edges[end]], num_crops_B[first:end])
        for first, end in _spans(len(num_crops_B), batch_size, draws)
    ]


def _spans(num_rows: int, batch_size: int, draws: np.random.Generator) -> list[tuple[int, int]]:
    """First and end of each batch over the rows, shuffled.

    Anyone may be the short batch: were it always the last, the longest crops would weigh more.
    """
    if num_rows == 0:
        return []
    sizes = np.full(-(-num_rows // batch_size), batch_size)
    sizes[draws.integers(len(sizes))] -= sizes.sum() - num_rows
    ends = np.cumsum(sizes)
    return [(ends[i] - sizes[i], ends[i]) for i in draws.permutation(len(sizes)).tolist()]


def generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
