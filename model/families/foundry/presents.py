"""Presents: the points from which a network looks ahead, and where it says that they will be.

Shapes: R sequences, T points, N presents, J instants asked, K knots, A leads, C coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...earth.columns import Columns
from ...interface.batch import index_of
from ...interface.sequence_rows import SequenceRows
from .motion import Motion
from .recall import Followed


@dataclass(frozen=True)
class Presents(Columns):
    """What is known of presents: their state, motion and what the base learnt in their window.

    Beside it the row that each is of, and whether that was drawn in training, not as data told it.
    """

    hidden_ND: Tensor
    motion: Motion
    told_NAK: Tensor
    row_N: Tensor
    is_drawn_N: Tensor
    followed: Followed | None = None


@dataclass(frozen=True)
class Center:
    """Where the presents will be: displacements, their reach, and the knots that told them."""

    moved_m_NJC: Tensor
    reach_m_NJ: Tensor
    near_NJK: Tensor


def grid(*sizes: int) -> list[Tensor]:
    """The indices of all places of a grid, one tensor for each axis, the last one fastest."""
    return [axis.flatten() for axis in torch.meshgrid(*map(torch.arange, sizes), indexing="ij")]


def is_present(rows: SequenceRows) -> Tensor:
    """Points that may be read, but the first of each: it shows no motion."""
    index_RT = index_of(rows.time_s_RT)
    return (index_RT < rows.num_readable_R.unsqueeze(1)) & (index_RT > 0)
