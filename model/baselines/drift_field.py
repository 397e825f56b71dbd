"""Drift field: the mean velocity of train by cell and month, towards which one's own decays.

For what is carried along, such as ice in a current, or keeps to lanes. The means are of all of
train: who asks about an entity of train asks about one that they hold.

Shapes: B windows, N points, V cells, M months, C coordinates (east, north), H horizon steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..earth.arrays import Floats, Ints
from ..earth.cells import cells_of
from ..earth.geometry import step_between, step_from
from ..interface.answers import Forecast
from ..interface.contexts import Context
from ..interface.memory.paths import PastPaths
from .forecast import arrival_velocity_mps, damped_velocity, predicted_time_s
from .windows import Windows

MONTHS = 12
MAX_STEPS = 500_000  # of train, spread evenly
PRIOR_STEPS = 20  # median steps of standing still in every cell, and of its own mean in every month
RESOLUTIONS = (1, 2, 3, 4, 6)  # of H3, from 480 to 4 km across; of which the fit chooses
TAU_STEPS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, math.inf)  # median steps


@dataclass(frozen=True)
class DriftField:
    """An answerer whose velocity becomes that of its cell and month: the rest decays.

    The rest decays as exp(-t / tau_s). Where train never was nothing drifts: it is the damped
    velocity there, and everywhere if there are no cells.
    """

    resolution: int
    cell_V: Ints
    drift_mps_VMC: Floats
    tau_s: float
    name: ClassVar[str] = "drift_field"
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
        elapsed_s_BH = time_s_BH - last_s_B1
        driven_s_BH = damped_velocity(self.tau_s).driven_s(elapsed_s_BH)
        drift_mps = torch.from_numpy(self.drift_mps(context)).unbind(-1)
        moved_m = (
            drift_B[:, None] * (elapsed_s_BH - driven_s_BH) + own_B[:, None] * driven_s_BH
            for drift_B, own_B in zip(drift_mps, arrival_velocity_mps(context), strict=True)
        )
        points = (*step_from(lon_deg_B1, lat_deg_B1, *moved_m), time_s_BH)
        return Forecast.of([value_BH.unsqueeze(1) for value_BH in points])

    def drift_mps(self, context: Context) -> Floats:
        """The drift (B, C) where and when contexts end."""
        lon_deg_B, lat_deg_B, time_s_B = (value[:, 0].numpy() for value in context.last_B1())
        drift_mps_BC = np.zeros((len(time_s_B), 2))
        if len(self.cell_V):
            cell_B = cells_of(lon_deg_B, lat_deg_B, self.resolution)
            instant_us_B = context.started_us_B.numpy() + np.rint(time_s_B * 1e6).astype(np.int64)
            at_B = np.minimum(np.searchsorted(self.cell_V, cell_B), len(self.cell_V) - 1)
            is_known_B = self.cell_V[at_B] == cell_B
            found_BC = self.drift_mps_VMC[at_B, month_of(instant_us_B)]
            drift_mps_BC[is_known_B] = found_BC[is_known_B]
        return drift_mps_BC


def drift_field(paths: PastPaths, resolution: int, tau_s: float) -> DriftField:
    """The field of the steps of train, each in the cell and the month in which it begins."""
    points = paths.points
    (start_Q,) = np.nonzero(np.diff(points.trajectory_N) == 0)
    start_Q = start_Q[:: max(1, -(-len(start_Q) // MAX_STEPS))]
    step_s_Q = np.diff(points.instant_us_N)[start_Q] / 1e6
    moved_m = step_between(*paths.place(start_Q), *paths.place(start_Q + 1))
    cell_Q = cells_of(points.lon_deg_N[start_Q], points.lat_deg_N[start_Q], resolution)
    cell_V, number_Q = np.unique(cell_Q, return_inverse=True)
    place_Q = number_Q * MONTHS + month_of(points.instant_us_N[start_Q])
    metres_VMC, seconds_VM1 = (
        np.stack([np.bincount(place_Q, value_Q, len(cell_V) * MONTHS) for value_Q in columns], -1)
        for columns in ([axis_m.numpy() for axis_m in moved_m], [step_s_Q])
    )
    metres_VMC = metres_VMC.reshape(-1, MONTHS, 2)
    seconds_VM1 = seconds_VM1.reshape(-1, MONTHS, 1)
    prior_s = max(PRIOR_STEPS * float(np.median(step_s_Q)), 1.0)
    mean_mps_V1C = metres_VMC.sum(1, keepdims=True) / (seconds_VM1.sum(1, keepdims=True) + prior_s)
    drift_mps_VMC = (metres_VMC + prior_s * mean_mps_V1C) / (seconds_VM1 + prior_s)
    return DriftField(resolution, cell_V, drift_mps_VMC, tau_s)


def fitted_drift_field(paths: PastPaths, windows: Windows) -> DriftField:
    """The field of train with the least mean ADE on validation windows, or none at all."""

    def error_m(one: DriftField) -> float:
        return float(windows.miss_m_BH(one).nanmean())

    nowhere = DriftField(0, np.zeros(0, np.int64), np.zeros((0, MONTHS, 2)), 0.0)
    fields = [nowhere, *(drift_field(paths, resolution, 0.0) for resolution in RESOLUTIONS)]
    taus_s = [steps * paths.median_step_s for steps in TAU_STEPS]
    return min((replace(one, tau_s=tau_s) for one in fields for tau_s in taus_s), key=error_m)


def month_of(instant_us: Ints) -> Ints:
    """Months of the year, from 0, by UTC."""
    return instant_us.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64) % MONTHS
