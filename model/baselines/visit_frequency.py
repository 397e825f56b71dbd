"""Visit frequency: P(next region) from counts of train and of one's own history.

Laws stand on one another: each draws its shares to those of a parent (`visit_counts`), and the last
parent is how often train went anywhere. There a visit more is spread evenly over what a visit can
be, which is a region or an unknown one: so each of them has some probability in every law, and ids
that are no visit, like pads, have none.

A law is fitted with the probability that it gives to each target of train with that target left
out of the counts: this is what chooses its numbers, so that no other visits are needed for it.

Shapes: N histories or targets, R ids of the vocabulary, B rows, V visits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..earth.arrays import Floats, Ints
from ..features.places import NUM_SPECIAL, Special
from ..interface.visit_batch import VisitBatch
from .visit_counts import ContextCounts, fitted_strength, others, shrunk
from .visit_history import Context, Origins, PastVisits

LEAST_STAY = 0.5  # the law of staying always thinks it likelier than not
HALF_LIVES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # visits


class RegionLaw(Protocol):
    def probability(self, history: VisitBatch) -> Tensor:
        """P(region) of each id of the vocabulary (N, R) behind each history."""
        ...


class Fitted(NamedTuple):
    """A law, and what it says of each target of train that is left out."""

    law: RegionLaw
    probability_N: Floats


@dataclass(frozen=True)
class Frequency:
    """How often train went to each region, from anywhere at any time."""

    share_R: Tensor

    @classmethod
    def of(cls, region_N: Ints, num_ids: int, spread: float = 1.0) -> Frequency:
        """Of visits, and of so many more that are spread evenly."""
        count_R = np.bincount(region_N, minlength=num_ids) + spread * _even(num_ids)
        return cls(torch.from_numpy(count_R / count_R.sum()))

    def probability(self, history: VisitBatch) -> Tensor:
        return self.share_R.expand(len(history.region_BV), -1)


@dataclass(frozen=True)
class ContextFrequency:
    """How often train went there in the same context: at the hour of the week, or from there."""

    context: Context
    counts: ContextCounts
    parent: RegionLaw
    strength: float = 0.0
    discount: float = 0.0

    def probability(self, history: VisitBatch) -> Tensor:
        count_NR = self.counts.found(Origins.last(history).key_N(self.context))
        parent_NR = self.parent.probability(history)
        return shrunk(count_NR, parent_NR, self.strength, self.discount)


@dataclass(frozen=True)
class OwnFrequency:
    """How often the history itself was there; a visit loses half its weight in a half-life."""

    num_ids: int
    parent: RegionLaw
    half_life: float = math.inf  # visits
    strength: float = 0.0
    discount: float = 0.0

    def probability(self, history: VisitBatch) -> Tensor:
        count_NR = own_counts(history, self.num_ids, self.half_life)
        parent_NR = self.parent.probability(history)
        return shrunk(count_NR, parent_NR, self.strength, self.discount)


@dataclass(frozen=True)
class Staying:
    """The region of the last visit with a fixed share, and anything else by its frequency."""

    share: float
    parent: RegionLaw

    def probability(self, history: VisitBatch) -> Tensor:
        parent_NR = self.parent.probability(history)
        last_N1 = Origins.last(history).region_N.unsqueeze(-1)
        same_NR = torch.zeros_like(parent_NR).scatter(-1, last_N1, 1.0)
        return self.share * same_NR + (1 - self.share) * parent_NR


def own_counts(history: VisitBatch, num_ids: int, half_life: float = math.inf) -> Tensor:
    """Visits of each id in each history (N, R), as `Walk.own_counts` weighs them."""
    is_pad_BV = history.is_pad_BV
    last_B1 = (~is_pad_BV).sum(1, keepdim=True) - 1
    age_BV = (last_B1 - torch.arange(is_pad_BV.shape[1])).clamp(min=0).double()
    weight_BV = torch.where(is_pad_BV, 0.0, 0.5 ** (age_BV / half_life))
    count_BR = torch.zeros(len(is_pad_BV), num_ids, dtype=torch.float64)
    return count_BR.scatter_add(1, history.region_BV, weight_BV)


def _even(num_ids: int) -> Floats:
    """Equal shares of all that a visit can be."""
    share_R = np.zeros(num_ids)
    share_R[[Special.UNKNOWN, *range(NUM_SPECIAL, num_ids)]] = 1 / (num_ids - NUM_SPECIAL + 1)
    return share_R


# Fitting ----------------------------------------------------------------------------------------


def frequency(past: PastVisits) -> Fitted:
    num_ids, region_N = past.places.num_ids, past.region_N
    told_N = (others(region_N) + _even(num_ids)[region_N]) / len(region_N)
    return Fitted(Frequency.of(region_N, num_ids), told_N)


def context_frequency(past: PastVisits, context: Context, parent: Fitted) -> Fitted:
    """With the strength of the parent with which targets that are left out are likeliest."""
    key_N, num_ids = past.origins.key_N(context), past.places.num_ids
    _, kind_N = np.unique(key_N, return_inverse=True)
    same_N = others(kind_N * num_ids + past.region_N)
    strength, told_N = fitted_strength(same_N, others(kind_N), parent.probability_N)
    counts = ContextCounts.of_values(key_N, past.region_N, num_ids)
    return Fitted(ContextFrequency(context, counts, parent.law, strength), told_N)


def own_frequency(
    past: PastVisits, parent: Fitted, half_lives: Sequence[float] = (math.inf,)
) -> Fitted:
    """With the half-life and the strength with which each target follows likeliest."""
    tried = {
        half_life: fitted_strength(*past.own_counts(half_life), parent.probability_N)
        for half_life in half_lives
    }
    half_life = max(tried, key=lambda one: float(np.log(tried[one][1]).sum()))
    strength, told_N = tried[half_life]
    return Fitted(OwnFrequency(past.places.num_ids, parent.law, half_life, strength), told_N)


def staying(past: PastVisits, parent: Fitted) -> Staying:
    """With the share of train, but so large that to stay is always the first answer."""
    is_same_N = past.origins.region_N.numpy() == past.region_N
    share = (is_same_N.sum() + 1) / (len(is_same_N) + 2)
    return Staying(max(float(share), LEAST_STAY), parent.law)
