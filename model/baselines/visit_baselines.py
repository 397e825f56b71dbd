"""Visit baselines: answerers of the next visit, each one law of regions and one law of times.

Laws of regions are told with times by region and hour, laws of times with the regions of
Kneser-Ney. All are fitted on train alone.

Shapes: N histories, R ids of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from ..features.places import Places
from ..interface.next_visit import Arrivals
from ..interface.visit_batch import VisitBatch
from ..layers.durations import DurationMixture
from .one_thread import one_thread
from .visit_exploration import exploration
from .visit_frequency import (
    HALF_LIVES,
    RegionLaw,
    context_frequency,
    frequency,
    own_frequency,
    staying,
)
from .visit_history import Origins, PastVisits
from .visit_markov import kneser_ney, markov_1, markov_2
from .visit_regression import regression_times
from .visit_times import TimeLaw, region_hour_times
from .visit_trees import tree_times

# Tasks in whose tables a baseline stands: where both its laws stood, one would stand there twice.
REGIONS, TIMES = ("next_region",), ("next_travel", "next_stay")


@dataclass(frozen=True)
class VisitBaseline:
    """An answerer of the next visit: where by one law, when by another, and where it is judged."""

    name: str
    regions: RegionLaw
    times: TimeLaw
    judged_on: tuple[str, ...] = REGIONS + TIMES
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("next_visit",)

    def next_visit(self, history: VisitBatch) -> ToldVisit:
        """What follows the last visit of each row that is no pad."""
        return ToldVisit(self, history)


@dataclass(frozen=True)
class ToldVisit:
    """The answer behind histories; laws are asked when somebody wants to know."""

    baseline: VisitBaseline
    history: VisitBatch

    @cached_property
    def log_region_NR(self) -> Tensor:
        return self.baseline.regions.probability(self.history).log()

    def travel(self, region_N: Tensor) -> DurationMixture:
        return self.baseline.times.travel(self._origins, region_N)

    def stay(self, arrivals: Arrivals) -> DurationMixture:
        return self.baseline.times.stay(self._origins, arrivals)

    @cached_property
    def _origins(self) -> Origins:
        return Origins.last(self.history)


def fitted_visit_baselines(
    windows: Iterable[VisitBatch], places: Places
) -> tuple[VisitBaseline, ...]:
    """All of them, fitted on windows of train in which no visit is a target twice.

    Windows as long as those that are asked about make the best baselines: from their histories it
    is learned what a history is worth.
    """
    past = PastVisits.of(windows, places)
    with one_thread():
        regions = fitted_regions(past)
        by_hour, line = region_hour_times(past), regression_times(past)
        trees = tree_times(past, line)
    best = regions["kneser_ney"]
    return (
        *(VisitBaseline(name, law, by_hour, REGIONS) for name, law in regions.items()),
        VisitBaseline("marginal_times", best, by_hour.marginal, TIMES),
        VisitBaseline("region_hour_times", best, by_hour, TIMES),
        VisitBaseline("log_normal_times", best, line, TIMES),
        VisitBaseline("boosted_times", best, trees, TIMES),
    )


def fitted_regions(past: PastVisits) -> dict[str, RegionLaw]:
    """The laws of regions by their names."""
    every = frequency(past)
    return {
        "stay": staying(past, every),
        "own_frequency": own_frequency(past, every).law,
        "own_recent": own_frequency(past, every, HALF_LIVES).law,
        "global_frequency": every.law,
        "hour_frequency": context_frequency(past, "hour", every).law,
        "markov_1": markov_1(past, every).law,
        "markov_2": markov_2(past, every).law,
        "kneser_ney": kneser_ney(past),
        "exploration": exploration(past),
    }
