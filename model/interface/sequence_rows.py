"""Sequences of a batch, each in a row of its own, and what lies ahead of their points.

Shapes: R sequences, T points, N ends of what is read, J points ahead of an end, C coordinates
(east, north), U calendar features; B rows of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..earth.geometry import step_between
from .batch import Batch
from .contexts import Context


@dataclass(frozen=True)
class SequenceRows:
    """One sequence a row: points padded on the right, the first of which may be read.

    `stands_for_R` is how many points of the data a step stands for: 1 as they came. The motion that
    is reported is NaN where it is not, or may not be read. What moves is 0 where it is not told.
    """

    lon_deg_RT: Tensor
    lat_deg_RT: Tensor
    time_s_RT: Tensor
    calendar_RTU: Tensor
    num_points_R: Tensor
    num_readable_R: Tensor
    is_target_RT: Tensor
    window_R: Tensor
    stands_for_R: Tensor
    reported_mps_RTC: Tensor | None = None
    kind_R: Tensor | None = None


def sequence_rows(context: Context) -> SequenceRows:
    """Contexts as rows, all of which may be read, and be asked from the points before."""
    batch = context.batch()
    return rows_of_batch(replace(batch, is_target_BT=~batch.is_pad_BT))


def rows_of_batch(batch: Batch) -> SequenceRows:
    """The sequences of a batch, each in a row of its own; what may not be read ends what may."""
    is_point_BT = ~batch.is_pad_BT
    is_new_BT = is_point_BT.clone()
    is_new_BT[:, 1:] &= batch.sequence_BT[:, 1:] != batch.sequence_BT[:, :-1]
    row_R, start_R = is_new_BT.nonzero(as_tuple=True)
    slot_T = torch.arange(is_point_BT.shape[1], device=row_R.device)
    at_RT = row_R[:, None], (start_R[:, None] + slot_T).clamp(max=is_point_BT.shape[1] - 1)
    is_own_RT = batch.sequence_BT[at_RT] == batch.sequence_BT[row_R, start_R][:, None]
    is_own_RT &= is_point_BT[at_RT] & (start_R[:, None] + slot_T < is_point_BT.shape[1])
    is_readable_RT = is_own_RT & batch.is_observed_BT[at_RT]
    points = batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT
    lon_deg_RT, lat_deg_RT, time_s_RT = (
        value_BT[at_RT].masked_fill(~is_own_RT, 0) for value_BT in points
    )
    stands_for_BT, reported_mps_RTC = batch.stands_for_BT, batch.reported_mps_BTC
    if reported_mps_RTC is not None:
        is_silent_RT1 = ~is_readable_RT.unsqueeze(-1)
        reported_mps_RTC = reported_mps_RTC[at_RT].masked_fill(is_silent_RT1, torch.nan)
    return SequenceRows(
        lon_deg_RT,
        lat_deg_RT,
        time_s_RT,
        batch.calendar_BTK[at_RT].masked_fill(~is_own_RT.unsqueeze(-1), 0),
        is_own_RT.sum(1),
        is_readable_RT.int().cummin(dim=1).values.sum(1),
        is_own_RT & batch.is_target_BT[at_RT],
        _window_of(batch, row_R, start_R),
        torch.ones_like(time_s_RT[:, 0])
        if stands_for_BT is None
        else stands_for_BT[row_R, start_R],
        reported_mps_RTC,
        None if batch.kind_B is None else batch.kind_B[row_R],
    )


def _window_of(batch: Batch, row_R: Tensor, start_R: Tensor) -> Tensor:
    """The window of each sequence."""
    if batch.window_id_BS is None:
        return batch.window_id_B[row_R]
    return batch.window_id_BS[row_R, batch.sequence_BT[row_R, start_R]]


def ahead_of(
    rows: SequenceRows, row_N: Tensor, end_N: Tensor, ahead_J: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Displacement (N, J, C) and seconds (N, J) to the points ahead, and which are targets."""
    target_NJ = end_N[:, None] + ahead_J
    is_there_NJ = target_NJ < rows.num_points_R[row_N][:, None]
    target_NJ = torch.where(is_there_NJ, target_NJ, end_N[:, None])
    is_target_NJ = is_there_NJ & rows.is_target_RT[row_N[:, None], target_NJ]
    # What is no target may hold anything, and must not reach a gradient: the end stands for it.
    at_NJ = row_N[:, None], torch.where(is_target_NJ, target_NJ, end_N[:, None])
    start_N1 = row_N[:, None], end_N[:, None]
    starts = rows.lon_deg_RT[start_N1], rows.lat_deg_RT[start_N1]
    ends = rows.lon_deg_RT[at_NJ], rows.lat_deg_RT[at_NJ]
    moved_m_NJC = torch.stack(step_between(*starts, *ends), dim=-1)
    elapsed_s_NJ = rows.time_s_RT[at_NJ] - rows.time_s_RT[start_N1]
    return moved_m_NJC, elapsed_s_NJ, is_target_NJ
