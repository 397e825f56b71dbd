"""Fitted baselines: every baseline of every table, fitted on train where it has something to fit.

A new baseline is one answerer and one line here. Which of `EXPERTS` belong to a dataset stands in
its row (`tasks/config/datasets.toml`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import NamedTuple

from ..baselines.forecast import (
    CONSTANT_VELOCITY,
    CONSTANT_VELOCITY_3,
    LAST_POSITION,
    ForecastBaseline,
    fitted_damped_velocity,
)
from ..baselines.linear import LinearResidual
from ..baselines.place import PlaceRegression
from ..baselines.recovery import HERMITE, LINEAR
from ..baselines.reverting import MeanRevertingVelocity
from ..baselines.travel_time import Departures, TravelTimeBaseline, fitted_on
from ..baselines.trees import BoostedTrees
from ..baselines.windows import Windows
from ..data.journeys import read_journeys
from ..data.shards import Shards, window_index
from ..earth.columns import joined
from ..interface.answerer import Answerer, Forecaster
from .forecast_scores import read_forecast_windows
from .judged_tasks import (
    ENDS,
    FORECAST,
    PATH_GIVEN,
    PATH_INFERENCE,
    RECOVER,
    TRAVEL_TIME,
)
from .travel_time_scores import travel_question

FITTED_WINDOWS = 20_000  # enough for a few numbers, whatever the size of the data
GENERAL = ("linear_residual", "boosted_trees")  # for data of which nothing more is known


class UnknownBaselineError(ValueError):
    """A name that is none of `EXPERTS`."""


class Lesson(NamedTuple):
    """What an expert baseline is fitted on and told; validation chooses how much it is believed."""

    train: Windows
    validation: Windows
    damped: ForecastBaseline
    resolution: int
    seed: int


EXPERTS: Mapping[str, Callable[[Lesson], Forecaster]] = MappingProxyType(
    {
        "linear_residual": lambda lesson: LinearResidual.fit(*lesson[:3]),
        "place_regression": lambda lesson: PlaceRegression.fit(*lesson[:3]),
        "mean_reverting_velocity": lambda lesson: MeanRevertingVelocity.fit(*lesson[:4]),
        "boosted_trees": lambda lesson: BoostedTrees.fit(*lesson[:3], lesson.seed),
    }
)


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
    found: list[Answerer] = []
    if FORECAST in tasks:
        found += [LAST_POSITION, CONSTANT_VELOCITY, CONSTANT_VELOCITY_3]
        found += fitted_forecasts(shards, resolution, seed, experts)
    if {RECOVER, PATH_INFERENCE} & {*tasks}:
        found += [LINEAR, HERMITE]
    if TRAVEL_TIME in tasks:
        found += fitted_travel_times(shards, resolution, seed)
    return found + kalman_baselines(shards, tasks)


def kalman_baselines(shards: Shards, tasks: Sequence[str]) -> list[Answerer]:
    """Filters that forecast and smoothers that recover."""
    forecasts, recovers = FORECAST in tasks, bool({RECOVER, PATH_INFERENCE} & {*tasks})
    if not forecasts and not recovers:
        return []
    windows = Whole.of(*train_windows(shards))
    filters: list[Answerer] = [*fitted_filters(windows)] if forecasts else []
    return filters + ([*fitted_smoothers(windows)] if recovers else [])


def fitted_forecasts(
    shards: Shards, resolution: int, seed: int, experts: Sequence[str]
) -> list[Forecaster]:
    """The damped velocity and the expert baselines that stand on it."""
    if unknown := {*experts} - {*EXPERTS}:
        names = f"{sorted(unknown)}; choose among {sorted(EXPERTS)}"
        raise UnknownBaselineError(f"unknown baselines {names}")
    train, validation = (spread_windows(shards, split) for split in ("train", "validation"))
    lesson = Lesson(train, validation, fitted_damping(train), resolution, seed)
    return [lesson.damped, *(EXPERTS[name](lesson) for name in experts)]


def fitted_damping(train: Windows) -> ForecastBaseline:
    columns = (train.lon_deg_BH, train.lat_deg_BH, train.time_s_BH, train.is_target_BH)
    return fitted_damped_velocity(train.context, *columns)


def spread_windows(shards: Shards, split: str, batch_size: int = 1_024) -> Windows:
    """Windows of forecasts spread evenly over a split, at most `FITTED_WINDOWS`."""
    stride = math.ceil(len(window_index(shards, split)) / FITTED_WINDOWS)
    parts: list[Windows] = []
    seen = 0
    for _, read in read_forecast_windows(shards, split, batch_size):
        windows = Windows(*(getattr(read, field.name) for field in fields(Windows)))
        parts.append(windows.at(slice(-seen % stride, None, stride)))
        seen += len(read.time_s_BH)
    if not parts:
        raise ValueError(f"the {split} split has no windows of forecasts to fit baselines on")
    return joined(parts)


def fitted_travel_times(shards: Shards, resolution: int, seed: int) -> list[TravelTimeBaseline]:
    journeys = read_journeys(shards, "train", 2)
    if not len(journeys.duration_s_J):
        return []
    by_track = [
        fitted_on(
            Departures.of(travel_question(journeys, track, shards.zone), resolution),
            journeys.duration_s_J,
            seed,
        )
        for track in (ENDS, PATH_GIVEN)
    ]
    return [
        TravelTimeBaseline(ends, path, resolution) for ends, path in zip(*by_track, strict=True)
    ]
