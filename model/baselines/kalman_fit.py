"""Kalman fit: the noise of each bank that errs least on windows of train, over a small grid.

All windows are followed at once for each place of the grid. Only the ratio of the noises decides a
forecast of one motion, so that the drive is searched first and the size of a fix follows from how
far the first forecast step misses.

Shapes: B windows, T context points, H horizon steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from ..earth.geometry import haversine_m
from ..interface.contexts import Context, Partial
from .forecast import FITTED_STEPS
from .kalman import Bank, Motion
from .kalman_forecast import KalmanForecast
from .kalman_smoother import KalmanRecovery

FITTED_WINDOWS = 512  # enough for two numbers, and seconds of work
VELOCITY_DRIVES = tuple(10.0**power for power in range(-4, 4))
ACCELERATION_DRIVES = tuple(10.0**power for power in range(-6, 4))
FINER = tuple(10.0 ** (power / 4) for power in (-2, -1, 1, 2))  # around the best of a grid
TURNS_RAD = (0.05, 0.1, 0.2, 0.4)
SOJOURN_STEPS = (10.0, 40.0)
LEAST_FIX_M = 1e-3
KEPT = (2, 4, 8)  # one point of so many stays where hidden ones are recovered
_SHARES = torch.tensor([0.5, 0.8, 0.95], dtype=torch.float64)


@dataclass(frozen=True)
class Whole:
    """Windows of which every point is known: contexts, and what came after them."""

    context: Context
    lon_deg_BH: Tensor
    lat_deg_BH: Tensor
    time_s_BH: Tensor

    @classmethod
    def of(
        cls,
        context: Context,
        lon_deg_BH: Tensor,
        lat_deg_BH: Tensor,
        time_s_BH: Tensor,
        is_target_BH: Tensor,
    ) -> Whole:
        """Some windows, spread evenly, and of each the first steps."""
        num_steps = min(FITTED_STEPS, time_s_BH.shape[1])
        chosen = is_target_BH[:, :num_steps].all(dim=1).nonzero()[:, 0]
        if not len(chosen):
            raise ValueError(f"no window of {num_steps} steps to fit Kalman filters on")
        chosen = chosen[:: math.ceil(len(chosen) / FITTED_WINDOWS)]
        columns = (value[chosen, :num_steps] for value in (lon_deg_BH, lat_deg_BH, time_s_BH))
        return cls(context.at(chosen), *columns)

    def step_s(self) -> float:
        """The typical step of the contexts."""
        step_s_BT = self.context.time_s_BT.diff(dim=1)
        step_s = step_s_BT[~self.context.is_pad_BT[:, 1:] & (step_s_BT > 0)]
        return float(step_s.median()) if len(step_s) else 1.0

    def away_m(self, one: KalmanForecast) -> tuple[Tensor, Tensor]:
        """How far (B, H) forecasts are off, and the standard deviation that they tell."""
        told = replace(one, radii=(1.0, 1.0, 1.0)).forecast(
            self.context, self.time_s_BH.shape[1], self.time_s_BH
        )
        points = told.lon_deg_BH, told.lat_deg_BH, self.lon_deg_BH, self.lat_deg_BH
        return haversine_m(*points), told.radius_p50_m_BH

    def error_m(self, one: KalmanForecast) -> float:
        return float(self.away_m(one)[0].mean())


def fitted_filters(windows: Whole) -> list[KalmanForecast]:
    """Constant velocity, constant acceleration, constant turn, and the mixture of all."""
    velocity = fitted_alone("kalman_velocity", Motion(1.0), VELOCITY_DRIVES, windows)
    pushed = Motion(1.0, has_acceleration=True)
    acceleration = fitted_alone("kalman_acceleration", pushed, ACCELERATION_DRIVES, windows)
    turn = fitted_turn("kalman_turn", velocity, windows)
    motions = (*turn.bank.motions, *acceleration.bank.motions)
    mixture = KalmanForecast("kalman_mixture", replace(turn.bank, motions=motions))
    return [calibrated(found, windows) for found in (velocity, acceleration, turn, mixture)]


def fitted_alone(
    name: str, motion: Motion, drives: Sequence[float], windows: Whole
) -> KalmanForecast:
    """One motion, of the drive that errs least; the size of a fix is that of the first misses."""

    def driven(drive: float) -> KalmanForecast:
        return KalmanForecast(name, Bank((replace(motion, drive=drive),), windows.step_s()))

    found = driven(_least(drives, lambda drive: windows.error_m(driven(drive))))
    away_m_BH, deviation_m_BH = windows.away_m(found)
    # The mean of how far a round normal distribution lies from its middle.
    expected_m = math.sqrt(math.pi / 2) * float(deviation_m_BH[:, 0].mean())
    fix_m = max(float(away_m_BH[:, 0].mean()) / expected_m, LEAST_FIX_M)
    return replace(found, bank=replace(found.bank, fix_m=fix_m))


def fitted_turn(name: str, velocity: KalmanForecast, windows: Whole) -> KalmanForecast:
    """Straight on, to the left and to the right, with changes between them."""
    (straight,) = velocity.bank.motions

    def turning(turn_rad: float, sojourn_steps: float) -> KalmanForecast:
        turns = (replace(straight, turn_rad=turn) for turn in (-turn_rad, turn_rad))
        motions = (straight, *turns)
        bank = replace(velocity.bank, motions=motions, sojourn_steps=sojourn_steps)
        return KalmanForecast(name, bank)

    return min((turning(*pair) for pair in product(TURNS_RAD, SOJOURN_STEPS)), key=windows.error_m)


def calibrated(found: KalmanForecast, windows: Whole) -> KalmanForecast:
    """The same with radii that hold 50, 80 and 95 % of what the windows tell."""
    away_m_BH, deviation_m_BH = windows.away_m(found)
    p50, p80, p95 = torch.quantile((away_m_BH / deviation_m_BH).flatten(), _SHARES).tolist()
    return replace(found, radii=(p50, p80, p95))


def fitted_smoothers(windows: Whole) -> list[KalmanRecovery]:
    """Smoothers of constant velocity and of constant acceleration."""
    return [
        fitted_smoother(name, motion, drives, windows)
        for name, motion, drives in (
            ("rts_velocity", Motion(1.0), VELOCITY_DRIVES),
            ("rts_acceleration", Motion(1.0, has_acceleration=True), ACCELERATION_DRIVES),
        )
    ]


def fitted_smoother(
    name: str, motion: Motion, drives: Sequence[float], windows: Whole
) -> KalmanRecovery:
    """One motion, of the drive that fills in hidden points best."""
    asked, truth = with_gaps(windows)

    def driven(drive: float) -> KalmanRecovery:
        return KalmanRecovery(name, Bank((replace(motion, drive=drive),), windows.step_s()))

    def error_m(drive: float) -> float:
        told = driven(drive).recover(asked)
        points = told.lon_deg_BT, told.lat_deg_BT, truth.lon_deg_BT, truth.lat_deg_BT
        return float(haversine_m(*points)[told.is_recovered_BT].mean())

    return driven(_least(drives, error_m))


def with_gaps(windows: Whole) -> tuple[Partial, Context]:
    """Windows of which few points stay, the ends among them, and the truth."""
    truth = windows.context.extended(windows.lon_deg_BH, windows.lat_deg_BH, windows.time_s_BH)
    slot_T = torch.arange(truth.is_pad_BT.shape[1])
    kept_B1 = torch.tensor(KEPT).repeat(len(truth.started_us_B))[: len(truth.started_us_B), None]
    is_end_BT = slot_T == truth.num_points_B.unsqueeze(1) - 1
    whole = Partial.of(truth, 0, None)
    shows_place_BT = whole.shows_place_BT & ((slot_T % kept_B1 == 0) | is_end_BT)
    shows_time_BT = ~truth.is_pad_BT
    return replace(whole, shows_place_BT=shows_place_BT, shows_time_BT=shows_time_BT), truth


def _least(values: Sequence[float], error_m: Callable[[float], float]) -> float:
    """The value of the least error: of a coarse grid, then of a finer one around its best."""
    best = min(values, key=error_m)
    return min((best, *(best * factor for factor in FINER)), key=error_m)
