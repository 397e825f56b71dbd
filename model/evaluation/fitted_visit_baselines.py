"""Fitted visit baselines: those of the next visit, and those that fill gaps.

They are fitted on the stored windows of train.

All of them stand in every table; a data set names no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from ..baselines.visit_baselines import fitted_visit_baselines
from ..baselines.visit_bridge import fitted_fillers
from ..data.reading import read_windows
from ..data.visits import TASK, VisitShards
from ..interface.answerer import Answerer
from ..interface.visit_batch import VisitBatch
from .fitted_baselines import UnknownBaselineError
from .judged_tasks import ASKED_AS
from .scores import Kept

WINDOWS_AT_ONCE = 1_024


class FittedVisitBaselines:
    """Baselines of some shards, told by the places of these, and what they answered.

    Whoever is judged next on the same windows needs them again: neither is made twice.
    """

    def __init__(self, shards: VisitShards, wanted: Sequence[str] = ()) -> None:
        self.shards, self.wanted = shards, wanted
        self.errors: Kept = {}

    def of(self, tasks: Sequence[str]) -> list[Answerer]:
        """Those of some tasks."""
        asked = {ASKED_AS[task] for task in tasks}
        return [one for one in self._fitted if asked & {*one.tasks}]

    @cached_property
    def _fitted(self) -> tuple[Answerer, ...]:
        places = self.shards.places
        found: tuple[Answerer, ...] = (
            *fitted_visit_baselines(self._train(), places),
            *fitted_fillers(self._train(), places),
        )
        if unknown := {*self.wanted} - {one.name for one in found}:
            raise UnknownBaselineError(
                f"unknown baselines {sorted(unknown)}; those of visits are "
                f"{sorted(one.name for one in found)}, and all of them stand in every table"
            )
        return found

    def _train(self) -> Iterator[VisitBatch]:
        for one in read_windows(self.shards, "train", WINDOWS_AT_ONCE, task=TASK):
            yield one.batch
