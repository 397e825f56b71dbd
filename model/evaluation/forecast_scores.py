"""Forecast scores: displacement of forecast points, in metres, and how their spread fits.

Shapes: B windows, T points, H horizon steps, K horizons that are told, S samples, C chosen windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.reading import WindowBatch, read_windows
from ..data.shards import Shards, window_index
from ..earth.columns import Columns
from ..earth.geometry import haversine_m
from ..interface.answerer import Answerer, Forecaster, Sampler
from ..interface.answers import RADII, Forecast
from ..interface.conformal import conformal_factor, radius_factor
from ..interface.contexts import Context
from . import metrics
from .conformal import PERCENTS
from .judged_tasks import FORECAST, TIMES_GIVEN
from .metrics import ade_m, fde_m
from .probability import NUM_TENTHS, energy_score_m, min_ade_m, pit_tenths
from .question import AnswerError, Errors, Judging, Metric, Question, check_answered, mean_metric

COVERAGE = tuple(f"coverage_{percent}" for percent in PERCENTS)
RAW = tuple(f"raw_{name}" for name in COVERAGE)
FACTORS = tuple(f"factor_{percent}" for percent in PERCENTS)  # at each step of the horizon
SPREAD = (*COVERAGE, *RAW, "energy_score_m", "minade_5_m")
ForecastErrors = dict[str, Tensor]


@dataclass(frozen=True)
class ForecastWindows(Columns):
    """Known points, and what came after them."""

    context: Context
    lon_deg_BH: Tensor
    lat_deg_BH: Tensor
    time_s_BH: Tensor
    is_target_BH: Tensor

    @classmethod
    def of(cls, stored: WindowBatch, num_context: int) -> ForecastWindows:
        """The windows: their first points are known, and what was reported of these."""
        batch, known, asked = stored.batch, slice(None, num_context), slice(num_context, None)
        columns = (batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT)
        lon_deg_BT, lat_deg_BT, time_s_BT = (column_BT[:, known] for column_BT in columns)
        is_pad_BT = batch.is_pad_BT[:, known]
        started_us_B, zone = stored.started_us_B, stored.zone
        reported_mps_BTC = batch.reported_mps_BTC
        if reported_mps_BTC is not None:
            reported_mps_BTC = reported_mps_BTC[:, known]
        points = lon_deg_BT, lat_deg_BT, time_s_BT, started_us_B, zone, is_pad_BT
        context = Context(*points, reported_mps_BTC, batch.kind_B)
        truth = (column_BT[:, asked] for column_BT in (*columns, batch.is_target_BT))
        return cls(context, *truth)

    @property
    def elapsed_s_BH(self) -> Tensor:
        """Seconds since the last known point; NaN where nothing is asked."""
        *_, last_s_B1 = self.context.last_B1()
        return (self.time_s_BH - last_s_B1).where(self.is_target_BH, torch.nan)

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
            yield stored, ForecastWindows.of(stored, num_context)


class ForecastScorer:
    """Known points are asked for those that follow, at the true times or at times of one's own."""

    task = FORECAST
    has_masks = False

    def questions(
        self, shards: Shards, split: str, answerers: Sequence[Answerer], judging: Judging
    ) -> Iterator[Question]:
        stride = math.ceil(len(window_index(shards, split)) / max(1, judging.num_sampled_windows))
        seen = 0
        for stored, windows in read_forecast_windows(shards, split, judging.windows_at_once):
            yield Question.of(stored, (windows, slice(-seen % stride, None, stride)))
            seen += len(windows.time_s_BH)

    def errors(
        self, answerer: Forecaster, question: Question, track: str, judging: Judging
    ) -> dict[str, Tensor]:
        """ADE and FDE (B, K) at each horizon.

        At the true times also the displacement (B, H) at each step and how long after the last
        known point it is, and what samples tell, of those who have them.
        """
        windows: tuple[ForecastWindows, slice] = question.windows
        asked, chosen = windows
        found = asked.answered(answerer, track)
        away_m_BH = haversine_m(*found, asked.lon_deg_BH, asked.lat_deg_BH)
        is_target_BH, steps = asked.is_target_BH, judging.horizons
        check_answered(away_m_BH, is_target_BH, answerer.name, f"points of {track} forecasts")
        errors = {
            "ade_m": torch.stack([ade_m(away_m_BH, is_target_BH, k) for k in steps], 1),
            "fde_m": torch.stack([fde_m(away_m_BH, is_target_BH, k) for k in steps], 1),
        }
        if track != TIMES_GIVEN:
            return errors
        errors |= {"displacement_m": away_m_BH, "elapsed_s": asked.elapsed_s_BH}
        if isinstance(answerer, Sampler) and judging.num_samples:
            errors |= spread_errors(answerer, asked, chosen, judging)
        return errors

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
            for step, elapsed_s_B in enumerate(errors.value["elapsed_s"].unbind(1), 1):
                median_s, number = elapsed_s_B.nanmedian().item(), len(errors.entity_id)
                yield Metric("elapsed_s", median_s, number, step)
        if "pit" in errors.value:
            yield from told_spread(errors, judging)


def spread_errors(
    sampler: Sampler, windows: ForecastWindows, chosen: slice, judging: Judging
) -> ForecastErrors:
    """What samples of some windows tell at each horizon, (B, K) and more; NaN in the others."""
    asked, size_BK = windows.at(chosen), (len(windows.time_s_BH), len(judging.horizons))
    errors = {name: torch.full(size_BK, torch.nan, dtype=torch.float64) for name in SPREAD}
    errors |= {name: torch.full_like(windows.time_s_BH, torch.nan) for name in FACTORS}
    errors["pit"] = torch.full((*size_BK, NUM_TENTHS), torch.nan, dtype=torch.float64)
    if not len(asked.time_s_BH):
        return errors
    found = sampler.sampled_forecast(
        asked.context,
        asked.time_s_BH.shape[1],
        asked.time_s_BH,
        judging.num_samples,
        judging.seed,
    )
    for name, factor_CH in radius_factors(found, asked).items():
        errors[name][chosen] = factor_CH
    for place, step in enumerate(judging.horizons):
        for name, value_C in spread_at(found, asked, step, sampler.name).items():
            errors[name][chosen, place] = value_C
    return errors


def spread_at(found: Forecast, asked: ForecastWindows, step: int, who: str) -> ForecastErrors:
    """What samples tell of the point at a step (C): `SPREAD`, and tenths of `pit` (C, 10).

    Areas are discs around the point forecast, as they are told, and raw as the samples fill them.
    PIT is of the distance from there: the share of the samples that lie nearer to it than the
    truth.
    """
    is_target_CH = asked.is_target_BH
    sample_lon_deg_CSH, sample_lat_deg_CSH = found.sample_lon_deg_BSH, found.sample_lat_deg_BSH
    if sample_lon_deg_CSH is None or sample_lat_deg_CSH is None:
        raise AnswerError(f"{who} was asked for samples and gave none")
    samples = sample_lon_deg_CSH, sample_lat_deg_CSH
    truth = asked.lon_deg_BH, asked.lat_deg_BH
    points = found.lon_deg_BH, found.lat_deg_BH

    def there(value_CH: Tensor) -> Tensor:
        return fde_m(value_CH, is_target_CH, step)

    def samples_there(value_CSH: Tensor) -> Tensor:
        return torch.stack([there(value_CH) for value_CH in value_CSH.unbind(1)], dim=1)

    away_m_C = there(haversine_m(*points, *truth))
    is_asked_C = ~there(torch.zeros_like(truth[0])).isnan()
    point_lon_deg_C1H, point_lat_deg_C1H = (value_CH.unsqueeze(1) for value_CH in points)
    true_lon_deg_C1H, true_lat_deg_C1H = (value_CH.unsqueeze(1) for value_CH in truth)
    around_m_CSH = haversine_m(point_lon_deg_C1H, point_lat_deg_C1H, *samples)
    missed_m_CSH = haversine_m(*samples, true_lon_deg_C1H, true_lat_deg_C1H)
    radii = (found.radius_p50_m_BH, found.radius_p80_m_BH, found.radius_p95_m_BH)
    around_m_CS = samples_there(around_m_CSH)
    told = {}
    for place, (share, radius_m_CH) in enumerate(zip(RADII, radii, strict=True)):
        raw_m_C = torch.quantile(around_m_CS, share, dim=1)
        told[COVERAGE[place]] = is_within(away_m_C, there(radius_m_CH))
        told[RAW[place]] = is_within(away_m_C, raw_m_C)
    told["energy_score_m"] = energy_score_m(*map(samples_there, samples), *map(there, truth))
    told["minade_5_m"] = min_ade_m(missed_m_CSH, is_target_CH, step)
    for value_C in told.values():
        check_answered(value_C, is_asked_C, who, "samples of forecasts")
    told["pit"] = pit_tenths(around_m_CS, away_m_C)
    return {
        name: value.where(is_asked_C.view(-1, *[1] * (value.ndim - 1)), torch.nan)
        for name, value in told.items()
    }


def radius_factors(found: Forecast, asked: ForecastWindows) -> ForecastErrors:
    """By what the raw radii of each step (C, H) would have to be stretched to reach the truth."""
    lon_deg_CSH, lat_deg_CSH = found.sample_lon_deg_BSH, found.sample_lat_deg_BSH
    if lon_deg_CSH is None or lat_deg_CSH is None:
        return {}
    points = found.lon_deg_BH, found.lat_deg_BH
    away_m_CH = haversine_m(*points, asked.lon_deg_BH, asked.lat_deg_BH)
    lon_deg_C1H, lat_deg_C1H = (value_CH.unsqueeze(1) for value_CH in points)
    around_m_CSH = haversine_m(lon_deg_C1H, lat_deg_C1H, lon_deg_CSH, lat_deg_CSH)
    return {
        name: radius_factor(away_m_CH, torch.quantile(around_m_CSH, share, dim=1)).where(
            asked.is_target_BH, torch.nan
        )
        for name, share in zip(FACTORS, RADII, strict=True)
    }


def is_within(away_m_C: Tensor, radius_m_C: Tensor) -> Tensor:
    """1 or 0 (C); NaN where there is no radius."""
    return (away_m_C <= radius_m_C).double().where(radius_m_C.isfinite(), torch.nan)


def told_spread(errors: Errors, judging: Judging) -> Iterator[Metric]:
    """What samples told of many windows: a mean of each, and the share in each tenth of PIT."""
    for name, share in zip(FACTORS, RADII, strict=True):
        for step, factor_B in enumerate(errors.value[name].unbind(1), 1):
            factor, number = conformal_factor(factor_B, share), int((~factor_B.isnan()).sum())
            yield from [Metric(name, factor, number, step)] if math.isfinite(factor) else []
    for place, horizon in enumerate(judging.horizons):
        for name in SPREAD:
            yield mean_metric(name, errors.value[name][:, place], errors, judging, horizon)
        pit_BP = errors.value["pit"][:, place]
        num_windows = int((~pit_BP[:, 0].isnan()).sum())
        for tenth, mass_B in enumerate(pit_BP.unbind(1), 1):
            yield Metric(f"pit_{tenth}0", metrics.mean_over_windows(mass_B), num_windows, horizon)
