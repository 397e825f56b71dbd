"""Heads: a layer beside which its input goes on, and the density of where one will be.

Shapes: N presents, K knots, P pairs of a present and an instant, D model width, U numbers of a
mixture, C coordinates (east, north).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...layers.distributions import StepMixture
from ...layers.heads import ladder, steps_around


class Residual(nn.Module):
    """A layer of two maps beside which its input goes on, normalised before."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_D: Tensor) -> Tensor:
        wide = functional.gelu(self.widen(self.norm(x_D)))
        narrow: Tensor = self.narrow(self.dropout(wide))
        return x_D + narrow


class DensityHead(nn.Module):
    """p(east, north) around a center: components in the reach, along and across the heading."""

    def __init__(self, width: int, num_components: int, num_knots: int) -> None:
        super().__init__()
        self.num_knots = num_knots
        self.sizes = [num_components, num_components, 2 * num_components, 2 * num_components]
        scales = ladder(num_components, 0.02, 1.0).repeat_interleave(2)
        self.project = nn.Linear(width, self.num_knots * sum(self.sizes))
        with torch.no_grad():
            self.project.weight.mul_(0.1)
            self.project.bias.zero_()
            self.project.bias.view(self.num_knots, -1)[:, -len(scales) :] = scales

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """The numbers (N, K, U) of a mixture at each knot."""
        numbers_NKU: Tensor = self.project(hidden_ND).unflatten(-1, (self.num_knots, -1))
        return numbers_NKU

    def around(
        self, center_m_PC: Tensor, reach_m_P: Tensor, heading_PC: Tensor, numbers_PU: Tensor
    ) -> StepMixture:
        numbers = numbers_PU.split(self.sizes, dim=-1)
        return steps_around(center_m_PC, reach_m_P, heading_PC, numbers)
