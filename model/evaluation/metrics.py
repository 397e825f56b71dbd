"""Metrics of displacements in metres: an error per window, then averages by name.

What is averaged over what is never implicit: every average says so in its name. A window that has
no target at the asked horizon has no error there: it is NaN, and is counted by nobody.

Shapes: B windows, H horizon steps, E entities, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TAIL = (1 - 0.95) / 2
INTERVAL = (TAIL, 1 - TAIL)  # quantiles that bound 95 %
MAX_KEPT_DRAWS, DRAWS_AT_ONCE = 2_000_000, 20_000  # what a processor's cache holds at once

# Per window -------------------------------------------------------------------------------------


def ade_m(displacement_BH: Tensor, is_target_BH: Tensor, num_steps: int | None = None) -> Tensor:
    """Mean displacement (B) over the first `num_steps` targets; over all of them by default."""
    displacement_BH, is_target_BH = displacement_BH[:, :num_steps], is_target_BH[:, :num_steps]
    # Selected, not multiplied: a pad may hold NaN.
    total_B = torch.where(is_target_BH, displacement_BH, 0.0).sum(dim=1)
    mean_B = total_B / is_target_BH.sum(dim=1)
    return torch.where(_reaches(is_target_BH, num_steps), mean_B, torch.nan)


def fde_m(displacement_BH: Tensor, is_target_BH: Tensor, num_steps: int | None = None) -> Tensor:
    """Displacement (B) at the target number `num_steps`; at each window's last one by default."""
    last_B = is_target_BH.sum(dim=1) - 1 if num_steps is None else num_steps - 1
    place_H = torch.arange(is_target_BH.shape[1], device=is_target_BH.device)
    is_last_BH = is_target_BH & (
        is_target_BH.cumsum(dim=1) - 1 == torch.as_tensor(last_B)[..., None]
    )
    place_B = (is_last_BH * place_H).sum(dim=1)
    value_B = displacement_BH.gather(1, place_B[:, None])[:, 0]
    return torch.where(_reaches(is_target_BH, num_steps), value_B, torch.nan)


def _reaches(is_target_BH: Tensor, num_steps: int | None) -> Tensor:
    return is_target_BH.sum(dim=1) >= (1 if num_steps is None else num_steps)


# Averages ---------------------------------------------------------------------------------------


def mean_over_windows(value_B: Tensor) -> float:
    """Mean in which every window weighs the same."""
    return float(_scored(value_B).mean())


def mean_over_entities(value_B: Tensor, entity_id_B: Sequence[str]) -> float:
    """Mean in which every entity weighs the same, however many windows it has."""
    total_E, count_E = sums_by_entity(value_B, entity_id_B)
    return float((total_E / count_E).mean()) if len(count_E) else float("nan")


def percentile_over_windows(value_B: Tensor, percent: float) -> float:
    """The percentile of the windows' values, interpolated between neighbours."""
    scored = _scored(value_B).numpy()
    return float(np.percentile(scored, percent)) if len(scored) else float("nan")


def interval_over_entities(
    value_B: Tensor,
    entity_id_B: Sequence[str],
    seed: int = 0,
    num_resamples: int = 1_000,
) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean over windows, whole entities drawn with replacement.

    Windows of one entity resemble each other, so drawing windows would flatter the interval.
    """
    total_E, count_E = sums_by_entity(value_B, entity_id_B)
    if len(count_E) == 0:
        return float("nan"), float("nan")
    means = [
        total_E[drawn_RE].sum(1) / count_E[drawn_RE].sum(1)
        for drawn_RE in resamples(len(count_E), seed, num_resamples)
    ]
    low, high = np.quantile(np.concatenate(means), INTERVAL)
    return float(low), float(high)


def resamples(num_entities: int, seed: int, num_resamples: int) -> Iterator[NDArray[np.int64]]:
    """Places of the entities that each resample draws, (R, E), some at a time.

    Equal numbers give equal draws. Those of few entities are kept for the next who asks: a table
    asks hundreds of times.
    """
    at_once = max(1, DRAWS_AT_ONCE // num_entities)
    if num_entities * num_resamples <= MAX_KEPT_DRAWS:
        drawn_RE = kept_resamples(num_entities, seed, num_resamples)
        yield from np.split(drawn_RE, range(at_once, num_resamples, at_once))
        return
    generator = np.random.Generator(np.random.PCG64(seed))
    for first in range(0, num_resamples, at_once):
        number = min(at_once, num_resamples - first)
        yield generator.integers(num_entities, size=(number, num_entities))


@lru_cache(maxsize=4)
def kept_resamples(num_entities: int, seed: int, num_resamples: int) -> NDArray[np.int64]:
    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.integers(num_entities, size=(num_resamples, num_entities))


def _scored(value_B: Tensor) -> Tensor:
    return value_B[~value_B.isnan()].double().cpu()


def sums_by_entity(value_B: Tensor, entity_id_B: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the scored windows of each entity, in the order of entity ids."""
    if len(value_B) != len(entity_id_B):
        raise ValueError(f"{len(value_B)} values for {len(entity_id_B)} entity ids")
    value = value_B.double().cpu().numpy()
    is_scored = ~np.isnan(value)
    entity = numbered(tuple(entity_id_B))[is_scored]
    total_E, count_E = np.bincount(entity, value[is_scored]), np.bincount(entity)
    is_there_E = count_E > 0
    return total_E[is_there_E], count_E[is_there_E]


@lru_cache(maxsize=8)
def numbered(entity_id_B: tuple[str, ...]) -> NDArray[np.int64]:
    """The place (B) of each window's entity among all of them."""
    return np.unique(np.asarray(entity_id_B, dtype=object), return_inverse=True)[1]
