"""Exploration and preferential return (Song et al. 2010, EPR), where next goes back or anew.

One who was in S different regions goes to a new one with probability rho S^-gamma, and otherwise
back to one of these as often as the history was there. A new one is drawn by how often train was
there, divided by a power of the distance (as d-EPR does, Pappalardo et al. 2015).

Shapes: N histories or targets, S numbers of regions, R ids of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ..earth.arrays import Floats, Ints
from ..features.places import Places
from ..interface.visit_batch import VisitBatch
from .visit_frequency import Frequency, own_counts
from .visit_history import Origins, PastVisits

NEAR_M = 500.0  # added to distances, so that what is next door is not infinitely near
POWERS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
RHO_BOUNDS, GAMMA_BOUNDS = (1e-3, 0.999), (0.0, 5.0)  # to go back is never impossible, nor to go on
MOST_NEW, AT_ONCE = 4_096, 512  # new visits of train that choose the power, evenly spread


@dataclass(frozen=True)
class Exploration:
    rho: float
    gamma: float
    power: float
    frequency: Frequency
    places: Places

    def probability(self, history: VisitBatch) -> Tensor:
        own_NR = own_counts(history, self.places.num_ids)
        num_known_N1 = (own_NR > 0).sum(-1, keepdim=True)
        pull_NR = self.pull(Origins.last(history)).where(own_NR == 0, 0.0)
        all_N1 = pull_NR.sum(-1, keepdim=True)
        new_N1 = self.rho * num_known_N1.clamp(min=1).double() ** -self.gamma
        new_N1 = new_N1.where(all_N1 > 0, 0.0).where(num_known_N1 > 0, 1.0)
        back_NR = own_NR / own_NR.sum(-1, keepdim=True).clamp(min=1)
        tiny = torch.finfo(torch.float64).tiny
        return new_N1 * pull_NR / all_N1.clamp(min=tiny) + (1 - new_N1) * back_NR

    def pull(self, origins: Origins) -> Tensor:
        """What draws to each region (N, R), were it new."""
        away_m_NR = origins.distances_m(self.places) + NEAR_M
        return self.frequency.share_R * (away_m_NR / NEAR_M) ** -self.power


# Fitting ----------------------------------------------------------------------------------------


def exploration(past: PastVisits) -> Exploration:
    """All numbers by maximum likelihood."""
    rho, gamma = fitted_newness(*past.novelty())
    new = NewVisits.of(past)
    frequency = Frequency.of(past.region_N, past.places.num_ids)
    tried = (Exploration(rho, gamma, power, frequency, past.places) for power in POWERS)
    return max(tried, key=new.log_likelihood)


def fitted_newness(num_known_N: Ints, is_new_N: Ints) -> tuple[float, float]:
    """(rho, gamma) that make it likeliest which targets were new."""
    num_new_S, num_old_S = (
        np.bincount(num_known_N, weights) for weights in (is_new_N, 1 - is_new_N)
    )
    log_known_S = np.log(np.maximum(np.arange(len(num_new_S)), 1))

    def surprise(numbers: Floats) -> float:
        log_new_S = np.log(numbers[0]) - numbers[1] * log_known_S
        log_old_S = np.log1p(-np.exp(log_new_S))
        return -float((num_new_S * log_new_S + num_old_S * log_old_S).sum())

    found = minimize(surprise, [0.5, 0.5], method="L-BFGS-B", bounds=[RHO_BOUNDS, GAMMA_BOUNDS])
    return float(found.x[0]), float(found.x[1])


@dataclass(frozen=True)
class NewVisits:
    """Targets of train in regions that are new in their window, and where each was before."""

    origins: Origins
    region_N: Tensor
    known: tuple[Ints, ...]

    @classmethod
    def of(cls, past: PastVisits) -> NewVisits:
        (new,) = np.nonzero(past.novelty()[1])
        chosen = new[:: -(-len(new) // MOST_NEW) or 1]
        before = [walk.region_V[:place] for walk in past.walks for place in walk.asked_A]
        known = tuple(np.unique(before[target]) for target in chosen)
        return cls(past.origins.at(chosen), past.asked.region_N[chosen], known)

    def log_likelihood(self, law: Exploration) -> float:
        """Of the regions that they are in, given that these are new."""
        return sum(
            self._part(law, slice(first, first + AT_ONCE))
            for first in range(0, len(self.known), AT_ONCE)
        )

    def _part(self, law: Exploration, part: slice) -> float:
        pull_NR = law.pull(self.origins.at(part))
        for pull_R, known in zip(pull_NR, self.known[part], strict=True):
            pull_R[torch.from_numpy(known)] = 0.0
        asked_N1 = pull_NR.gather(1, self.region_N[part].unsqueeze(1))
        return float((asked_N1 / pull_NR.sum(1, keepdim=True)).log().sum())
