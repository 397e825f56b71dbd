"""Scoring: every forecaster on the same windows, and the statistics of its errors in metres.

Shapes: B windows, H horizon steps, K horizons that are reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from torch import Tensor

    from model.baselines.forecast import Baseline, DampedVelocity
    from model.data.reading import WindowBatch
    from model.data.shards import Shards
    from model.inference.serving import Trained
from tasks.config.judged_tasks import TIMES_GIVEN, TIMES_PREDICTED
from tasks.config.slices import EvaluateRules

TRACKS = (TIMES_GIVEN, TIMES_PREDICTED)
WINDOWS_AT_ONCE = 1_024
FITTED_WINDOWS = 20_000  # enough for one number, whatever the size of the data


@dataclass
class Errors:
    """What one forecaster did on one split and track: errors (B, K), and the sum per step (H)."""

    split: str
    model: str
    track: str
    ade_m: list[Tensor] = field(default_factory=list)
    fde_m: list[Tensor] = field(default_factory=list)
    step_sum_m: list[Tensor] = field(default_factory=list)


@dataclass
class Split:
    """The windows of a split in their order."""

    window_id: list[int] = field(default_factory=list)
    entity_id: list[str] = field(default_factory=list)


def fitted_damping(shards: Shards, rules: EvaluateRules) -> DampedVelocity:
    """The damped velocity whose time constant fits windows spread evenly over the train split."""
    import torch

    from model.baselines.forecast import DampedVelocity
    from model.data.reading import read_windows
    from model.data.shards import window_index

    stride = math.ceil(len(window_index(shards, "train")) / FITTED_WINDOWS)
    kept: list[list[Tensor]] = []
    seen = 0
    for windows in read_windows(shards, "train", WINDOWS_AT_ONCE, rules.num_context):
        batch = windows.batch
        first = -seen % stride
        columns = (batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT, batch.is_target_BT)
        kept.append([column[first::stride] for column in columns])
        seen += len(batch.window_id_B)
    lon_deg_BT, lat_deg_BT, time_s_BT, is_target_BT = map(torch.cat, zip(*kept, strict=True))
    known, asked = slice(None, rules.num_context), slice(rules.num_context, None)
    return DampedVelocity.fit(
        lon_deg_BT[:, known],
        lat_deg_BT[:, known],
        time_s_BT[:, known],
        lon_deg_BT[:, asked],
        lat_deg_BT[:, asked],
        time_s_BT[:, asked],
        is_target_BT[:, asked],
    )


def score_split(
    shards: Shards,
    split: str,
    trained: Trained,
    baselines: Sequence[Baseline],
    rules: EvaluateRules,
) -> tuple[Split, list[Errors]]:
    """The errors of every forecaster on every track of one split."""
    import torch

    from model.data.reading import read_windows
    from model.evaluation.metrics import ade_m, displacement_m, fde_m

    windows = Split()
    found: dict[tuple[str, str], Errors] = {}
    for stored in read_windows(shards, split, WINDOWS_AT_ONCE, rules.num_context):
        batch, asked = stored.batch, slice(rules.num_context, None)
        windows.window_id += batch.window_id_B.tolist()
        windows.entity_id += stored.entity_id_B
        is_target_BH = batch.is_target_BT[:, asked]
        for track, model, point in forecasts(stored, trained, baselines, rules):
            errors = found.setdefault((track, model), Errors(split, model, track))
            away_m_BH = displacement_m(
                *point, batch.lon_deg_BT[:, asked], batch.lat_deg_BT[:, asked]
            )
            steps = rules.horizons
            errors.ade_m.append(torch.stack([ade_m(away_m_BH, is_target_BH, k) for k in steps], 1))
            errors.fde_m.append(torch.stack([fde_m(away_m_BH, is_target_BH, k) for k in steps], 1))
            errors.step_sum_m.append(away_m_BH.sum(dim=0))
    return windows, list(found.values())


def forecasts(
    stored: WindowBatch, trained: Trained, baselines: Sequence[Baseline], rules: EvaluateRules
) -> Iterator[tuple[str, str, tuple[Tensor, Tensor]]]:
    """(track, name, (lon_deg_BH, lat_deg_BH)) of every forecaster for a batch of windows."""
    from model.baselines.forecast import predicted_time_s
    from model.inference.api import Context, forecast

    batch, known = stored.batch, slice(None, rules.num_context)
    context = Context(
        batch.lon_deg_BT[:, known],
        batch.lat_deg_BT[:, known],
        batch.time_s_BT[:, known],
        stored.started_us_B,
        rules.zone,
        batch.is_pad_BT[:, known],
    )
    points = (context.lon_deg_BT, context.lat_deg_BT, context.time_s_BT)
    given_s_BH = batch.time_s_BT[:, rules.num_context :]
    predicted_s_BH = predicted_time_s(context.time_s_BT, given_s_BH.shape[1])
    for track, own_s_BH, simple_s_BH in (
        (TIMES_GIVEN, given_s_BH, given_s_BH),
        (TIMES_PREDICTED, None, predicted_s_BH),
    ):
        ours = forecast(trained.model, context, given_s_BH.shape[1], own_s_BH)
        yield track, trained.family, (ours.lon_deg_BH, ours.lat_deg_BH)
        for baseline in baselines:
            yield track, baseline.name, baseline.forecast(*points, simple_s_BH)


STATISTICS = (
    *("ade_m", "ade_low_m", "ade_high_m", "ade_p50_m", "ade_p90_m"),
    *("fde_m", "fde_p50_m", "fde_p90_m", "ade_entity_mean_m", "skill"),
)
METRICS = pa.schema(
    {
        "split": pa.string(),
        "model": pa.string(),
        "track": pa.string(),
        "horizon_steps": pa.int32(),
        "num_windows": pa.int64(),
        "num_entities": pa.int64(),
        **dict.fromkeys(STATISTICS, pa.float64()),
    }
)


def statistics(
    windows: Split, errors: Sequence[Errors], baselines: Sequence[str], rules: EvaluateRules
) -> list[dict[str, Any]]:
    """One row per forecaster, track and horizon, with its skill against the best baseline."""
    from model.evaluation.metrics import skill

    rows = [
        statistic(windows, item, place, rules)
        for item in errors
        for place in range(len(rules.horizons))
    ]
    for row in rows:
        rivals = [
            other["ade_m"]
            for other in rows
            if other["model"] in baselines
            and all(other[name] == row[name] for name in ("track", "horizon_steps"))
        ]
        row["skill"] = skill(row["ade_m"], rivals)
    return rows


def statistic(windows: Split, errors: Errors, place: int, rules: EvaluateRules) -> dict[str, Any]:
    """The averages of one forecaster at one horizon."""
    import torch

    from model.evaluation import metrics

    ade_m_B, fde_m_B = (
        torch.cat(parts)[:, place].double() for parts in (errors.ade_m, errors.fde_m)
    )
    low_m, high_m = metrics.interval_over_entities(
        ade_m_B, windows.entity_id, rules.seed, rules.num_bootstrap
    )
    return {
        "split": errors.split,
        "model": errors.model,
        "track": errors.track,
        "horizon_steps": rules.horizons[place],
        "num_windows": int((~ade_m_B.isnan()).sum()),
        "num_entities": len(set(windows.entity_id)),
        "ade_m": metrics.mean_over_windows(ade_m_B),
        "ade_low_m": low_m,
        "ade_high_m": high_m,
        "ade_p50_m": metrics.percentile_over_windows(ade_m_B, 50),
        "ade_p90_m": metrics.percentile_over_windows(ade_m_B, 90),
        "fde_m": metrics.mean_over_windows(fde_m_B),
        "fde_p50_m": metrics.percentile_over_windows(fde_m_B, 50),
        "fde_p90_m": metrics.percentile_over_windows(fde_m_B, 90),
        "ade_entity_mean_m": metrics.mean_over_entities(ade_m_B, windows.entity_id),
    }
