"""Densities of the next step, and the loss they give.

The unit of every negative log-likelihood here is nats per target point, with durations measured in
log(seconds + MIN_STEP_S) and displacements in metres.

Shapes: B windows, T points, M mixture components, C coordinates (east, north); `...` any of them.
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
