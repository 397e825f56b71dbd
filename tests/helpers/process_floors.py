"""Process floors: the best forecast of each law of `model.synthetic.processes`, and its surprise.

Shapes: B trajectories, T points, C coordinates (east, north).
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np

from model.earth.arrays import Floats, Ints
from model.synthetic.processes import Ar1, Interval, RegionChain


@dataclass(frozen=True)
class IntervalFloor(Interval):
    """The intervals with the surprise that no model can go below."""

    @classmethod
    def of(cls, law: Interval) -> IntervalFloor:
        return cls(*astuple(law))

    def nll(self, interval_s: Floats) -> Floats:
        """Surprise of each interval, in nats of the density over seconds."""
        deviation = (np.log(interval_s) - math.log(self.median_s)) / self.spread
        return np.log(interval_s * self.spread * math.sqrt(2 * math.pi)) + deviation**2 / 2

    @property
    def entropy(self) -> float:
        """Mean surprise, the least that any model can reach, in nats."""
        return math.log(self.median_s * self.spread) + (1 + math.log(2 * math.pi)) / 2


@dataclass(frozen=True)
class Ar1Floor(Ar1):
    """The AR(1) process with its Kalman filter, started at the first observation."""

    @classmethod
    def of(cls, law: Ar1) -> Ar1Floor:
        return cls(*astuple(law))

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


@dataclass(frozen=True)
class RegionChainFloor(RegionChain):
    """The chain with its entropy rate."""

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
