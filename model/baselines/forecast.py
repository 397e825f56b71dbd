"""What a model has to beat: simple forecasts on the sphere, all behind one call.

Every baseline goes on along the great circle on which it arrived: at the last point the course is
the one of arrival there (the final azimuth), not the initial azimuth of the step that led to it.
Contexts have no pads and their times do not decrease. Target times may be the true ones (track
"times given") or come from `predicted_time_s` (track "times predicted").

Shapes: B windows, T context points, H horizon steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..earth.geometry import step_between, step_from
from ..evaluation.metrics import ade_m, displacement_m, mean_over_windows

FITTED_STEPS = 10
GOLDEN = (math.sqrt(5) - 1) / 2


class Baseline(Protocol):
    """A forecast from a context alone."""

    @property
    def name(self) -> str: ...

    def forecast(
        self,
        context_lon_deg_BT: Tensor,
        context_lat_deg_BT: Tensor,
        context_time_s_BT: Tensor,
        target_time_s_BH: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(lon_deg_BH, lat_deg_BH) at the target times."""
        ...


@dataclass(frozen=True)
class LastPosition:
    """Stand still at the last point."""

    name: ClassVar[str] = "last_position"

    def forecast(
        self,
        context_lon_deg_BT: Tensor,
        context_lat_deg_BT: Tensor,
        context_time_s_BT: Tensor,
        target_time_s_BH: Tensor,
    ) -> tuple[Tensor, Tensor]:
        shape = target_time_s_BH.shape
        return context_lon_deg_BT[:, -1:].expand(shape), context_lat_deg_BT[:, -1:].expand(shape)


@dataclass(frozen=True)
class ConstantVelocity:
    """Go on with the speed and course of the last step, or of the last few taken as one."""

    num_steps: int = 1

    @property
    def name(self) -> str:
        return "constant_velocity" + (f"_{self.num_steps}" if self.num_steps > 1 else "")

    def forecast(
        self,
        context_lon_deg_BT: Tensor,
        context_lat_deg_BT: Tensor,
        context_time_s_BT: Tensor,
        target_time_s_BH: Tensor,
    ) -> tuple[Tensor, Tensor]:
        context = (context_lon_deg_BT, context_lat_deg_BT, context_time_s_BT)
        east_mps_B, north_mps_B = arrival_velocity_mps(*context, self.num_steps)
        elapsed_s_BH = target_time_s_BH - context_time_s_BT[:, -1:]
        return _advance(*context[:2], east_mps_B, north_mps_B, elapsed_s_BH)


@dataclass(frozen=True)
class DampedVelocity:
    """Start with the velocity of the last step, which decays as exp(-t / tau)."""

    tau_s: float
    name: ClassVar[str] = "damped_velocity"

    def forecast(
        self,
        context_lon_deg_BT: Tensor,
        context_lat_deg_BT: Tensor,
        context_time_s_BT: Tensor,
        target_time_s_BH: Tensor,
    ) -> tuple[Tensor, Tensor]:
        context = (context_lon_deg_BT, context_lat_deg_BT, context_time_s_BT)
        east_mps_B, north_mps_B = arrival_velocity_mps(*context)
        driven_s_BH = self.driven_s(target_time_s_BH - context_time_s_BT[:, -1:])
        return _advance(*context[:2], east_mps_B, north_mps_B, driven_s_BH)

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
        context_lon_deg_BT: Tensor,
        context_lat_deg_BT: Tensor,
        context_time_s_BT: Tensor,
        target_lon_deg_BH: Tensor,
        target_lat_deg_BH: Tensor,
        target_time_s_BH: Tensor,
        is_target_BH: Tensor | None = None,
        num_steps: int = FITTED_STEPS,
    ) -> DampedVelocity:
        """The time constant with the least mean ADE over `num_steps` of the given windows.

        Standing still (0) and constant velocity (infinity) are candidates as well.
        """
        context = (context_lon_deg_BT, context_lat_deg_BT, context_time_s_BT)
        num_steps = min(num_steps, target_time_s_BH.shape[1])
        lon_deg_BH, lat_deg_BH = target_lon_deg_BH[:, :num_steps], target_lat_deg_BH[:, :num_steps]
        time_s_BH = target_time_s_BH[:, :num_steps]
        if is_target_BH is None:
            is_target_BH = torch.ones_like(target_time_s_BH, dtype=torch.bool)
        is_target_BH = is_target_BH[:, :num_steps]

        def error_m(tau_s: float) -> float:
            forecast = cls(tau_s).forecast(*context, time_s_BH)
            displacement_BH = displacement_m(*forecast, lon_deg_BH, lat_deg_BH)
            return mean_over_windows(ade_m(displacement_BH, is_target_BH, num_steps))

        elapsed_s = (time_s_BH - context_time_s_BT[:, -1:])[is_target_BH]
        elapsed_s = elapsed_s[elapsed_s > 0]
        if len(elapsed_s) == 0 or math.isnan(error_m(math.inf)):
            raise ValueError(f"no window of {num_steps} steps to fit the damped velocity on")
        inner = _least_tau_s(error_m, 1e-3 * float(elapsed_s.min()), 1e4 * float(elapsed_s.max()))
        # In order of preference where errors are equal: the simpler baseline.
        return cls(min((math.inf, 0.0, inner), key=error_m))


def simple_baselines(damped: DampedVelocity) -> tuple[Baseline, ...]:
    """The baselines of every table, the fitted one included."""
    return LastPosition(), ConstantVelocity(), ConstantVelocity(num_steps=3), damped


def predicted_time_s(context_time_s_BT: Tensor, num_horizon: int) -> Tensor:
    """Target times (B, H) that go on with the context's median step."""
    # The middle two averaged: torch's own median takes the lower one.
    step_s_B = context_time_s_BT.diff(dim=1).quantile(0.5, dim=1)
    number_H = torch.arange(1, num_horizon + 1, dtype=context_time_s_BT.dtype)
    return context_time_s_BT[:, -1:] + step_s_B[:, None] * number_H.to(context_time_s_BT.device)


def arrival_velocity_mps(
    lon_deg_BT: Tensor, lat_deg_BT: Tensor, time_s_BT: Tensor, num_steps: int = 1
) -> tuple[Tensor, Tensor]:
    """Speed east and north (B) on arrival, over the last `num_steps` steps taken as one.

    The last of them is the last step that took any time; where there is none, the speed is zero.
    """
    place_T = torch.arange(time_s_BT.shape[1], device=time_s_BT.device)
    took_time_BT = torch.zeros_like(time_s_BT, dtype=torch.bool)
    took_time_BT[:, 1:] = time_s_BT.diff(dim=1) > 0
    end_B = (took_time_BT * place_T).amax(dim=1)
    start_B = (end_B - num_steps).clamp(min=0)

    def at(value_BT: Tensor, place_B: Tensor) -> Tensor:
        return value_BT.gather(1, place_B[:, None])[:, 0]

    start, end = (
        (at(lon_deg_BT, place_B), at(lat_deg_BT, place_B)) for place_B in (start_B, end_B)
    )
    elapsed_s_B = at(time_s_BT, end_B) - at(time_s_BT, start_B)
    # The step back, seen from the end, reversed: the course on arrival.
    back_east_m_B, back_north_m_B = step_between(*end, *start)
    rate_B = torch.where(elapsed_s_B > 0, -1.0 / elapsed_s_B, 0.0)
    return back_east_m_B * rate_B, back_north_m_B * rate_B


def _advance(
    lon_deg_BT: Tensor, lat_deg_BT: Tensor, east_mps_B: Tensor, north_mps_B: Tensor, s_BH: Tensor
) -> tuple[Tensor, Tensor]:
    east_m_BH, north_m_BH = east_mps_B[:, None] * s_BH, north_mps_B[:, None] * s_BH
    return step_from(lon_deg_BT[:, -1:], lat_deg_BT[:, -1:], east_m_BH, north_m_BH)


def _least_tau_s(error_m: Callable[[float], float], low_s: float, high_s: float) -> float:
    """Golden section over log tau, inside the best part of a coarse grid.

    The grid is there because the mean of many windows need not have a single valley.
    """
    grid = torch.linspace(math.log(low_s), math.log(high_s), 30, dtype=torch.float64).tolist()
    errors = [error_m(math.exp(value)) for value in grid]
    best = errors.index(min(errors))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    left_error, right_error = error_m(math.exp(left)), error_m(math.exp(right))
    while high - low > 1e-4:
        if left_error <= right_error:
            high, right, right_error = right, left, left_error
            left = high - GOLDEN * (high - low)
            left_error = error_m(math.exp(left))
        else:
            low, left, left_error = left, right, right_error
            right = low + GOLDEN * (high - low)
            right_error = error_m(math.exp(right))
    return math.exp((low + high) / 2)
