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

import numba
import numpy as np

from ..earth.arrays import Floats, Ints
from ..earth.constants import EARTH_RADIUS_M


@dataclass(frozen=True)
class Interval:
    """Log-normal seconds between points: the logarithm is normal with deviation `spread`."""

    median_s: float = 10.0
    spread: float = 0.3

    def draw_s(self, generator: np.random.Generator, num: int) -> Floats:
        return self.median_s * np.exp(self.spread * generator.standard_normal(num))

    def nll(self, interval_s: Floats) -> Floats:
        """Surprise of each interval, in nats of the density over seconds."""
        deviation = (np.log(interval_s) - math.log(self.median_s)) / self.spread
        return np.log(interval_s * self.spread * math.sqrt(2 * math.pi)) + deviation**2 / 2

    @property
    def entropy(self) -> float:
        """Mean surprise, the least that any model can reach, in nats."""
        return math.log(self.median_s * self.spread) + (1 + math.log(2 * math.pi)) / 2


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

    @property
    def _move(self) -> Floats:
        return np.array([[1.0, self.persistence], [0.0, self.persistence]])

    @property
    def _prior(self) -> Floats:
        """Covariance of the state after the first observation, before which nothing is known."""
        return np.diag([self.noise_m**2, self.step_sigma_m**2])

    def _ahead(self, covariance: Floats) -> Floats:
        """Covariance of the state one step later, before it is observed."""
        return self._move @ covariance @ self._move.T + self.innovation_m**2

    def _gain(self, ahead: Floats) -> Floats:
        """Kalman gain of an observed position."""
        return ahead[:, 0] / (ahead[0, 0] + self.noise_m**2)

    def one_step(self, seen_BTC: Floats) -> tuple[Floats, Floats]:
        """Best forecast of each seen position but the first: means (B, T-1, C), variances (T-1).

        `seen_BTC` holds metres in the frame of the steps: their running sum.
        """
        covariance, state = self._prior, np.stack([seen_BTC[:, 0], 0 * seen_BTC[:, 0]])
        mean, variance = [], []
        for t in range(1, seen_BTC.shape[1]):
            state, covariance = np.einsum("ij,jbc->ibc", self._move, state), self._ahead(covariance)
            mean.append(state[0])
            variance.append(covariance[0, 0] + self.noise_m**2)
            gain = self._gain(covariance)
            state = state + gain[:, None, None] * (seen_BTC[:, t] - state[0])
            covariance = covariance - np.outer(gain, covariance[0])
        return np.stack(mean, axis=1), np.array(variance)

    def nll(self, seen_BTC: Floats) -> Floats:
        """Exact surprise (B, T-1) of each seen position given those before it, both axes, nats."""
        mean, variance = self.one_step(seen_BTC)
        squared = ((seen_BTC[:, 1:] - mean) ** 2).sum(axis=-1)
        return np.log(2 * math.pi * variance) + squared / (2 * variance)

    @cached_property
    def settled(self) -> Floats:
        """Covariance of the state after an observation, once the past is long enough."""
        covariance = self._prior
        while True:
            ahead = self._ahead(covariance)
            following = ahead - np.outer(self._gain(ahead), ahead[0])
            if np.allclose(following, covariance, rtol=1e-13, atol=1e-13):
                return following
            covariance = following

    @property
    def one_step_variance_m2(self) -> float:
        """Variance on one axis of the best one-step forecast after a long past."""
        return float(self._ahead(self.settled)[0, 0]) + self.noise_m**2

    @property
    def entropy(self) -> float:
        """Mean surprise of a seen position after a long past, both axes, in nats: the floor."""
        return 1 + math.log(2 * math.pi * self.one_step_variance_m2)

    def forecast_sigma_m(self, num_steps: int) -> float:
        """Deviation on one axis of the best forecast of a seen position so many steps ahead."""
        covariance = self.settled
        for _ in range(num_steps):
            covariance = self._ahead(covariance)
        return math.sqrt(covariance[0, 0] + self.noise_m**2)

    def displacement_floor_m(self, num_steps: int) -> float:
        """Mean displacement of the best forecast: the mean of a Rayleigh distribution."""
        return self.forecast_sigma_m(num_steps) * math.sqrt(math.pi / 2)


@numba.njit(nogil=True)
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

    @property
    def entropy(self) -> float:
        """Entropy rate: the least mean surprise of the next region, in nats."""
        transition = self.transition_RR[self.transition_RR > 0]
        share = np.broadcast_to(self.stationary_R[:, None], self.transition_RR.shape)
        return float(-(share[self.transition_RR > 0] * transition * np.log(transition)).sum())

    def nll(self, region_T: Ints) -> Floats:
        """Surprise of each region but the first, given the one before, in nats."""
        with np.errstate(divide="ignore"):
            return -np.log(self.transition_RR[region_T[:-1], region_T[1:]])

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


_moved = numba.njit(nogil=True)(moved)


@numba.njit(nogil=True)
def walked(lon_deg: float, lat_deg: float, step_TC: Floats) -> tuple[Floats, Floats]:
    """Places after each step, each taken in the frame of the place that it starts from."""
    lon_T, lat_T = np.empty(step_TC.shape[0]), np.empty(step_TC.shape[0])
    place: Any = (lon_deg, lat_deg)
    for t in range(step_TC.shape[0]):
        place = _moved(place[0], place[1], step_TC[t, 0], step_TC[t, 1])
        lon_T[t], lat_T[t] = place
    return lon_T, lat_T
