"""Recalled: what past trips did next that were near in place and in motion.

Shapes: N presents, K neighbours, J knots, L lags, C coordinates (east, north), V velocities,
P numbers of a linear forecast.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..earth.columns import Columns

KNOTS = (1, 2, 3, 5, 8, 12, 20, 32)  # intervals ahead at which a neighbour is told
NUM_LINEAR = 7  # numbers of a linear forecast: three velocities, one simple, three of neighbours


@dataclass(frozen=True)
class Recalled(Columns):
    """Neighbours of presents, the nearest first; one that is not known is nobody's.

    `way_mps` is the mean velocity of a neighbour from where it was near until each knot, and
    `lasts` whether its path goes on so long. `offset_m` is where it was then, seen from the
    present, and `faster_mps` by how much the present is faster: recently, and half of that over
    eight points. `motion_s` times a velocity is a distance of the search, and `spread_m` how far
    away neighbours usually are in that memory. `linear_mps` is the mean velocity until each knot as
    the linear forecast of that memory tells it, of which `is_linear` says where there is one.
    """

    way_mps_NKJC: Tensor
    lasts_NKJ: Tensor
    offset_m_NKC: Tensor
    faster_mps_NKVC: Tensor
    is_known_NK: Tensor
    motion_s_N: Tensor
    spread_m_N: Tensor
    linear_mps_NJC: Tensor
    is_linear_NJ: Tensor


def linear_parts(
    velocity_mps_NLC: Tensor,
    pace_s_N: Tensor,
    simple_mps_NJC: Tensor,
    way_mps_NKJC: Tensor,
    offset_m_NKC: Tensor,
    faster_mps_NKVC: Tensor,
    is_told_NKJ: Tensor,
) -> Tensor:
    """Velocities (N, J, P, C): one's own, the simple forecast, the way of neighbours, and how they
    differ.
    """
    weight_NKJ1 = (is_told_NKJ / is_told_NKJ.sum(1, keepdim=True).clamp(min=1)).unsqueeze(-1)
    ahead_s_NJ1 = (pace_s_N[:, None] * torch.tensor(KNOTS)).unsqueeze(-1)
    way_mps_NJC = (weight_NKJ1 * way_mps_NKJC).sum(1)
    faster_mps_NJC = (weight_NKJ1 * faster_mps_NKVC.sum(2).unsqueeze(2)).sum(1)
    toward_mps_NJC = (weight_NKJ1 * offset_m_NKC.unsqueeze(2)).sum(1) / ahead_s_NJ1
    own_mps_NJLC = velocity_mps_NLC.unsqueeze(1).expand(-1, len(KNOTS), -1, -1)
    told = simple_mps_NJC, way_mps_NJC, faster_mps_NJC, toward_mps_NJC
    told_mps_NJVC = torch.stack(told, dim=2)
    return torch.cat([own_mps_NJLC, told_mps_NJVC], dim=2).double()
