"""Patching: where sequences are cut, and what is known at each end of a patch.

Shapes: R sequences, P patches, K points of a patch, S = P * K slots, N ends of patches, L lags,
C coordinates (east, north), U calendar features, B = K + 1 points from the one before a patch to
its last.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...earth.columns import Columns
from ...earth.geometry import heading_of
from ...features.normaliser import Normaliser
from ...features.point_features import LAGS, motion_since, step_m_between, steps_of
from ...interface.sequence_rows import SequenceRows


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
