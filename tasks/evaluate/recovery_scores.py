"""Scoring of recovery: hidden points of stored windows, errors in metres beside the baselines.

Whoever answers gets the question alone: what is hidden is NaN there, so that an answer that rests
on it is none.

Shapes: B windows, T points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tasks.config.judged_tasks import PATH_INFERENCE, RECOVER, TIMES_GIVEN
from tasks.config.slices import EvaluateRules
from tasks.evaluate.forecast_scores import WINDOWS_AT_ONCE
from tasks.runtime.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from model.baselines.recovery import RecoveryBaseline
    from model.data.reading import WindowBatch
    from model.data.shards import Shards
    from model.inference.serving import Trained
    from model.interface.contexts import Partial

TIMES_HIDDEN = "times_hidden"
EVERY_MASK = "all"
TRACKS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {RECOVER: (TIMES_GIVEN, TIMES_HIDDEN), PATH_INFERENCE: (TIMES_GIVEN,)}
)
RECOVERY = pa.schema(
    {
        **dict.fromkeys(("split", "task", "track", "mask", "model"), pa.string()),
        **dict.fromkeys(("num_windows", "num_entities", "num_points"), pa.int64()),
        **dict.fromkeys(
            (
                *("mae_m", "mae_low_m", "mae_high_m", "mae_p50_m", "mae_p90_m"),
                *("rmse_m", "skill"),
            ),
            pa.float64(),
        ),
    }
)


@dataclass
class Asked:
    """The windows of a task in their order: whose they are, how masked, how many points hidden."""

    entity_id: list[str] = field(default_factory=list)
    mask: list[str] = field(default_factory=list)
    num_hidden: list[Tensor] = field(default_factory=list)


@dataclass
class Misses:
    """What one answerer missed by: of each window the mean, and the sum of squares."""

    mean_m: list[Tensor] = field(default_factory=list)
    sum_m2: list[Tensor] = field(default_factory=list)


def recovery_rows(
    shards: Shards,
    split: str,
    tasks: Sequence[str],
    trained: Trained,
    baselines: Sequence[RecoveryBaseline],
    rules: EvaluateRules,
) -> list[dict[str, Any]]:
    """The rows of one split, under `RECOVERY`; a task without windows has none."""
    rows: list[dict[str, Any]] = []
    for task in TRACKS_OF:
        if task in tasks:
            asked, misses = misses_of(shards, split, task, trained, baselines, rules)
            names = [baseline.name for baseline in baselines]
            rows += statistics(split, task, asked, misses, names, rules)
    return rows


def misses_of(
    shards: Shards,
    split: str,
    task: str,
    trained: Trained,
    baselines: Sequence[RecoveryBaseline],
    rules: EvaluateRules,
) -> tuple[Asked, dict[tuple[str, str], Misses]]:
    """The windows of a task in a split, and by (track, name) what each answerer missed by."""
    from model.data.reading import read_windows
    from model.evaluation.metrics import ade_m, displacement_m

    asked = Asked()
    found: dict[tuple[str, str], Misses] = {}
    for stored in read_windows(shards, split, WINDOWS_AT_ONCE, task=task):
        batch = stored.batch
        asked.entity_id += stored.entity_id_B
        asked.mask += stored.mask_B
        asked.num_hidden.append(batch.is_target_BT.sum(dim=1))
        for track in TRACKS_OF[task]:
            for name, places in answers(stored, track, trained, baselines, rules.zone):
                away_m_BT = displacement_m(*places, batch.lon_deg_BT, batch.lat_deg_BT)
                if not bool(away_m_BT[batch.is_target_BT].isfinite().all()):
                    raise DataError(
                        f"{name} left hidden points of {split} {task} without an answer"
                    )
                misses = found.setdefault((track, name), Misses())
                misses.mean_m.append(ade_m(away_m_BT, batch.is_target_BT))
                misses.sum_m2.append(away_m_BT.square().where(batch.is_target_BT, 0.0).sum(dim=1))
    return asked, found


def answers(
    stored: WindowBatch,
    track: str,
    trained: Trained,
    baselines: Sequence[RecoveryBaseline],
    zone: str,
) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """(name, (lon_deg_BT, lat_deg_BT)) of every answerer; ours is NaN where it tells nothing."""
    import torch

    from model.inference.api import recover

    partial = question(stored, track, zone)
    ours = recover(trained.model, partial)
    yield (
        trained.family,
        (
            torch.where(ours.is_recovered_BT, ours.lon_deg_BT, torch.nan),
            torch.where(ours.is_recovered_BT, ours.lat_deg_BT, torch.nan),
        ),
    )
    for baseline in baselines:
        yield baseline.name, baseline.recover(partial)


def question(stored: WindowBatch, track: str, zone: str) -> Partial:
    """The windows as they are asked: NaN wherever something is hidden."""
    import torch

    from model.inference.api import Partial

    batch = stored.batch
    shows_place_BT = batch.is_observed_BT
    shows_time_BT = ~batch.is_pad_BT if track == TIMES_GIVEN else batch.is_observed_BT
    return Partial(
        torch.where(shows_place_BT, batch.lon_deg_BT, torch.nan),
        torch.where(shows_place_BT, batch.lat_deg_BT, torch.nan),
        torch.where(shows_time_BT, batch.time_s_BT, torch.nan),
        shows_place_BT,
        shows_time_BT,
        stored.started_us_B,
        zone,
        batch.is_pad_BT,
    )


# Statistics -------------------------------------------------------------------------------------


def statistics(
    split: str,
    task: str,
    asked: Asked,
    misses: Mapping[tuple[str, str], Misses],
    baselines: Sequence[str],
    rules: EvaluateRules,
) -> list[dict[str, Any]]:
    """One row per track, mask and answerer, the best first, with its skill over the baselines."""
    from model.evaluation.metrics import skill

    rows = [
        {"split": split, "task": task, "track": track, "mask": mask, "model": model}
        | statistic(asked, missed, mask, rules)
        for (track, model), missed in misses.items()
        for mask in (*sorted(set(asked.mask), key=mask_order), EVERY_MASK)
    ]
    for row in rows:
        rivals = [
            other["mae_m"]
            for other in rows
            if other["model"] in baselines
            and all(other[name] == row[name] for name in ("track", "mask"))
        ]
        row["skill"] = skill(row["mae_m"], rivals)

    def rank(row: dict[str, Any]) -> tuple[Any, ...]:
        order = TRACKS_OF[task].index(row["track"]), mask_order(row["mask"])
        return *order, row["mae_m"], row["model"]

    return sorted(rows, key=rank)


def statistic(asked: Asked, misses: Misses, mask: str, rules: EvaluateRules) -> dict[str, Any]:
    """The averages of one answerer over the windows of a mask, or over all of them."""
    import torch

    from model.evaluation import metrics

    chosen = np.array([mask in (name, EVERY_MASK) for name in asked.mask])
    chosen_B = torch.from_numpy(chosen)
    mean_m_B, sum_m2_B, num_hidden_B = (
        torch.cat(parts)[chosen_B].double()
        for parts in (misses.mean_m, misses.sum_m2, asked.num_hidden)
    )
    entity_id_B = np.array(asked.entity_id, dtype=object)[chosen].tolist()
    low_m, high_m = metrics.interval_over_entities(
        mean_m_B, entity_id_B, rules.seed, rules.num_bootstrap
    )
    return {
        "num_windows": len(mean_m_B),
        "num_entities": len(set(entity_id_B)),
        "num_points": int(num_hidden_B.sum()),
        "mae_m": metrics.mean_over_windows(mean_m_B),
        "mae_low_m": low_m,
        "mae_high_m": high_m,
        "mae_p50_m": metrics.percentile_over_windows(mean_m_B, 50),
        "mae_p90_m": metrics.percentile_over_windows(mean_m_B, 90),
        "rmse_m": float((sum_m2_B.sum() / num_hidden_B.sum()).sqrt()),
    }


def mask_order(mask: str) -> tuple[bool, str, int]:
    """Masks by kind, then by their number: `block_5` before `block_20`; all together last."""
    kind, _, number = mask.rpartition("_")
    kind, size = (kind, int(number)) if number.isdecimal() else (mask, 0)
    return mask == EVERY_MASK, kind, size
