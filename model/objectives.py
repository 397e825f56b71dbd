"""What is asked of a model: a loss over targets.

Shapes: `...` any leading.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """Sums over targets and their count: the mean is taken once, where batches are added up."""

    total: Tensor
    count: Tensor
    parts: dict[str, Tensor]

    @property
    def mean(self) -> Tensor:
        """Loss per target; zero where a batch has none."""
        return self.total / self.count.clamp(min=1)
