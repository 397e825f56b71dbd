"""Visit law: a made-up person whose next region, travel and stay follow densities that are known.

Regions follow a Markov chain over the cells of a square. The way to a region takes log-normal
seconds around a median of its own, or none at all with a small share. A stay is log-normal too,
around a median that grows with the region and with the way there, and never shorter than an edge:
what is shorter is drawn again. So the surprise that no model can go below is a formula.

Shapes: V visits, R regions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from ..earth.arrays import Floats, Ints
from .processes import RegionChain

LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class VisitLaw:
    """Medians in seconds, and deviations of the logarithm."""

    chain: RegionChain = field(default_factory=lambda: RegionChain(side=4, stay=0.0))
    at_once: float = 0.1  # the share of travels that take no time
    travel_s: float = 600.0
    travel_spread: float = 0.3
    stay_s: float = 2_400.0
    stay_spread: float = 0.6
    least_stay_s: float = 1_200.0

    def draw(self, generator: np.random.Generator, num_visits: int) -> tuple[Ints, Floats, Floats]:
        """Regions, seconds of travel to each, the first being zero, and seconds of stays (V)."""
        region_V = self.chain.draw(generator, num_visits)
        deviate_V = generator.standard_normal(num_visits)
        travel_s_V: Floats = self.travel_median_s(region_V) * np.exp(self.travel_spread * deviate_V)
        travel_s_V[generator.random(num_visits) < self.at_once] = 0.0
        travel_s_V[0] = 0.0
        # Of a normal deviate above the edge alone, by the inverse of its distribution.
        median_V = self.stay_median_s(region_V, travel_s_V)
        below_V = special.ndtr(self._edge(median_V))
        share_V = below_V + (1 - below_V) * generator.random(num_visits)
        stay_s_V: Floats = median_V * np.exp(self.stay_spread * special.ndtri(share_V))
        return region_V, travel_s_V, np.maximum(stay_s_V, self.least_stay_s)

    def travel_median_s(self, region_V: Ints) -> Floats:
        medians_s_V: Floats = self.travel_s * (1.0 + region_V.astype(np.float64) % 3)
        return medians_s_V

    def stay_median_s(self, region_V: Ints, travel_s_V: Floats) -> Floats:
        return self.stay_s * (1.0 + region_V % 4) * (1 + travel_s_V / self.travel_s) ** 0.3

    def travel_nll(self, region_V: Ints, travel_s_V: Floats) -> Floats:
        """Surprise of each travel given where it leads, in nats of seconds."""
        way_s_V = np.where(travel_s_V > 0, travel_s_V, 1.0)
        error_V = np.log(way_s_V / self.travel_median_s(region_V)) / self.travel_spread
        way_V = _log_normal_nll(error_V, self.travel_spread, way_s_V) - math.log1p(-self.at_once)
        at_once = -math.log(self.at_once) if self.at_once else math.inf
        return np.where(travel_s_V > 0, way_V, at_once)

    def stay_nll(self, region_V: Ints, travel_s_V: Floats, stay_s_V: Floats) -> Floats:
        """Surprise of each stay given where it is and the way there, in nats of seconds."""
        median_V = self.stay_median_s(region_V, travel_s_V)
        error_V = np.log(stay_s_V / median_V) / self.stay_spread
        above_V = special.log_ndtr(-self._edge(median_V))
        return _log_normal_nll(error_V, self.stay_spread, stay_s_V) + above_V

    def _edge(self, median_V: Floats) -> Floats:
        return np.log(self.least_stay_s / median_V) / self.stay_spread


def _log_normal_nll(error_V: Floats, spread: float, seconds_V: Floats) -> Floats:
    return error_V**2 / 2 + LOG_TWO_PI / 2 + np.log(spread * seconds_V)
