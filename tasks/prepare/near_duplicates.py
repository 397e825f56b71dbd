"""Near duplicates: windows that are judged, but of which train holds a run of points too.

A run is ten points on end with at least four moves from cell to cell. Two runs are alike that have
the same first cell, the same ten cells and the same seconds in all, wherever they lie in their
trips and whenever they were recorded; there are `CELLS_A_DEGREE` cells to a degree. A window is
asked by its first run and by each tenth one after it. Train is read one row group at a time.

Shapes: N points, R trips, A runs that are asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.earth.arrays import Bits, Ints, mixed, places_within

RUN_POINTS, MIN_MOVES = 10, 4
CELLS_A_DEGREE = 10_000
FILTER_BITS = 24
NO_RUN = np.uint64(0)

Number = TypeVar("Number", np.int64, np.uint64)


def near_duplicates(windows: pa.Table, judged: Iterable[Path], train: Iterable[Path]) -> pa.Table:
    """The windows that repeat a run of `train`; those that are asked lie in the files `judged`.

    `windows` has the columns `trip_id`, `start` and `num_points`; rows are returned as they are.
    """
    asked = [asked_runs(trips, windows) for trips in groups_of_trips(judged)]
    row_A = np.concatenate([row_A for row_A, _key_A in asked] or [np.zeros(0, np.int64)])
    key_A = np.concatenate([key_A for _row_A, key_A in asked] or [np.zeros(0, np.uint64)])
    is_repeated_A = np.isin(key_A, held_by(train, np.unique(key_A[key_A != NO_RUN])))
    return windows.take(pa.array(np.unique(row_A[is_repeated_A])))


def groups_of_trips(paths: Iterable[Path]) -> Iterator[pa.Table]:
    columns = ["trip_id", "t_s", "lon_deg", "lat_deg"]
    for path in paths:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, columns=columns)


def asked_runs(trips: pa.Table, windows: pa.Table) -> tuple[Ints, Bits]:
    """The row of the window, and the key, of each run of these trips that is asked."""
    trip = pc.index_in(windows["trip_id"], value_set=trips["trip_id"]).combine_chunks()
    row_W = np.flatnonzero(trip.is_valid().to_numpy(zero_copy_only=False))
    first_R = offsets_of(trips)[:-1]
    start_W = windows["start"].to_numpy()[row_W] + first_R[trip.drop_null().to_numpy()]
    num_W = windows["num_points"].to_numpy()[row_W] // RUN_POINTS
    point_A = np.repeat(start_W, num_W) + places_within(num_W) * RUN_POINTS
    return np.repeat(row_W, num_W), keys_of(trips)[point_A]


def held_by(train: Iterable[Path], key_A: Bits) -> Bits:
    """Those of the keys, which ascend, that a run of train has."""
    is_likely = np.zeros(1 << FILTER_BITS, np.bool_)
    is_likely[key_A >> np.uint64(64 - FILTER_BITS)] = True
    held: list[Bits] = [np.zeros(0, np.uint64)]
    for trips in groups_of_trips(train):
        key_N = keys_of(trips)
        key_N = key_N[is_likely[key_N >> np.uint64(64 - FILTER_BITS)]]
        held.append(np.intersect1d(key_N, key_A))
    return np.unique(np.concatenate(held))


def keys_of(trips: pa.Table) -> Bits:
    """What the run that begins at each point of some trips is told apart by: 64 well mixed bits.

    `NO_RUN` where the trip ends too early or moves too little.
    """
    offset_R = offsets_of(trips)
    lon_deg_N, lat_deg_N, t_s_N = (
        pc.list_flatten(trips[name]).to_numpy() for name in ("lon_deg", "lat_deg", "t_s")
    )
    east_N = np.rint((lon_deg_N + 360) * CELLS_A_DEGREE).astype(np.int64) % (360 * CELLS_A_DEGREE)
    north_N = np.rint((lat_deg_N + 90) * CELLS_A_DEGREE).astype(np.int64)
    cell_N = mixed((east_N << 32 | north_N).astype(np.uint64))
    num_starts = max(len(cell_N) - RUN_POINTS + 1, 0)
    cells_S = windowed_sum(cell_N)
    has_moved_N = np.diff(cell_N, prepend=cell_N[:1]) != 0
    num_moves_S = windowed_sum(has_moved_N.astype(np.int64)) - has_moved_N[:num_starts]
    at_s_N = np.rint(t_s_N).astype(np.int64)
    run_s_S = (at_s_N[RUN_POINTS - 1 :] - at_s_N[:num_starts]).astype(np.uint64)
    end_N = np.repeat(offset_R[1:], np.diff(offset_R))
    is_run_S = np.arange(num_starts) + RUN_POINTS <= end_N[:num_starts]
    is_run_S &= num_moves_S >= MIN_MOVES
    key_N = np.full(len(cell_N), NO_RUN)
    key_S = mixed(mixed(cell_N[:num_starts] ^ mixed(cells_S)) ^ mixed(run_s_S))
    key_N[:num_starts] = np.where(is_run_S, np.maximum(key_S, np.uint64(1)), NO_RUN)
    return key_N


def offsets_of(trips: pa.Table) -> Ints:
    """Where each trip begins among all points, and where the last one ends."""
    num_points_R = pc.list_value_length(trips["t_s"]).to_numpy()
    return np.concatenate([[0], np.cumsum(num_points_R)]).astype(np.int64)


def windowed_sum(value_N: NDArray[Number]) -> NDArray[Number]:
    """The sum over each run of points; unsigned sums wrap around."""
    total = np.concatenate([np.zeros(1, value_N.dtype), np.cumsum(value_N, dtype=value_N.dtype)])
    return total[RUN_POINTS:] - total[:-RUN_POINTS]
