"""Recovery scores: displacement of hidden points that were filled in, in metres.

Whoever answers gets the question alone: what is hidden is NaN there, so that an answer that rests
on it is none.

Shapes: B windows, T points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..data.reading import WindowBatch, read_windows
from ..data.shards import Shards
from ..interface.answerer import Answerer, Recoverer
from ..interface.contexts import Partial
from . import metrics
from .judged_tasks import PATH_INFERENCE, RECOVER, TIMES_GIVEN
from .question import Errors, Judging, Metric, Question, check_answered, mean_metric


@dataclass(frozen=True)
class RecoveryWindows:
    """Stored windows with their masks."""

    stored: WindowBatch
    zone: str

    def question(self, track: str) -> Partial:
        """The windows as they are asked: NaN wherever something is hidden."""
        batch = self.stored.batch
        shows_place_BT = batch.is_observed_BT
        shows_time_BT = ~batch.is_pad_BT if track == TIMES_GIVEN else batch.is_observed_BT
        return Partial(
            torch.where(shows_place_BT, batch.lon_deg_BT, torch.nan),
            torch.where(shows_place_BT, batch.lat_deg_BT, torch.nan),
            torch.where(shows_time_BT, batch.time_s_BT, torch.nan),
            shows_place_BT,
            shows_time_BT,
            self.stored.started_us_B,
            self.zone,
            batch.is_pad_BT,
        )


@dataclass(frozen=True)
class RecoveryScorer:
    """Hidden points of stored windows are asked, with their times or without."""

    task: str
    has_masks: ClassVar[bool] = True

    def questions(
        self, shards: Shards, split: str, answerers: Sequence[Answerer], judging: Judging
    ) -> Iterator[Question]:
        for stored in read_windows(shards, split, judging.windows_at_once, task=self.task):
            yield Question.of(stored, RecoveryWindows(stored, shards.zone))

    def errors(
        self, answerer: Recoverer, question: Question, track: str, judging: Judging
    ) -> dict[str, Tensor]:
        """Mean displacement (B), the sum of squares, and the number of hidden points."""
        windows: RecoveryWindows = question.windows
        batch = windows.stored.batch
        found = answerer.recover(windows.question(track))
        away_m_BT = metrics.displacement_m(
            found.lon_deg_BT, found.lat_deg_BT, batch.lon_deg_BT, batch.lat_deg_BT
        ).where(found.is_recovered_BT, torch.nan)
        is_target_BT = batch.is_target_BT
        check_answered(away_m_BT, is_target_BT, answerer.name, f"hidden points of {self.task}")
        return {
            "mae_m": metrics.ade_m(away_m_BT, is_target_BT),
            "sum_m2": away_m_BT.square().where(is_target_BT, 0.0).sum(dim=1),
            "num_points": is_target_BT.sum(dim=1),
        }

    def told(self, errors: Errors, judging: Judging) -> Iterator[Metric]:
        mae_m_B, sum_m2_B, num_points_B = errors.value.values()
        num_windows = len(mae_m_B)
        yield mean_metric("mae_m", mae_m_B, errors, judging)
        rmse_m = float((sum_m2_B.sum() / num_points_B.sum()).sqrt())
        for name, value in (
            ("mae_p50_m", metrics.percentile_over_windows(mae_m_B, 50)),
            ("mae_p90_m", metrics.percentile_over_windows(mae_m_B, 90)),
            ("rmse_m", rmse_m),
            ("num_points", float(num_points_B.sum())),
        ):
            yield Metric(name, value, num_windows)


RECOVERY_SCORER = RecoveryScorer(RECOVER)
PATH_INFERENCE_SCORER = RecoveryScorer(PATH_INFERENCE)
