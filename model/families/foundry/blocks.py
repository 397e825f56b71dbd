"""Blocks: the layers that the heads of foundry are made of.

Shapes: D model width; `...` any leading.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


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
