"""From shards on disk to batches in memory: seeded, bounded, and resumable at any batch.

Row groups are read straight into flat arrays; windows are gathered from those with one index. What
an epoch yields is a pure function of (shards, seed, epoch, rank, world): a reader started at a
batch's cursor yields exactly the batches that would have followed.

Shapes: B windows, T points, F step features (east_m, north_m, s), K calendar features,
N points of a pool, R trips of a pool, Q crops.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from .batch import Batch, Cursor
from .encoding import calendar_features
from .shards import TRIP_SCHEMA as TRIP_SCHEMA  # offered to whoever reads batches
from .shards import WINDOW_SCHEMA as WINDOW_SCHEMA
from .shards import (
    Group,
    Ints,
    Pool,
    ShardError,
    Shards,
    concatenated,
    cut,
    read_group,
    row_groups,
    rows_of,
    window_index,
)

POOL_POINTS = 1 << 20  # points mixed at a time: bounds the memory, not the data
ROW_BITS = 32  # a crop's window_id is its trip's row in the split, then the index of its start


@dataclass(frozen=True)
class WindowBatch:
    """Stored windows to be scored: whose they are, and the instant of their first point."""

    batch: Batch
    entity_id_B: tuple[str, ...]
    started_us_B: Tensor


@dataclass(frozen=True)
class _Crops:
    """Stretches of a pool: first point in the pool, number of points, and identity."""

    first_Q: Ints
    num_points_Q: Ints
    window_id_Q: Ints

    def take(self, chosen: Ints) -> _Crops:
        return _Crops(self.first_Q[chosen], self.num_points_Q[chosen], self.window_id_Q[chosen])


# Training ---------------------------------------------------------------------------------------


def read_batches(
    shards: Shards,
    split: str,
    seed: int,
    batch_size: int,
    max_points: int,
    start: Cursor = Cursor(),
    num_epochs: int | None = None,
    rank: int = 0,
    world: int = 1,
    pool_points: int = POOL_POINTS,
) -> Iterator[Batch]:
    """Random crops of every trip, mixed and bucketed by length, from a cursor on.

    Each batch carries the cursor of the place after it. Every point but a crop's first is a target.
    Without `num_epochs` the reader goes on forever.
    """
    if batch_size < 1 or max_points < 2 or not 0 <= rank < world:
        raise ValueError("read_batches needs batch_size >= 1, max_points >= 2, 0 <= rank < world")
    groups = row_groups(shards, split)
    cursor = start
    while num_epochs is None or cursor.epoch < num_epochs:
        mine = _shuffled(groups, seed, cursor.epoch)[rank::world]
        batches = _epoch(mine, seed, cursor, batch_size, max_points, pool_points, shards.zone)
        held = None
        for batch in batches:
            if held is not None:
                yield held
            held = batch
        if held is not None:
            yield replace(held, cursor=Cursor(cursor.epoch + 1, 0))
        elif num_epochs is None and cursor.batch == 0:
            raise ShardError(f"{split}: nothing to read, no trip of two points or more")
        cursor = Cursor(cursor.epoch + 1, 0)


def _epoch(
    groups: list[Group],
    seed: int,
    start: Cursor,
    batch_size: int,
    max_points: int,
    pool_points: int,
    zone: str,
) -> Iterator[Batch]:
    number = 0
    for pool_number, (pool, crops) in enumerate(
        _pools(groups, seed, start.epoch, max_points, pool_points)
    ):
        key = (seed, start.epoch, 2, groups[0].first_row, pool_number)
        for chosen in _buckets(crops.num_points_Q, batch_size, _generator(*key)):
            number += 1
            if number > start.batch:
                batch = _gather(pool, crops.take(chosen), zone)
                yield replace(_for_training(batch), cursor=Cursor(start.epoch, number))


def _pools(
    groups: list[Group], seed: int, epoch: int, max_points: int, pool_points: int
) -> Iterator[tuple[Pool, _Crops]]:
    """Neighbouring row groups of the epoch's order, read together up to `pool_points`."""
    waiting: list[tuple[Pool, _Crops]] = []
    num_points = 0
    for group in groups:
        pool = read_group(group)
        key = (seed, epoch, 1, group.first_row)
        waiting.append((pool, random_crops(pool, max_points, _generator(*key))))
        num_points += len(pool.instant_us_N)
        if num_points >= pool_points:
            yield _joined(waiting)
            waiting, num_points = [], 0
    if waiting:
        yield _joined(waiting)


def random_crops(pool: Pool, max_points: int, generator: np.random.Generator) -> _Crops:
    """Crops of at most `max_points`: ceil(N / max_points) for a trip of N >= 2 points.

    A long trip's starts are drawn one from each equal part of their range, so that crops of one
    trip spread over it.
    """
    num_points_R = np.diff(pool.offset_R)
    num_crops_R = np.where(num_points_R < 2, 0, -(-num_points_R // max_points))
    trip_Q = np.repeat(np.arange(len(num_points_R)), num_crops_R)
    rank_Q = np.arange(len(trip_Q)) - np.repeat(np.cumsum(num_crops_R) - num_crops_R, num_crops_R)
    num_points_Q = np.minimum(num_points_R[trip_Q], max_points)
    num_starts_Q = num_points_R[trip_Q] - num_points_Q + 1
    place_Q = (rank_Q + generator.random(len(trip_Q))) / num_crops_R[trip_Q]
    start_Q = np.minimum((place_Q * num_starts_Q).astype(np.int64), num_starts_Q - 1)
    window_id_Q = (pool.row_R[trip_Q] << ROW_BITS) + start_Q
    return _Crops(pool.offset_R[trip_Q] + start_Q, num_points_Q, window_id_Q)


def _buckets(num_points_Q: Ints, batch_size: int, generator: np.random.Generator) -> list[Ints]:
    """Shuffled batches of crops of like length; every crop is in exactly one."""
    num_crops = len(num_points_Q)
    if num_crops == 0:
        return []
    mixed_Q = generator.permutation(num_crops)
    by_length_Q = mixed_Q[np.argsort(num_points_Q[mixed_Q], kind="stable")]
    sizes = np.full(-(-num_crops // batch_size), batch_size)
    # Anyone may be the short batch: were it always the last, the longest crops would weigh more.
    sizes[generator.integers(len(sizes))] -= sizes.sum() - num_crops
    batches = np.split(by_length_Q, np.cumsum(sizes)[:-1])
    return [batches[number] for number in generator.permutation(len(batches))]


def _shuffled(groups: list[Group], seed: int, epoch: int) -> list[Group]:
    return [groups[place] for place in _generator(seed, epoch, 0).permutation(len(groups))]


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _for_training(batch: Batch) -> Batch:
    """Everything is observed, and every point that has a past is a target."""
    is_target_BT = ~batch.is_pad_BT
    is_target_BT[:, 0] = False
    return replace(batch, is_observed_BT=~batch.is_pad_BT, is_target_BT=is_target_BT)


# Evaluation -------------------------------------------------------------------------------------


def read_windows(
    shards: Shards,
    split: str,
    batch_size: int,
    num_context: int | None = None,
    pool_points: int = POOL_POINTS,
    task: str = "forecast",
) -> Iterator[WindowBatch]:
    """The stored windows of a task in the order of window_id, observed as their masks say.

    All other points are targets. The last batch is kept, however small. A caller that cuts windows
    after `num_context` points names it, and other windows are refused.
    """
    windows = window_index(shards, split, task)
    num_points_B = windows["num_points"].to_numpy().astype(np.int64)
    if len(num_points_B) == 0:
        return
    known = set(windows["num_context"].unique().to_pylist())
    if num_context is not None and known != {num_context}:
        raise ShardError(
            f"{split}: windows of {task} are stored with {sorted(known)} points of context, not "
            f"{num_context}"
        )
    row_B, groups = rows_of(shards, split, windows["trip_id"])
    # Whole batches a pool, so that the row groups of one are read once.
    num_pooled = batch_size * max(1, pool_points // int(num_points_B.max()) // batch_size)
    for first in range(0, len(row_B), num_pooled):
        part = windows.slice(first, num_pooled)
        pool, crops = _stored_crops(groups, part, row_B[first : first + num_pooled])
        for place in range(0, len(part), batch_size):
            chosen = np.arange(place, min(place + batch_size, len(part)))
            batch = _for_evaluation(
                _gather(pool, crops.take(chosen), shards.zone),
                part["is_observed"].slice(place, batch_size),
            )
            entity_id_B = tuple(part["entity_id"].slice(place, batch_size).to_pylist())
            started_us_B = torch.from_numpy(pool.instant_us_N[crops.first_Q[chosen]])
            yield WindowBatch(batch, entity_id_B, started_us_B)


def _stored_crops(groups: list[Group], windows: pa.Table, row_B: Ints) -> tuple[Pool, _Crops]:
    """The windows' own points as a pool, each window a trip of it; each row group is read once."""
    start_B = windows["start"].to_numpy().astype(np.int64)
    num_points_B = windows["num_points"].to_numpy().astype(np.int64)
    parts, place_B, base = [], np.empty_like(row_B), 0
    for group in groups:
        inside = np.flatnonzero(
            (row_B >= group.first_row) & (row_B < group.first_row + group.num_rows)
        )
        if len(inside) == 0:
            continue
        pool = read_group(group)
        trip = row_B[inside] - group.first_row
        first, end = pool.offset_R[trip] + start_B[inside], pool.offset_R[trip + 1]
        if (start_B[inside] < 0).any() or (first + num_points_B[inside] > end).any():
            raise ShardError(f"{group.path.name}: a window reaches over its trip's end")
        point = _spread(first, num_points_B[inside])
        parts.append(cut(pool, point, num_points_B[inside]))
        place_B[inside] = base + np.cumsum(num_points_B[inside]) - num_points_B[inside]
        base += len(point)
    window_id_B = windows["window_id"].to_numpy().astype(np.int64)
    return concatenated(parts), _Crops(place_B, num_points_B, window_id_B)


def _for_evaluation(batch: Batch, is_observed: pa.ChunkedArray) -> Batch:
    """The batch with the masks of its windows, a list each."""
    is_observed_BT = np.zeros(batch.is_pad_BT.shape, np.bool_)
    flat_N = is_observed.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if len(flat_N) != batch.num_points:
        raise ShardError("a mask is longer or shorter than its window")
    is_observed_BT[~batch.is_pad_BT.numpy()] = flat_N
    observed_BT = torch.from_numpy(is_observed_BT)
    return replace(batch, is_observed_BT=observed_BT, is_target_BT=~batch.is_pad_BT & ~observed_BT)


# Arrays -----------------------------------------------------------------------------------------


def _gather(pool: Pool, crops: _Crops, zone: str) -> Batch:
    """The crops side by side, padded on the right with their last point and steps of zero."""
    place_T = np.arange(crops.num_points_Q.max())
    last_Q1 = crops.num_points_Q[:, None] - 1
    point_BT = crops.first_Q[:, None] + np.minimum(place_T, last_Q1)
    is_pad_BT = place_T > last_Q1
    instant_us_BT = pool.instant_us_N[point_BT]
    step_BTF = pool.step_NF[point_BT]
    step_BTF[:, 0] = 0.0  # the step that arrives at a crop's first point starts outside it
    step_BTF[is_pad_BT] = 0.0
    return Batch(
        lon_deg_BT=torch.from_numpy(pool.lon_deg_N[point_BT]),
        lat_deg_BT=torch.from_numpy(pool.lat_deg_N[point_BT]),
        # Subtracted in whole microseconds, so that seconds are exact wherever the window lies.
        time_s_BT=torch.from_numpy((instant_us_BT - instant_us_BT[:, :1]) / 1e6),
        step_BTF=torch.from_numpy(step_BTF),
        calendar_BTK=torch.from_numpy(calendar_features(instant_us_BT, zone)),
        is_observed_BT=torch.from_numpy(~is_pad_BT),
        is_target_BT=torch.from_numpy(~is_pad_BT),
        is_pad_BT=torch.from_numpy(is_pad_BT),
        sequence_BT=torch.zeros(is_pad_BT.shape, dtype=torch.int64),
        window_id_B=torch.from_numpy(crops.window_id_Q),
    )


def _joined(parts: list[tuple[Pool, _Crops]]) -> tuple[Pool, _Crops]:
    """Several pools as one, with their crops moved to their new places."""
    num_points = [len(pool.instant_us_N) for pool, _ in parts]
    base = np.cumsum([0, *num_points[:-1]])
    crops = _Crops(
        np.concatenate(
            [crop.first_Q + shift for (_, crop), shift in zip(parts, base, strict=True)]
        ),
        np.concatenate([crop.num_points_Q for _, crop in parts]),
        np.concatenate([crop.window_id_Q for _, crop in parts]),
    )
    return concatenated([pool for pool, _ in parts]), crops


def _spread(first: Ints, num_points: Ints) -> Ints:
    """first, first + 1, ... for each stretch, one after the other."""
    ends = np.cumsum(num_points)
    return np.arange(ends[-1]) + np.repeat(first - (ends - num_points), num_points)
