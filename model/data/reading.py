"""Reading: from shards on disk to batches in memory, seeded, bounded, and resumable at any batch.

Training draws random crops, evaluation reads the stored windows. What an epoch of crops yields is
a pure function of (shards, seed, epoch), which ranks share out (see `epoch_plan`): a reader started
at a batch's cursor yields exactly the batches that would have followed, whatever the number of
ranks.

Shapes: B windows, T points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..earth.arrays import Ints, places_within
from ..interface.batch import Cursor
from .collate import CropPlacement, Draft, Fed
from .epoch_plan import BatchRows, EpochPlan
from .mixture import shares_in_turn
from .options import POOL_POINTS, Reading
from .point_buffer import NUM_READERS, PointBuffer
from .shards import Group, ShardError, ShardFolder, ints, stretches, window_index, window_rows
from .streams import prefetched, threads_let_go

# Training ---------------------------------------------------------------------------------------


def read_batches(
    shards: ShardFolder[Fed],
    reading: Reading,
    start: Cursor = Cursor(),
    num_epochs: int | None = None,
    rank: int = 0,
    world: int = 1,
    prefetch: int = 0,
) -> Iterator[Fed]:
    """Random crops of every trip, mixed, and bucketed by length or packed, from a cursor on.

    Each batch carries the cursor of the place after it. Every point but a crop's first is a target.
    Without `num_epochs` the reader goes on forever. A thread prepares `prefetch` batches ahead.
    """
    plan = EpochPlan.of(shards, reading)
    return assembled(planned(plan, start, num_epochs, rank, world), prefetch)


def part_seed(seed: int, number: int) -> int:
    """The seed of one dataset of a mixture."""
    return int(np.random.SeedSequence((seed, 3, number)).generate_state(1)[0])


@dataclass(frozen=True)
class Planned(Generic[Fed]):
    """A batch that is not read yet."""

    cursor: Cursor
    pieces: tuple[BatchRows, ...]
    reader: PoolReader[Fed]

    def batch(self) -> Fed:
        batch = self.reader.batch(self.pieces)
        return replace(batch, cursor=self.cursor, split=self.reader.reading.split)


def assembled(batches: Iterator[Planned[Fed]], prefetch: int = 0) -> Iterator[Fed]:
    """The batches themselves, `prefetch` of them made ahead."""
    read = (planned.batch() for planned in batches)
    return prefetched(read, prefetch) if prefetch else read


def planned(
    plan: EpochPlan[Fed],
    start: Cursor = Cursor(),
    num_epochs: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Planned[Fed]]:
    """A rank's batches from a cursor on, epoch after epoch."""
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} is none of {world}")
    epoch, place = start.epoch, start.batch
    with threads_let_go(NUM_READERS) as threads:
        reader = PoolReader(PointBuffer(plan.shards, threads), plan.shards, plan.reading)
        while num_epochs is None or epoch < num_epochs:
            held = None
            for number, pieces in plan.rounds(epoch, place, rank, world):
                if held is not None:
                    yield held
                held = Planned(Cursor(epoch, number), pieces, reader)
            epoch += 1
            if held is not None:
                yield replace(held, cursor=Cursor(epoch, 0))
            elif num_epochs is None and place == 0:
                split = plan.reading.split
                raise ShardError(f"{split}: nothing to read, no trip of two points or more")
            place = 0


def planned_mixed(
    plans: Sequence[EpochPlan[Fed]],
    weights: Sequence[float],
    seed: int,
    start: Cursor = Cursor(),
    rank: int = 0,
    world: int = 1,
) -> Iterator[Planned[Fed]]:
    """A rank's batches of a mixture from a cursor on; all ranks read one dataset at a time.

    After any number of batches the share of each dataset is off by less than one batch.
    """
    parts = list(start.parts or [Cursor()] * len(plans))
    taken = list(start.taken or [0] * len(plans))
    if not len(parts) == len(taken) == len(weights) == len(plans):
        raise ValueError(f"a cursor of {len(parts)} datasets, not of {len(plans)}")
    streams = [
        planned(plan, part, None, rank, world) for plan, part in zip(plans, parts, strict=True)
    ]
    for number in shares_in_turn(weights, seed, taken):
        found = next(streams[number])
        parts[number] = found.cursor
        taken[number] += 1
        yield replace(found, cursor=Cursor(0, sum(taken), tuple(parts), tuple(taken), number))


@dataclass(frozen=True)
class PoolReader(Generic[Fed]):
    """Makes batches of planned pieces, from the points of their pool."""

    buffer: PointBuffer
    shards: ShardFolder[Fed]
    reading: Reading

    def batch(self, pieces: tuple[BatchRows, ...]) -> Fed:
        """Pieces under each other in one batch; no pieces are a row of pads."""
        num_rows = sum(len(piece.num_crops_B) for piece in pieces)
        if self.reading.batching == "packed":
            most = max((int(piece.num_crops_B.max()) for piece in pieces), default=1)
            # A packed batch stays one even if each of its rows holds a single crop.
            num_points, num_sequences = self.reading.max_points, max(2, most)
        else:
            sizes = [piece.pool.crops.num_points_Q[piece.crop_Q].max() for piece in pieces]
            num_points, num_sequences = int(max(sizes, default=2)), 1
        draft = self.shards.draft(max(1, num_rows), num_points, num_sequences)
        first_row = 0
        for piece in pieces:
            self._fill(draft, piece, first_row)
            first_row += len(piece.num_crops_B)
        return draft.batch()

    def _fill(self, draft: Draft[Fed], piece: BatchRows, first_row: int) -> None:
        crops, crop_Q = piece.pool.crops, piece.crop_Q
        num_points_Q = crops.num_points_Q[crop_Q]
        row_Q = np.repeat(np.arange(len(piece.num_crops_B)), piece.num_crops_B)
        sequence_Q = places_within(piece.num_crops_B)
        column_Q = _before(num_points_Q)
        column_Q = column_Q - column_Q[_before(piece.num_crops_B)][row_Q]
        row_Q += first_row
        draft.window_id_BS[row_Q, sequence_Q] = crops.window_id_Q[crop_Q]
        place = CropPlacement(
            crops.trip_Q[crop_Q], crops.first_Q[crop_Q], num_points_Q, row_Q, column_Q, sequence_Q
        )
        draft.fill(self.buffer.of(piece.pool), place)


def _before(sizes: Ints) -> Ints:
    """How much stands before each."""
    return np.cumsum(sizes) - sizes


# Evaluation -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WindowBatch(Generic[Fed]):
    """Stored windows to be scored: whose they are, the instant of their first point, their mask.

    The calendar of the batch is that of the clocks of `zone`.
    """

    batch: Fed
    entity_id_B: tuple[str, ...]
    started_us_B: Tensor
    mask_B: tuple[str, ...]
    zone: str


def read_windows(
    shards: ShardFolder[Fed],
    split: str,
    batch_size: int,
    num_context: int | None = None,
    pool_points: int = POOL_POINTS,
    task: str = "forecast",
) -> Iterator[WindowBatch[Fed]]:
    """The stored windows of a task in the order of window_id, observed as their masks say.

    All other points are targets. The last batch is kept, however small. A caller that cuts windows
    after `num_context` points names it, and other windows are refused.
    """
    windows = window_index(shards, split, task)
    num_points_B = ints(windows["num_points"])
    if len(windows) == 0:
        return
    known = set(windows["num_context"].unique().to_pylist())
    if num_context is not None and known != {num_context}:
        raise ShardError(
            f"{split}: windows of {task} are stored with {sorted(known)} points of context, not "
            f"{num_context}"
        )
    row_B, groups = window_rows(shards, split, windows)
    # Whole batches a pool, so that the row groups of one are read once.
    num_pooled = batch_size * max(1, pool_points // int(num_points_B.max()) // batch_size)
    for first in range(0, len(row_B), num_pooled):
        pooled = windows.slice(first, num_pooled)
        rows = row_B[first : first + num_pooled]
        batch, started_us_B = _stored(shards, groups, pooled, rows)
        for place in range(0, len(pooled), batch_size):
            end = min(place + batch_size, len(pooled))
            entity_id_B, mask_B = (
                tuple(pooled[name].slice(place, batch_size).to_pylist())
                for name in ("entity_id", "mask")
            )
            longest = int(num_points_B[first + place : first + end].max())
            part = batch.part(place, end, longest)
            yield WindowBatch(part, entity_id_B, started_us_B[place:end], mask_B, shards.zone)


def observed_mask(windows: pa.Table, num_points: int) -> np.ndarray:
    """Which of the first `num_points` points of each window may be read, (B, T)."""
    is_observed_BT = np.zeros((len(windows), num_points), bool)
    lists = windows["is_observed"].combine_chunks()
    sizes_B = ints(lists.value_lengths())
    if not np.array_equal(sizes_B, ints(windows["num_points"])):
        raise ShardError("windows: is_observed does not say so of each point")
    is_known_BT = np.arange(num_points) < sizes_B[:, None]
    is_observed_BT[is_known_BT] = lists.flatten().to_numpy(zero_copy_only=False)
    return is_observed_BT


def _stored(
    shards: ShardFolder[Fed], groups: list[Group], windows: pa.Table, row_B: Ints
) -> tuple[Fed, Tensor]:
    """Windows as one batch, observed as their masks say, and the instants of their first points."""
    start_B, num_points_B = ints(windows["start"]), ints(windows["num_points"])
    num_points = int(num_points_B.max())
    draft = shards.draft(len(row_B), num_points, 1)
    draft.window_id_BS[:, 0] = ints(windows["window_id"])
    started_us_B = np.zeros_like(row_B)
    read = shards.read
    for inside, points, trip, first in stretches(read, groups, row_B, start_B, num_points_B):
        none = np.zeros_like(inside)
        place = CropPlacement(trip, first, num_points_B[inside], inside, none, none)
        draft.fill(points, place)
        started_us_B[inside] = points.instant_us(trip, first)
    batch = shards.asked(draft.batch(), observed_mask(windows, num_points))
    return batch, torch.from_numpy(started_us_B)
