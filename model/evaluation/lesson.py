"""Lesson: what baselines are fitted on, read once each and only where one of them asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from ..baselines.forecast import ForecastBaseline, fitted_damped_velocity
from ..baselines.kalman_fit import Whole, fitted_filters, fitted_smoothers
from ..baselines.recovery import RecoveryBaseline
from ..baselines.windows import Windows
from ..data.journeys import Journeys, read_journeys
from ..data.paths import read_paths
from ..data.reading import read_windows
from ..data.shards import Shards, window_index
from ..earth.columns import joined
from ..earth.geometry import haversine_m
from ..interface.answerer import Answerer
from ..interface.batch import Batch
from ..interface.contexts import Partial
from ..interface.lines import PATH_PLACES
from ..interface.memory.paths import PastPaths
from .forecast_scores import read_forecast_windows
from .judged_tasks import PATH_INFERENCE, RECOVER, TIMES_GIVEN
from .metrics import ade_m
from .recovery_scores import recovery_question
from .travel_time_scores import travel_question

# Enough for a few numbers each, and seconds of work, whatever the size of the data.
FITTED_WINDOWS = 4_000
CHOSEN_ON = 1_000  # validation windows
RECOVERED_ON = 400
MAX_POINTS = 1_000_000  # of the paths that are remembered
BATCH_SIZE = 1_024
Part = TypeVar("Part")


@dataclass(frozen=True)
class Lesson:
    """The stored windows and paths of train, and validation, on which the rest is chosen.

    The resolution is that of the H3 cells of a dataset's regions.
    """

    shards: Shards
    resolution: int = 8
    seed: int = 0

    @cached_property
    def train(self) -> Windows:
        return spread_windows(self.shards, "train", FITTED_WINDOWS)

    @cached_property
    def validation(self) -> Windows:
        return spread_windows(self.shards, "validation", CHOSEN_ON)

    @cached_property
    def damped(self) -> ForecastBaseline:
        train = self.train
        columns = (train.lon_deg_BH, train.lat_deg_BH, train.time_s_BH, train.is_target_BH)
        return fitted_damped_velocity(train.context, *columns)

    @cached_property
    def paths(self) -> PastPaths:
        """What trips of train did, as far as memory reaches."""
        return PastPaths.of(*read_paths(self.shards, "train", MAX_POINTS))

    @cached_property
    def whole(self) -> Whole:
        train = self.train
        columns = (train.lon_deg_BH, train.lat_deg_BH, train.time_s_BH, train.is_target_BH)
        return Whole.of(train.context, *columns)

    @cached_property
    def kalman(self) -> dict[str, Answerer]:
        """Filters by name; one rests on another, so that all are fitted where one is asked for."""
        return {one.name: one for one in fitted_filters(self.whole)}

    @cached_property
    def smoothers(self) -> dict[str, Answerer]:
        return {one.name: one for one in fitted_smoothers(self.whole)}

    def journeys(self, split: str) -> Journeys:
        return read_journeys(self.shards, split, PATH_PLACES)

    def travels(self, journeys: Journeys, track: str) -> Partial:
        """Journeys as they are asked."""
        return travel_question(journeys, track, self.shards.zone)

    @cached_property
    def recovery_error(self) -> RecoveryError:
        """On the stored windows of recovery, or of path inference where there are none."""
        recovers = len(window_index(self.shards, "validation", RECOVER))
        return RecoveryError.on_validation(self.shards, RECOVER if recovers else PATH_INFERENCE)


def spread_windows(shards: Shards, split: str, most: int, batch_size: int = BATCH_SIZE) -> Windows:
    """Windows of forecasts spread evenly over a split, at most so many."""
    read = (windows for _, windows in read_forecast_windows(shards, split, batch_size))
    num_windows = len(window_index(shards, split))
    parts = [
        Windows(*(getattr(one, field.name) for field in fields(Windows))).at(rows)
        for one, rows in spread(read, most, num_windows, lambda one: len(one.time_s_BH))
    ]
    if not parts:
        raise ValueError(f"the {split} split has no windows of forecasts to fit baselines on")
    return joined(parts)


@dataclass(frozen=True)
class RecoveryError:
    """The mean error of a recovery on stored windows, their times given."""

    questions: list[tuple[Partial, Batch]]

    @classmethod
    def on_validation(cls, shards: Shards, task: str) -> RecoveryError:
        stored = read_windows(shards, "validation", BATCH_SIZE, task=task)
        num_windows = len(window_index(shards, "validation", task))
        return cls(
            [
                (recovery_question(one, TIMES_GIVEN).at(rows), one.batch.at(rows))
                for one, rows in spread(
                    stored, RECOVERED_ON, num_windows, lambda one: len(one.started_us_B)
                )
            ]
        )

    def __call__(self, baseline: RecoveryBaseline) -> float:
        return float(torch.cat([self._of(baseline, *one) for one in self.questions]).nanmean())

    @staticmethod
    def _of(baseline: RecoveryBaseline, asked: Partial, truth: Batch) -> Tensor:
        found = baseline.recover(asked)
        places = found.lon_deg_BT, found.lat_deg_BT, truth.lon_deg_BT, truth.lat_deg_BT
        return ade_m(haversine_m(*places), truth.is_target_BT)


def spread(
    parts: Iterable[Part], most: int, num_all: int, size_of: Callable[[Part], int]
) -> Iterator[tuple[Part, Tensor]]:
    """Parts of all windows, and which rows of each to keep so that at most so many are, evenly."""
    seen = 0
    for part in parts:
        row_R = torch.arange(seen, seen + size_of(part))
        is_kept_R = row_R * most // num_all != (row_R - 1) * most // num_all
        yield part, torch.nonzero(is_kept_R | (most >= num_all))[:, 0]
        seen += len(row_R)
