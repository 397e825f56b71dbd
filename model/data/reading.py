"""From shards on disk to batches in memory: seeded, bounded, and resumable at any batch.

Training draws random crops, evaluation reads the stored windows. What an epoch of crops yields is
a pure function of (shards, seed, epoch), which ranks share out (see `plan`): a reader started at a
batch's cursor yields exactly the batches that would have followed, whatever the number of ranks.

Shapes: B windows, T points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..earth.calendar_tables import Clock, clock_of
from ..interface.batch import Batch, Cursor
from .collate import Draft, Ints
from .epoch_plan import Piece, Plan, nothing_to_read
from .mixture import shares_in_turn
from .options import POOL_POINTS, Reading
from .point_buffer import Room
from .prefetch import prefetched
from .shards import Group, ShardError, Shards, read_group, rows_of, window_index

# Training ---------------------------------------------------------------------------------------


def read_batches(
    shards: Shards,
    reading: Reading,
    start: Cursor = Cursor(),
    num_epochs: int | None = None,
    rank: int = 0,
    world: int = 1,
    prefetch: int = 0,
) -> Iterator[Batch]:
    """Random crops of every trip, mixed, and bucketed by length or packed, from a cursor on.

    Each batch carries the cursor of the place after it. Every point but a crop's first is a target.
    Without `num_epochs` the reader goes on forever. A thread prepares `prefetch` batches ahead.
    """
    return made(planned(Plan.of(shards, reading), start, num_epochs, rank, world), prefetch)


def part_seed(seed: int, number: int) -> int:
    """The seed of one dataset of a mixture."""
    return int(np.random.SeedSequence((seed, 3, number)).generate_state(1)[0])


@dataclass(frozen=True)
class Planned:
    """A batch that is not read yet."""

    cursor: Cursor
    pieces: tuple[Piece, ...]
    reader: PoolReader

    def batch(self) -> Batch:
        return replace(self.reader.batch(self.pieces), cursor=self.cursor)


def made(batches: Iterator[Planned], prefetch: int = 0) -> Iterator[Batch]:
    """The batches themselves, `prefetch` of them made ahead."""
    read = (planned.batch() for planned in batches)
    return prefetched(read, prefetch) if prefetch else read


def planned(
    plan: Plan,
    start: Cursor = Cursor(),
    num_epochs: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Planned]:
    """A rank's batches from a cursor on, epoch after epoch."""
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} is none of {world}")
    return _planned(plan, start, num_epochs, rank, world)


def _planned(
    plan: Plan, start: Cursor, num_epochs: int | None, rank: int, world: int
) -> Iterator[Planned]:
    reader = PoolReader(clock_of(plan.shards.zone), plan.reading)
    with closing(reader):  # its threads end with these batches
        yield from _epochs(plan, reader, start, num_epochs, rank, world)


def _epochs(
    plan: Plan, reader: PoolReader, start: Cursor, num_epochs: int | None, rank: int, world: int
) -> Iterator[Planned]:
    epoch, place = start.epoch, start.batch
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
            raise nothing_to_read(plan)
        place = 0


def planned_mixed(
    plans: Sequence[Plan],
    weights: Sequence[float],
    seed: int,
    start: Cursor = Cursor(),
    rank: int = 0,
    world: int = 1,
) -> Iterator[Planned]:
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
    return _mixed(streams, shares_in_turn(weights, seed, taken), parts, taken)


def _mixed(
    streams: list[Iterator[Planned]], turns: Iterator[int], parts: list[Cursor], taken: list[int]
) -> Iterator[Planned]:
    for number in turns:
        found = next(streams[number])
        parts[number] = found.cursor
        taken[number] += 1
        yield replace(found, cursor=Cursor(0, sum(taken), tuple(parts), tuple(taken)))


class PoolReader:
    """Makes batches of planned pieces; holds the points of the last pool it was asked for."""

    def __init__(self, clock: Clock, reading: Reading) -> None:
        self.clock = clock
        self.is_packed = reading.batching == "packed"
        self.max_points = reading.max_points
        self.room = Room()

    def close(self) -> None:
        self.room.close()

    def batch(self, pieces: tuple[Piece, ...]) -> Batch:
        """Pieces under each other in one batch; no pieces are a row of pads."""
        num_rows = sum(len(piece.num_crops_B) for piece in pieces)
        draft = Draft(max(1, num_rows), self._num_columns(pieces), self._num_sequences(pieces))
        first_row = 0
        for piece in pieces:
            self._fill(draft, piece, first_row)
            first_row += len(piece.num_crops_B)
        return draft.batch()

    def _num_columns(self, pieces: tuple[Piece, ...]) -> int:
        if self.is_packed:
            return self.max_points
        sizes = [piece.pool.crops.num_points_Q[piece.crop_Q].max() for piece in pieces]
        return int(max(sizes, default=2))

    def _num_sequences(self, pieces: tuple[Piece, ...]) -> int:
        # A packed batch stays one even if each of its rows holds a single crop.
        most = max((int(piece.num_crops_B.max()) for piece in pieces), default=1)
        return max(2, most) if self.is_packed else 1

    def _fill(self, draft: Draft, piece: Piece, first_row: int) -> None:
        crops, crop_Q = piece.pool.crops, piece.crop_Q
        num_points_Q = crops.num_points_Q[crop_Q]
        row_Q = np.repeat(np.arange(len(piece.num_crops_B)), piece.num_crops_B)
        sequence_Q = np.arange(len(crop_Q)) - _before(piece.num_crops_B)[row_Q]
        column_Q = _before(num_points_Q)
        column_Q = column_Q - column_Q[_before(piece.num_crops_B)][row_Q]
        row_Q += first_row
        draft.window_id_BS[row_Q, sequence_Q] = crops.window_id_Q[crop_Q]
        draft.fill(
            self.room.of(piece.pool),
            self.clock,
            crops.trip_Q[crop_Q],
            crops.first_Q[crop_Q],
            num_points_Q,
            row_Q,
            column_Q,
            sequence_Q,
        )


def _before(sizes: Ints) -> Ints:
    """How much stands before each."""
    return np.cumsum(sizes) - sizes


# Evaluation -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WindowBatch:
    """Stored windows to be scored: whose they are, the instant of their first point, their mask."""

    batch: Batch
    entity_id_B: tuple[str, ...]
    started_us_B: Tensor
    mask_B: tuple[str, ...]


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
    num_points_B = _ints(windows["num_points"])
    if len(windows) == 0:
        return
    known = set(windows["num_context"].unique().to_pylist())
    if num_context is not None and known != {num_context}:
        raise ShardError(
            f"{split}: windows of {task} are stored with {sorted(known)} points of context, not "
            f"{num_context}"
        )
    row_B, groups = rows_of(shards, split, windows["trip_id"])
    clock = clock_of(shards.zone)
    # Whole batches a pool, so that the row groups of one are read once.
    num_pooled = batch_size * max(1, pool_points // int(num_points_B.max()) // batch_size)
    for first in range(0, len(row_B), num_pooled):
        pooled = windows.slice(first, num_pooled)
        batch, started_us_B = _stored(groups, pooled, row_B[first : first + num_pooled], clock)
        is_observed_BT = observed_mask(pooled, batch.is_pad_BT.shape[1])
        batch = _for_evaluation(batch, torch.from_numpy(is_observed_BT))
        for place in range(0, len(pooled), batch_size):
            end = min(place + batch_size, len(pooled))
            entity_id_B, mask_B = (
                tuple(pooled[name].slice(place, batch_size).to_pylist())
                for name in ("entity_id", "mask")
            )
            longest = int(num_points_B[first + place : first + end].max())
            part = batch.part(place, end, longest)
            yield WindowBatch(part, entity_id_B, started_us_B[place:end], mask_B)


def observed_mask(windows: pa.Table, num_points: int) -> np.ndarray:
    """Which of the first `num_points` points of each window may be read, (B, T)."""
    is_observed_BT = np.zeros((len(windows), num_points), bool)
    lists = windows["is_observed"].combine_chunks()
    sizes_B = _ints(lists.value_lengths())
    if not np.array_equal(sizes_B, _ints(windows["num_points"])):
        raise ShardError("windows: is_observed does not say so of each point")
    is_known_BT = np.arange(num_points) < sizes_B[:, None]
    is_observed_BT[is_known_BT] = lists.flatten().to_numpy(zero_copy_only=False)
    return is_observed_BT


def _stored(
    groups: list[Group], windows: pa.Table, row_B: Ints, clock: Clock
) -> tuple[Batch, Tensor]:
    """Windows as one batch, and the instants of their first points; each row group is read once."""
    start_B, num_points_B = _ints(windows["start"]), _ints(windows["num_points"])
    draft = Draft(len(row_B), int(num_points_B.max()), 1)
    draft.window_id_BS[:, 0] = _ints(windows["window_id"])
    started_us_B = np.zeros_like(row_B)
    for group in groups:
        is_inside_B = (row_B >= group.first_row) & (row_B < group.first_row + group.num_rows)
        (inside,) = np.nonzero(is_inside_B)
        if len(inside) == 0:
            continue
        points = read_group(group)
        trip = row_B[inside] - group.first_row
        first, end = points.offset_R[trip] + start_B[inside], points.offset_R[trip + 1]
        if (start_B[inside] < 0).any() or (first + num_points_B[inside] > end).any():
            raise ShardError(f"{group.path.name}: a window reaches over its trip's end")
        none = np.zeros_like(inside)
        draft.fill(points, clock, trip, first, num_points_B[inside], inside, none, none)
        moved_us = np.rint(points.t_s_N[first] * 1e6).astype(np.int64)
        started_us_B[inside] = points.started_us_R[trip] + moved_us
    return draft.batch(), torch.from_numpy(started_us_B)


def _for_evaluation(batch: Batch, is_observed_BT: Tensor) -> Batch:
    return replace(
        batch,
        is_observed_BT=~batch.is_pad_BT & is_observed_BT,
        is_target_BT=~batch.is_pad_BT & ~is_observed_BT,
    )


def _ints(column: pa.Array | pa.ChunkedArray) -> Ints:
    return column.to_numpy().astype(np.int64)
