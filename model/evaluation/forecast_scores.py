"""Forecast scores: displacement of forecast points, in metres.

Shapes: B windows, T points, H horizon steps, K horizons that are told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..data.reading import WindowBatch, read_windows
from ..data.shards import Shards, window_index
from ..interface.answerer import Answerer, Forecaster
from ..interface.contexts import Context
from . import metrics
from .judged_tasks import FORECAST, TIMES_GIVEN
from .metrics import ade_m, displacement_m, fde_m
from .question import Errors, Judging, Metric, Question, check_answered, mean_metric


@dataclass(frozen=True)
class ForecastWindows:
    """Known points, and what came after them."""

    context: Context
    lon_deg_BH: Tensor
    lat_deg_BH: Tensor
    time_s_BH: Tensor
    is_target_BH: Tensor

    @classmethod
    def of(cls, stored: WindowBatch, num_context: int, zone: str) -> ForecastWindows:
        batch, known, asked = stored.batch, slice(None, num_context), slice(num_context, None)
        columns = (batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT)
        lon_deg_BT, lat_deg_BT, time_s_BT = (column_BT[:, known] for column_BT in columns)
        is_pad_BT = batch.is_pad_BT[:, known]
        context = Context(lon_deg_BT, lat_deg_BT, time_s_BT, stored.started_us_B, zone, is_pad_BT)
        return cls(context, *(column_BT[:, asked] for column_BT in (*columns, batch.is_target_BT)))

    def answered(self, forecaster: Forecaster, track: str) -> tuple[Tensor, Tensor]:
        """Longitudes and latitudes (B, H) that a forecaster tells."""
        times = self.time_s_BH if track == TIMES_GIVEN else None
        found = forecaster.forecast(self.context, self.time_s_BH.shape[1], times)
        return found.lon_deg_BH, found.lat_deg_BH


def read_forecast_windows(
    shards: Shards, split: str, batch_size: int
) -> Iterator[tuple[WindowBatch, ForecastWindows]]:
    """The stored windows of forecasts, each as it is stored and as it is asked."""
    num_context_B = window_index(shards, split)["num_context"]
    if len(num_context_B):
        num_context = num_context_B[0].as_py()
        for stored in read_windows(shards, split, batch_size, num_context):
            yield stored, ForecastWindows.of(stored, num_context, shards.zone)


@dataclass(frozen=True)
class ForecastScorer:
    """Known points are asked for those that follow, at the true times or at times of one's own."""

    task: ClassVar[str] = FORECAST
    has_masks: ClassVar[bool] = False

    def questions(
        self, shards: Shards, split: str, answerers: Sequence[Answerer], judging: Judging
    ) -> Iterator[Question]:
        for stored, windows in read_forecast_windows(shards, split, judging.windows_at_once):
            yield Question.of(stored, windows)

    def errors(
        self, answerer: Forecaster, question: Question, track: str, judging: Judging
    ) -> dict[str, Tensor]:
        """ADE and FDE (B, K) at each horizon, and the displacement (B, H) at each step."""
        asked: ForecastWindows = question.windows
        found = asked.answered(answerer, track)
        away_m_BH = displacement_m(*found, asked.lon_deg_BH, asked.lat_deg_BH)
        is_target_BH, steps = asked.is_target_BH, judging.horizons
        check_answered(away_m_BH, is_target_BH, answerer.name, f"points of {track} forecasts")
        errors = {
            "ade_m": torch.stack([ade_m(away_m_BH, is_target_BH, k) for k in steps], 1),
            "fde_m": torch.stack([fde_m(away_m_BH, is_target_BH, k) for k in steps], 1),
        }
        return errors | ({"displacement_m": away_m_BH} if track == TIMES_GIVEN else {})

    def told(self, errors: Errors, judging: Judging) -> Iterator[Metric]:
        for place, horizon in enumerate(judging.horizons):
            ade_m_B = errors.value["ade_m"][:, place]
            num_windows = int((~ade_m_B.isnan()).sum())
            yield mean_metric("ade_m", ade_m_B, errors, judging, horizon)
            if "fde_m" not in errors.value:
                continue
            fde_m_B = errors.value["fde_m"][:, place]
            for name, value in (
                ("ade_p50_m", metrics.percentile_over_windows(ade_m_B, 50)),
                ("ade_p90_m", metrics.percentile_over_windows(ade_m_B, 90)),
                ("fde_m", metrics.mean_over_windows(fde_m_B)),
                ("fde_p50_m", metrics.percentile_over_windows(fde_m_B, 50)),
                ("fde_p90_m", metrics.percentile_over_windows(fde_m_B, 90)),
                ("ade_entity_mean_m", metrics.mean_over_entities(ade_m_B, errors.entity_id)),
            ):
                yield Metric(name, value, num_windows, horizon)
        if "displacement_m" in errors.value:
            mean_m_H = errors.value["displacement_m"].mean(0)
            for step, mean_m in enumerate(mean_m_H.tolist(), 1):
                yield Metric("displacement_m", mean_m, len(errors.entity_id), step)


FORECAST_SCORER = ForecastScorer()
