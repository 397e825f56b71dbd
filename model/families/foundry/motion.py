"""Motion until a point, told in what the sequence itself shows: its own speed and interval.

Nothing of a data set enters: the same motion in other units of length and time gives the same
numbers, and a sequence that is sampled like none of train is told as well as any other.

What a source itself reports of the motion over ground is told beside it, if it is.

Shapes: R sequences, T points, L lags, C coordinates (east, north).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...earth.columns import Columns
from ...earth.geometry import heading_of, to_heading
from ...features.point_features import motion_since
from ...interface.batch import index_of

LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # points back to the origin of each recent velocity
LEAST_M = 0.1  # what moves less in an interval is at rest
LEAST_S = 1e-3
PACE_LAG, HEADING_LAGS = LAGS.index(8), slice(0, 4)
REPORTED_LAGS = (0, 1, 2, 4, 8)  # points back whose reported motion is told
NUM_SEEN = 3 * (len(LAGS) + 1 + len(REPORTED_LAGS))  # numbers that a network is told of a point


@dataclass(frozen=True)
class Motion(Columns):
    """Of each point, from its past alone: velocities over the lags, and the units of the window.

    A lag that reaches behind the first point begins there. `pace_s` is the mean interval of the
    last eight points, `speed_mps` the root mean square of the recent velocities, with a floor of a
    tenth of a metre each interval. The heading is that of the last four points. A first point has
    no motion before it: the usual interval and speed stand for its own. Where no motion is
    reported, that of the last step stands for it.
    """

    velocity_mps_RTLC: Tensor
    lag_s_RTL: Tensor
    pace_s_RT: Tensor
    speed_mps_RT: Tensor
    heading_RTC: Tensor
    index_RT: Tensor
    reported_mps_RTC: Tensor
    is_reported_RT: Tensor

    @classmethod
    def of(
        cls,
        lon_deg_RT: Tensor,
        lat_deg_RT: Tensor,
        time_s_RT: Tensor,
        usual_s: float,
        usual_mps: float,
        reported_mps_RTC: Tensor | None = None,
    ) -> Motion:
        index_RT = index_of(time_s_RT)
        lag_L = torch.tensor(LAGS, device=index_RT.device)
        origin_RTL = (index_RT.unsqueeze(-1) - lag_L).clamp(min=0)
        moved_m_RTLC, lag_s_RTL = motion_since(
            lon_deg_RT, lat_deg_RT, time_s_RT, index_RT, origin_RTL
        )
        moved_m_RTLC, lag_s_RTL = moved_m_RTLC.float(), lag_s_RTL.float()
        num_back_RT = (index_RT - origin_RTL[..., PACE_LAG]).clamp(min=1)
        pace_s_RT = (lag_s_RTL[..., PACE_LAG] / num_back_RT).clamp(min=LEAST_S)
        pace_s_RT = pace_s_RT.where(index_RT > 0, usual_s)
        # Less than a tenth of the usual interval says little about a speed.
        shortest_s_RT1 = 0.1 * pace_s_RT.unsqueeze(-1)
        velocity_RTLC = moved_m_RTLC / lag_s_RTL.clamp(min=shortest_s_RT1).unsqueeze(-1)
        square_RT = velocity_RTLC.square().sum(-1).mean(-1)
        square_RT = square_RT.where(index_RT > 0, usual_mps**2)
        last_mps_RTC = velocity_RTLC[..., 0, :]
        if reported_mps_RTC is None:
            reported_mps_RTC = torch.full_like(last_mps_RTC, torch.nan)
        is_reported_RT = reported_mps_RTC.isfinite().all(-1)
        return cls(
            velocity_RTLC,
            lag_s_RTL,
            pace_s_RT,
            torch.sqrt(square_RT + (LEAST_M / pace_s_RT) ** 2),
            heading_of(velocity_RTLC[..., HEADING_LAGS, :].mean(-2)),
            index_RT,
            reported_mps_RTC.float().where(is_reported_RT.unsqueeze(-1), last_mps_RTC),
            is_reported_RT,
        )

    def seen(self) -> Tensor:
        """What a network is told of each point, (R, T, NUM_SEEN), seen along its heading."""
        own_RTLC = self.velocity_mps_RTLC / self.speed_mps_RT[..., None, None]
        along_RTLC = to_heading(own_RTLC, self.heading_RTC.unsqueeze(-2))
        lag_L = torch.tensor(LAGS, device=self.index_RT.device)
        reached_RTL = torch.minimum(lag_L, self.index_RT.unsqueeze(-1)).clamp(min=1)
        late_RTL = torch.log((self.lag_s_RTL / reached_RTL).clamp(min=LEAST_S))
        pace_RT1 = torch.log(self.pace_s_RT).unsqueeze(-1)
        at_rest_RT = LEAST_M / (self.speed_mps_RT * self.pace_s_RT)  # 1 there, near 0 in motion
        parts = [
            along_RTLC.flatten(-2),
            torch.asinh(late_RTL - pace_RT1) * (self.index_RT > 0).unsqueeze(-1),
            torch.log1p(self.index_RT.float()).unsqueeze(-1) / 3,
            at_rest_RT.unsqueeze(-1),
            (self.index_RT == 0).float().unsqueeze(-1),
            *self._reported(),
        ]
        return torch.cat(parts, dim=-1)

    def _reported(self) -> Iterator[Tensor]:
        """The motion reported at points back: how it differs from the last step, and if it is."""
        last_mps_RTC = self.velocity_mps_RTLC[..., 0, :]
        for lag in REPORTED_LAGS:
            from_RT = (self.index_RT - lag).clamp(min=0)
            row_R1 = torch.arange(len(from_RT), device=from_RT.device).unsqueeze(1)
            is_told_RT = self.is_reported_RT[row_R1, from_RT] & (self.index_RT >= lag)
            more_mps_RTC = self.reported_mps_RTC[row_R1, from_RT] - last_mps_RTC
            own_RTC = to_heading(more_mps_RTC / self.speed_mps_RT.unsqueeze(-1), self.heading_RTC)
            told_RT1 = is_told_RT.unsqueeze(-1).to(own_RTC.dtype)
            yield own_RTC * told_RT1
            yield told_RT1
