"""Least absolute distance: a linear fit that far outliers cannot pull, drawn towards zero.

The sum of distances in the plane is made least by reweighted least squares: each round weighs a
row by one over its distance, which never raises the sum (Weiszfeld's method for a linear model).

Shapes: N rows, P weights, C coordinates (east and north).
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_ROUNDS = 100
LEAST_CHANGE = 1e-6  # of the weights, in a round
SMOOTHING = 1e-3  # of the mean distance: a row that is met exactly would weigh infinitely much


def least_absolute(design_NPC: Tensor, wanted_NC: Tensor, strength: float) -> Tensor:
    """Weights (P) with the least sum of |wanted - design . weights| + strength / 2 . penalty.

    The penalty is the sum of squared weights, each times the curvature of the sum at zero along
    it: whatever the units, a strength of 1 about halves a weight. Infinite strength leaves zeros.
    """
    num_weights = design_NPC.shape[1]
    weight_P = design_NPC.new_zeros(num_weights)
    mean_distance = (
        float(torch.linalg.vector_norm(wanted_NC, dim=1).mean()) if len(wanted_NC) else 0
    )
    if strength == torch.inf or mean_distance == 0:
        return weight_P
    flat_MP = design_NPC.transpose(1, 2).reshape(-1, num_weights)
    penalty_P = None
    for _ in range(MAX_ROUNDS):
        miss_NC = wanted_NC - (flat_MP @ weight_P).view_as(wanted_NC)
        closeness_N1 = (miss_NC.square().sum(1) + (SMOOTHING * mean_distance) ** 2).rsqrt()[:, None]
        closeness_M1 = closeness_N1.expand_as(wanted_NC).reshape(-1, 1)
        gram_PP = flat_MP.T @ (flat_MP * closeness_M1)
        if penalty_P is None:
            curvature_P = gram_PP.diagonal()
            penalty_P = strength * curvature_P.clamp(min=1e-9 * float(curvature_P.max()) + 1e-300)
        pulled_P = flat_MP.T @ (wanted_NC * closeness_N1).reshape(-1)
        before_P = weight_P
        weight_P = torch.linalg.solve(gram_PP + penalty_P.diag(), pulled_P)
        if float((weight_P - before_P).abs().max()) <= LEAST_CHANGE * float(weight_P.abs().max()):
            break
    return weight_P
