"""Visit times: p(travel) and p(stay) as train had them, by region and by hour.

Densities are mixtures of log-normal kernels at fixed places, of which the weights alone are fitted:
a kernel every quarter of a log second, a fifth wide, one as wide as all of train for what train
never saw, and the share of travels that take no time. Weights are those with which train is
likeliest. They count a stay whose end was not seen by its survival, and what lies below the
shortest stay as nothing.

Weights of a region are drawn to those of train, and those of a region at an hour of the day to the
region's (`visit_counts`). The hour of a travel is that of its beginning, that of a stay the hour of
the arrival.

Shapes: N visits, K kernels and the share at zero, M kernels, C contexts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from scipy.sparse import csr_array
from torch import Tensor

from ..earth.arrays import Ints
from ..interface.next_visit import Arrivals
from ..interface.visit_batch import hour_of_week
from ..layers.durations import MIN_DURATION_S, DurationMixture
from .visit_counts import ContextCounts, fitted_strength, others, shrunk
from .visit_history import Origins, PastVisits

STEP, SCALE = 0.25, 0.2  # of log seconds
LEAST_S, LEAST_WIDTH = 1.0, 1.0
ROUNDS, OWN_ROUNDS = 100, 10  # of expectation and maximisation: of all, and of a context
MOST_VISITS = 100_000  # of train, evenly spread
HOURS = 24


class TimeLaw(Protocol):
    def travel(self, origins: Origins, region_N: Tensor) -> DurationMixture:
        """p(seconds on the way to a region)."""
        ...

    def stay(self, origins: Origins, arrivals: Arrivals) -> DurationMixture:
        """p(seconds of the stay) of those who arrive so."""
        ...


@dataclass(frozen=True)
class Lasting:
    """How long what train had lasted, or at least lasted, and what it is told by."""

    seconds_N: Tensor
    is_censored_N: Tensor
    region_N: Ints
    hour_N: Ints
    edge_s: float = 0.0
    has_zero: bool = False

    @classmethod
    def travels(cls, past: PastVisits) -> Lasting:
        """Those that are known."""
        known = past.asked.is_travel_known_N
        asked, origins = past.asked.at(known), past.origins.at(known)
        never_N = torch.zeros_like(asked.is_censored_N)
        by = (asked.region_N.numpy(), (origins.hour_N % HOURS).numpy())
        return cls(asked.travel_s_N, never_N, *by, has_zero=True)

    @classmethod
    def stays(cls, past: PastVisits) -> Lasting:
        asked = past.asked
        by = (asked.region_N.numpy(), (hour_of_week(asked.calendar_NK) % HOURS).numpy())
        return cls(past.stay_s_N, asked.is_censored_N, *by, edge_s=past.places.min_stay_s)


@dataclass(frozen=True)
class Kernels:
    """Log-normal densities above an edge, and before them the share at zero."""

    log_mean_M: Tensor
    log_scale_M: Tensor
    edge_s: float
    has_zero: bool

    @classmethod
    def over(cls, lasting: Lasting) -> Kernels:
        least_s = max(lasting.edge_s, LEAST_S)
        log_s_N = lasting.seconds_N[lasting.seconds_N >= MIN_DURATION_S].clamp(min=least_s).log()
        if not len(log_s_N):
            log_s_N = torch.full((1,), math.log(least_s), dtype=torch.float64)
        low, high, middle = log_s_N.min(), log_s_N.max(), log_s_N.mean()
        grid_M = torch.arange(float(low), float(high) + STEP, STEP, dtype=torch.float64)
        width = max(float(high - low) / 2, LEAST_WIDTH)
        log_mean_M = torch.cat([grid_M, middle[None]])
        log_scale_M = torch.cat([torch.full_like(grid_M, SCALE), torch.tensor([width]).double()])
        return cls(log_mean_M, log_scale_M, lasting.edge_s, lasting.has_zero)

    @property
    def even_K(self) -> Tensor:
        """One visit spread evenly over all that has a weight."""
        even_K = torch.ones(len(self.log_mean_M) + 1, dtype=torch.float64)
        even_K[0] = float(self.has_zero)
        return even_K / even_K.sum()

    def likelihood(self, lasting: Lasting) -> Tensor:
        """Of each visit by each kernel (N, K), the largest one being 1."""
        seconds_N1 = lasting.seconds_N.unsqueeze(-1)
        each = self._apart(self.edge_s)
        log_NM = torch.where(
            lasting.is_censored_N.unsqueeze(-1),
            each.log_survival(seconds_N1),
            each.log_density(seconds_N1),
        )
        log_zero_N1 = torch.where(seconds_N1 < MIN_DURATION_S, 0.0, -torch.inf).double()
        log_NK = torch.cat([log_zero_N1, log_NM], dim=-1)
        return (log_NK - log_NK.amax(-1, keepdim=True)).exp()

    def mixture(self, weight_NK: Tensor) -> DurationMixture:
        """Of kernels that are each whole above the edge."""
        num_N = len(weight_NK)
        edge_s = torch.full_like(self.log_mean_M, self.edge_s)
        above_M = self._apart(0.0).log_survival(edge_s) if self.edge_s > 0 else 0.0
        return DurationMixture(
            log_zero=weight_NK[:, 0].log(),
            log_weight_M=(weight_NK[:, 1:].log() - above_M).log_softmax(-1),
            log_mean_M=self.log_mean_M.expand(num_N, -1),
            log_scale_M=self.log_scale_M.expand(num_N, -1),
            edge_s=self.edge_s,
        )

    def _apart(self, edge_s: float) -> DurationMixture:
        """Mixtures (M) of one kernel each, whole above an edge."""
        never_M = torch.full_like(self.log_mean_M, -torch.inf)
        alone_M1 = torch.zeros_like(self.log_mean_M).unsqueeze(-1)
        parts = (self.log_mean_M.unsqueeze(-1), self.log_scale_M.unsqueeze(-1))
        return DurationMixture(never_M, alone_M1, *parts, edge_s=edge_s)


@dataclass(frozen=True)
class ContextWeights:
    """Weights in contexts, drawn to those of a parent."""

    counts: ContextCounts
    strength: float

    def drawn(self, key_N: Ints, parent_NK: Tensor) -> Tensor:
        return shrunk(self.counts.found(key_N), parent_NK, self.strength)


@dataclass(frozen=True)
class KernelDensities:
    """Densities of travels or of stays: those of train, or of each region at each hour."""

    kernels: Kernels
    weight_K: Tensor
    by_region: ContextWeights | None = None
    by_hour: ContextWeights | None = None

    @property
    def marginal(self) -> KernelDensities:
        return KernelDensities(self.kernels, self.weight_K)

    def told(self, region_N: Ints, hour_N: Ints) -> DurationMixture:
        weight_NK = self.weight_K.expand(len(region_N), -1)
        if self.by_region is not None:
            weight_NK = self.by_region.drawn(region_N, weight_NK)
        if self.by_hour is not None:
            weight_NK = self.by_hour.drawn(region_N * HOURS + hour_N, weight_NK)
        return self.kernels.mixture(weight_NK)


@dataclass(frozen=True)
class KernelTimes:
    """The law of both times."""

    travels: KernelDensities
    stays: KernelDensities

    @property
    def marginal(self) -> KernelTimes:
        """Those of train, whatever the region and the hour."""
        return KernelTimes(self.travels.marginal, self.stays.marginal)

    def travel(self, origins: Origins, region_N: Tensor) -> DurationMixture:
        return self.travels.told(region_N.numpy(), (origins.hour_N % HOURS).numpy())

    def stay(self, origins: Origins, arrivals: Arrivals) -> DurationMixture:
        hour_N = hour_of_week(arrivals.calendar_NK) % HOURS
        return self.stays.told(arrivals.region_N.numpy(), hour_N.numpy())


# Fitting ----------------------------------------------------------------------------------------


def region_hour_times(past: PastVisits) -> KernelTimes:
    """By region and hour; their `marginal` is fitted as it stands too."""
    fewer = past.thinned(MOST_VISITS)
    return KernelTimes(
        _by_region_and_hour(Lasting.travels(fewer)), _by_region_and_hour(Lasting.stays(fewer))
    )


def _by_region_and_hour(lasting: Lasting) -> KernelDensities:
    kernels = Kernels.over(lasting)
    likelihood_NK = kernels.likelihood(lasting)
    weight_K = _of_all(likelihood_NK, kernels.even_K)
    weight_NK = weight_K.expand_as(likelihood_NK)
    by_region, weight_NK = _in_contexts(lasting.region_N, likelihood_NK, weight_NK)
    hour_key_N = lasting.region_N * HOURS + lasting.hour_N
    by_hour, _ = _in_contexts(hour_key_N, likelihood_NK, weight_NK)
    return KernelDensities(kernels, weight_K, by_region, by_hour)


def _of_all(likelihood_NK: Tensor, even_K: Tensor) -> Tensor:
    """The weights with which train, and one visit that is spread evenly, are likeliest."""
    weight_K = even_K
    for _ in range(ROUNDS):
        share_NK = _shares(likelihood_NK, weight_K)
        weight_K = (share_NK.sum(0) + even_K) / (len(share_NK) + 1)
    return weight_K


def _in_contexts(
    key_N: Ints, likelihood_NK: Tensor, parent_NK: Tensor
) -> tuple[ContextWeights, Tensor]:
    """Weights in contexts with the likeliest strength of the parent, and those of each visit."""
    parent_N = (likelihood_NK * parent_NK).sum(-1).numpy()
    weight_NK = parent_NK
    for _ in range(OWN_ROUNDS):
        share_NK = _shares(likelihood_NK, weight_NK)
        counts = ContextCounts.of(key_N, csr_array(share_NK.numpy()))
        others_NK = counts.found(key_N) - share_NK
        count_N = (likelihood_NK * others_NK).sum(-1).numpy()
        strength, _ = fitted_strength(count_N, others(key_N), parent_N)
        weights = ContextWeights(counts, strength)
        weight_NK = weights.drawn(key_N, parent_NK)
    return weights, weight_NK


def _shares(likelihood_NK: Tensor, weight_NK: Tensor) -> Tensor:
    """To which kernels each visit belongs."""
    joint_NK = likelihood_NK * weight_NK
    return joint_NK / joint_NK.sum(-1, keepdim=True)
