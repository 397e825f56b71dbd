"""Forecast baselines: what a model has to beat, simple motions on the sphere.

Every one goes on along the great circle on which it arrived: at the last point the course is the
one of arrival there (the final azimuth), not the initial azimuth of the step that led to it. Target
times are given (track "times given") or predicted by the context's median step.

Shapes: B windows, T context points, H horizon steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ..earth.geometry import step_between, step_from
from ..evaluation.metrics import ade_m, displacement_m, mean_over_windows
from ..interface.answers import Forecast
from ..interface.contexts import Context

FITTED_STEPS = 10
NUM_GRID = 30  # places of the coarse grid over log tau


@dataclass(frozen=True)
class ForecastBaseline(ABC):
    """An answerer that goes on from the last point by a velocity of its own."""

    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("forecast",)

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def moved_m(self, context: Context, elapsed_s_BH: Tensor) -> tuple[Tensor, Tensor]:
        """Metres east and north (B, H) of the last point, so many seconds after it."""

    def forecast(
        self, context: Context, num_horizon: int, target_time_s_BH: Tensor | None = None
    ) -> Forecast:
        """The points at the target times, or at those that the median step predicts."""
        time_s_BH = target_time_s_BH
        if time_s_BH is None:
            time_s_BH = predicted_time_s(context, num_horizon)
        lon_deg_B1, lat_deg_B1, last_s_B1 = context.last_B1()
        moved_m = self.moved_m(context, time_s_BH - last_s_B1)
        points = (*step_from(lon_deg_B1, lat_deg_B1, *moved_m), time_s_BH)
        return Forecast.of([value_BH.unsqueeze(1) for value_BH in points])


@dataclass(frozen=True)
class LastPosition(ForecastBaseline):
    """Stand still at the last point."""

    name: ClassVar[str] = "last_position"

    def moved_m(self, context: Context, elapsed_s_BH: Tensor) -> tuple[Tensor, Tensor]:
        still_m_BH = torch.zeros_like(elapsed_s_BH)
        return still_m_BH, still_m_BH


@dataclass(frozen=True)
class ConstantVelocity(ForecastBaseline):
    """Go on with the speed and course of the last step, or of the last few taken as one."""

    num_steps: int = 1

    @property
    def name(self) -> str:
        return "constant_velocity" + (f"_{self.num_steps}" if self.num_steps > 1 else "")

    def moved_m(self, context: Context, elapsed_s_BH: Tensor) -> tuple[Tensor, Tensor]:
        east_mps_B, north_mps_B = arrival_velocity_mps(context, self.num_steps)
        return east_mps_B[:, None] * elapsed_s_BH, north_mps_B[:, None] * elapsed_s_BH


@dataclass(frozen=True)
class DampedVelocity(ForecastBaseline):
    """Start with the velocity of the last step, which decays as exp(-t / tau)."""

    tau_s: float
    name: ClassVar[str] = "damped_velocity"

    def moved_m(self, context: Context, elapsed_s_BH: Tensor) -> tuple[Tensor, Tensor]:
        east_mps_B, north_mps_B = arrival_velocity_mps(context)
        driven_s_BH = self.driven_s(elapsed_s_BH)
        return east_mps_B[:, None] * driven_s_BH, north_mps_B[:, None] * driven_s_BH

    def driven_s(self, elapsed_s: Tensor) -> Tensor:
        """Integral of exp(-t / tau): the time in which full speed would lead as far."""
        if self.tau_s == 0:
            return torch.zeros_like(elapsed_s)
        if math.isinf(self.tau_s):
            return elapsed_s
        return -self.tau_s * torch.expm1(-elapsed_s / self.tau_s)

    @classmethod
    def fit(
        cls,
        context: Context,
        lon_deg_BH: Tensor,
        lat_deg_BH: Tensor,
        time_s_BH: Tensor,
        is_target_BH: Tensor | None = None,
    ) -> DampedVelocity:
        """The time constant with the least mean ADE over the first steps of the given windows.

        Standing still (0) and constant velocity (infinity) are candidates as well.
        """
        num_steps = min(FITTED_STEPS, time_s_BH.shape[1])
        lon_deg_BH, lat_deg_BH, time_s_BH = (
            value_BH[:, :num_steps] for value_BH in (lon_deg_BH, lat_deg_BH, time_s_BH)
        )
        if is_target_BH is None:
            is_target_BH = torch.ones_like(time_s_BH, dtype=torch.bool)
        is_target_BH = is_target_BH[:, :num_steps]

        def error_m(tau_s: float) -> float:
            found = cls(tau_s).forecast(context, num_steps, time_s_BH)
            away_m_BH = displacement_m(found.lon_deg_BH, found.lat_deg_BH, lon_deg_BH, lat_deg_BH)
            return mean_over_windows(ade_m(away_m_BH, is_target_BH, num_steps))

        elapsed_s = (time_s_BH - context.last_B1()[2])[is_target_BH]
        elapsed_s = elapsed_s[elapsed_s > 0]
        if len(elapsed_s) == 0 or math.isnan(error_m(math.inf)):
            raise ValueError(f"no window of {num_steps} steps to fit the damped velocity on")
        inner = _least_tau_s(error_m, 1e-3 * float(elapsed_s.min()), 1e4 * float(elapsed_s.max()))
        # In order of preference where errors are equal: the simpler baseline.
        return cls(min((math.inf, 0.0, inner), key=error_m))


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


def _least_tau_s(error_m: Callable[[float], float], low_s: float, high_s: float) -> float:
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
