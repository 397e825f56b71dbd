"""Leaderboard: who is ahead of the best baseline on some data, and who wins over many.

On one data set a model is told by its mean error over trainings of several seeds, in each window,
and by the spread of their skills. Over data sets models are told as fev-bench does (Shchur et al.
2025): how often one errs less than another, and the skill of the geometric mean.

Shapes: B windows, S seeds, M answerers, D data sets, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..earth.arrays import Floats
from .metrics import INTERVAL, mean_over_windows
from .skill import bar_of, skill, skill_intervals

RATIO_BOUNDS = (1e-2, 1e2)  # so that no single data set decides a geometric mean
Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """The errors of everyone in the same windows of a task: of a model (S, B), by its name.

    `bars` names the baseline to beat by mask, that of validation; else it is the best of these.
    """

    error_SB: Mapping[str, Tensor]
    baselines: frozenset[str]
    mask: Sequence[str]
    entity_id: Sequence[str]
    bars: Mapping[str, str] = field(default_factory=dict)


def ranking(asked: Asked, seed: int = 0, num_resamples: int = 1_000) -> list[Row]:
    """Everyone on the same windows, the best first: the error, and the skill over the bar."""
    rivals = {name: asked.error_SB[name][0] for name in asked.error_SB if name in asked.baselines}
    bar_B = bar_of(rivals, asked.mask, asked.bars)
    rows = told_over(asked, bar_B, bar_names(rivals, asked), seed, num_resamples)
    return sorted(rows, key=lambda row: (row["error"], row["model"]))


def told_over(
    asked: Asked, bar_B: Tensor, bar: str, seed: int = 0, num_resamples: int = 1_000
) -> list[Row]:
    """Everyone's error, and the skill over a bar (B).

    The interval is of the mean over seeds, the model and the bar on the same windows; `seed_low`
    and `seed_high` are the least and the greatest skill of a single training.
    """
    error_MB = [error_SB.mean(dim=0) for error_SB in asked.error_SB.values()]
    bar_error = mean_over_windows(bar_B)
    intervals = skill_intervals(error_MB, bar_B, asked.entity_id, seed, num_resamples)
    rows = []
    for name, error_B, (low, high) in zip(asked.error_SB, error_MB, intervals, strict=True):
        by_seed = [
            skill(mean_over_windows(one_B), bar_error) for one_B in asked.error_SB[name].unbind()
        ]
        error, is_asked_B = mean_over_windows(error_B), ~error_B.isnan()
        entities = {one for one, is_in in zip(asked.entity_id, is_asked_B, strict=True) if is_in}
        rows.append(
            {
                "model": name,
                "is_baseline": name in asked.baselines,
                "error": error,
                "bar": bar,
                "bar_error": bar_error,
                "skill": skill(error, bar_error),
                "low": low,
                "high": high,
                "seed_low": min(by_seed),
                "seed_high": max(by_seed),
                "num_seeds": len(by_seed),
                "num_windows": int(is_asked_B.sum()),
                "num_entities": len(entities),
            }
        )
    return rows


def bar_names(baseline_B: Mapping[str, Tensor], asked: Asked) -> str:
    """Whom the bar is made of: the baseline of each mask."""
    masks, best = np.array(asked.mask), set()
    for kind in set(asked.mask):
        is_own_B = torch.from_numpy(masks == kind)
        means = {name: mean_over_windows(value[is_own_B]) for name, value in baseline_B.items()}
        best.add(asked.bars.get(kind) or min(means, key=lambda name: (means[name], name)))
    return ", ".join(sorted(best))


def standings(rows: Sequence[Row], seed: int = 0, num_resamples: int = 1_000) -> list[Row]:
    """Everyone over many data sets, who wins most first.

    `rows` are rankings that name a `dataset` and a `split_kind` too. `win_rate` is the share of the
    others who err more, and half of those who err alike; `skill` is 1 - the geometric mean of error
    / error of the bar. Both are means over the data sets where one was judged, and over the splits
    of each before. Intervals draw whole data sets.
    """
    datasets, models = (sorted({row[name] for row in rows}) for name in ("dataset", "model"))
    told_DM2 = np.full((len(datasets), len(models), 2), np.nan)
    for place, dataset in enumerate(datasets):
        own = [row for row in rows if row["dataset"] == dataset]
        for column, name in enumerate(models):
            found = [told_beside(row, own) for row in own if row["model"] == name]
            if found:
                told_DM2[place, column] = np.mean(found, axis=0)
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn_RD = generator.integers(len(datasets), size=(num_resamples, len(datasets)))
    baselines = {row["model"]: row["is_baseline"] for row in rows}
    board = []
    for name, told_D2 in zip(models, np.moveaxis(told_DM2, 1, 0), strict=True):
        win, log_ratio = (drawn_mean(value_D, drawn_RD) for value_D in told_D2.T)
        skill, high, low = (1 - float(np.exp(value)) for value in log_ratio)
        board.append(
            {
                "model": name,
                "is_baseline": baselines[name],
                "num_datasets": int((~np.isnan(told_D2[:, 1])).sum()),
                **dict(zip(("win_rate", "win_low", "win_high"), win, strict=True)),
                **{"skill": skill, "low": low, "high": high},
            }
        )
    return sorted(board, key=lambda row: (-row["win_rate"], -row["skill"], row["model"]))


def told_beside(row: Row, rows: Sequence[Row]) -> tuple[float, float]:
    """The share of others in the same windows who err more, and the log of error / bar."""
    others = [
        other["error"]
        for other in rows
        if other["split_kind"] == row["split_kind"] and other["model"] != row["model"]
    ]
    return win_rate(row["error"], others), log_ratio(row["error"], row["bar_error"])


def win_rate(error: float, others: Sequence[float]) -> float:
    """The share of the others who err more, half of those who err alike; NaN without any."""
    if not others:
        return float("nan")
    return float(np.mean([0.5 if error == other else float(error < other) for other in others]))


def log_ratio(error: float, bar_error: float) -> float:
    """The logarithm of an error over that of the bar, within bounds."""
    if bar_error == 0:
        return 0.0 if error == 0 else float(np.log(RATIO_BOUNDS[1]))
    return float(np.log(np.clip(error / bar_error, *RATIO_BOUNDS)))


def drawn_mean(value_D: Floats, drawn_RD: np.ndarray) -> tuple[float, float, float]:
    """A mean over data sets, and its 95 % interval; those without a value are passed over."""
    is_judged_D = ~np.isnan(value_D)
    if not is_judged_D.any():
        return (float("nan"),) * 3
    total_R = np.where(is_judged_D, value_D, 0)[drawn_RD].sum(axis=1)
    count_R = is_judged_D[drawn_RD].sum(axis=1)
    low, high = np.quantile(total_R[count_R > 0] / count_R[count_R > 0], INTERVAL)
    return float(np.nanmean(value_D)), float(low), float(high)
