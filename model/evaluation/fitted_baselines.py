"""Fitted baselines: every baseline of every table, fitted on train where it has something to fit.

Some stand in every table. A dataset's row (`tasks/config/datasets.toml`) names which of the others
an expert of its field would ask for. A new baseline is one answerer and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from ..baselines.drift_field import DriftField, fitted_drift_field
from ..baselines.forecast import CONSTANT_VELOCITY, CONSTANT_VELOCITY_3, LAST_POSITION
from ..baselines.linear import LinearResidual
from ..baselines.one_thread import one_thread
from ..baselines.past_gaps import fitted_past_gaps
from ..baselines.past_journeys import PastJourneys, Ways, fitted_memory
from ..baselines.past_trips import PastTrips, fitted_past_trips
from ..baselines.place import PlaceRegression
from ..baselines.recovery import HERMITE, LINEAR, RecoveryBaseline
from ..baselines.reported_motion import REPORTED_GREAT_CIRCLE, REPORTED_RHUMB_LINE
from ..baselines.reverting import MeanRevertingVelocity
from ..baselines.travel_time import Departures, TravelTimeBaseline, fitted_on
from ..baselines.trees import BoostedTrees
from ..data.shards import Shards
from ..interface.answerer import Answerer
from ..interface.lines import PATH_PLACES
from .judged_tasks import (
    ASKED_AS,
    ENDS,
    FORECAST,
    PATH_GIVEN,
    PATH_INFERENCE,
    RECOVER,
    TRAVEL_TIME,
)
from .lesson import Lesson
from .scores import Kept

# For data of which nothing more is known.
GENERAL = ("linear_residual", "boosted_trees", "kalman_mixture", "past_trips", "rts_velocity")
Fit = Callable[[Lesson], Answerer]


class UnknownBaselineError(ValueError):
    """A name that is none of `EXPERTS`."""


def fitted_baselines(
    shards: Shards,
    tasks: Sequence[str],
    resolution: int = 8,
    seed: int = 0,
    experts: Sequence[str] = GENERAL,
) -> list[Answerer]:
    """The baselines of these tasks; of travel times none where train holds no whole journey.

    The resolution is that of the H3 cells between which travel times are told.
    """
    return FittedBaselines(Lesson(shards, resolution, seed), experts).of(tasks)


class FittedBaselines:
    """Baselines of some shards, fitted when they are first asked for, and what they answered.

    Whoever is judged next on the same windows needs them again: neither is made twice.
    """

    def __init__(self, lesson: Lesson, experts: Sequence[str]) -> None:
        if unknown := {*experts} - EXPERTS:
            names = f"{sorted(unknown)}; choose among {sorted(EXPERTS)}"
            raise UnknownBaselineError(f"unknown baselines {names}")
        self.lesson, self.experts = lesson, experts
        self.errors: Kept = {}
        self._found: dict[str, list[Answerer]] = {}

    def of(self, tasks: Sequence[str]) -> list[Answerer]:
        """Those of some tasks; of travel times none where train holds no whole journey."""
        questions = dict.fromkeys(asked for task, asked in ASKED_AS.items() if task in tasks)
        return [one for question in questions for one in self._of(question)]

    def _of(self, question: str) -> list[Answerer]:
        if question not in self._found:
            tasks = [task for task, asked in ASKED_AS.items() if asked == question]
            with one_thread():
                self._found[question] = fitted(self.lesson, tasks, self.experts)
        return self._found[question]


def fitted(lesson: Lesson, tasks: Sequence[str], experts: Sequence[str]) -> list[Answerer]:
    """Those that stand in every table, and the experts."""
    found: list[Answerer] = []
    if FORECAST in tasks:
        found += [LAST_POSITION, CONSTANT_VELOCITY, CONSTANT_VELOCITY_3, lesson.damped]
        found += named(FORECASTS, experts, lesson)
    if {RECOVER, PATH_INFERENCE} & {*tasks}:
        found += [LINEAR, HERMITE, *named(RECOVERIES, experts, lesson)]
    if TRAVEL_TIME in tasks and len(lesson.journeys("train").duration_s_J):
        found += [*fitted_travel_times(lesson), *named(TRAVEL_TIMES, experts, lesson)]
    return found


def named(fits: Mapping[str, Fit], experts: Sequence[str], lesson: Lesson) -> Iterator[Answerer]:
    """Those of a table that are asked for."""
    return (fits[name](lesson) for name in experts if name in fits)


# Forecasts --------------------------------------------------------------------------------------


def linear_residual(lesson: Lesson) -> LinearResidual:
    return LinearResidual.fit(lesson.train, lesson.validation, lesson.damped)


def place_regression(lesson: Lesson) -> PlaceRegression:
    return PlaceRegression.fit(lesson.train, lesson.validation, lesson.damped)


def mean_reverting_velocity(lesson: Lesson) -> MeanRevertingVelocity:
    told = lesson.train, lesson.validation, lesson.damped
    return MeanRevertingVelocity.fit(*told, lesson.resolution)


def boosted_trees(lesson: Lesson) -> BoostedTrees:
    return BoostedTrees.fit(lesson.train, lesson.validation, lesson.damped, lesson.seed)


def past_trips(lesson: Lesson) -> PastTrips:
    return fitted_past_trips(lesson.paths, lesson.validation)


def drift_field(lesson: Lesson) -> DriftField:
    return fitted_drift_field(lesson.paths, lesson.validation)


FORECASTS: Mapping[str, Fit] = MappingProxyType(
    {
        "linear_residual": linear_residual,
        "place_regression": place_regression,
        "mean_reverting_velocity": mean_reverting_velocity,
        "boosted_trees": boosted_trees,
        "past_trips": past_trips,
        "drift_field": drift_field,
        "reported_rhumb_line": lambda lesson: REPORTED_RHUMB_LINE,
        "reported_great_circle": lambda lesson: REPORTED_GREAT_CIRCLE,
        "kalman_velocity": lambda lesson: lesson.kalman["kalman_velocity"],
        "kalman_acceleration": lambda lesson: lesson.kalman["kalman_acceleration"],
        "kalman_turn": lambda lesson: lesson.kalman["kalman_turn"],
        "kalman_mixture": lambda lesson: lesson.kalman["kalman_mixture"],
    }
)


# Recovery ---------------------------------------------------------------------------------------


def past_trips_of_gaps(lesson: Lesson) -> RecoveryBaseline:
    return fitted_past_gaps(lesson.paths, lesson.recovery_error)


RECOVERIES: Mapping[str, Fit] = MappingProxyType(
    {
        "past_trips": past_trips_of_gaps,
        "rts_velocity": lambda lesson: lesson.smoothers["rts_velocity"],
        "rts_acceleration": lambda lesson: lesson.smoothers["rts_acceleration"],
    }
)


# Travel times -----------------------------------------------------------------------------------


def fitted_travel_times(lesson: Lesson) -> list[TravelTimeBaseline]:
    journeys = lesson.journeys("train")
    by_track = [
        fitted_on(
            Departures.of(lesson.travels(journeys, track), lesson.resolution),
            journeys.duration_s_J,
            lesson.seed,
        )
        for track in (ENDS, PATH_GIVEN)
    ]
    return [
        TravelTimeBaseline(ends, path, lesson.resolution, PATH_PLACES)
        for ends, path in zip(*by_track, strict=True)
    ]


def past_journeys(lesson: Lesson) -> PastJourneys:
    """Of the ends alone and of the path; the numbers of neighbours chosen on validation."""
    train, validation = lesson.journeys("train"), lesson.journeys("validation")
    ends, path = (
        fitted_memory(
            Ways.of(lesson.travels(train, track)),
            train.duration_s_J,
            Ways.of(lesson.travels(validation, track)),
            validation.duration_s_J,
        )
        for track in (ENDS, PATH_GIVEN)
    )
    return PastJourneys(ends, path)


TRAVEL_TIMES: Mapping[str, Fit] = MappingProxyType({"past_trips": past_journeys})
EXPERTS = frozenset({*FORECASTS, *RECOVERIES, *TRAVEL_TIMES})
