"""Visit bridges: what baselines tell of visits that nobody saw, from both sides of the gap.

`own_most_frequent` tells one visit in the middle of the gap, to the region with the most visits of
those shown, as long as half of train's stays are at most. `markov_bridge` draws: how many visits
there are, given how long the gap is and where it begins and ends; the regions, given both ends,
exactly, by messages from behind; and the times, a stay and a way of train for each, by whose shares
the gap is parted. All is fitted on train alone.

    P(n | gap, before, behind) ~ P(n) p(log gap | n) P(behind after n visits | before)

P(n) is of gaps as masks hide them, and p(log gap | n) is normal, with a mean for each n and one
width. Regions follow each other as in interpolated Kneser-Ney of one region, whose parent is the
history shown and behind it train.

Shapes: B rows, V visits, S samples, R ids of the vocabulary, N numbers of visits, P parts of a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ..earth.arrays import Bools, Floats
from ..features.places import NUM_SPECIAL, Places
from ..interface.infilling import HIDDEN_SHARE, FilledGap, FilledVisit
from ..interface.visit_batch import VisitBatch
from .visit_frequency import OwnFrequency, own_counts
from .visit_history import PastVisits
from .visit_markov import continued_frequency, discounted, own_discount

MOST_HIDDEN = 8  # visits of a gap
LEAST_SPREAD = 0.1  # of log seconds
Drawn = list[FilledVisit]
TASKS = ("infill",)


@dataclass(frozen=True)
class OwnMostFrequent:
    """One visit in the middle of a gap, where most of the visits shown are."""

    places: Places
    name: ClassVar[str] = "own_most_frequent"
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = TASKS

    def infill(
        self,
        shown: VisitBatch,
        is_gap_BV: Tensor,
        started_us_B: Tensor,
        num_samples: int,
        seed: int,
        zone: str,
    ) -> list[list[FilledGap]]:
        """All samples alike; of equals it is the region with the most visits of train."""
        count_BR = own_counts(shown, self.places.num_ids)[:, NUM_SPECIAL:]
        region_B = (NUM_SPECIAL + count_BR.argmax(1)).tolist()

        def told(row: int, began_s: float, ends_s: float) -> Drawn:
            least_s = self.places.min_stay_s
            stay_s = min(max(self.places.duration_s.p50, least_s), ends_s - began_s)
            arrived_s = (began_s + ends_s - stay_s) / 2
            return [FilledVisit(region_B[row], arrived_s, arrived_s + stay_s)]

        return [
            [FilledGap(after, [told(row, *span)] * num_samples) for after, *span in gaps]
            for row, gaps in enumerate(gaps_of(shown, is_gap_BV))
        ]


def gaps_of(shown: VisitBatch, is_gap_BV: Tensor) -> list[list[tuple[int, float, float]]]:
    """Of each row, behind which visits gaps lie, and when each begins and ends."""
    rows = zip(is_gap_BV, shown.left_s_BV.tolist(), shown.arrived_s_BV.tolist(), strict=True)
    return [
        [(after, left_s_V[after], arrived_s_V[after + 1]) for after in torch.nonzero(is_V)[:, 0]]
        for is_V, left_s_V, arrived_s_V in rows
    ]


# Regions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RegionSteps:
    """P(next region | region): what was seen (R, R), and the share (R) that is left to a parent."""

    seen_RR: csr_array
    rest_R: Floats
    parent: OwnFrequency

    @classmethod
    def of(cls, past: PastVisits) -> RegionSteps:
        num_ids = past.places.num_ids
        discount = own_discount(past.walks)
        parent = OwnFrequency(num_ids, continued_frequency(past), discount=discount)
        law = discounted(past, "region", parent)
        counts = law.counts.count_CK.tocoo()
        region_N = law.counts.key_C[counts.coords[0]]
        num_R = np.bincount(region_N, counts.data, minlength=num_ids)
        num_different_R = np.bincount(region_N, minlength=num_ids)
        share_N = np.maximum(counts.data - law.discount, 0) / num_R[region_N]
        seen_RR = csr_array((share_N, (region_N, counts.coords[1])), shape=(num_ids, num_ids))
        is_known_R = num_R > 0
        rest_R = np.where(
            is_known_R, law.discount * num_different_R / np.where(is_known_R, num_R, 1), 1
        )
        return cls(seen_RR, rest_R, parent)

    def before(self, chance_R: Floats, parent_R: Floats) -> Floats:
        """The chance of what follows a step, by where the step begins."""
        found_R: Floats = self.seen_RR @ chance_R + self.rest_R * (parent_R @ chance_R)
        return found_R

    def after(self, region: int, parent_R: Floats) -> Floats:
        """The chance of each region behind one."""
        return self.seen_RR[[region]].toarray()[0] + self.rest_R[region] * parent_R


# Numbers and times ------------------------------------------------------------------------------


@dataclass(frozen=True)
class GapLengths:
    """P(n) p(log gap | n) for each number of hidden visits, from one on."""

    log_chance_N: Floats
    mean_N: Floats
    spread: float

    @classmethod
    def of(cls, runs: Sequence[Sequence[Floats]]) -> GapLengths:
        """Of `log_run_lengths` of train."""
        log_s = [np.concatenate(parts) for parts in zip(*runs, strict=True)]
        num_N = np.array([len(part) for part in log_s])
        mean_N = np.array([part.mean() if len(part) else 0.0 for part in log_s])
        pairs = zip(log_s, mean_N, strict=True)
        square = sum(float(((part - mean) ** 2).sum()) for part, mean in pairs)
        spread = max((square / max(num_N.sum(), 1)) ** 0.5, LEAST_SPREAD)
        # Where train has no gap of two visits at all, one is told.
        told_N = num_N if num_N.any() else (np.arange(MOST_HIDDEN) == 0)
        chance_N = told_N * HIDDEN_SHARE ** np.arange(MOST_HIDDEN)
        log_chance_N = np.log(chance_N, out=np.full(MOST_HIDDEN, -np.inf), where=chance_N > 0)
        return cls(log_chance_N, mean_N, spread)

    def log_weight(self, length_s: float) -> Floats:
        away_N = (np.log(max(length_s, 1.0)) - self.mean_N) / self.spread
        found_N: Floats = self.log_chance_N - away_N**2 / 2
        return found_N


def log_run_lengths(batch: VisitBatch) -> list[Floats]:
    """The gaps, in log seconds, of 1 to `MOST_HIDDEN` visits before each target."""
    is_asked_BV = batch.is_target_BV & ~batch.is_pad_BV
    found = []
    for apart in range(2, MOST_HIDDEN + 2):
        length_s_BV = batch.arrived_s_BV[:, apart:] - batch.left_s_BV[:, :-apart]
        found.append(length_s_BV[is_asked_BV[:, apart:]].clamp(min=1.0).log().numpy())
    return found


@dataclass(frozen=True)
class GapShares:
    """How ways and stays of train part a gap: above the least stay, by their shares."""

    travel_s: Floats
    above_s: Floats  # of stays, over the least one
    min_stay_s: float

    @classmethod
    def of(cls, past: PastVisits) -> GapShares:
        asked, least_s = past.asked, past.places.min_stay_s
        is_seen_N, is_whole_N = asked.is_travel_known_N, ~asked.is_censored_N
        travel_s = asked.travel_s_N[is_seen_N if bool(is_seen_N.any()) else slice(None)]
        stay_s = past.stay_s_N[is_whole_N if bool(is_whole_N.any()) else slice(None)]
        return cls(travel_s.numpy(), (stay_s - least_s).clamp(min=0).numpy(), least_s)

    def drawn(
        self, regions: Sequence[int], began_s: float, ends_s: float, draw: np.random.Generator
    ) -> Drawn:
        """A way, a stay, a way and so on, stretched or shortened so that they fill the gap."""
        number = len(regions)
        part_s_P = np.empty(2 * number + 1)
        part_s_P[::2] = draw.choice(self.travel_s, number + 1)
        part_s_P[1::2] = draw.choice(self.above_s, number)
        if not part_s_P.sum() > 0:
            part_s_P[:] = 1.0
        spare_s = max(ends_s - began_s - number * self.min_stay_s, 0.0)
        part_s_P *= spare_s / part_s_P.sum()
        part_s_P[1::2] += self.min_stay_s
        edge_s_P = np.minimum(began_s + np.cumsum(part_s_P), ends_s).tolist()
        times_s = zip(edge_s_P[:-1:2], edge_s_P[1::2], strict=True)
        return [FilledVisit(one, *times) for one, times in zip(regions, times_s, strict=True)]


# Bridge -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MarkovBridge:
    """Samples of a Markov chain of regions that is bound on both sides."""

    steps: RegionSteps
    lengths: GapLengths
    shares: GapShares
    name: ClassVar[str] = "markov_bridge"
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = TASKS

    def infill(
        self,
        shown: VisitBatch,
        is_gap_BV: Tensor,
        started_us_B: Tensor,
        num_samples: int,
        seed: int,
        zone: str,
    ) -> list[list[FilledGap]]:
        """Drawn by the seed and the window."""
        parent_BR = self.steps.parent.probability(shown).numpy()
        found = []
        for row, gaps in enumerate(gaps_of(shown, is_gap_BV)):
            draw = np.random.default_rng((seed, int(shown.window_id_B[row])))
            region_V = shown.region_BV[row].tolist()
            filled = []
            for after, began_s, ends_s in gaps:
                ends = (region_V[after], region_V[after + 1])
                bridge = Bridge.of(self.steps, parent_BR[row], *ends)
                chance_N = self.chance_of_numbers(bridge, ends_s - began_s)
                regions = [bridge.drawn(chance_N, draw) for _ in range(num_samples)]
                visits = [self.shares.drawn(one, began_s, ends_s, draw) for one in regions]
                filled.append(FilledGap(int(after), visits))
            found.append(filled)
        return found

    def chance_of_numbers(self, bridge: Bridge, length_s: float) -> Floats:
        """P(n) of a gap; no more visits than it has room for, and one in any case."""
        log_N = self.lengths.log_weight(length_s) + bridge.log_reached()
        room = int(length_s // self.shares.min_stay_s) if self.shares.min_stay_s > 0 else len(log_N)
        log_N[max(room, 1) :] = -np.inf
        if not np.isfinite(log_N).any():
            log_N[0] = 0.0
        chance_N: Floats = np.exp(log_N - log_N.max())
        return chance_N / chance_N.sum()


@dataclass(frozen=True)
class Bridge:
    """Chains from a region to another; `behind[k]` is P(the end | a region, k visits between)."""

    steps: RegionSteps
    parent_R: Floats
    begin: int
    behind: list[Floats]

    @classmethod
    def of(cls, steps: RegionSteps, parent_R: Floats, begin: int, end: int) -> Bridge:
        is_end_R = np.zeros(len(parent_R))
        is_end_R[end] = 1.0
        behind = [steps.before(is_end_R, parent_R)]
        for _ in range(MOST_HIDDEN):
            behind.append(steps.before(behind[-1] * is_region(parent_R), parent_R))
        return cls(steps, parent_R, begin, behind)

    def log_reached(self) -> Floats:
        """The logarithm of P(the end | the begin, n visits between) for each n from one on."""
        found_N: Floats = np.log([chance_R[self.begin] for chance_R in self.behind[1:]])
        return found_N

    def drawn(self, chance_N: Floats, draw: np.random.Generator) -> list[int]:
        """Regions of as many visits as are drawn."""
        number = 1 + int(draw.choice(len(chance_N), p=chance_N))
        regions: list[int] = []
        for left in range(number - 1, -1, -1):
            last = regions[-1] if regions else self.begin
            chance_R = self.steps.after(last, self.parent_R) * self.behind[left]
            chance_R *= is_region(chance_R)
            regions.append(int(draw.choice(len(chance_R), p=chance_R / chance_R.sum())))
        return regions


def is_region(value_R: Floats) -> Bools:
    """Which ids are regions: a visit that is made up is at one of them."""
    is_region_R: Bools = np.arange(len(value_R)) >= NUM_SPECIAL
    return is_region_R


def fitted_fillers(
    windows: Iterable[VisitBatch], places: Places
) -> tuple[OwnMostFrequent, MarkovBridge]:
    """Both, fitted on windows of train in which no visit is a target twice."""
    runs: list[list[Floats]] = []

    def read() -> Iterator[VisitBatch]:
        for batch in windows:
            runs.append(log_run_lengths(batch))
            yield batch

    past = PastVisits.of(read(), places)
    bridge = MarkovBridge(RegionSteps.of(past), GapLengths.of(runs), GapShares.of(past))
    return OwnMostFrequent(places), bridge
