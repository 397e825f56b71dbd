"""Probability scores: how well what was told of a spread fits what came.

Each is a proper score or a check of calibration. Samples are compared by great-circle distance,
which is of negative type on the sphere, so that the energy score is proper there too.

Shapes: B windows, S samples, H horizon steps, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..earth.geometry import haversine_m
from .metrics import ade_m

NUM_TENTHS = 10
NUM_LIKELY = 5  # of minADE_5, as in the challenges of motion forecasting


def energy_score_m(
    sample_lon_deg_BS: Tensor, sample_lat_deg_BS: Tensor, lon_deg_B: Tensor, lat_deg_B: Tensor
) -> Tensor:
    """E d(X, y) - E d(X, X') / 2 (B) in metres, from samples.

    Gneiting and Raftery 2007, equation 22; pairs of different samples alone (the fair form of
    Ferro 2014), so that their number does not change what is expected. Of a point it is the
    displacement, and lower is better.
    """
    samples = sample_lon_deg_BS, sample_lat_deg_BS
    away_m_BS = haversine_m(*samples, lon_deg_B.unsqueeze(1), lat_deg_B.unsqueeze(1))
    number = away_m_BS.shape[1]
    between_m_B = torch.zeros_like(away_m_BS[:, 0])
    for shift in range(1, number):  # each ordered pair once, without (B, S, S) in memory
        others = (value_BS.roll(shift, dims=1) for value_BS in samples)
        between_m_B += haversine_m(*samples, *others).sum(1)
    return away_m_BS.mean(1) - between_m_B / (2 * number * (number - 1))


def min_ade_m(away_m_BSH: Tensor, is_target_BH: Tensor, num_steps: int) -> Tensor:
    """The ADE (B) of the best of the first `NUM_LIKELY` samples, each a path of its own."""
    likely_m_BSH = away_m_BSH[:, :NUM_LIKELY]
    ade_m_SB = [ade_m(away_m_BH, is_target_BH, num_steps) for away_m_BH in likely_m_BSH.unbind(1)]
    return torch.stack(ade_m_SB).amin(0)


def pit_tenths(sample_BS: Tensor, value_B: Tensor) -> Tensor:
    """The mass (B, 10) of the probability integral transform in each tenth; even if calibrated.

    The rank of the value among S samples stands for an interval of 1 / (S + 1), or of more where
    it ties (the non-randomised transform of Czado, Gneiting and Held 2009).
    """
    num_places = sample_BS.shape[1] + 1
    low_B1 = (sample_BS < value_B.unsqueeze(1)).sum(1, keepdim=True).double() / num_places
    num_up_B1 = (sample_BS <= value_B.unsqueeze(1)).sum(1, keepdim=True) + 1
    high_B1 = num_up_B1.double() / num_places
    edge_E = torch.arange(NUM_TENTHS + 1, dtype=torch.float64) / NUM_TENTHS
    return ((edge_E - low_B1) / (high_B1 - low_B1)).clamp(0, 1).diff(dim=1)


def levels(number: int) -> list[float]:
    """The middles of equal shares of the mass."""
    return [(place + 0.5) / number for place in range(number)]


def crps_of_samples(sample_BS: Tensor, value_B: Tensor) -> Tensor:
    """CRPS (B) from samples: E |X - y| - E |X - X'| / 2, pairs of different samples alone."""
    number = sample_BS.shape[1]
    # A sample's place in their order tells in how many pairs it is the larger one, or the smaller.
    weight_S = 2 * torch.arange(number, dtype=torch.float64) - (number - 1)
    miss_BS = sample_BS - value_B.unsqueeze(1)
    between_B = (weight_S * miss_BS.sort(dim=1).values).sum(1) / (number * (number - 1))
    return miss_BS.abs().mean(1) - between_B


def crps_of_quantiles(quantile_BQ: Tensor, share_Q: Sequence[float], value_B: Tensor) -> Tensor:
    """CRPS (B) from quantiles at the middles of equal shares.

    Twice the mean pinball loss (Gneiting and Ranjan 2011, equation 8, by the midpoint rule); of a
    point it is the absolute error.
    """
    miss_BQ = value_B.unsqueeze(1) - quantile_BQ
    share_1Q = torch.tensor(share_Q, dtype=torch.float64)
    return 2 * torch.maximum(share_1Q * miss_BQ, (share_1Q - 1) * miss_BQ).mean(1)
