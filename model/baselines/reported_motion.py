"""Reported motion: dead reckoning by the speed and course that a source reports itself.

Ships and aircraft tell their motion over ground, as their receivers measure it, beside each place.
A ship keeps its course on the rhumb line; an aircraft goes on along the great circle.

Shapes: B windows, H horizon steps, C components of a velocity (east, north).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..earth.geometry import rhumb_from, step_from
from ..interface.answers import Forecast
from ..interface.contexts import Context
from .forecast import CONSTANT_VELOCITY

Reach = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ReportedMotion:
    """An answerer that goes on as was reported at the last known point, and nowhere else.

    `reach` is the line on which it does. Where nothing was reported it is constant velocity.
    """

    name: str
    reach: Reach
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("forecast",)

    def forecast(
        self, context: Context, num_horizon: int, target_time_s_BH: Tensor | None = None
    ) -> Forecast:
        """The points at the target times, or at those that the median step predicts."""
        kept = CONSTANT_VELOCITY.forecast(context, num_horizon, target_time_s_BH)
        lon_deg_B1, lat_deg_B1, last_s_B1 = context.last_B1()
        reported_mps_BC = context.reported_last_mps_BC()
        elapsed_s_BH = kept.time_s_BH - last_s_B1
        moved_m = (elapsed_s_BH * way_mps_B1 for way_mps_B1 in reported_mps_BC.split(1, dim=1))
        lon_deg_BH, lat_deg_BH = self.reach(lon_deg_B1, lat_deg_B1, *moved_m)
        is_told_B1 = reported_mps_BC.isfinite().all(dim=1, keepdim=True)
        return replace(
            kept,
            lon_deg_BH=torch.where(is_told_B1, lon_deg_BH, kept.lon_deg_BH),
            lat_deg_BH=torch.where(is_told_B1, lat_deg_BH, kept.lat_deg_BH),
        )


REPORTED_RHUMB_LINE = ReportedMotion("reported_rhumb_line", rhumb_from)
REPORTED_GREAT_CIRCLE = ReportedMotion("reported_great_circle", step_from)
