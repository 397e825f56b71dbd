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
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from .batch import Batch, Cursor
from .encoding import calendar_features

POOL_POINTS = 1 << 20  # points mixed at a time: bounds the memory, not the data
POINT_COLUMNS = ("t_s", "lon_deg", "lat_deg")
STEP_COLUMNS = ("step_east_m", "step_north_m", "step_s")
TRIP_SCHEMA = {
    "trip_id": pa.string(),
    "started_at": pa.timestamp("us", tz="UTC"),
    **dict.fromkeys(POINT_COLUMNS, pa.list_(pa.float64())),
    **dict.fromkeys(STEP_COLUMNS, pa.list_(pa.float32())),
}
WINDOW_SCHEMA = {
    "window_id": pa.int64(),
    "trip_id": pa.string(),
    "entity_id": pa.string(),
    "start": pa.int32(),
    "num_points": pa.int32(),
    "split": pa.string(),
}
ROW_BITS = 32  # a crop's window_id is its trip's row in the split, then the index of its start

Ints = NDArray[np.int64]


class ShardError(ValueError):
    """A shard folder is incomplete, damaged, or not what the reader was promised."""


@dataclass(frozen=True)
class Shards:
    """A folder of shards: the trip files of each split, the window index, the clocks' zone."""

    folder: Path
    files: dict[str, tuple[Path, ...]]
    zone: str

    @classmethod
    def open(cls, folder: Path, zone: str = "UTC") -> Shards:
        """Find the files of a folder and check that each has the promised columns."""
        files: dict[str, tuple[Path, ...]] = {}
        for path in sorted(folder.glob("*-[0-9][0-9][0-9].parquet")):
            _check_schema(path, TRIP_SCHEMA)
            split = path.stem.rsplit("-", 1)[0]
            files[split] = (*files.get(split, ()), path)
        if not (folder / "windows.parquet").is_file():
            raise ShardError(f"{folder.name}: no windows.parquet, so these shards are incomplete")
        _check_schema(folder / "windows.parquet", WINDOW_SCHEMA)
        return cls(folder, files, zone)


@dataclass(frozen=True)
class WindowBatch:
    """Stored windows to be scored: whose they are, and the instant of their first point."""

    batch: Batch
    entity_id_B: tuple[str, ...]
    started_us_B: Tensor


@dataclass(frozen=True)
class _Group:
    """One row group: where it lies, and the number of its first row within the split."""

    path: Path
    number: int
    first_row: int
    num_rows: int


@dataclass(frozen=True)
class _Pool:
    """Flat points of some trips; trip r owns the points offset_R[r] up to offset_R[r + 1]."""

    offset_R: Ints
    row_R: Ints
    instant_us_N: Ints
    lon_deg_N: NDArray[np.float64]
    lat_deg_N: NDArray[np.float64]
    step_NF: NDArray[np.float32]


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


def row_groups(shards: Shards, split: str) -> list[_Group]:
    """The row groups of a split, in the order of its rows."""
    groups: list[_Group] = []
    first_row = 0
    for path in shards.files.get(split, ()):
        with _opened(path) as file:
            for number in range(file.metadata.num_row_groups):
                num_rows = file.metadata.row_group(number).num_rows
                groups.append(_Group(path, number, first_row, num_rows))
                first_row += num_rows
    return groups


def _epoch(
    groups: list[_Group],
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
    groups: list[_Group], seed: int, epoch: int, max_points: int, pool_points: int
) -> Iterator[tuple[_Pool, _Crops]]:
    """Neighbouring row groups of the epoch's order, read together up to `pool_points`."""
    waiting: list[tuple[_Pool, _Crops]] = []
    num_points = 0
    for group in groups:
        pool = _read_group(group)
        key = (seed, epoch, 1, group.first_row)
        waiting.append((pool, random_crops(pool, max_points, _generator(*key))))
        num_points += len(pool.instant_us_N)
        if num_points >= pool_points:
            yield _joined(waiting)
            waiting, num_points = [], 0
    if waiting:
        yield _joined(waiting)


def random_crops(pool: _Pool, max_points: int, generator: np.random.Generator) -> _Crops:
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


def _shuffled(groups: list[_Group], seed: int, epoch: int) -> list[_Group]:
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
    num_context: int,
    pool_points: int = POOL_POINTS,
) -> Iterator[WindowBatch]:
    """The stored windows of a split in the order of window_id: context observed, the rest targets.

    The last batch is kept, however small.
    """
    windows = _window_index(shards, split)
    num_points_B = windows["num_points"].to_numpy().astype(np.int64)
    if len(num_points_B) == 0:
        return
    if not 1 <= num_context < num_points_B.min():
        raise ShardError(f"{split}: {num_context} points of context leave no horizon in a window")
    row_B, groups = _rows_of(shards, split, windows["trip_id"])
    # Whole batches a pool, so that the row groups of one are read once.
    num_pooled = batch_size * max(1, pool_points // int(num_points_B.max()) // batch_size)
    for first in range(0, len(row_B), num_pooled):
        part = windows.slice(first, num_pooled)
        pool, crops = _stored_crops(groups, part, row_B[first : first + num_pooled])
        for place in range(0, len(part), batch_size):
            chosen = np.arange(place, min(place + batch_size, len(part)))
            batch = _for_evaluation(_gather(pool, crops.take(chosen), shards.zone), num_context)
            entity_id_B = tuple(part["entity_id"].slice(place, batch_size).to_pylist())
            started_us_B = torch.from_numpy(pool.instant_us_N[crops.first_Q[chosen]])
            yield WindowBatch(batch, entity_id_B, started_us_B)


def _window_index(shards: Shards, split: str) -> pa.Table:
    path = shards.folder / "windows.parquet"
    try:
        table = pq.read_table(
            path, filters=[("split", "=", split)], page_checksum_verification=True
        )
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path.name}: {error}") from error
    return table.combine_chunks().sort_by("window_id")


def _rows_of(shards: Shards, split: str, trip_id_B: pa.ChunkedArray) -> tuple[Ints, list[_Group]]:
    """The row of each window's trip within the split."""
    groups = row_groups(shards, split)
    columns = [_read(group, ["trip_id"])["trip_id"] for group in groups]
    known = pa.chunked_array(columns, type=pa.string())
    row_B = pc.index_in(trip_id_B, value_set=known)
    if row_B.null_count:
        raise ShardError(f"{split}: {row_B.null_count} windows point at trips that no shard holds")
    return row_B.to_numpy().astype(np.int64), groups


def _stored_crops(groups: list[_Group], windows: pa.Table, row_B: Ints) -> tuple[_Pool, _Crops]:
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
        pool = _read_group(group)
        trip = row_B[inside] - group.first_row
        first, end = pool.offset_R[trip] + start_B[inside], pool.offset_R[trip + 1]
        if (start_B[inside] < 0).any() or (first + num_points_B[inside] > end).any():
            raise ShardError(f"{group.path.name}: a window reaches over its trip's end")
        point = _spread(first, num_points_B[inside])
        parts.append(_cut(pool, point, num_points_B[inside]))
        place_B[inside] = base + np.cumsum(num_points_B[inside]) - num_points_B[inside]
        base += len(point)
    window_id_B = windows["window_id"].to_numpy().astype(np.int64)
    return _concatenated(parts), _Crops(place_B, num_points_B, window_id_B)


def _for_evaluation(batch: Batch, num_context: int) -> Batch:
    is_context_T = torch.arange(batch.is_pad_BT.shape[1]) < num_context
    return replace(
        batch,
        is_observed_BT=~batch.is_pad_BT & is_context_T,
        is_target_BT=~batch.is_pad_BT & ~is_context_T,
    )


# Arrays -----------------------------------------------------------------------------------------


def _gather(pool: _Pool, crops: _Crops, zone: str) -> Batch:
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


def _joined(parts: list[tuple[_Pool, _Crops]]) -> tuple[_Pool, _Crops]:
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
    return _concatenated([pool for pool, _ in parts]), crops


def _concatenated(pools: list[_Pool]) -> _Pool:
    if len(pools) == 1:
        return pools[0]
    num_points_R = np.concatenate([np.diff(pool.offset_R) for pool in pools])
    return _Pool(
        np.concatenate([[0], np.cumsum(num_points_R)]),
        np.concatenate([pool.row_R for pool in pools]),
        np.concatenate([pool.instant_us_N for pool in pools]),
        np.concatenate([pool.lon_deg_N for pool in pools]),
        np.concatenate([pool.lat_deg_N for pool in pools]),
        np.concatenate([pool.step_NF for pool in pools]),
    )


def _cut(pool: _Pool, point: Ints, num_points: Ints) -> _Pool:
    return _Pool(
        np.concatenate([[0], np.cumsum(num_points)]),
        np.zeros(len(num_points), np.int64),
        pool.instant_us_N[point],
        pool.lon_deg_N[point],
        pool.lat_deg_N[point],
        pool.step_NF[point],
    )


def _spread(first: Ints, num_points: Ints) -> Ints:
    """first, first + 1, ... for each stretch, one after the other."""
    ends = np.cumsum(num_points)
    return np.arange(ends[-1]) + np.repeat(first - (ends - num_points), num_points)


# Files ------------------------------------------------------------------------------------------


def _read_group(group: _Group) -> _Pool:
    """The points of one row group, in flat arrays that share no Python objects."""
    table = _read(group, [name for name in TRIP_SCHEMA if name != "trip_id"])
    lists = {name: table[name] for name in (*POINT_COLUMNS, *STEP_COLUMNS)}
    offset_R = lists["t_s"].offsets.to_numpy().astype(np.int64)
    if any(not np.array_equal(column.offsets, offset_R) for column in lists.values()):
        raise ShardError(f"{_place(group)}: lists of unequal length")
    flat = {name: column.values.to_numpy() for name, column in lists.items()}
    if any(not np.isfinite(values).all() for values in flat.values()):
        raise ShardError(f"{_place(group)}: a number that is not finite")
    started_us_R = table["started_at"].cast(pa.int64()).to_numpy()
    moved_us_N = np.rint(flat["t_s"] * 1e6).astype(np.int64)
    return _Pool(
        offset_R=offset_R,
        row_R=group.first_row + np.arange(len(started_us_R)),
        instant_us_N=np.repeat(started_us_R, np.diff(offset_R)) + moved_us_N,
        lon_deg_N=flat["lon_deg"],
        lat_deg_N=flat["lat_deg"],
        step_NF=np.stack([flat[name] for name in STEP_COLUMNS], axis=-1),
    )


def _read(group: _Group, columns: list[str]) -> dict[str, pa.Array]:
    """Columns of one row group, checksums verified, without nulls."""
    try:
        with _opened(group.path) as file:
            table = file.read_row_group(group.number, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{_place(group)}: {error}") from error
    arrays = {name: table[name].combine_chunks() for name in columns}
    for name, array in arrays.items():
        if array.null_count or (pa.types.is_list(array.type) and array.values.null_count):
            raise ShardError(f"{_place(group)}: nulls in {name}")
    return arrays


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path.name}: {error}") from error


def _check_schema(path: Path, expected: dict[str, pa.DataType]) -> None:
    with _opened(path) as file:
        schema = file.schema_arrow
    for name, kind in expected.items():
        place = schema.get_field_index(name)
        if place < 0 or not _same_type(schema.field(place).type, kind):
            found = "missing" if place < 0 else schema.field(place).type
            raise ShardError(f"{path.name}: column {name} is {found}, expected {kind}")


def _same_type(found: pa.DataType, expected: pa.DataType) -> bool:
    # Writers differ in the name of a list's element and in the name of UTC.
    if pa.types.is_list(found) and pa.types.is_list(expected):
        return found.value_type == expected.value_type
    if pa.types.is_timestamp(found) and pa.types.is_timestamp(expected):
        return found.unit == expected.unit and found.tz is not None
    return found == expected


def _place(group: _Group) -> str:
    return f"{group.path.name}, row group {group.number}"
