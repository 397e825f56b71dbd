"""Shards: what they hold, and their row groups as flat arrays, with every page checked.

Shapes: B windows, N points and R trips of a row group.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from ..earth.arrays import Floats, Ints
from ..earth.calendar_tables import clock_of
from ..interface.batch import Batch
from ..interface.kinds import kind_number
from .collate import BatchBuilder, Draft, Fed, FlatColumns, PointColumns, copy_finite

Flat = TypeVar("Flat", bound=FlatColumns)

POINT_COLUMNS = ("t_s", "lon_deg", "lat_deg")
STEP_COLUMNS = ("step_east_m", "step_north_m", "step_s")
TRIP_SCHEMA = {
    "trip_id": pa.string(),
    "entity_id": pa.string(),
    "started_at": pa.timestamp("us", tz="UTC"),
    **dict.fromkeys(POINT_COLUMNS, pa.list_(pa.float64())),
    **dict.fromkeys(STEP_COLUMNS, pa.list_(pa.float32())),
}
WINDOW_SCHEMA = {
    "window_id": pa.int64(),
    **dict.fromkeys(("task", "trip_id", "entity_id", "split", "mask"), pa.string()),
    **dict.fromkeys(("start", "num_points", "num_context", "num_history"), pa.int32()),
    "is_observed": pa.list_(pa.bool_()),
    **dict.fromkeys(("interval_s", "speed_mps", "turn_rad"), pa.float64()),
    **dict.fromkeys(("has_stop", "is_at_rest", "is_seen"), pa.bool_()),
}
# The velocity over ground that the source reported, NaN where none; no such lists where it never
# does.
MOTION_COLUMNS = ("reported_east_mps", "reported_north_mps")
MOTION_SCHEMA = dict.fromkeys(MOTION_COLUMNS, pa.list_(pa.float32()))
# What a reader of windows needs; the rest tells them apart.
INDEX_COLUMNS = (
    *("window_id", "entity_id", "start"),
    *("num_points", "num_context", "mask", "is_observed"),
)


class ShardError(ValueError):
    """A shard folder is incomplete, damaged, or not what the reader was promised."""


@dataclass(frozen=True)
class ShardFolder(ABC, Generic[Fed]):
    """A folder of shards: the files of each split, the window index, the clocks' zone.

    A kind of shards says what its rows are (the schemas, and the column that names a row), how a
    row group is read, and what batch is made of it. All else is the same for every kind: which
    crops are read when, by which rank, and how a reader goes on.
    """

    folder: Path
    files: dict[str, tuple[Path, ...]]
    zone: str

    row_schema: ClassVar[dict[str, pa.DataType]]
    window_schema: ClassVar[dict[str, pa.DataType]]
    row_name: ClassVar[str]

    @classmethod
    def open(cls, folder: Path, zone: str = "UTC") -> Self:
        """Find the files of a folder and check that each has the promised columns."""
        return cls(folder, cls.files_of(folder), zone)

    @classmethod
    def files_of(cls, folder: Path) -> dict[str, tuple[Path, ...]]:
        """The files of each split, which hold the promised columns, as the window index does."""
        files: dict[str, tuple[Path, ...]] = {}
        for path in sorted(folder.glob("*-[0-9][0-9][0-9].parquet")):
            _check_schema(path, cls.row_schema)
            split = path.stem.rsplit("-", 1)[0]
            files[split] = (*files.get(split, ()), path)
        if not (folder / "windows.parquet").is_file():
            raise ShardError(f"{folder.name}: no windows.parquet, so these shards are incomplete")
        _check_schema(folder / "windows.parquet", cls.window_schema)
        return files

    @property
    def list_columns(self) -> tuple[str, ...]:
        """The lists of a row that are read: one element of each for a point, or for a visit."""
        return tuple(name for name, kind in self.row_schema.items() if pa.types.is_list(kind))

    @abstractmethod
    def room(self, offset_R: Ints) -> FlatColumns:
        """Memory for rows of these lengths."""

    @abstractmethod
    def read(self, group: Group, room: Any = None) -> FlatColumns:
        """One row group, written to `room` if there is one for just these rows."""

    @abstractmethod
    def tracked(self, group: Group) -> tuple[Ints, Floats, Floats]:
        """When (microseconds since 1970 UTC) and where each element of a row group was."""

    @abstractmethod
    def draft(self, num_rows: int, num_points: int, num_sequences: int) -> Draft[Fed]:
        """An empty batch, to be filled with crops of row groups."""

    @abstractmethod
    def asked(self, batch: Fed, is_observed_BT: np.ndarray) -> Fed:
        """Stored windows, observed as their masks say: all that they hide is a target."""


@dataclass(frozen=True)
class Shards(ShardFolder[Batch]):
    """Shards of trips, whose elements are points; `kind` is what moves there, such as ship."""

    row_schema = TRIP_SCHEMA
    window_schema = WINDOW_SCHEMA
    row_name = "trip_id"

    kind: str = ""

    @classmethod
    def open(cls, folder: Path, zone: str = "UTC", kind: str = "") -> Self:
        """Find the files of a folder, as that of any shards, and say what moves in them."""
        return cls(folder, cls.files_of(folder), zone, kind)

    @cached_property
    def reports_motion(self) -> bool:
        """Whether the source reports its velocity, of some points at least."""
        files = [path for paths in self.files.values() for path in paths]
        have = {_has_columns(path, MOTION_SCHEMA) for path in files}
        if len(have) > 1:
            raise ShardError(f"{self.folder.name}: some of its files tell a reported motion")
        return have == {True}

    def room(self, offset_R: Ints) -> PointColumns:
        return PointColumns.empty(offset_R, self.reports_motion)

    def read(self, group: Group, room: PointColumns | None = None) -> PointColumns:
        return read_group(group, room, self.reports_motion)

    def tracked(self, group: Group) -> tuple[Ints, Floats, Floats]:
        points = read_group(group)
        started_us_N = np.repeat(points.started_us_R, np.diff(points.offset_R))
        instant_us_N = started_us_N + np.rint(points.t_s_N * 1e6).astype(np.int64)
        return instant_us_N, points.lon_deg_N, points.lat_deg_N

    def draft(self, num_rows: int, num_points: int, num_sequences: int) -> BatchBuilder:
        told = clock_of(self.zone), self.reports_motion, kind_number(self.kind)
        return BatchBuilder(num_rows, num_points, num_sequences, *told)

    def asked(self, batch: Batch, is_observed_BT: np.ndarray) -> Batch:
        is_observed = torch.from_numpy(is_observed_BT)
        is_target_BT = ~batch.is_pad_BT & ~is_observed
        return replace(batch, is_observed_BT=is_observed, is_target_BT=is_target_BT)


@dataclass(frozen=True)
class Group:
    """One row group: where it lies, and the number of its first row within the split.

    `length_column` is its smallest column of lists: what tells the points of each trip soonest.
    `footer` is that of its file, which tells of all row groups: read once, not with each of them.
    """

    path: Path
    number: int
    first_row: int
    num_rows: int
    num_points: int
    length_column: str
    footer: pq.FileMetaData = field(repr=False, compare=False)


def row_groups(shards: ShardFolder[Any], split: str) -> list[Group]:
    """The row groups of a split that hold any rows, in the order of these."""
    groups: list[Group] = []
    first_row = 0
    for path in shards.files.get(split, ()):
        with _opened(path) as file:
            for number in range(file.metadata.num_row_groups):
                part = file.metadata.row_group(number)
                if not part.num_rows:
                    continue
                columns = [part.column(place) for place in range(part.num_columns)]
                lists = {column.path_in_schema.split(".")[0]: column for column in columns}
                name = min(shards.list_columns, key=lambda n: lists[n].total_compressed_size)
                sizes = (part.num_rows, lists[name].num_values)
                groups.append(Group(path, number, first_row, *sizes, name, file.metadata))
                first_row += part.num_rows
    return groups


def read_lengths(group: Group) -> Ints:
    """The number of points of each trip of a row group."""
    lists = read_columns(group, [group.length_column])[group.length_column]
    return np.diff(lists.offsets.to_numpy()).astype(np.int64)


def read_entity_ids(group: Group) -> pa.Array:
    """Whose each trip of a row group is."""
    return read_columns(group, ["entity_id"])["entity_id"]


def window_index(shards: ShardFolder[Any], split: str, task: str = "forecast") -> pa.Table:
    """The stored windows of a task in a split, in the order of their ids."""
    asked = [("split", "=", split), ("task", "=", task)]
    columns = dict.fromkeys((shards.row_name, *INDEX_COLUMNS))
    table = _read_table(shards.folder / "windows.parquet", [*columns], asked)
    return table.combine_chunks().sort_by("window_id")


def window_rows(
    shards: ShardFolder[Any], split: str, windows: pa.Table
) -> tuple[Ints, list[Group]]:
    """The row that each window lies in, by its number within the split."""
    groups, name = row_groups(shards, split), shards.row_name
    columns = [read_columns(group, [name])[name] for group in groups]
    known = pa.chunked_array(columns, type=pa.string())
    row_B = pc.index_in(windows[name], value_set=known)
    if row_B.null_count:
        raise ShardError(f"{split}: {row_B.null_count} windows point at rows that no shard holds")
    return ints(row_B), groups


def ints(column: pa.Array | pa.ChunkedArray) -> Ints:
    """The whole numbers of a column."""
    return column.to_numpy().astype(np.int64)


def read_group(
    group: Group, room: PointColumns | None = None, reports_motion: bool = False
) -> PointColumns:
    """The points of one row group, copied to `room` if there is one for just these trips.

    Then Arrow's memory is free for the next row group, which costs less than new memory.
    """
    motion = MOTION_COLUMNS if reports_motion else ()
    table = read_columns(group, ["started_at", *POINT_COLUMNS, *STEP_COLUMNS, *motion])
    started_at = table.pop("started_at")
    offset_R = offsets(group, table, room)
    points = room or PointColumns.empty(offset_R, reports_motion)
    points.started_us_R[:] = started_at.cast(pa.int64()).to_numpy()
    for name, column_N in zip(motion, points.reported_mps_NC.T, strict=False):
        column_N[:] = table.pop(name).values.to_numpy()
        if np.isinf(column_N).any():
            raise ShardError(f"{_place(group)}: an infinite number in {name}")
    columns = (points.t_s_N, points.lon_deg_N, points.lat_deg_N, *points.step_NF.T)
    copy_lists(group, table, columns)
    return points


def offsets(group: Group, lists: dict[str, pa.Array], room: FlatColumns | None) -> Ints:
    """Where the rows of a group begin and end, which must be where there is room for them."""
    offset_R, *others = (column.offsets.to_numpy() for column in lists.values())
    if any(not np.array_equal(other, offset_R) for other in others):
        raise ShardError(f"{_place(group)}: lists of unequal length")
    if room is not None and not np.array_equal(room.offset_R, offset_R):
        raise ShardError(f"{_place(group)}: other trips than when its lengths were read")
    return offset_R.astype(np.int64)


def copy_lists(group: Group, lists: dict[str, pa.Array], columns: Sequence[np.ndarray]) -> None:
    """Copy the numbers of lists to columns; each must be finite."""
    values = (column.values.to_numpy() for column in lists.values())
    if not all(copy_finite(*pair) for pair in zip(values, columns, strict=True)):
        raise ShardError(f"{_place(group)}: a number that is not finite")


def stretches(
    read: Callable[[Group], Flat],
    groups: list[Group],
    row_B: Ints,
    start_B: Ints,
    num_points_B: Ints,
) -> Iterator[tuple[Ints, Flat, Ints, Ints]]:
    """(windows, points, trip, first point) for each row group that holds windows, read once.

    Windows are told by their place in B; trips and points are those of the row group.
    """
    for group in groups:
        is_inside_B = (row_B >= group.first_row) & (row_B < group.first_row + group.num_rows)
        (inside,) = np.nonzero(is_inside_B)
        if len(inside) == 0:
            continue
        points = read(group)
        trip = row_B[inside] - group.first_row
        first, end = points.offset_R[trip] + start_B[inside], points.offset_R[trip + 1]
        if (start_B[inside] < 0).any() or (first + num_points_B[inside] > end).any():
            raise ShardError(f"{group.path.name}: a window reaches over its trip's end")
        yield inside, points, trip, first


def read_columns(group: Group, columns: Sequence[str]) -> dict[str, pa.Array]:
    """Columns of one row group, checksums verified, without nulls."""
    try:
        with _opened(group.path, group.footer) as file:
            table = file.read_row_group(group.number, columns=[*columns], use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{_place(group)}: {error}") from error
    arrays = {name: _one_chunk(table[name]) for name in columns}
    for name, array in arrays.items():
        if array.null_count or (pa.types.is_list(array.type) and array.values.null_count):
            raise ShardError(f"{_place(group)}: nulls in {name}")
    return arrays


def _read_table(path: Path, columns: Sequence[str], filters: Any = None) -> pa.Table:
    """Columns of a file, checksums verified."""
    try:
        return pq.read_table(
            path,
            columns=list(columns),
            filters=filters,
            page_checksum_verification=True,
            partitioning=None,
        )
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path.name}: {error}") from error


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _opened(path: Path, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, metadata=footer, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path.name}: {error}") from error


def _has_columns(path: Path, names: Iterable[str]) -> bool:
    with _opened(path) as file:
        return {*names} <= {*file.schema_arrow.names}


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


def _place(group: Group) -> str:
    return f"{group.path.name}, row group {group.number}"
