"""Markov chains of regions: where train went from there, and from there after there.

Kneser-Ney backs off from two regions to one, to the own history, to the hour of the week and to
all of train. The chain of one region and the last parent count different contexts in which a region
was seen, and not visits: they are asked about what the level above did not see.

Shapes: N targets of train, C columns, P pairs of regions.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..earth.arrays import Ints
from .visit_counts import ContextCounts, discount_of
from .visit_frequency import (
    ContextFrequency,
    Fitted,
    Frequency,
    OwnFrequency,
    RegionLaw,
    context_frequency,
)
from .visit_history import Context, PastVisits, Walk


def markov_1(past: PastVisits, parent: Fitted) -> Fitted:
    """P(region | the last one)."""
    return context_frequency(past, "region", parent)


def markov_2(past: PastVisits, parent: Fitted) -> Fitted:
    """P(region | the last two), drawn to P(region | the last one)."""
    return context_frequency(past, "pair", markov_1(past, parent))


def kneser_ney(past: PastVisits) -> RegionLaw:
    every = continued_frequency(past)
    by_hour = discounted(past, "hour", every)
    own = OwnFrequency(past.places.num_ids, by_hour, discount=own_discount(past.walks))
    one = discounted(past, "region", own, is_continuation=True)
    return discounted(past, "pair", one)


def continued_frequency(past: PastVisits, spread: float = 1.0) -> Frequency:
    """From how many different regions train went to each."""
    pair_2P = np.unique(np.stack([past.origins.key_N("region"), past.region_N]), axis=1)
    return Frequency.of(pair_2P[1], past.places.num_ids, spread)


def discounted(
    past: PastVisits,
    context: Context,
    parent: RegionLaw,
    is_continuation: bool = False,
    discount: float | None = None,
) -> ContextFrequency:
    """A level of Kneser-Ney: counts of visits, or of the different regions before the last one."""
    told_NC = np.stack(
        [past.origins.before_N.numpy(), past.origins.key_N(context), past.region_N], axis=1
    )
    if is_continuation:
        told_NC = np.unique(told_NC, axis=0)
    key_N, region_N = told_NC[:, 1], told_NC[:, 2]
    counts = ContextCounts.of_values(key_N, region_N, past.places.num_ids)
    chosen = discount_of(counts.count_CK.data) if discount is None else discount
    return ContextFrequency(context, counts, parent, discount=chosen)


def own_discount(walks: Iterable[Walk]) -> float:
    """The discount of how often windows were anywhere."""
    counts: list[Ints] = [np.unique(walk.region_V, return_counts=True)[1] for walk in walks]
    return discount_of(np.concatenate(counts))
