"""Inputs of an evaluation: how shards of points, or of visits, are opened, and who else is asked.

What a family reads decides which; all else of an evaluation is alike for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from model.families import FILES, POINTS, VISITS
from tasks.config.slices import EvaluateRules
from tasks.runtime.errors import ConfigError

if TYPE_CHECKING:
    from model.data.shards import ShardFolder, Shards
    from model.data.visits import VisitShards
    from model.evaluation.scores import Kept
    from model.interface.answerer import Answerer


class Rivals(Protocol):
    """Baselines that are fitted when they are asked for, and the errors of their answers."""

    errors: Kept

    def of(self, tasks: Sequence[str]) -> list[Answerer]:
        """Those of some tasks."""
        ...


class Inputs(NamedTuple):
    """One kind of input: its windows, how shards are opened, and the baselines that are fitted.

    `known_to` is what of a model decides how it is told of them: the places by which visits have
    their regions, of points nothing. Everyone is asked in the words of the model.
    """

    task: str
    window_words: Callable[[EvaluateRules], str]
    known_to: Callable[[Answerer], Any]
    opened: Callable[[Path, EvaluateRules, Any], ShardFolder[Any]]
    rivals: Callable[[Any, EvaluateRules], Rivals]


def inputs_of(shards: Path) -> Inputs:
    """The kind of the shards of a folder: they hold what was fitted for it."""
    return next(INPUTS[kind] for kind, name in FILES.items() if (shards / name).is_file())


# Points -----------------------------------------------------------------------------------------


def points_opened(folder: Path, rules: EvaluateRules, known: None = None) -> Shards:
    from model.data.shards import Shards

    return Shards.open(folder, rules.zone, rules.entity_kind)


def point_rivals(shards: Shards, rules: EvaluateRules) -> Rivals:
    from model.evaluation.fitted_baselines import FittedBaselines
    from model.evaluation.lesson import Lesson

    return FittedBaselines(Lesson(shards, rules.resolution, rules.seed), rules.baselines)


# Visits -----------------------------------------------------------------------------------------


def visits_opened(folder: Path, rules: EvaluateRules, places: Any = None) -> VisitShards:
    """Visits told by the places of a model, or by those of the shards themselves.

    A model that knows none of the regions where train was could only answer that it does not know.
    """
    import numpy as np

    from model.data.visits import VisitShards
    from model.earth.cells import centres_of

    shards = VisitShards.open(folder, rules.zone, places)
    if not shards.places.region_ids(*centres_of(np.array(shards.own_places.cells))).any():
        raise ConfigError(
            "model: it knows none of the regions of these visits; judge a model that was trained "
            "on visits to the same places"
        )
    return shards


def visit_rivals(shards: VisitShards, rules: EvaluateRules) -> Rivals:
    from model.evaluation.fitted_visit_baselines import FittedVisitBaselines

    return FittedVisitBaselines(shards, rules.baselines)


INPUTS: Mapping[str, Inputs] = MappingProxyType(
    {
        POINTS: Inputs(
            "forecast",
            lambda rules: (
                f"of {rules.num_context + rules.num_horizon} points; shorten "
                "window.num_context or window.num_horizon, or give more data"
            ),
            lambda model: None,
            points_opened,
            point_rivals,
        ),
        VISITS: Inputs(
            "next_visit",
            lambda rules: (
                "of next visits; lower region.min_history or stay.min_stay_s, or give more data"
            ),
            lambda model: getattr(getattr(model, "model", None), "fitted", None),
            visits_opened,
            visit_rivals,
        ),
    }
)
