"""Recalled: what past trips did next that were near in place and in motion.

Shapes: N presents, K neighbours, J knots, C coordinates (east, north), V velocities.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..earth.columns import Columns

KNOTS = (1, 2, 3, 5, 8, 12, 20, 32)  # intervals ahead at which a neighbour is told


@dataclass(frozen=True)
class Recalled(Columns):
    """Neighbours of presents, the nearest first; one that is not known is nobody's.

    `way_mps` is the mean velocity of a neighbour from where it was near until each knot, and
    `lasts` whether its path goes on so long. `offset_m` is where it was then, seen from the
    present, and `faster_mps` by how much the present is faster: recently, and half of that over
    eight points. `motion_s` times a velocity is a distance of the search, and `spread_m` how far
    away neighbours usually are in that memory.
    """

    way_mps_NKJC: Tensor
    lasts_NKJ: Tensor
    offset_m_NKC: Tensor
    faster_mps_NKVC: Tensor
    is_known_NK: Tensor
    motion_s_N: Tensor
    spread_m_N: Tensor
