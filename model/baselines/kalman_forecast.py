"""Kalman forecasts: the motion that a bank of filters makes out in a context goes on.

All is seen in the frame of the last known point, in which great circles through it are straight.

Shapes: B windows, T context points, H horizon steps, C coordinates (east, north).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..earth.geometry import step_between, step_from
from ..interface.answers import Forecast
from ..interface.contexts import Context
from .forecast import predicted_time_s
from .kalman import Bank

Radii = tuple[float, float, float]
# Within which 50, 80 and 95 % of a round normal distribution lie, in its standard deviation.
NORMAL_RADII: Radii = (
    math.sqrt(2 * math.log(2)),
    math.sqrt(2 * math.log(5)),
    math.sqrt(2 * math.log(20)),
)


@dataclass(frozen=True)
class KalmanForecast:
    """An answerer that goes on as its filters expect.

    50, 80 and 95 % of the truth lie within `radii` standard deviations of the forecast.
    """

    name: str
    bank: Bank
    radii: Radii = NORMAL_RADII
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("forecast",)

    def forecast(
        self, context: Context, num_horizon: int, target_time_s_BH: Tensor | None = None
    ) -> Forecast:
        """The points at the target times, or at those that the median step predicts."""
        time_s_BH = target_time_s_BH
        if time_s_BH is None:
            time_s_BH = predicted_time_s(context, num_horizon)
        lon_deg_B1, lat_deg_B1, _ = context.last_B1()
        moved_m_BHC, deviation_m_BH = self.moved_m(context, time_s_BH)
        lon_deg_BH, lat_deg_BH = step_from(lon_deg_B1, lat_deg_B1, *moved_m_BHC.unbind(-1))
        radii_m = (radius * deviation_m_BH for radius in self.radii)
        return Forecast(lon_deg_BH, lat_deg_BH, time_s_BH, *radii_m)

    def moved_m(self, context: Context, time_s_BH: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, H, C) and standard deviation (B, H) of fixes to come, seen from the last."""
        last_s_B1 = context.last_B1()[2]
        place_m_BTC = places_m(context)
        time_s_BT = torch.where(context.is_pad_BT, last_s_B1, context.time_s_BT)
        points = place_m_BTC, time_s_BT, ~context.is_pad_BT
        [belief] = deque(self.bank.followed(*points, place_m_BTC[:, 0]), maxlen=1)
        means, variances = [], []
        for later in self.bank.foretold(belief, last_s_B1[:, 0], time_s_BH):
            means.append(later.mean_BS()[:, :2])
            variances.append(later.covariance_BSS()[:, :2, :2].diagonal(dim1=1, dim2=2).mean(-1))
        deviation_m_BH = torch.sqrt(torch.stack(variances, 1) + self.bank.fix_m**2)
        return torch.stack(means, 1), deviation_m_BH


def places_m(context: Context) -> Tensor:
    """Metres (B, T, C) of the points of a context from the last; zero where there is none."""
    lon_deg_B1, lat_deg_B1, _ = context.last_B1()
    steps = step_between(lon_deg_B1, lat_deg_B1, context.lon_deg_BT, context.lat_deg_BT)
    return torch.stack(steps, -1).masked_fill(context.is_pad_BT.unsqueeze(-1), 0)
