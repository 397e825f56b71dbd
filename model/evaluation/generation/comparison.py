"""Comparison: a number that two sets of trips have, with an interval over their entities.

Every number is a function of the weights of trips, so that a resample of entities only weighs the
trips anew: distances between distributions, shares, and the area under a ROC curve.

Shapes: A and B trips of either set, N values, K bins, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import rel_entr

from ...earth.arrays import Bools, Floats, Ints
from ..metrics import INTERVAL, resamples

OfWeights = Callable[[Floats, Floats], float]
NUM_RESAMPLES = 200


@dataclass(frozen=True)
class Comparison:
    """What it is by the weights of the trips of both sets, and the entity of each of these."""

    of_weights: OfWeights
    group_A: Ints
    group_B: Ints
    most: float = 1.0  # that it can be
    least: float = 0.0

    @classmethod
    def of_one(
        cls, of_weights: OfWeights, group_A: Ints, most: float = 1.0, least: float = 0.0
    ) -> Comparison:
        """A number of one set alone."""
        return cls(of_weights, group_A, np.zeros(1, np.int64), most, least)

    def value(self) -> float:
        """Of trips that all weigh the same."""
        return self.of_weights(np.ones(len(self.group_A)), np.ones(len(self.group_B)))

    def interval(self, seed: int, num_resamples: int = NUM_RESAMPLES) -> tuple[float, float]:
        """95 % bootstrap of both sets, whole entities drawn with replacement.

        A resample repeats entities, so that it lies farther from anything than the set itself does.
        The interval is moved by that much: the mean of the resamples onto the value.
        """
        drawn_R = self.drawn(seed, num_resamples)
        ends = np.quantile(drawn_R, INTERVAL) - drawn_R.mean() + self.value()
        low, high = np.clip(ends, self.least, self.most).tolist()
        return low, high

    def drawn(self, seed: int, num_resamples: int) -> Floats:
        """The number (R) of each resample: where the entities are the same, these are, too."""
        weights = (
            drawn_weights(group, seed + number, num_resamples)
            for number, group in enumerate((self.group_A, self.group_B))
        )
        return np.array([self.of_weights(*pair) for pair in zip(*weights, strict=True)])


def skill_over(
    one: Comparison, bar: Comparison, seed: int, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, float, float]:
    """The share of the bar's number that one is without, and its interval by the same resamples."""
    drawn_R = 1 - one.drawn(seed, num_resamples) / bar.drawn(seed, num_resamples)
    skill = 1 - one.value() / bar.value()
    low, high = (np.quantile(drawn_R, INTERVAL) - drawn_R.mean() + skill).tolist()
    return skill, low, high


def drawn_weights(group_A: Ints, seed: int, num_resamples: int) -> Iterator[Floats]:
    """How often each trip is in each resample."""
    num_groups = int(group_A.max()) + 1
    for drawn_RG in resamples(num_groups, seed, num_resamples):
        for drawn_G in drawn_RG:
            yield np.bincount(drawn_G, minlength=num_groups)[group_A].astype(float)


# Values -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Values:
    """Numbers of trips, any number of each: of a trip, of its steps, of its points."""

    value_N: Floats | Ints | Bools
    trip_N: Ints

    @classmethod
    def of_trips(cls, value_A: Floats | Ints | Bools) -> Values:
        return cls(value_A, np.arange(len(value_A)))


def wasserstein_1(a: Values, b: Values, period: float | None = None) -> OfWeights:
    """The least mean way from the values of one set to those of the other, in their unit.

    It is the area between the distributions. On a circle of a `period` they may be turned against
    each other first (Rabin, Delon and Gousseau 2011).
    """
    value_N = np.concatenate([a.value_N, b.value_N])
    order_N = np.argsort(value_N, kind="stable")
    sorted_N = value_N[order_N]

    def of_weights(weight_A: Floats, weight_B: Floats) -> float:
        mass_a_N, mass_b_N = weight_A[a.trip_N], weight_B[b.trip_N]
        if not (mass_a_N.any() and mass_b_N.any()):
            return math.nan
        mass_N = np.concatenate([mass_a_N / mass_a_N.sum(), -mass_b_N / mass_b_N.sum()])
        ahead_N = np.cumsum(mass_N[order_N])
        if period is None:
            return float(np.abs(ahead_N[:-1]) @ np.diff(sorted_N))
        gap_N = np.diff(sorted_N, append=sorted_N[:1] + period)
        return float(np.abs(ahead_N - _weighted_median(ahead_N, gap_N)) @ gap_N)

    return of_weights


def jensen_shannon_bits(bin_a: Values, bin_b: Values) -> OfWeights:
    """Jensen-Shannon divergence of bins in base 2: 0 of equal shares, 1 where none is shared.

    It is the divergence and not its root. Bins are known by their number alone.
    """
    counts = _counts(bin_a, bin_b)

    def of_weights(weight_A: Floats, weight_B: Floats) -> float:
        return _divergence_bits(*counts(weight_A, weight_B))

    return of_weights


def rank_divergence_bits(bin_a: Values, bin_b: Values) -> OfWeights:
    """The same of bins in the order of how full they are: of the rank-frequency curves (Zipf)."""
    counts = _counts(bin_a, bin_b)

    def of_weights(weight_A: Floats, weight_B: Floats) -> float:
        return _divergence_bits(*(np.sort(count_K) for count_K in counts(weight_A, weight_B)))

    return of_weights


def share_of(is_so: Values) -> OfWeights:
    """The share of the first set's values that are one and not zero."""

    def of_weights(weight_A: Floats, weight_B: Floats) -> float:
        weight_N = weight_A[is_so.trip_N]
        total = weight_N.sum()
        return float(weight_N @ is_so.value_N / total) if total else math.nan

    return of_weights


def area_under_roc(a: Floats, b: Floats, part_A: Ints, part_B: Ints) -> OfWeights:
    """The chance that a score of the first set is above one of the second in the same part.

    Equal scores count half. Scores of different parts come from different models, and are not
    compared (Forman and Scholz 2010).
    """
    score = np.unique(np.concatenate([a, b]), return_inverse=True)[1]
    num_scores = int(score.max(initial=-1)) + 1
    place_A, place_B = (
        part * num_scores + place
        for part, place in ((part_A, score[: len(a)]), (part_B, score[len(a) :]))
    )
    num_parts = int(max(part_A.max(initial=-1), part_B.max(initial=-1))) + 1
    shape = (num_parts, num_scores)

    def of_weights(weight_A: Floats, weight_B: Floats) -> float:
        mass_a_PS, mass_b_PS = (
            np.bincount(place, weight, math.prod(shape)).reshape(shape)
            for place, weight in ((place_A, weight_A), (place_B, weight_B))
        )
        below_PS = np.cumsum(mass_b_PS, axis=1) - mass_b_PS / 2
        num_pairs = float(mass_a_PS.sum(1) @ mass_b_PS.sum(1))
        return float((mass_a_PS * below_PS).sum()) / num_pairs if num_pairs else math.nan

    return of_weights


def _counts(bin_a: Values, bin_b: Values) -> Callable[[Floats, Floats], tuple[Floats, Floats]]:
    """The weight in each bin of either set."""
    bins = np.unique(np.concatenate([bin_a.value_N, bin_b.value_N]), return_inverse=True)[1]
    num_bins = int(bins.max(initial=-1)) + 1
    parts = bins[: len(bin_a.value_N)], bins[len(bin_a.value_N) :]

    def counts(weight_A: Floats, weight_B: Floats) -> tuple[Floats, Floats]:
        a_K = np.bincount(parts[0], weight_A[bin_a.trip_N], num_bins)
        b_K = np.bincount(parts[1], weight_B[bin_b.trip_N], num_bins)
        return np.asarray(a_K, float), np.asarray(b_K, float)

    return counts


def _divergence_bits(a_K: Floats, b_K: Floats) -> float:
    if not (a_K.any() and b_K.any()):
        return math.nan
    a_K, b_K = a_K / a_K.sum(), b_K / b_K.sum()
    mean_K = (a_K + b_K) / 2
    apart_K = rel_entr(a_K, mean_K) + rel_entr(b_K, mean_K)
    # Summed without rounding, so that the order of the bins does not show.
    return max(0.0, math.fsum(apart_K.tolist()) / (2 * math.log(2)))


def _weighted_median(value_N: Floats, weight_N: Floats) -> float:
    order_N = np.argsort(value_N)
    so_far_N = np.cumsum(weight_N[order_N])
    return float(value_N[order_N[np.searchsorted(so_far_N, so_far_N[-1] / 2)]])
