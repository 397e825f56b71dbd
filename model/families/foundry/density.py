"""Density: how places asked for spread around the center that is told of each.

Shapes: N presents, P pairs of a present and an instant, K knots, U numbers of a mixture, D model
width, C coordinates (east, north).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...layers.distributions import StepMixture
from ...layers.heads import ladder, steps_around

KNOTS = (0.5, 1, 2, 3, 5, 8, 12, 16, 20)  # intervals ahead at which answers are told


class DensityHead(nn.Module):
    """p(east, north) around a center: components in the reach, along and across the heading."""

    def __init__(self, width: int, num_components: int) -> None:
        super().__init__()
        self.sizes = [num_components, num_components, 2 * num_components, 2 * num_components]
        scales = ladder(num_components, 0.02, 1.0).repeat_interleave(2)
        self.project = nn.Linear(width, len(KNOTS) * sum(self.sizes))
        with torch.no_grad():
            self.project.weight.mul_(0.1)
            self.project.bias.zero_()
            self.project.bias.view(len(KNOTS), -1)[:, -len(scales) :] = scales

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """The numbers (N, K, U) of a mixture at each knot."""
        numbers_NKU: Tensor = self.project(hidden_ND).unflatten(-1, (len(KNOTS), -1))
        return numbers_NKU

    def around(
        self, center_m_PC: Tensor, reach_m_P: Tensor, heading_PC: Tensor, numbers_PU: Tensor
    ) -> StepMixture:
        numbers = numbers_PU.split(self.sizes, dim=-1)
        return steps_around(center_m_PC, reach_m_P, heading_PC, numbers)
