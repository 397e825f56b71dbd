"""Least absolute distance: a linear fit that far outliers cannot pull, drawn towards zero.

The sum of distances in the plane is made least by reweighted least squares: each round weighs a
row by one over its distance, which never raises the sum (Weiszfeld's method for a linear model).

Shapes: N rows, P weights, C coordinates (east and north), M rows of all coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

MAX_ROUNDS = 100
LEAST_CHANGE = 1e-4  # of the largest weight, in a round
SMOOTHING = 1e-3  # of the mean distance: a row that is met exactly would weigh infinitely much


def least_absolute(
    design_NPC: Tensor, wanted_NC: Tensor, strengths: Sequence[float]
) -> Iterator[Tensor]:
    """For each strength weights (P) with the least sum of |wanted - design . weights| + penalty.

    The penalty is strength / 2 . the sum of squared weights, each times the curvature of the sum at
    zero along it: whatever the units, a strength of 1 about halves a weight. Infinite strength
    leaves zeros. Each fit starts where the one before ended, so that a falling order is quick.
    """
    weight_P = design_NPC.new_zeros(design_NPC.shape[1])
    mean_m = float(torch.linalg.vector_norm(wanted_NC, dim=1).mean()) if len(wanted_NC) else 0.0
    flat_PM = design_NPC.permute(1, 0, 2).flatten(1).contiguous()
    closeness_N1 = _closeness(wanted_NC, mean_m)
    curvature_P = flat_PM.square() @ closeness_N1.expand_as(wanted_NC).flatten()
    floor = 1e-9 * float(curvature_P.max()) + 1e-300
    for strength in strengths:
        if strength < torch.inf and mean_m > 0:
            penalty_PP = (strength * curvature_P.clamp(min=floor)).diag()
            weight_P = _settled(flat_PM, wanted_NC, penalty_PP, mean_m, weight_P)
        yield weight_P


def _settled(
    flat_PM: Tensor, wanted_NC: Tensor, penalty_PP: Tensor, mean_m: float, weight_P: Tensor
) -> Tensor:
    """Rounds of reweighted least squares until the weights rest."""
    for _ in range(MAX_ROUNDS):
        miss_NC = wanted_NC - (weight_P @ flat_PM).view_as(wanted_NC)
        closeness_M = _closeness(miss_NC, mean_m).expand_as(wanted_NC).flatten()
        pulled_PM, before_P = flat_PM * closeness_M, weight_P
        weight_P = torch.linalg.solve(
            pulled_PM @ flat_PM.T + penalty_PP, pulled_PM @ wanted_NC.flatten()
        )
        if float((weight_P - before_P).abs().max()) <= LEAST_CHANGE * float(weight_P.abs().max()):
            break
    return weight_P


def _closeness(miss_NC: Tensor, mean_m: float) -> Tensor:
    """One over each distance (N, 1)."""
    return (miss_NC.square().sum(1) + (SMOOTHING * mean_m) ** 2).rsqrt()[:, None]
