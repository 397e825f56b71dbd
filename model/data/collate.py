"""Collate: crops of flat points side by side in one batch, by compiled code, nothing per row.

Shapes: B rows, T points of a row, Q crops, R trips and N points of a row group, F step features,
C components of a reported velocity (east, north), K calendar features; Z, W and S as in
`calendar_tables`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..earth.arrays import Floats, Ints
from ..earth.calendar import NUM_CALENDAR
from ..earth.calendar_tables import Clock
from ..earth.compiled import compiled
from ..interface.batch import Batch, Windows
from ..interface.kinds import NOT_TOLD

Fed = TypeVar("Fed", bound=Windows)
Fed_co = TypeVar("Fed_co", bound=Windows, covariant=True)
NUM_STEP, NUM_MOTION = 3, 2
DAY_US, THURSDAY = 86_400_000_000, 3  # 1970 began on a Thursday


class FlatColumns(Protocol):
    """What the rows of a group hold, flat; row r owns offset_R[r] up to offset_R[r + 1]."""

    @property
    def offset_R(self) -> Ints: ...

    def of(self, offset_R: Ints) -> FlatColumns:
        """Room for other rows, with no more elements, in the same memory."""

    def part(self, first_row: int, end_row: int) -> FlatColumns:
        """Some of the rows, in the same memory."""

    def instant_us(self, row_Q: Ints, place_Q: Ints) -> Ints:
        """Microseconds since 1970 UTC of some elements, given their rows."""


class PointColumns(NamedTuple):
    """Flat points of the trips of a row group; trip r owns offset_R[r] up to offset_R[r + 1].

    `reported_mps_NC` has no rows where the source reports no motion.
    """

    offset_R: Ints
    started_us_R: Ints
    t_s_N: Floats
    lon_deg_N: Floats
    lat_deg_N: Floats
    step_NF: NDArray[np.float32]
    reported_mps_NC: NDArray[np.float32]

    @classmethod
    def empty(cls, offset_R: Ints, reports_motion: bool = False) -> PointColumns:
        """Memory for the points of trips."""
        num_points, started_us_R = int(offset_R[-1]), np.empty(len(offset_R) - 1, np.int64)
        t_s_N, lon_deg_N, lat_deg_N = (np.empty(num_points) for _ in range(3))
        step_NF = np.empty((num_points, NUM_STEP), np.float32)
        reported_mps_NC = np.empty((num_points * reports_motion, NUM_MOTION), np.float32)
        return cls(offset_R, started_us_R, t_s_N, lon_deg_N, lat_deg_N, step_NF, reported_mps_NC)

    def of(self, offset_R: Ints) -> PointColumns:
        """Room for other trips, with no more points, in the same memory."""
        points: Any = (column[: offset_R[-1]] for column in self[2:])
        return PointColumns(offset_R, np.empty(len(offset_R) - 1, np.int64), *points)

    def part(self, first_row: int, end_row: int) -> PointColumns:
        """Some of the trips, in the same memory."""
        first, end = self.offset_R[first_row], self.offset_R[end_row]
        offset_R = self.offset_R[first_row : end_row + 1] - first
        points: Any = (column[first:end] for column in self[2:])
        return PointColumns(offset_R, self.started_us_R[first_row:end_row], *points)

    def instant_us(self, row_Q: Ints, place_Q: Ints) -> Ints:
        """Microseconds since 1970 UTC of some points, given their trips."""
        return self.started_us_R[row_Q] + np.rint(self.t_s_N[place_Q] * 1e6).astype(np.int64)


class CropPlacement(NamedTuple):
    """Crops of a row group, and where in a batch each of them goes."""

    trip_Q: Ints
    first_Q: Ints
    num_points_Q: Ints
    row_Q: Ints
    column_Q: Ints
    sequence_Q: Ints


class BatchColumns(NamedTuple):
    """The columns of a batch that kernels write, and the end of what each row holds so far."""

    lon_deg_BT: NDArray[np.float64]
    lat_deg_BT: NDArray[np.float64]
    time_s_BT: NDArray[np.float64]
    step_BTF: NDArray[np.float32]
    calendar_BTK: NDArray[np.float32]
    is_pad_BT: NDArray[np.bool_]
    is_target_BT: NDArray[np.bool_]
    sequence_BT: Ints
    reported_mps_BTC: NDArray[np.float32]
    end_B: Ints


class Draft(Protocol[Fed_co]):
    """A batch that is being filled: first crops, group by group, then pads behind them."""

    window_id_BS: Ints

    def fill(self, flat: Any, place: CropPlacement) -> None:
        """Write crops of a row group, each at its row and column."""

    def batch(self) -> Fed_co:
        """The batch for training: what has a past is a target."""


class BatchBuilder:
    """A batch of points that is being filled, with the calendar of a clock and what moves."""

    def __init__(
        self,
        num_rows: int,
        num_points: int,
        num_sequences: int,
        clock: Clock,
        reports_motion: bool = False,
        kind: int = NOT_TOLD,
    ) -> None:
        shape = (num_rows, num_points)
        self.clock, self.kind = clock, kind
        self.columns = BatchColumns(
            lon_deg_BT=np.empty(shape),
            lat_deg_BT=np.empty(shape),
            time_s_BT=np.empty(shape),
            step_BTF=np.empty((*shape, NUM_STEP), np.float32),
            calendar_BTK=np.empty((*shape, NUM_CALENDAR), np.float32),
            is_pad_BT=np.empty(shape, bool),
            is_target_BT=np.empty(shape, bool),
            # Numbers of sequences take memory only where a row can hold more than one.
            sequence_BT=np.empty(shape if num_sequences > 1 else (0, 0), np.int64),
            # Pads report nothing.
            reported_mps_BTC=np.full(
                (*(shape if reports_motion else (0, 0)), NUM_MOTION), np.nan, np.float32
            ),
            end_B=np.zeros(num_rows, np.int64),
        )
        self.window_id_BS = np.full((num_rows, num_sequences), -1)

    def fill(self, points: PointColumns, place: CropPlacement) -> None:
        """Write crops of a row group, each at its row and column."""
        _fill(
            place,
            points,
            points.step_NF.reshape(-1),
            self.clock,
            self.columns,
            self.columns.step_BTF.reshape(len(self.window_id_BS), -1),
            self.columns.calendar_BTK.view(np.uint64),
        )

    def batch(self) -> Batch:
        """The batch for training: everything is observed, what has a past is a target."""
        _fill_pads(self.columns)
        columns: dict[str, Any] = {
            name: torch.from_numpy(column)
            for name, column in self.columns._asdict().items()
            if name not in ("sequence_BT", "reported_mps_BTC", "end_B")
        }
        is_pad_BT = columns["is_pad_BT"]
        window_id_BS = torch.from_numpy(self.window_id_BS)
        is_packed = self.columns.sequence_BT.size > 0
        if is_packed:
            sequence_BT = torch.from_numpy(self.columns.sequence_BT)
        else:
            sequence_BT = torch.zeros((), dtype=torch.int64).expand(*is_pad_BT.shape)
        reported_mps_BTC = self.columns.reported_mps_BTC
        return Batch(
            **columns,
            reported_mps_BTC=torch.from_numpy(reported_mps_BTC) if reported_mps_BTC.size else None,
            is_observed_BT=~is_pad_BT,
            sequence_BT=sequence_BT,
            window_id_B=window_id_BS[:, 0],
            window_id_BS=window_id_BS if is_packed else None,
            kind_B=torch.full_like(window_id_BS[:, 0], self.kind) if self.kind else None,
        )


@compiled
def _fill(
    place: CropPlacement,
    points: PointColumns,
    step_N: NDArray[np.float32],
    clock: Clock,
    columns: BatchColumns,
    step_BT: NDArray[np.float32],
    calendar_BTC: NDArray[np.uint64],
) -> None:
    """Short loops over views, one a kind of column.

    All in one loop are four times slower, and indices of two axes nearly twice: so the F numbers of
    a step lie flat.
    """
    for q in range(place.first_Q.size):
        row, column, num_points = place.row_Q[q], place.column_Q[q], place.num_points_Q[q]
        first, end = place.first_Q[q], column + num_points
        last = first + num_points
        _copy(points.lon_deg_N[first:last], columns.lon_deg_BT[row, column:end])
        _copy(points.lat_deg_N[first:last], columns.lat_deg_BT[row, column:end])
        step_T = step_BT[row, column * NUM_STEP : end * NUM_STEP]
        _copy(step_N[first * NUM_STEP : last * NUM_STEP], step_T)
        step_T[:NUM_STEP] = 0.0  # the step that arrives at a crop's first point starts outside
        t_s_T = points.t_s_N[first:last]
        _fill_times(t_s_T, columns.time_s_BT[row, column:end])
        started_us = points.started_us_R[place.trip_Q[q]]
        _fill_calendar(t_s_T, started_us, clock, calendar_BTC[row, column:end])
        columns.is_pad_BT[row, column:end] = False
        columns.is_target_BT[row, column:end] = True
        columns.is_target_BT[row, column] = False
        if columns.sequence_BT.size > 0:
            columns.sequence_BT[row, column:end] = place.sequence_Q[q]
        if columns.reported_mps_BTC.size > 0:
            for c in range(NUM_MOTION):
                reported_mps_T = points.reported_mps_NC[first:last, c]
                _copy(reported_mps_T, columns.reported_mps_BTC[row, column:end, c])
        columns.end_B[row] = max(columns.end_B[row], end)


@compiled
def _copy(from_T: NDArray[np.floating], to_T: NDArray[np.floating]) -> None:
    for t in range(to_T.size):
        to_T[t] = from_T[t]


@compiled
def _fill_times(t_s_T: Floats, time_s_T: Floats) -> None:
    """Subtracted in whole microseconds, so that seconds are exact wherever the crop lies."""
    start_us = np.rint(t_s_T[0] * 1e6)
    for t in range(t_s_T.size):
        time_s_T[t] = (np.rint(t_s_T[t] * 1e6) - start_us) / 1e6


@compiled
def _fill_calendar(
    t_s_T: Floats, started_us: np.int64, clock: Clock, calendar_TC: NDArray[np.uint64]
) -> None:
    # Midnight, and the end of what it counts for: the day, or less where the offset changes.
    midnight_us, until_us, day_wave = np.int64(0), np.int64(0), np.uint64(0)
    for t in range(t_s_T.size):
        instant_us = started_us + np.int64(np.rint(t_s_T[t] * 1e6))
        if t == 0 or instant_us >= until_us or instant_us < midnight_us:
            z = np.searchsorted(clock.end_us_Z, instant_us, side="right")
            day = (instant_us + clock.offset_us_Z[z]) // DAY_US
            midnight_us = day * DAY_US - clock.offset_us_Z[z]
            until_us = min(midnight_us + DAY_US, clock.end_us_Z[z])
            day_wave = clock.day_wave_WC[(day + THURSDAY) % 7, 0]
        second = np.uint64(instant_us - midnight_us) // np.uint64(1_000_000)
        calendar_TC[t, 0] = day_wave
        calendar_TC[t, 1] = clock.second_wave_SC[second, 0]
        calendar_TC[t, 2] = clock.second_wave_SC[second, 1]
        calendar_TC[t, 3] = clock.second_wave_SC[second, 2]


@compiled
def _fill_pads(columns: BatchColumns) -> None:
    """Pads repeat the last point of their row and take no step; a row of pads alone is zero."""
    lon_deg_BT, lat_deg_BT, time_s_BT = columns.lon_deg_BT, columns.lat_deg_BT, columns.time_s_BT
    calendar_BTK, sequence_BT = columns.calendar_BTK, columns.sequence_BT
    for row in range(columns.end_B.size):
        end = columns.end_B[row]
        if end == 0:
            lon_deg_BT[row, 0], lat_deg_BT[row, 0], time_s_BT[row, 0] = 0.0, 0.0, 0.0
            calendar_BTK[row, 0] = 0.0
            if sequence_BT.size > 0:
                sequence_BT[row, 0] = 0
        last = max(end - 1, 0)
        lon_deg_BT[row, end:] = lon_deg_BT[row, last]
        lat_deg_BT[row, end:] = lat_deg_BT[row, last]
        time_s_BT[row, end:] = time_s_BT[row, last]
        columns.step_BTF[row, end:] = 0.0
        for t in range(end, lon_deg_BT.shape[1]):
            calendar_BTK[row, t] = calendar_BTK[row, last]
        columns.is_pad_BT[row, end:] = True
        columns.is_target_BT[row, end:] = False
        if sequence_BT.size > 0:
            sequence_BT[row, end:] = sequence_BT[row, last]


@compiled
def copy_finite(from_N: NDArray[np.floating], to_N: NDArray[np.floating]) -> bool:
    """Copy values, and tell whether all of them are finite."""
    is_finite = True
    for n in range(from_N.size):
        to_N[n] = from_N[n]
        is_finite &= np.isfinite(from_N[n])
    return is_finite


@compiled
def first_fit(num_points_Q: Ints, max_points: int) -> Ints:
    """The row of each crop, in order: the first one that has room for it, else a new one.

    Rows only fill up, so what had no room for a size never has again: one pointer a size suffices.
    """
    room_B = np.empty(num_points_Q.size, np.int64)
    row_Q = np.empty(num_points_Q.size, np.int64)
    first_of_size = np.zeros(max_points + 1, np.int64)
    num_rows = 0
    for q in range(num_points_Q.size):
        size = num_points_Q[q]
        row = first_of_size[size]
        while row < num_rows and room_B[row] < size:
            row += 1
        first_of_size[size] = row
        if row == num_rows:
            room_B[row] = max_points
            num_rows += 1
        room_B[row] -= size
        row_Q[q] = row
    return row_Q
