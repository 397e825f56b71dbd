"""Residual forecasts: damped velocity and, beside it, what a baseline has learned that it misses.

What is learned stands at leads 1, 2, ... L: the time since the last known point, in median steps of
the context. Between two leads it is interpolated; before the first and beyond the last it is that
of the first or the last. So any target times can be asked for, and any number of them.

Shapes: B windows, H horizon steps, L leads, C coordinates (east and north).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from ..earth.geometry import step_from
from ..interface.answers import Forecast
from ..interface.contexts import Context
from .forecast import ForecastBaseline, arrival_velocity_mps, predicted_time_s
from .windows import Windows

LAGS = (1, 2, 3, 5, 8, 13, 19)  # steps that a velocity is taken over


@dataclass(frozen=True, kw_only=True)
class ResidualForecast(ABC):
    """An answerer that adds `share_L` of its residual to the displacement of damped velocity."""

    damped: ForecastBaseline
    share_L: Tensor = field(default_factory=lambda: torch.ones(1, dtype=torch.float64))
    name: ClassVar[str]
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("forecast",)

    @abstractmethod
    def residual_m(self, context: Context, elapsed_s_BH: Tensor) -> Tensor:
        """What is added (B, H, C) after so many seconds, in the plane at the last known point."""

    def forecast(
        self, context: Context, num_horizon: int, target_time_s_BH: Tensor | None = None
    ) -> Forecast:
        """The points at the target times, or at those that the median step predicts."""
        time_s_BH = target_time_s_BH
        if time_s_BH is None:
            time_s_BH = predicted_time_s(context, num_horizon)
        lon_deg_B1, lat_deg_B1, last_s_B1 = context.last_B1()
        elapsed_s_BH = time_s_BH - last_s_B1
        share_BH = at_leads(self.share_L, leads(context, elapsed_s_BH))
        moved_m_BHC = damped_m(self.damped, context, elapsed_s_BH)
        moved_m_BHC = moved_m_BHC + share_BH[..., None] * self.residual_m(context, elapsed_s_BH)
        places = step_from(lon_deg_B1, lat_deg_B1, *moved_m_BHC.unbind(-1))
        return Forecast.of([value_BH.unsqueeze(1) for value_BH in (*places, time_s_BH)])


Residual = TypeVar("Residual", bound=ResidualForecast)


def chosen(candidates: Sequence[Residual], validation: Windows) -> Residual:
    """The candidate that is best on validation, and of it the leads at which it is no worse.

    Best is the least error relative to damped velocity, all steps alike. At steps where even the
    best is worse than damped velocity, it is damped velocity. Where points do not come evenly a
    step has no lead of its own: if the parts that are left are worse, all of it is left out.
    """
    bar_m_H = validation.mean_miss_m_H(candidates[0].damped)

    def relative(candidate: Residual) -> float:
        miss_m_H = validation.mean_miss_m_H(candidate)
        return float(((miss_m_H + 1e-9) / (bar_m_H + 1e-9)).nanmean().nan_to_num(torch.inf))

    best = min(candidates, key=relative)
    is_as_good_L = validation.mean_miss_m_H(best) <= bar_m_H
    parted = replace(best, share_L=best.share_L * is_as_good_L)
    none = replace(best, share_L=torch.zeros_like(parted.share_L))
    return parted if relative(parted) <= 1 else none


# Motion -----------------------------------------------------------------------------------------


def velocities_mps(context: Context, lags: Sequence[int] = LAGS) -> Tensor:
    """The velocity on arrival over each of the last so many steps (B, lags, C)."""
    return torch.stack([torch.stack(arrival_velocity_mps(context, lag), -1) for lag in lags], 1)


def damped_m(damped: ForecastBaseline, context: Context, elapsed_s_BH: Tensor) -> Tensor:
    """The displacement (B, H, C) of a damped velocity."""
    return velocities_mps(context, (damped.num_steps,)) * damped.driven_s(elapsed_s_BH)[..., None]


def leads(context: Context, elapsed_s_BH: Tensor) -> Tensor:
    """Seconds since the last known point in median steps; 1 where the context has no step."""
    if context.time_s_BT.shape[1] < 2:
        return torch.ones_like(elapsed_s_BH)
    step_s_B1 = predicted_time_s(context, 1) - context.last_B1()[2]
    return (elapsed_s_BH / step_s_B1).nan_to_num(nan=1.0, posinf=1e9).clamp(1.0, 1e9)


def at_leads(value_LK: Tensor, lead_BH: Tensor) -> Tensor:
    """Values (B, H, ...) at leads, between those that stand at the leads 1, 2, ... L."""
    place_BH = (lead_BH - 1).clamp(0, len(value_LK) - 1)
    low_BH = place_BH.long()
    high_BH = (low_BH + 1).clamp(max=len(value_LK) - 1)
    part_BH = (place_BH - low_BH).reshape(*place_BH.shape, *[1] * (value_LK.dim() - 1))
    return torch.lerp(value_LK[low_BH], value_LK[high_BH], part_BH)
