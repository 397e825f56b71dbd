"""Past trips: forecasts from memory alone, what the nearest crops of train did next.

A crop is a path of train up to one of its points. Crops are near where they are in place and in
motion: the distance is that of metres in space together with the velocity times `motion_s`.

Shapes: B windows, N points, P crops, K neighbours, H horizon steps, F numbers of a key.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..earth.arrays import Floats, Ints
from ..earth.columns import Columns
from ..earth.geometry import step_between, step_from
from ..interface.answers import Forecast
from ..interface.contexts import Context
from ..interface.flat_points import Pieces, context_of
from ..interface.memory.paths import PastPaths, in_space_m
from .forecast import arrival_velocity_mps, damped_velocity, predicted_time_s
from .windows import Windows

MAX_CROPS = 400_000
LONGEST_LAG = 8  # points back that a key looks
CROPS_AT_ONCE = 65_536
LEAST = np.finfo(float).tiny
CHOSEN_STEPS = 5  # of the horizon
NUM_CANDIDATES = 3  # of each neighbour that is wanted
MOTION_STEPS = (10, 40, 160, 640, 2560)  # median steps, of which the fit chooses
NEIGHBOURS = (12, 6, 24)  # the first where the other choice is made
TAU_STEPS = (0.0, 1.0, 3.0, 10.0, math.inf)  # median steps


@dataclass(frozen=True)
class Crops:
    """Points of train at which a path is cut, and the place and motion there, in a tree of keys."""

    paths: PastPaths
    now_P: Ints
    motion_P: Motion
    motion_s: float
    tree: cKDTree

    @classmethod
    def of(cls, paths: PastPaths, now_P: Ints, motion_P: Motion, motion_s: float) -> Crops:
        return cls(paths, now_P, motion_P, motion_s, cKDTree(motion_P.keys(motion_s)))

    def nearest(
        self, context: Context, num_neighbours: int, asked_us_B: Ints
    ) -> tuple[Floats, Ints]:
        """Distances and crops (B, K): first those of paths that go on as long as is asked.

        Whatever is of the asked entity itself is left out: its distance is infinite.
        """
        key_BF, kin_B = Motion.of(context).keys(self.motion_s), self._kin(context)
        num_found = min(NUM_CANDIDATES * num_neighbours, len(self.now_P))
        distance_BK = np.full((len(kin_B), num_neighbours), np.inf)
        crop_BK = np.zeros(distance_BK.shape, np.int64)
        rows = np.arange(len(kin_B))
        while len(rows):
            away_QK, crop_QK = self.tree.query(key_BF[rows], k=np.arange(1, num_found + 1))
            now_QK = self.now_P[crop_QK]
            kin_QK = self.paths.kin_R[self.paths.points.trajectory_N[now_QK]]
            away_QK[kin_QK == kin_B[rows, None]] = np.inf
            is_short_QK = self.paths.left_us(now_QK) < asked_us_B[rows, None]
            order_QK = np.lexsort((away_QK, is_short_QK, np.isinf(away_QK)))[:, :num_neighbours]
            width = order_QK.shape[1]
            distance_BK[rows, :width] = np.take_along_axis(away_QK, order_QK, 1)
            crop_BK[rows, :width] = np.take_along_axis(crop_QK, order_QK, 1)
            if num_found == len(self.now_P):
                break
            # Only a row that needs more is asked again, so that no row depends on another.
            rows = rows[np.isinf(distance_BK[rows]).any(axis=1)]
            num_found = min(8 * num_found, len(self.now_P))
        return distance_BK, crop_BK

    def _kin(self, context: Context) -> Ints:
        lon_deg_B, lat_deg_B, time_s_B = (value[:, 0].numpy() for value in context.last_B1())
        instant_us_B = context.started_us_B.numpy() + np.rint(time_s_B * 1e6).astype(np.int64)
        return self.paths.kin_at(instant_us_B, lon_deg_B, lat_deg_B)


@dataclass(frozen=True)
class Motion(Columns):
    """Places in space, and velocities over the last step, the last three and the last eight."""

    place_m_PC: Floats
    last_mps_PC: Floats
    third_mps_PC: Floats
    eighth_mps_PC: Floats

    @classmethod
    def of(cls, context: Context) -> Motion:
        """At the last points of contexts."""
        lon_deg_P1, lat_deg_P1, _ = context.last_B1()
        velocities = (
            np.stack([axis_P.numpy() for axis_P in arrival_velocity_mps(context, lag)], axis=1)
            for lag in (1, 3, LONGEST_LAG)
        )
        return cls(in_space_m(lon_deg_P1[:, 0].numpy(), lat_deg_P1[:, 0].numpy()), *velocities)

    @classmethod
    def at_points(cls, paths: PastPaths, now_P: Ints) -> Motion:
        """At points of paths."""
        parts = [cls.of(context) for context in _contexts(paths, now_P)]
        columns = ([getattr(part, name) for part in parts] for name in parts[0].columns())
        return cls(*(np.concatenate(column) for column in columns))

    def keys(self, motion_s: float) -> Floats:
        """The place, the mean of the first two velocities, and half of the third, in metres."""
        early_m_PC = motion_s * (self.last_mps_PC + self.third_mps_PC) / 2
        late_m_PC = motion_s * self.eighth_mps_PC / 2
        return np.concatenate([self.place_m_PC, early_m_PC, late_m_PC], axis=1)


@dataclass(frozen=True)
class PastTrips:
    """An answerer that goes on as its neighbours did, seen from where each of them was.

    What it is faster than a neighbour it stays for a while: the difference decays as
    exp(-t / tau_s). The forecast is the mean of neighbours by a Gaussian kernel as wide as their
    root mean square distance; the samples are the neighbours themselves. A neighbour whose path is
    over stays at its end. With no neighbour at all nothing moves.
    """

    crops: Crops
    num_neighbours: int
    tau_s: float = 0.0
    name: ClassVar[str] = "past_trips"
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
        elapsed_s_BH = (time_s_BH - last_s_B1).clamp(min=0)
        longest_us_B = _us(elapsed_s_BH.amax(dim=1))
        distance_BK, crop_BK = self.crops.nearest(context, self.num_neighbours, longest_us_B)
        weight_BK1 = torch.from_numpy(_kernel(distance_BK)).unsqueeze(-1)
        moved_m = [
            torch.cat([(axis_m * weight_BK1).sum(1, keepdim=True), axis_m], dim=1)
            for axis_m in self._moved_m(context, elapsed_s_BH, crop_BK, weight_BK1)
        ]
        places = step_from(lon_deg_B1.unsqueeze(-1), lat_deg_B1.unsqueeze(-1), *moved_m)
        return Forecast.of([*places, time_s_BH.unsqueeze(1).expand_as(places[0])])

    def _moved_m(
        self, context: Context, elapsed_s_BH: Tensor, crop_BK: Ints, weight_BK1: Tensor
    ) -> Iterator[Tensor]:
        """Metres east, then north, of each neighbour (B, K, H); 0 of one that has no weight."""
        paths, now_BK1 = self.crops.paths, self.crops.now_P[crop_BK][..., None]
        now_BKH = np.repeat(now_BK1, elapsed_s_BH.shape[1], axis=2)
        ends = paths.place_after(now_BKH, _us(elapsed_s_BH)[:, None])
        driven_s_B1H = damped_velocity(self.tau_s).driven_s(elapsed_s_BH).unsqueeze(1)
        faster_mps_BKC = torch.from_numpy(
            Motion.of(context).last_mps_PC[:, None] - self.crops.motion_P.last_mps_PC[crop_BK]
        )
        went_m = step_between(*paths.place(now_BK1), *ends)
        for axis_m_BKH, faster_mps_BK in zip(went_m, faster_mps_BKC.unbind(-1), strict=True):
            moved_m_BKH = axis_m_BKH + faster_mps_BK.unsqueeze(-1) * driven_s_B1H
            yield moved_m_BKH.where(weight_BK1 > 0, 0.0)


def _kernel(distance_BK: Floats) -> Floats:
    """Weights (B, K) that sum to 1; an infinite distance has none."""
    is_there_BK = np.isfinite(distance_BK)
    square_BK = np.where(is_there_BK, distance_BK, 0.0) ** 2
    num_B1 = np.maximum(is_there_BK.sum(1, keepdims=True), 1)
    width_B1 = np.maximum(square_BK.sum(1, keepdims=True) / num_B1, LEAST)
    weight_BK: Floats = np.exp(-square_BK / (2 * width_B1)) * is_there_BK
    return weight_BK / np.maximum(weight_BK.sum(1, keepdims=True), LEAST)


def _us(seconds: Tensor) -> Ints:
    return np.rint(seconds.numpy() * 1e6).astype(np.int64)


# Fitting ----------------------------------------------------------------------------------------


def cut_points(paths: PastPaths) -> Ints:
    """Points of train that have one before and one after them, evenly spread if they are many."""
    is_inner_N = np.ones(len(paths.along_us_N), bool)
    is_inner_N[paths.offset_R[:-1]] = is_inner_N[paths.offset_R[1:] - 1] = False
    (inner,) = np.nonzero(is_inner_N)
    return inner[:: max(1, -(-len(inner) // MAX_CROPS))]


def fitted_past_trips(paths: PastPaths, windows: Windows) -> PastTrips:
    """The memory with the least mean ADE on validation windows, chosen one number at a time."""
    now_P, step_s = cut_points(paths), paths.median_step_s
    asked = windows.at_some_steps(CHOSEN_STEPS)

    def error_m(one: PastTrips) -> float:
        return float(asked.miss_m_BH(one).nanmean())

    motion_P = Motion.at_points(paths, now_P)
    tried = (Crops.of(paths, now_P, motion_P, steps * step_s) for steps in MOTION_STEPS)
    best = min((PastTrips(crops, NEIGHBOURS[0]) for crops in tried), key=error_m)
    best = min((replace(best, num_neighbours=num) for num in NEIGHBOURS), key=error_m)
    return min((replace(best, tau_s=steps * step_s) for steps in TAU_STEPS), key=error_m)


def _contexts(paths: PastPaths, now_P: Ints) -> Iterator[Context]:
    """The last points of crops, some crops at a time."""
    for first in range(0, len(now_P), CROPS_AT_ONCE):
        part = now_P[first : first + CROPS_AT_ONCE]
        start = paths.offset_R[paths.points.trajectory_N[part]]
        begin, end = np.maximum(start, part - LONGEST_LAG), part + 1
        yield context_of(paths.points, Pieces(begin, end, begin, end), "UTC")
