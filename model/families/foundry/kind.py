"""Kind: what moves, as a vector that is added to the state of every point of a row.

It begins at nothing, so that a kind that is never told in training says nothing, and in some rows
of training it is not told, so that the weights answer without it too.

Shapes: R rows, K kinds, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...interface.kinds import kind_numbers
from .config import FoundryConfig


class KindCode(nn.Module):
    """The vectors of the kinds of a configuration; of any other, and of none, it is zero."""

    number_K: Tensor

    def __init__(self, config: FoundryConfig) -> None:
        super().__init__()
        self.share_kindless = config.share_kindless
        number_K = torch.tensor(kind_numbers(config.kinds))
        self.register_buffer("number_K", number_K, persistent=False)
        self.weight_KD = nn.Parameter(torch.zeros(len(number_K), config.width))

    def forward(self, kind_R: Tensor) -> Tensor:
        """(R, 1, D)."""
        is_told_RK = kind_R.unsqueeze(1) == self.number_K
        if self.training:
            drawn_R1 = torch.rand(len(kind_R), 1, device=kind_R.device)
            is_told_RK = is_told_RK & (drawn_R1 >= self.share_kindless)
        return (is_told_RK.to(self.weight_KD.dtype) @ self.weight_KD).unsqueeze(1)
