"""Skill: how far an answerer is ahead of the best baseline, with a paired interval.

Shapes: B windows, M answerers, E entities, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .metrics import INTERVAL, mean_over_windows, resamples, sums_by_entity
from .score_table import ALL, MAIN_METRICS, Row

Place = tuple[str, str, str, int | None]  # task, track, mask and horizon
NOT_NAMED: Mapping[str, str] = MappingProxyType({})


def bar_of(
    told: Mapping[str, Tensor], mask: Sequence[str], named: Mapping[str, str] = NOT_NAMED
) -> Tensor:
    """The error (B) to beat in each window: of the baseline that is named for its mask.

    Where none of them is named it is the best over these windows. Over masks together the bar is
    thus a baseline of each, not one for all.
    """
    masks, bar_B = np.array(mask), torch.full_like(next(iter(told.values())), torch.nan)
    for kind in set(mask):
        is_own_B = torch.from_numpy(masks == kind)
        own = {name: error_B[is_own_B] for name, error_B in told.items()}
        best = min(own, key=lambda name: (mean_over_windows(own[name]), name))
        bar_B[is_own_B] = own.get(named.get(kind, best), own[best])
    return bar_B


def bars_of(rows: Iterable[Row]) -> dict[Place, str]:
    """The best baseline by task, track, mask and horizon, of rows of the long table of scores.

    Those of validation are the bars of every split: the best of many on test itself would be the
    luckiest of them.
    """
    best: dict[Place, tuple[float, str]] = {}
    for row in rows:
        is_main = row["metric"] == MAIN_METRICS[row["task"]] and row["stratum"] == ALL
        if row["is_baseline"] and is_main and not math.isnan(row["value"]):
            place = (row["task"], row["track"], row["mask"], row["horizon"])
            best[place] = min((row["value"], row["model"]), best.get(place, (math.inf, "")))
    return {place: name for place, (_, name) in best.items()}


def skill(error: float, bar: float) -> float:
    """1 - error / error of the bar (Murphy 1988); below zero is worse than that."""
    if bar == 0:
        return 0.0 if error == 0 else float("-inf")
    return 1 - error / bar


def skill_each(error_R: NDArray[np.float64], bar_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """`skill` of each."""
    of_nothing_R = np.where(error_R == 0, 0.0, -np.inf)
    is_nothing_R = bar_R == 0
    return np.where(is_nothing_R, of_nothing_R, 1 - error_R / np.where(is_nothing_R, 1.0, bar_R))


def skill_intervals(
    error_MB: Sequence[Tensor],
    bar_B: Tensor,
    entity_id_B: Sequence[str],
    seed: int = 0,
    num_resamples: int = 1_000,
) -> list[tuple[float, float]]:
    """95 % percentile bootstrap of each skill, whole entities drawn with replacement.

    It is paired: a resample holds the same windows of an answerer and of the bar, so that what
    makes a window hard for both cancels (Efron and Tibshirani 1993, chapter 8). All answerers see
    the same draws.
    """
    total_ME = [sums_by_entity(error_B, entity_id_B)[0] for error_B in (*error_MB, bar_B)]
    num_entities = len(total_ME[-1])
    if not num_entities:
        return [(float("nan"), float("nan")) for _ in error_MB]
    found = []
    for drawn_RE in resamples(num_entities, seed, num_resamples):
        # Each by itself: together, equal rows may add up in another order and differ by rounding.
        *errors_MR, bar_R = (total_E[drawn_RE].sum(1) for total_E in total_ME)
        found.append(np.stack([skill_each(error_R, bar_R) for error_R in errors_MR], axis=1))
    skill_RM = np.concatenate(found)
    # No mean between neighbours: where a bar is zero, a skill may be without bounds.
    low = np.quantile(skill_RM, INTERVAL[0], axis=0, method="lower")
    high = np.quantile(skill_RM, INTERVAL[1], axis=0, method="higher")
    return list(zip(low.tolist(), high.tolist(), strict=True))
