"""Reverting velocity: Ornstein-Uhlenbeck, whose velocity decays to the mean of its lane.

Ships leave a port or pass a strait as others did: what a velocity decays to is not rest but the
mean of train in the same cell on a like course. Millefiori et al. 2016, IEEE Transactions on
Aerospace and Electronic Systems 52(5), 2313-2330.

Shapes: B windows, H horizon steps, C coordinates (east and north).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..earth.arrays import Floats
from ..earth.cells import cells_of
from ..interface.contexts import Context
from .forecast import ForecastBaseline, arrival_velocity_mps, damped_velocity, least_tau_s
from .residual import ResidualForecast, chosen, damped_m, velocities_mps
from .windows import Windows

NUM_SECTORS = 8
UNDER_WAY_MPS = 0.5  # a knot: what is slower is at rest, whatever its course
DOUBT = 5.0  # windows of the mean of all train that weigh as much as those of a lane
DETAILS = (0, 1, 2)  # parts of a lane's key that count: none, its cell, its course as well
Key = tuple[int, ...]


@dataclass(frozen=True)
class Lanes:
    """Mean velocities (C) by lane; that of all train where a lane was not seen."""

    mean_mps: Mapping[Key, Floats]
    otherwise_mps: Floats
    resolution: int
    detail: int

    @classmethod
    def of(cls, train: Windows, resolution: int, detail: int) -> Lanes:
        """Means of the velocity over the second half of the way, when the first one is lost."""
        num_targets_B1 = train.is_target_BH.sum(1, keepdim=True)
        end_B2 = torch.cat([num_targets_B1 // 2, num_targets_B1], dim=1)  # 0 is the known point
        elapsed_s_BH = functional.pad(train.elapsed_s_BH, (1, 0))
        elapsed_s_B1 = elapsed_s_BH.gather(1, end_B2).diff(dim=1)
        moved_m_BHC = functional.pad(train.moved_m_BHC, (0, 0, 1, 0))
        moved_m_BC = moved_m_BHC.gather(1, end_B2[..., None].expand(-1, -1, 2)).diff(dim=1)[:, 0]
        is_told_B = (elapsed_s_B1[:, 0] > 0).numpy()
        velocity_mps_NC = (moved_m_BC / elapsed_s_B1).numpy()[is_told_B]
        otherwise_mps = velocity_mps_NC.mean(0) if len(velocity_mps_NC) else np.zeros(2)
        key_NK = lane_keys(train.context, resolution)[is_told_B, :detail]
        lane_LK, lane_N = np.unique(key_NK, axis=0, return_inverse=True)
        count_L = np.bincount(lane_N, minlength=len(lane_LK)) + DOUBT
        total_LC = np.tile(DOUBT * otherwise_mps, (len(lane_LK), 1))
        np.add.at(total_LC, lane_N, velocity_mps_NC)
        means = zip(map(tuple, lane_LK.tolist()), total_LC / count_L[:, None], strict=True)
        return cls(dict(means), otherwise_mps, resolution, detail)

    def at(self, context: Context) -> Tensor:
        """The mean velocity (B, C) of each context's lane."""
        keys = map(tuple, lane_keys(context, self.resolution)[:, : self.detail].tolist())
        found = [self.mean_mps.get(key, self.otherwise_mps) for key in keys]
        return torch.from_numpy(np.array(found).reshape(-1, 2))


def lane_keys(context: Context, resolution: int) -> np.ndarray:
    """The H3 cell of the last known point, and the sector of the course there; -1 at rest."""
    lon_deg_B1, lat_deg_B1, _ = context.last_B1()
    east_mps_B, north_mps_B = arrival_velocity_mps(context)
    turn_B = torch.atan2(east_mps_B, north_mps_B) / (2 * torch.pi)
    sector_B = (turn_B * NUM_SECTORS).round().long() % NUM_SECTORS
    is_at_rest_B = torch.hypot(east_mps_B, north_mps_B) < UNDER_WAY_MPS
    cell_B = cells_of(lon_deg_B1[:, 0].numpy(), lat_deg_B1[:, 0].numpy(), resolution)
    return np.stack([cell_B, sector_B.masked_fill(is_at_rest_B, -1).numpy()], axis=1)


@dataclass(frozen=True, kw_only=True)
class MeanRevertingVelocity(ResidualForecast):
    """The velocity of the last step decays to that of the lane as exp(-t / tau)."""

    tau_s: float
    lanes: Lanes
    name: ClassVar[str] = "mean_reverting_velocity"

    @classmethod
    def fit(
        cls, train: Windows, validation: Windows, damped: ForecastBaseline, resolution: int
    ) -> MeanRevertingVelocity:
        """Lanes as fine as validation likes best: the whole sea, cells, or cells by course."""
        candidates = [cls.fitted(train, damped, resolution, detail) for detail in DETAILS]
        return chosen(candidates, validation)

    @classmethod
    def fitted(
        cls, train: Windows, damped: ForecastBaseline, resolution: int, detail: int
    ) -> MeanRevertingVelocity:
        """The time constant of one half of train on the lanes of the other, then all lanes.

        A window that is a part of its own lane's mean would make the mean look better than it is.
        """
        half = len(train.time_s_BH) // 2
        first, second = train.at(slice(None, half)), train.at(slice(half, None))
        mean_mps_B1C = Lanes.of(first, resolution, detail).at(second.context)[:, None]
        velocity_mps_B1C, elapsed_s_BH = velocities_mps(second.context, (1,)), second.elapsed_s_BH
        moved_m_BHC, is_target_BH = second.moved_m_BHC, second.is_target_BH

        def error_m(tau_s: float) -> float:
            told_m_BHC = reverted_m(velocity_mps_B1C, mean_mps_B1C, tau_s, elapsed_s_BH)
            return float((told_m_BHC - moved_m_BHC).norm(dim=-1)[is_target_BH].mean())

        elapsed_s = train.elapsed_s_BH[train.is_target_BH]
        elapsed_s = elapsed_s[elapsed_s > 0]
        ends_s = (1e-3 * float(elapsed_s.min()), 1e4 * float(elapsed_s.max()))
        tau_s = min((damped.tau_s, least_tau_s(error_m, *ends_s)), key=error_m)
        return cls(damped=damped, tau_s=tau_s, lanes=Lanes.of(train, resolution, detail))

    def residual_m(self, context: Context, elapsed_s_BH: Tensor) -> Tensor:
        """What it leads further than damped velocity: m t + (v - m) driven(t), less that."""
        told = velocities_mps(context, (1,)), self.lanes.at(context)[:, None]
        moved_m_BHC = reverted_m(*told, self.tau_s, elapsed_s_BH)
        return moved_m_BHC - damped_m(self.damped, context, elapsed_s_BH)


def reverted_m(
    velocity_mps_B1C: Tensor, mean_mps_B1C: Tensor, tau_s: float, elapsed_s_BH: Tensor
) -> Tensor:
    """The way (B, H, C) of a velocity that decays to a mean."""
    driven_s_BH1 = damped_velocity(tau_s).driven_s(elapsed_s_BH)[..., None]
    surplus_mps_B1C = velocity_mps_B1C - mean_mps_B1C
    return mean_mps_B1C * elapsed_s_BH[..., None] + surplus_mps_B1C * driven_s_BH1
