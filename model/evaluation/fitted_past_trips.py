"""Fitted past trips: memories of train, with what they leave open chosen on validation windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..baselines.drift_field import fitted_drift_field
from ..baselines.past_gaps import fitted_past_gaps
from ..baselines.past_journeys import PastJourneys, Ways, fitted_memory
from ..baselines.past_paths import PastPaths
from ..baselines.past_trips import fitted_past_trips
from ..baselines.recovery import RecoveryBaseline
from ..data.journeys import read_journeys
from ..data.paths import read_paths
from ..data.reading import read_windows
from ..data.shards import Shards, window_index
from ..earth.columns import joined
from ..earth.geometry import haversine_m
from ..interface.answerer import Answerer
from ..interface.batch import Batch
from ..interface.contexts import Context, Partial
from .forecast_scores import ForecastWindows, read_forecast_windows
from .judged_tasks import (
    ENDS,
    FORECAST,
    PATH_GIVEN,
    PATH_INFERENCE,
    RECOVER,
    TIMES_GIVEN,
    TRAVEL_TIME,
)
from .metrics import ade_m
from .recovery_scores import recovery_question
from .travel_time_scores import travel_question

MAX_POINTS = 4_000_000
CHOSEN_ON = 2_000  # validation windows at most, spread evenly
BATCH_SIZE = 1_024
Part = TypeVar("Part")


def past_trips(shards: Shards, tasks: Sequence[str]) -> list[Answerer]:
    """The memories that these tasks ask for; those of forecasts and of gaps share the paths."""
    found: list[Answerer] = []
    if {FORECAST, RECOVER, PATH_INFERENCE} & {*tasks}:
        paths = PastPaths.of(*read_paths(shards, "train", MAX_POINTS))
        if FORECAST in tasks and len(window_index(shards, "validation", FORECAST)):
            windows = _forecast_windows(shards)
            found += [fitted_past_trips(paths, *windows), fitted_drift_field(paths, *windows)]
        if gaps := [task for task in (RECOVER, PATH_INFERENCE) if task in tasks]:
            found.append(fitted_past_gaps(paths, RecoveryError.on_validation(shards, gaps[0])))
    if TRAVEL_TIME in tasks and len(window_index(shards, "train", TRAVEL_TIME)):
        found.append(past_journeys(shards))
    return found


@dataclass(frozen=True)
class RecoveryError:
    """The mean error of a recovery on stored windows, their times given."""

    questions: list[tuple[Partial, Batch]]

    @classmethod
    def on_validation(cls, shards: Shards, task: str) -> RecoveryError:
        stored = read_windows(shards, "validation", BATCH_SIZE, task=task)
        stride = _stride(shards, task)
        return cls(
            [
                (recovery_question(one, TIMES_GIVEN).at(rows), one.batch.at(rows))
                for one, rows in _spread(stored, stride, lambda one: len(one.started_us_B))
            ]
        )

    def __call__(self, baseline: RecoveryBaseline) -> float:
        return float(torch.cat([self._of(baseline, *one) for one in self.questions]).mean())

    @staticmethod
    def _of(baseline: RecoveryBaseline, asked: Partial, truth: Batch) -> Tensor:
        found = baseline.recover(asked)
        places = found.lon_deg_BT, found.lat_deg_BT, truth.lon_deg_BT, truth.lat_deg_BT
        return ade_m(haversine_m(*places), truth.is_target_BT)


def past_journeys(shards: Shards) -> PastJourneys:
    """Of the ends alone and of the path; the numbers of neighbours chosen on validation."""
    train, validation = (read_journeys(shards, split, 2) for split in ("train", "validation"))
    ends, path = (
        fitted_memory(
            Ways.of(travel_question(train, track, shards.zone)),
            train.duration_s_J,
            Ways.of(travel_question(validation, track, shards.zone)),
            validation.duration_s_J,
        )
        for track in (ENDS, PATH_GIVEN)
    )
    return PastJourneys(ends, path)


def _forecast_windows(shards: Shards) -> tuple[Context, Tensor, Tensor, Tensor]:
    """Contexts of validation, and what came after: NaN where nothing is asked, then the times."""
    stored = (windows for _, windows in read_forecast_windows(shards, "validation", BATCH_SIZE))
    chosen = [
        (one.context.at(rows), *(value_BH[rows] for value_BH in _asked(one)))
        for one, rows in _spread(stored, _stride(shards, FORECAST), lambda one: len(one.time_s_BH))
    ]
    contexts, *asked = zip(*chosen, strict=True)
    lon_deg_BH, lat_deg_BH, time_s_BH = (torch.cat(part) for part in asked)
    return joined(contexts), lon_deg_BH, lat_deg_BH, time_s_BH


def _asked(windows: ForecastWindows) -> tuple[Tensor, Tensor, Tensor]:
    lon_deg_BH, lat_deg_BH = (
        value_BH.where(windows.is_target_BH, torch.nan)
        for value_BH in (windows.lon_deg_BH, windows.lat_deg_BH)
    )
    return lon_deg_BH, lat_deg_BH, windows.time_s_BH


def _stride(shards: Shards, task: str) -> int:
    return max(1, math.ceil(len(window_index(shards, "validation", task)) / CHOSEN_ON))


def _spread(
    parts: Iterable[Part], stride: int, size_of: Callable[[Part], int]
) -> Iterator[tuple[Part, slice]]:
    """Parts of windows, and every `stride`-th row of all of them."""
    seen = 0
    for part in parts:
        yield part, slice(-seen % stride, None, stride)
        seen += size_of(part)
