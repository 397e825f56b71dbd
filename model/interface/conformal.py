"""Conformal factors: how far what was told of a spread is to be stretched to hold its share.

Of n windows that nothing was fitted on, the factor for a share p is the ceil((n + 1) p)-th smallest
of the factors that would just have held each: a new window is then held with a probability of p at
least (Papadopoulos et al. 2002; Lei et al. 2018, theorem 2.2). That asks for windows which could
change places. Those of one entity are alike, so that the share is off by more where entities are
few.

Shapes: B windows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST_WINDOWS = 30  # of fewer a factor is a guess, which makes areas worse as often as better
LEAST_RADIUS_M = 1e-3
LEAST_LOG = 1e-9


def conformal_factor(factor_B: Tensor, share: float) -> float:
    """The factor that holds a share; NaN where the windows are too few to tell it."""
    known_N = factor_B[~factor_B.isnan()]
    place = math.ceil((len(known_N) + 1) * share)
    if not 0 < place <= len(known_N):
        return math.nan
    return float(known_N.sort().values[place - 1])


def radius_factor(away_m_B: Tensor, radius_m_B: Tensor) -> Tensor:
    """The factor (B) of each radius that reaches the truth just so."""
    return away_m_B / radius_m_B.clamp(min=LEAST_RADIUS_M)


def decile_factor(seconds_B: Tensor, low_B: Tensor, median_B: Tensor, high_B: Tensor) -> Tensor:
    """The factor (B) of the logarithmic distance from the median that reaches the truth just so."""
    end_B = torch.where(seconds_B > median_B, high_B, low_B)
    away_B, reach_B = (torch.log(value_B / median_B).abs() for value_B in (seconds_B, end_B))
    return away_B / reach_B.clamp(min=LEAST_LOG)
