"""Metrics of displacements in metres: an error per window, then averages by name.

What is averaged over what is never implicit: every average says so in its name. A window that has
no target at the asked horizon has no error there: it is NaN, and is counted by nobody.

Shapes: B windows, H horizon steps, E entities, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

TAIL = (1 - 0.95) / 2
INTERVAL = (TAIL, 1 - TAIL)  # quantiles that bound 95 %

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
    generator = np.random.Generator(np.random.PCG64(seed))
    totals_R, counts_R = np.empty(num_resamples), np.empty(num_resamples)
    for number in range(num_resamples):  # one at a time: (R, E) does not fit for many entities
        drawn_E = generator.integers(len(count_E), size=len(count_E))
        totals_R[number], counts_R[number] = total_E[drawn_E].sum(), count_E[drawn_E].sum()
    low, high = np.quantile(totals_R / counts_R, INTERVAL)
    return float(low), float(high)


def _scored(value_B: Tensor) -> Tensor:
    return value_B[~value_B.isnan()].double().cpu()


def sums_by_entity(value_B: Tensor, entity_id_B: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the scored windows of each entity, in the order of entity ids."""
    if len(value_B) != len(entity_id_B):
        raise ValueError(f"{len(value_B)} values for {len(entity_id_B)} entity ids")
    value = value_B.double().cpu().numpy()
    is_scored = ~np.isnan(value)
    _, entity = np.unique(np.asarray(entity_id_B, dtype=object)[is_scored], return_inverse=True)
    return np.bincount(entity, value[is_scored]), np.bincount(entity)
