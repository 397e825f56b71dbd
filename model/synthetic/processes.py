"""Stochastic processes whose best possible forecast is known: no model can do better than it.

`Ar1` is a Gaussian AR(1) process of steps, seen with Gaussian noise; the Kalman filter is its best
forecast. `RegionChain` is a fixed Markov chain over the cells of a square, and its entropy rate is
the least mean surprise. `Interval` is the log-normal time between two points of either.

Shapes: B trajectories, T points, C coordinates (east, north), R regions.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..earth.arrays import Floats, Ints
from ..earth.compiled import compiled
from ..earth.constants import EARTH_RADIUS_M


@dataclass(frozen=True)
class Interval:
    """Log-normal seconds between points: the logarithm is normal with deviation `spread`."""

    median_s: float = 10.0
    spread: float = 0.3

    def draw_s(self, generator: np.random.Generator, num: int) -> Floats:
        return self.median_s * np.exp(self.spread * generator.standard_normal(num))


@dataclass(frozen=True)
class Ar1:
    """Steps s' = persistence s + innovation_m e, and positions seen with noise_m, on each axis.

    The state of an axis is (position, last step). Noise is not truncated: the law stays Gaussian.
    """

    persistence: float = 0.9
    innovation_m: float = 5.0
    noise_m: float = 0.0

    @property
    def step_sigma_m(self) -> float:
        """Standard deviation of a step on one axis, once and for ever."""
        return self.innovation_m / math.sqrt(1 - self.persistence**2)

    def draw_steps_m(self, generator: np.random.Generator, num: int) -> Floats:
        """Steps `step_TC`, stationary from the first one on."""
        step_TC = generator.standard_normal((num, 2)) * self.innovation_m
        step_TC[0] *= self.step_sigma_m / self.innovation_m
        return _persist(step_TC, self.persistence)


@compiled
def _persist(step_TC: Floats, persistence: float) -> Floats:
    """Add to each step its share of the step before, in place."""
    for t in range(1, step_TC.shape[0]):
        step_TC[t] += persistence * step_TC[t - 1]
    return step_TC


@dataclass(frozen=True)
class RegionChain:
    """A walk over `side` x `side` cells: stay, or go to one of the neighbours that share an edge.

    Cells differ in attraction, so that where one is tells where one goes.
    """

    side: int = 5
    stay: float = 0.4

    @property
    def num_regions(self) -> int:
        return self.side**2

    @cached_property
    def transition_RR(self) -> Floats:
        """P(next region | region); each row adds up to one."""
        column_R, row_R = self.places(np.arange(self.num_regions))
        apart_RR = np.abs(column_R[:, None] - column_R) + np.abs(row_R[:, None] - row_R)
        attraction_R = 1.0 + 7 * np.arange(self.num_regions) % 11
        weight_RR = np.where(apart_RR == 1, attraction_R, 0.0)
        leaving_RR = (1 - self.stay) * weight_RR / weight_RR.sum(axis=1, keepdims=True)
        return leaving_RR + self.stay * np.eye(self.num_regions)

    @cached_property
    def stationary_R(self) -> Floats:
        """Share of time in each region: the left eigenvector of the chain to the value 1."""
        system = np.vstack(
            [self.transition_RR.T - np.eye(self.num_regions), np.ones((1, self.num_regions))]
        )
        target = np.append(np.zeros(self.num_regions), 1.0)
        return np.linalg.lstsq(system, target)[0]

    def draw(self, generator: np.random.Generator, num: int) -> Ints:
        """Regions of so many points, stationary from the first one on."""
        first, *rows = self._cumulated
        chance = generator.random(num).tolist()
        regions = [bisect_right(first, chance[0])]
        for value in chance[1:]:
            regions.append(bisect_right(rows[regions[-1]], value))
        return np.array(regions)

    @cached_property
    def _cumulated(self) -> list[list[float]]:
        """Running sums of the shares of time, then of each row of the chain."""
        sums = np.cumsum(np.vstack([self.stationary_R, self.transition_RR]), axis=1)
        # Rounding must not leave a sliver beyond the last region that can be reached.
        sums[sums > 1 - 1e-12] = 1.0
        return [row.tolist() for row in sums]

    def places(self, region: Ints) -> tuple[Floats, Floats]:
        """Column and row of regions, counted from the middle of the square."""
        middle = np.float64(self.side - 1) / 2
        return region % self.side - middle, region // self.side - middle


def moved(
    lon_deg: Floats, lat_deg: Floats, east_m: Floats, north_m: Floats
) -> tuple[Floats, Floats]:
    """The place that a step reaches: `geometry.step_from`, for NumPy, which needs no torch."""
    distance_m = np.hypot(east_m, north_m)
    angle = distance_m / EARTH_RADIUS_M
    sine_per_m = np.sin(angle) / np.maximum(distance_m, 1e-300)
    sin_east, sin_north, cosine = east_m * sine_per_m, north_m * sine_per_m, np.cos(angle)
    sin_lat, cos_lat = np.sin(np.radians(lat_deg)), np.cos(np.radians(lat_deg))
    outward = cos_lat * cosine - sin_lat * sin_north
    upward = sin_lat * cosine + cos_lat * sin_north
    end_lat_deg = np.degrees(np.arctan2(upward, np.hypot(outward, sin_east)))
    end_lon_deg = lon_deg + np.degrees(np.arctan2(sin_east, outward))
    wrapped_deg = end_lon_deg - 360.0 * np.floor((end_lon_deg + 180.0) / 360.0)
    # The sum rounds within an ulp of the date line; -180 is the one name of that meridian.
    is_outside = np.abs(wrapped_deg) >= 180.0
    return wrapped_deg * (1 - is_outside) - 180.0 * is_outside, end_lat_deg


_moved = compiled(moved)


@compiled
def walked(lon_deg: float, lat_deg: float, step_TC: Floats) -> tuple[Floats, Floats]:
    """Places after each step, each taken in the frame of the place that it starts from."""
    lon_T, lat_T = np.empty(step_TC.shape[0]), np.empty(step_TC.shape[0])
    place: Any = (lon_deg, lat_deg)
    for t in range(step_TC.shape[0]):
        place = _moved(place[0], place[1], step_TC[t, 0], step_TC[t, 1])
        lon_T[t], lat_T[t] = place
    return lon_T, lat_T
