"""Embeddings: numbers as waves whose frequencies say what is near.

Feed numbers of ordinary size: seconds since 1970 have steps of 128 in float32.

Shapes: V values, D width of one embedding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LearnableFourier(nn.Module):
    """Each value as D cosines of learned frequency and phase: (..., V) to (..., V * D).

    As TrajFM and its descendants embed time: sqrt(1 / D) cos(w x + b), with w from 1 down to
    10^-9 at first, which spans minutes to years for whatever unit.
    """

    def __init__(self, num_values: int, width: int) -> None:
        super().__init__()
        first_D = 10.0 ** -torch.linspace(0, 9, width)
        self.frequency_VD = nn.Parameter(first_D.repeat(num_values, 1))
        self.phase_VD = nn.Parameter(torch.zeros(num_values, width))

    def forward(self, value_V: Tensor) -> Tensor:
        angle_VD = value_V.unsqueeze(-1) * self.frequency_VD + self.phase_VD
        return (torch.cos(angle_VD) / math.sqrt(angle_VD.shape[-1])).flatten(-2)
