"""Visit counts: how often values came in contexts of train, and how shares are made of them.

Shares of few visits are drawn to those of a wider law, their parent: with counts c of n visits and
of t different values,

    P(value) = (max(c - discount, 0) + (strength + discount t) parent(value)) / (n + strength).

Without a discount the parent counts like so many visits more (a Dirichlet prior). Without a
strength it is interpolated Kneser-Ney, whose discount is that of Ney, Essen and Kneser (1994).

Shapes: N visits, C contexts, K values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ..earth.arrays import Floats, Ints

STRENGTHS = tuple(2.0**power for power in range(-4, 12))
DISCOUNTS = (0.1, 0.9)  # the least and the most: nothing is told by its parent alone, or never


@dataclass(frozen=True)
class ContextCounts:
    """Counts of each context that train knows, by its key; those of others are zero."""

    key_C: Ints
    count_CK: csr_array

    @classmethod
    def of(cls, key_N: Ints, count_NK: csr_array) -> ContextCounts:
        """The sums of what single visits count for."""
        key_C, context_N = np.unique(key_N, return_inverse=True)
        place = (context_N, np.arange(len(key_N)))
        member_CN = csr_array((np.ones(len(key_N)), place), shape=(len(key_C), len(key_N)))
        return cls(key_C, csr_array(member_CN @ count_NK))

    @classmethod
    def of_values(cls, key_N: Ints, value_N: Ints, num_values: int) -> ContextCounts:
        place = (np.arange(len(key_N)), value_N)
        one_NK = csr_array((np.ones(len(key_N)), place), shape=(len(key_N), num_values))
        return cls.of(key_N, one_NK)

    def found(self, key_N: Ints) -> Tensor:
        """The counts in the contexts of some visits (N, K)."""
        if not len(self.key_C):
            return torch.zeros(len(key_N), self.count_CK.shape[1], dtype=torch.float64)
        context_N = np.minimum(np.searchsorted(self.key_C, key_N), len(self.key_C) - 1)
        is_known_N1 = (self.key_C[context_N] == key_N)[:, None]
        return torch.from_numpy(self.count_CK[context_N].toarray() * is_known_N1)


def shrunk(count_NK: Tensor, parent_NK: Tensor, strength: float, discount: float = 0.0) -> Tensor:
    """Shares (N, K) of counts; those of the parent where nothing was counted."""
    num_N1 = count_NK.sum(-1, keepdim=True)
    # Of doubles: whole numbers times a fraction would be of single precision.
    num_different_N1 = (count_NK > 0).double().sum(-1, keepdim=True)
    seen_NK = (count_NK - discount).clamp(min=0)
    rest_N1 = strength + discount * num_different_N1
    share_NK = (seen_NK + rest_N1 * parent_NK) / (num_N1 + strength)
    return torch.where(num_N1 > 0, share_NK, parent_NK)


def fitted_strength(
    count_N: Floats | Ints, total_N: Floats | Ints, parent_N: Floats
) -> tuple[float, Floats]:
    """The strength with which targets are likeliest, and the probability of each with it.

    Counts are of what each target is told by, itself left out: its value's, and those of all.
    """

    def told_N(strength: float) -> Floats:
        return (count_N + strength * parent_N) / (total_N + strength)

    best = max(STRENGTHS, key=lambda strength: float(np.log(told_N(strength)).sum()))
    return best, told_N(best)


def others(key_N: Ints) -> Ints:
    """How many other visits have the same key."""
    _, kind_N, num_K = np.unique(key_N, return_inverse=True, return_counts=True)
    num_others_N: Ints = num_K[kind_N] - 1
    return num_others_N


def discount_of(count: Floats | Ints) -> float:
    """n1 / (n1 + 2 n2), where so many counts are one and two; kept between `DISCOUNTS`."""
    num_once, num_twice = (int((count == times).sum()) for times in (1, 2))
    return float(np.clip(num_once / max(num_once + 2 * num_twice, 1), *DISCOUNTS))
