"""Patching: where sequences are cut, what is known at each end of a patch, and what lies ahead.

Shapes: R sequences, T points, P patches, K points of a patch, S = P * K slots, N ends of patches,
J points ahead of an end, L lags, C coordinates (east, north), U calendar features, B = K + 1
points from the one before a patch to its last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ...earth.columns import Columns
from ...earth.geometry import heading_of, step_between
from ...features.normaliser import Normaliser
from ...features.point_features import LAGS, motion_since, step_m_between, steps_of
from ...interface.batch import Batch
from ...interface.contexts import Context


@dataclass(frozen=True)
class SequenceRows:
    """One sequence a row: points padded on the right, the first of which may be read."""

    lon_deg_RT: Tensor
    lat_deg_RT: Tensor
    time_s_RT: Tensor
    calendar_RTU: Tensor
    num_points_R: Tensor
    num_readable_R: Tensor
    is_target_RT: Tensor
    window_R: Tensor


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
    return SequenceRows(
        lon_deg_RT,
        lat_deg_RT,
        time_s_RT,
        batch.calendar_BTK[at_RT].masked_fill(~is_own_RT.unsqueeze(-1), 0),
        is_own_RT.sum(1),
        is_readable_RT.int().cummin(dim=1).values.sum(1),
        is_own_RT & batch.is_target_BT[at_RT],
        batch.window_id_B[row_R],
    )


@dataclass(frozen=True)
class Patches:
    """Points in patches; slots before the first point and behind the last are empty."""

    lon_deg_RS: Tensor
    lat_deg_RS: Tensor
    time_s_RS: Tensor
    calendar_RPU: Tensor  # of the end of the patch
    is_point_RS: Tensor
    num_patch: int

    @property
    def num_lead_R(self) -> Tensor:
        """Empty slots before the first point."""
        return self.is_point_RS.int().argmax(dim=1)

    @property
    def has_step_RS(self) -> Tensor:
        """Slots that were arrived at from the one before."""
        return self.is_point_RS & functional.pad(self.is_point_RS[:, :-1], (1, 0))

    def ends(self, value_RS: Tensor) -> Tensor:
        """The values (R, P) at the last slots of patches."""
        return value_RS[:, self.num_patch - 1 :: self.num_patch]


def cut(rows: SequenceRows, num_patch: int, num_lead_R: Tensor | None = None) -> Patches:
    """The readable points in patches, so that the last one is whole.

    With `num_lead_R` the first patch has so many empty slots, whatever the last one then has. A
    row of which nothing may be read has one point at (0, 0).
    """
    num_points_R = rows.num_readable_R.clamp(min=1)
    if num_lead_R is None:
        num_lead_R = -num_points_R % num_patch
    num_patches = -(-int((num_lead_R + num_points_R).max()) // num_patch)
    slot_S = torch.arange(num_patches * num_patch, device=num_points_R.device)
    index_RS = slot_S - num_lead_R.unsqueeze(1)
    is_point_RS = (index_RS >= 0) & (index_RS < num_points_R.unsqueeze(1))
    # Empty slots repeat the nearest point: nothing that may not be read ever is.
    index_RS = torch.minimum(index_RS.clamp(min=0), num_points_R.unsqueeze(1) - 1)
    is_there_R1 = rows.num_readable_R.unsqueeze(1) > 0
    lon_deg_RS, lat_deg_RS, time_s_RS = (
        value_RT.gather(1, index_RS).where(is_there_R1, 0.0)
        for value_RT in (rows.lon_deg_RT, rows.lat_deg_RT, rows.time_s_RT)
    )
    row_R1 = torch.arange(len(num_points_R), device=num_points_R.device).unsqueeze(1)
    end_RP = index_RS[:, num_patch - 1 :: num_patch]
    calendar_RPU = rows.calendar_RTU[row_R1, end_RP].where(is_there_R1.unsqueeze(-1), 0.0)
    return Patches(lon_deg_RS, lat_deg_RS, time_s_RS, calendar_RPU, is_point_RS, num_patch)


def origins_of(patches: Patches, num_readable_R: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row, patch and last point (N) of each patch that ends with a point that may be read."""
    num_patches = patches.calendar_RPU.shape[1]
    patch_P = torch.arange(num_patches, device=num_readable_R.device)
    end_RP = (patch_P + 1) * patches.num_patch - 1 - patches.num_lead_R.unsqueeze(1)
    row_N, patch_N = (end_RP < num_readable_R.unsqueeze(1)).nonzero(as_tuple=True)
    return row_N, patch_N, end_RP[row_N, patch_N]


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


@dataclass(frozen=True)
class Moved(Columns):
    """How the ends of patches were arrived at, from their own patch and earlier ones alone."""

    scale_m_RP: Tensor  # root mean square step so far: a typical one where there is none
    way_m_RPLC: Tensor  # displacement over each lag, in the frame of the end
    num_RPL: Tensor  # points and seconds that it took
    elapsed_s_RPL: Tensor

    @property
    def per_point_m(self) -> Tensor:
        return self.way_m_RPLC / self.num_RPL.unsqueeze(-1)

    @property
    def velocity_mps(self) -> Tensor:
        return self.way_m_RPLC / self.elapsed_s_RPL.unsqueeze(-1)

    @property
    def heading(self) -> Tensor:
        """The unit vector of the recent motion, over all lags alike; east where nothing moved."""
        return heading_of(self.per_point_m.mean(-2))


def steps_in(patches: Patches) -> Tensor:
    """The step (R, S, F) arriving at each slot; zero where nothing was arrived at."""
    step_RSF = steps_of(patches.lon_deg_RS, patches.lat_deg_RS, patches.time_s_RS)
    return step_RSF.masked_fill(~patches.has_step_RS.unsqueeze(-1), 0)


def steps_seen(patches: Patches) -> Tensor:
    """The steps (R, P, K, C) of each patch as they lie in the frame of its end.

    One frame for all of them: whoever turns the trajectory turns them all by the same angle.
    """
    slot_S = torch.arange(patches.is_point_RS.shape[1], device=patches.is_point_RS.device)
    end_RP1 = patches.ends(slot_S.expand_as(patches.is_point_RS)).unsqueeze(-1)
    back_B = torch.arange(patches.num_patch, -1, -1, device=slot_S.device)
    slot_RPB = (end_RP1 - back_B).clamp(min=0)
    seen_m_RPBC = step_m_between(patches.lon_deg_RS, patches.lat_deg_RS, end_RP1, slot_RPB)
    return seen_m_RPBC.diff(dim=-2)


def moved_until(patches: Patches, step_RSF: Tensor, normaliser: Normaliser) -> Moved:
    """The motion up to the end of each patch."""
    num_RP = patches.ends(patches.has_step_RS.cumsum(1))
    square_RP = patches.ends(step_RSF[..., :2].square().sum(-1).cumsum(1))
    floor_m = 0.05 * normaliser.extent_scale_m
    scale_m_RP = torch.sqrt(square_RP / num_RP.clamp(min=1) + floor_m**2)
    slot_RS = torch.arange(step_RSF.shape[1], device=num_RP.device).expand(step_RSF.shape[:2])
    end_RP = patches.ends(slot_RS)
    lag_L = torch.tensor(LAGS, device=num_RP.device)
    origin_RPL = torch.maximum(end_RP.unsqueeze(-1) - lag_L, patches.num_lead_R[:, None, None])

    points = patches.lon_deg_RS, patches.lat_deg_RS, patches.time_s_RS
    way_m_RPLC, elapsed_s_RPL = motion_since(*points, end_RP, origin_RPL)
    return Moved(
        scale_m_RP.where(num_RP > 0, normaliser.extent_scale_m),
        way_m_RPLC.masked_fill((num_RP == 0)[..., None, None], 0),
        (end_RP.unsqueeze(-1) - origin_RPL).clamp(min=1).double(),
        elapsed_s_RPL.clamp(min=normaliser.shortest_step_s),
    )
