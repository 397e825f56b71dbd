"""Forecast baselines: what a model has to beat, simple motions on the sphere.

Every one goes on along the great circle on which it arrived: at the last point the course is the
one of arrival there (the final azimuth), not the initial azimuth of the step that led to it. Target
times are given (track "times given") or predicted by the context's median step.

Shapes: B windows, T context points, H horizon steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ..earth.geometry import haversine_m, step_between, step_from
from ..interface.answers import Forecast
from ..interface.contexts import Context

FITTED_STEPS = 10
NUM_GRID = 30  # places of the coarse grid over log tau


@dataclass(frozen=True)
class ForecastBaseline:
    """An answerer that goes on as it arrived, at a speed that decays as exp(-t / tau).

    Speed and course are those of the last `num_steps` steps, taken as one.
    """

    name: str
    num_steps: int = 1
    tau_s: float = math.inf
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("forecast",)

    def forecast(
        self, context: Context, num_horizon: int, target_time_s_BH: Tensor | None = None
    ) -> Forecast:
        """The points at the target times, or at those that the median step predicts."""
        time_s_BH = target_time_s_BH
        if time_s_BH is None:
            time_s_BH = predicted_time_s(context, num_horizon)
        lon_deg_B1, lat_deg_B1, last_s_B1 = context.last_B1()
        driven_s_BH = self.driven_s(time_s_BH - last_s_B1)
        east_mps_B, north_mps_B = arrival_velocity_mps(context, self.num_steps)
        moved_m = east_mps_B[:, None] * driven_s_BH, north_mps_B[:, None] * driven_s_BH
        points = (*step_from(lon_deg_B1, lat_deg_B1, *moved_m), time_s_BH)
        return Forecast.of([value_BH.unsqueeze(1) for value_BH in points])

    def driven_s(self, elapsed_s: Tensor) -> Tensor:
        """Integral of exp(-t / tau): the time in which full speed would lead as far."""
        if self.tau_s == 0:
            return torch.zeros_like(elapsed_s)
        if math.isinf(self.tau_s):
            return elapsed_s
        return -self.tau_s * torch.expm1(-elapsed_s / self.tau_s)


LAST_POSITION = ForecastBaseline("last_position", tau_s=0.0)
CONSTANT_VELOCITY = ForecastBaseline("constant_velocity")
CONSTANT_VELOCITY_3 = ForecastBaseline("constant_velocity_3", num_steps=3)


def damped_velocity(tau_s: float) -> ForecastBaseline:
    """Start with the velocity of the last step, which decays."""
    return ForecastBaseline("damped_velocity", tau_s=tau_s)


def fitted_damped_velocity(
    context: Context,
    lon_deg_BH: Tensor,
    lat_deg_BH: Tensor,
    time_s_BH: Tensor,
    is_target_BH: Tensor,
) -> ForecastBaseline:
    """The time constant with the least mean ADE over the first steps of the given windows.

    Standing still (0) and constant velocity (infinity) are candidates as well.
    """
    num_steps = min(FITTED_STEPS, time_s_BH.shape[1])
    lon_deg_BH, lat_deg_BH, time_s_BH, is_target_BH = (
        value_BH[:, :num_steps] for value_BH in (lon_deg_BH, lat_deg_BH, time_s_BH, is_target_BH)
    )

    is_whole_B = is_target_BH.all(dim=1)

    def error_m(tau_s: float) -> float:
        found = damped_velocity(tau_s).forecast(context, num_steps, time_s_BH)
        away_m_BH = haversine_m(found.lon_deg_BH, found.lat_deg_BH, lon_deg_BH, lat_deg_BH)
        return float(away_m_BH[is_whole_B].mean(dim=1).mean())

    elapsed_s = (time_s_BH - context.last_B1()[2])[is_target_BH]
    elapsed_s = elapsed_s[elapsed_s > 0]
    if len(elapsed_s) == 0 or math.isnan(error_m(math.inf)):
        raise ValueError(f"no window of {num_steps} steps to fit the damped velocity on")
    inner = least_tau_s(error_m, 1e-3 * float(elapsed_s.min()), 1e4 * float(elapsed_s.max()))
    # In order of preference where errors are equal: the simpler baseline.
    return damped_velocity(min((math.inf, 0.0, inner), key=error_m))


def predicted_time_s(context: Context, num_horizon: int) -> Tensor:
    """Target times (B, H) that go on with the context's median step."""
    if context.time_s_BT.shape[1] < 2:
        raise ValueError("a context of one point has no step: give the target times")
    # The middle two averaged: torch's own median takes the lower one. A pad has no step.
    step_s_BT = context.time_s_BT.diff(dim=1).masked_fill(context.is_pad_BT[:, 1:], torch.nan)
    step_s_B = step_s_BT.nanquantile(0.5, dim=1)
    number_H = torch.arange(1, num_horizon + 1, dtype=step_s_B.dtype, device=step_s_B.device)
    return context.last_B1()[2] + step_s_B[:, None] * number_H


def arrival_velocity_mps(context: Context, num_steps: int = 1) -> tuple[Tensor, Tensor]:
    """Speed east and north (B) on arrival, over the last `num_steps` steps taken as one.

    The last of them is the last step that took any time; where there is none, the speed is zero.
    """
    time_s_BT = context.time_s_BT
    place_T = torch.arange(time_s_BT.shape[1], device=time_s_BT.device)
    took_time_BT = torch.zeros_like(time_s_BT, dtype=torch.bool)
    took_time_BT[:, 1:] = (time_s_BT.diff(dim=1) > 0) & ~context.is_pad_BT[:, 1:]
    end_B = (took_time_BT * place_T).amax(dim=1)
    start_B = (end_B - num_steps).clamp(min=0)

    def at(value_BT: Tensor, place_B: Tensor) -> Tensor:
        return value_BT.gather(1, place_B[:, None])[:, 0]

    places = (context.lon_deg_BT, context.lat_deg_BT)
    start, end = ([at(value_BT, place_B) for value_BT in places] for place_B in (start_B, end_B))
    elapsed_s_B = at(time_s_BT, end_B) - at(time_s_BT, start_B)
    # The step back, seen from the end, reversed: the course on arrival.
    back_east_m_B, back_north_m_B = step_between(*end, *start)
    rate_B = torch.where(elapsed_s_B > 0, -1.0 / elapsed_s_B, 0.0)
    return back_east_m_B * rate_B, back_north_m_B * rate_B


def least_tau_s(error_m: Callable[[float], float], low_s: float, high_s: float) -> float:
    """Golden section over log tau, inside the best part of a coarse grid.

    The grid is there because the mean of many windows need not have a single valley.
    """
    grid = torch.linspace(math.log(low_s), math.log(high_s), NUM_GRID, dtype=torch.float64).tolist()
    errors = [error_m(math.exp(value)) for value in grid]
    best = errors.index(min(errors))
    ends = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(
        lambda value: error_m(math.exp(value)),
        bounds=ends,
        method="bounded",
        options={"xatol": 1e-5},
    )
    return math.exp(found.x)
