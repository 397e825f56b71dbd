"""Crops of flat points side by side in a batch: one pass of compiled code, nothing per row.

Shapes: B rows, T points of a row, Q crops, R trips and N points of a row group, F step features,
K calendar features; Z, W, S and C as in `clock`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..earth.calendar_tables import Clock
from ..earth.compiled import compiled
from ..features.point_features import NUM_CALENDAR
from ..interface.batch import Batch

Ints = NDArray[np.int64]
NUM_STEP = 3
DAY_US, THURSDAY = 86_400_000_000, 3  # 1970 began on a Thursday


@dataclass(frozen=True)
class Points:
    """Flat points of the trips of a row group; trip r owns offset_R[r] up to offset_R[r + 1]."""

    offset_R: Ints
    started_us_R: Ints
    t_s_N: NDArray[np.float64]
    lon_deg_N: NDArray[np.float64]
    lat_deg_N: NDArray[np.float64]
    step_NF: NDArray[np.float32]

    @classmethod
    def empty(cls, offset_R: Ints) -> Points:
        """Memory for the points of trips."""
        num_points, started_us_R = int(offset_R[-1]), np.empty(len(offset_R) - 1, np.int64)
        t_s_N, lon_deg_N, lat_deg_N = (np.empty(num_points) for _ in range(3))
        step_NF = np.empty((num_points, NUM_STEP), np.float32)
        return cls(offset_R, started_us_R, t_s_N, lon_deg_N, lat_deg_N, step_NF)

    def of(self, offset_R: Ints) -> Points:
        """Room for other trips, with no more points, in the same memory."""
        points = slice(offset_R[-1])
        return Points(
            offset_R,
            np.empty(len(offset_R) - 1, np.int64),
            self.t_s_N[points],
            self.lon_deg_N[points],
            self.lat_deg_N[points],
            self.step_NF[points],
        )

    def part(self, first_trip: int, end_trip: int) -> Points:
        """Some of the trips, in the same memory."""
        trips = slice(first_trip, end_trip)
        points = slice(self.offset_R[first_trip], self.offset_R[end_trip])
        return Points(
            self.offset_R[first_trip : end_trip + 1] - self.offset_R[first_trip],
            self.started_us_R[trips],
            self.t_s_N[points],
            self.lon_deg_N[points],
            self.lat_deg_N[points],
            self.step_NF[points],
        )


class Draft:
    """A batch that is being filled: first crops, group by group, then pads behind them."""

    def __init__(self, num_rows: int, num_points: int, num_sequences: int) -> None:
        shape = (num_rows, num_points)
        self.lon_deg_BT, self.lat_deg_BT = np.empty(shape), np.empty(shape)
        self.time_s_BT = np.empty(shape)
        self.step_BTF = np.empty((*shape, NUM_STEP), np.float32)
        self.calendar_BTK = np.empty((*shape, NUM_CALENDAR), np.float32)
        self.is_pad_BT, self.is_target_BT = np.empty(shape, bool), np.empty(shape, bool)
        # Numbers of sequences take memory only where a row can hold more than one.
        self.sequence_BT = np.empty(shape if num_sequences > 1 else (0, 0), np.int64)
        self.window_id_BS = np.full((num_rows, num_sequences), -1)
        self.end_B = np.zeros(num_rows, np.int64)

    def fill(
        self,
        points: Points,
        clock: Clock,
        trip_Q: Ints,
        first_Q: Ints,
        num_points_Q: Ints,
        row_Q: Ints,
        column_Q: Ints,
        sequence_Q: Ints,
    ) -> None:
        """Write crops of a row group, each at its row and column."""
        _fill(
            first_Q,
            num_points_Q,
            row_Q,
            column_Q,
            sequence_Q,
            points.started_us_R[trip_Q],
            points.t_s_N,
            points.lon_deg_N,
            points.lat_deg_N,
            points.step_NF.reshape(-1),
            clock.end_us_Z,
            clock.offset_us_Z,
            clock.day_wave_WC.view(np.uint64),
            clock.second_wave_SC.view(np.uint64),
            self.lon_deg_BT,
            self.lat_deg_BT,
            self.time_s_BT,
            self.step_BTF.reshape(len(self.end_B), -1),
            self.calendar_BTK.view(np.uint64),
            self.is_pad_BT,
            self.is_target_BT,
            self.sequence_BT,
            self.end_B,
        )

    def batch(self) -> Batch:
        """The batch for training: everything is observed, what has a past is a target."""
        _fill_pads(
            self.end_B,
            self.lon_deg_BT,
            self.lat_deg_BT,
            self.time_s_BT,
            self.step_BTF,
            self.calendar_BTK,
            self.is_pad_BT,
            self.is_target_BT,
            self.sequence_BT,
        )
        is_pad_BT = torch.from_numpy(self.is_pad_BT)
        window_id_BS = torch.from_numpy(self.window_id_BS)
        is_packed = self.sequence_BT.size > 0
        return Batch(
            lon_deg_BT=torch.from_numpy(self.lon_deg_BT),
            lat_deg_BT=torch.from_numpy(self.lat_deg_BT),
            time_s_BT=torch.from_numpy(self.time_s_BT),
            step_BTF=torch.from_numpy(self.step_BTF),
            calendar_BTK=torch.from_numpy(self.calendar_BTK),
            is_observed_BT=~is_pad_BT,
            is_target_BT=torch.from_numpy(self.is_target_BT),
            is_pad_BT=is_pad_BT,
            sequence_BT=self._sequences(is_packed, is_pad_BT),
            window_id_B=window_id_BS[:, 0],
            window_id_BS=window_id_BS if is_packed else None,
        )

    def _sequences(self, is_packed: bool, is_pad_BT: Tensor) -> Tensor:
        if is_packed:
            return torch.from_numpy(self.sequence_BT)
        return torch.zeros((), dtype=torch.int64).expand(is_pad_BT.shape)


@compiled
def _fill(
    first_Q: Ints,
    num_points_Q: Ints,
    row_Q: Ints,
    column_Q: Ints,
    sequence_Q: Ints,
    started_us_Q: Ints,
    t_s_N: NDArray[np.float64],
    lon_deg_N: NDArray[np.float64],
    lat_deg_N: NDArray[np.float64],
    step_N: NDArray[np.float32],
    end_us_Z: Ints,
    offset_us_Z: Ints,
    day_wave_WC: NDArray[np.uint64],
    second_wave_SC: NDArray[np.uint64],
    lon_deg_BT: NDArray[np.float64],
    lat_deg_BT: NDArray[np.float64],
    time_s_BT: NDArray[np.float64],
    step_BT: NDArray[np.float32],
    calendar_BTC: NDArray[np.uint64],
    is_pad_BT: NDArray[np.bool_],
    is_target_BT: NDArray[np.bool_],
    sequence_BT: Ints,
    end_B: Ints,
) -> None:
    """Short loops over views, one a kind of column.

    All in one loop are four times slower, and indices of two axes nearly twice. The F numbers of a
    step lie flat, and a sine and its cosine count as one number: they are only moved.
    """
    for q in range(first_Q.size):
        row, column, num_points = row_Q[q], column_Q[q], num_points_Q[q]
        first, last, end = first_Q[q], first_Q[q] + num_points, column + num_points
        _copy(lon_deg_N[first:last], lon_deg_BT[row, column:end])
        _copy(lat_deg_N[first:last], lat_deg_BT[row, column:end])
        step_T = step_BT[row, column * NUM_STEP : end * NUM_STEP]
        _copy(step_N[first * NUM_STEP : last * NUM_STEP], step_T)
        step_T[:NUM_STEP] = 0.0  # the step that arrives at a crop's first point starts outside
        _fill_times(t_s_N[first:last], time_s_BT[row, column:end])
        _fill_calendar(
            t_s_N[first:last],
            started_us_Q[q],
            end_us_Z,
            offset_us_Z,
            day_wave_WC,
            second_wave_SC,
            calendar_BTC[row, column:end],
        )
        is_pad_BT[row, column:end] = False
        is_target_BT[row, column:end] = True
        is_target_BT[row, column] = False
        if sequence_BT.size > 0:
            sequence_BT[row, column:end] = sequence_Q[q]
        end_B[row] = max(end_B[row], end)


@compiled
def _copy(from_T: NDArray[np.floating], to_T: NDArray[np.floating]) -> None:
    for t in range(to_T.size):
        to_T[t] = from_T[t]


@compiled
def _fill_times(t_s_T: NDArray[np.float64], time_s_T: NDArray[np.float64]) -> None:
    """Subtracted in whole microseconds, so that seconds are exact wherever the crop lies."""
    start_us = np.rint(t_s_T[0] * 1e6)
    for t in range(t_s_T.size):
        time_s_T[t] = (np.rint(t_s_T[t] * 1e6) - start_us) / 1e6


@compiled
def _fill_calendar(
    t_s_T: NDArray[np.float64],
    started_us: np.int64,
    end_us_Z: Ints,
    offset_us_Z: Ints,
    day_wave_WC: NDArray[np.uint64],
    second_wave_SC: NDArray[np.uint64],
    calendar_TC: NDArray[np.uint64],
) -> None:
    # Midnight, and the end of what it counts for: the day, or less where the offset changes.
    midnight_us, until_us, day_wave = np.int64(0), np.int64(0), np.uint64(0)
    for t in range(t_s_T.size):
        instant_us = started_us + np.int64(np.rint(t_s_T[t] * 1e6))
        if t == 0 or instant_us >= until_us or instant_us < midnight_us:
            z = np.searchsorted(end_us_Z, instant_us, side="right")
            day = (instant_us + offset_us_Z[z]) // DAY_US
            midnight_us = day * DAY_US - offset_us_Z[z]
            until_us = min(midnight_us + DAY_US, end_us_Z[z])
            day_wave = day_wave_WC[(day + THURSDAY) % 7, 0]
        second = np.uint64(instant_us - midnight_us) // np.uint64(1_000_000)
        calendar_TC[t, 0] = day_wave
        calendar_TC[t, 1] = second_wave_SC[second, 0]
        calendar_TC[t, 2] = second_wave_SC[second, 1]
        calendar_TC[t, 3] = second_wave_SC[second, 2]


@compiled
def _fill_pads(
    end_B: Ints,
    lon_deg_BT: NDArray[np.float64],
    lat_deg_BT: NDArray[np.float64],
    time_s_BT: NDArray[np.float64],
    step_BTF: NDArray[np.float32],
    calendar_BTK: NDArray[np.float32],
    is_pad_BT: NDArray[np.bool_],
    is_target_BT: NDArray[np.bool_],
    sequence_BT: Ints,
) -> None:
    """Pads repeat the last point of their row and take no step; a row of pads alone is zero."""
    for row in range(end_B.size):
        end = end_B[row]
        if end == 0:
            lon_deg_BT[row, 0], lat_deg_BT[row, 0], time_s_BT[row, 0] = 0.0, 0.0, 0.0
            calendar_BTK[row, 0] = 0.0
            if sequence_BT.size > 0:
                sequence_BT[row, 0] = 0
        last = max(end - 1, 0)
        lon_deg_BT[row, end:] = lon_deg_BT[row, last]
        lat_deg_BT[row, end:] = lat_deg_BT[row, last]
        time_s_BT[row, end:] = time_s_BT[row, last]
        step_BTF[row, end:] = 0.0
        for t in range(end, lon_deg_BT.shape[1]):
            calendar_BTK[row, t] = calendar_BTK[row, last]
        is_pad_BT[row, end:] = True
        is_target_BT[row, end:] = False
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
