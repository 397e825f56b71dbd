"""Question of an evaluation: stored windows as they are asked, and rules of how they are judged.

Shapes: B windows, K horizons, T points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.reading import WindowBatch
from . import metrics
from .judged_tasks import TRACKS


class AnswerError(ValueError):
    """An answerer left something without an answer, or gave an answer that is no number."""


@dataclass(frozen=True)
class Judging:
    """What decides the scores beside the windows and the answers.

    `horizons` are the steps at which forecasts are told; at `strata_horizon`, one of them, they are
    told by what the windows are like too. Without resamples there are no intervals. Whoever tells
    samples of forecasts is asked for `num_samples` in each of at most `num_sampled_windows`
    windows, spread evenly over the split. Gaps between visits are filled `num_filled` times.
    """

    horizons: tuple[int, ...] = (1, 5, 10, 20)
    strata_horizon: int | None = None
    tasks: tuple[str, ...] = tuple(TRACKS)
    num_bootstrap: int = 1_000
    seed: int = 0
    windows_at_once: int = 1_024
    num_samples: int = 64
    num_sampled_windows: int = 2_000
    num_filled: int = 20


@dataclass(frozen=True)
class Question:
    """Some stored windows of a task; `windows` holds what its scorer asks and compares with.

    By its `measures`, each a number of every window, errors are told for thirds of the windows.
    """

    window_id: list[int]
    entity_id: list[str]
    mask: list[str]
    windows: Any
    measures: Mapping[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: WindowBatch, windows: Any) -> Question:
        window_id = stored.batch.window_id_B.tolist()
        return cls(window_id, list(stored.entity_id_B), list(stored.mask_B), windows)


@dataclass(frozen=True)
class Errors:
    """Errors of windows by name, (B) or (B, K), and whose windows they are."""

    value: dict[str, Tensor]
    entity_id: Sequence[str]

    def of(self, is_chosen_B: NDArray[np.bool_]) -> Errors:
        """Those of some of the windows."""
        chosen_B = torch.from_numpy(is_chosen_B)
        entity_id = np.array(self.entity_id, dtype=object)[is_chosen_B].tolist()
        return Errors({name: value[chosen_B] for name, value in self.value.items()}, entity_id)


class Metric(NamedTuple):
    """One number that is told of some windows, and its interval where it has one."""

    metric: str
    value: float
    num_windows: int
    horizon: int | None = None
    low: float | None = None
    high: float | None = None


def mean_metric(
    name: str, value_B: Tensor, errors: Errors, judging: Judging, horizon: int | None = None
) -> Metric:
    """The mean over windows, with its interval over entities."""
    low, high = None, None
    if judging.num_bootstrap:
        low, high = metrics.interval_over_entities(
            value_B, errors.entity_id, judging.seed, judging.num_bootstrap
        )
    mean, num_windows = metrics.mean_over_windows(value_B), int((~value_B.isnan()).sum())
    return Metric(name, mean, num_windows, horizon, low, high)


def check_answered(answer: Tensor, is_asked: Tensor, who: str, what: str) -> None:
    """Refuse an answer that is no number where one was asked for."""
    if not bool(answer[is_asked].isfinite().all()):
        raise AnswerError(f"{who} left {what} without an answer")
