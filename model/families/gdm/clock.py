"""Clock of a data set: how seconds between points become numbers that are spread as a Gaussian is.

What takes points keeps a clock: every six hours, every five seconds, now and then a minute later.
Such seconds repeat exactly, and a diffusion never makes the same number twice. So the logarithm of
seconds is told by its rank in train, as the deviate of a Gaussian of that rank: a value that
repeats holds all the deviates of its ranks, and each of them is that value again (the quantile
transform, as scikit-learn's `QuantileTransformer` has it). Between the values of train it goes
straight on, and beyond them as far as train is spread.

Shapes: Q levels of the ranks, N steps; `...` any leading.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NUM_LEVELS = 1_001
MIN_SPREAD_LOG_S = 0.01  # of steps that all take the same time


class Clock(nn.Module):
    """Logarithms of seconds as deviates, and back; before it is fitted these are Gaussian."""

    log_s_Q: Tensor
    spread: Tensor
    deviate_Q: Tensor

    def __init__(self, center: float, scale: float) -> None:
        super().__init__()
        level_Q = (torch.arange(NUM_LEVELS, dtype=torch.float64) + 0.5) / NUM_LEVELS
        deviate_Q = torch.special.ndtri(level_Q)
        self.register_buffer("deviate_Q", deviate_Q, persistent=False)
        self.register_buffer("log_s_Q", center + scale * deviate_Q)
        self.register_buffer("spread", torch.tensor(scale, dtype=torch.float64))

    def fit(self, log_s_N: Tensor) -> None:
        """Take the values of train at each level, as they are, and how far they are spread."""
        sorted_N, number = log_s_N.sort().values, len(log_s_N)
        place_Q = (torch.arange(NUM_LEVELS) * number + number // 2) // NUM_LEVELS
        self.log_s_Q.copy_(sorted_N[place_Q.clamp(max=number - 1)])
        self.spread.copy_(log_s_N.std(correction=0))

    def deviates(self, log_s: Tensor) -> Tensor:
        """The deviate of each value; of one that repeats in train the middle of its ranks."""
        table_Q = self.log_s_Q
        first = torch.searchsorted(table_Q, log_s.contiguous())
        behind = torch.searchsorted(table_Q, log_s.contiguous(), right=True)
        above = first.clamp(1, NUM_LEVELS - 1)
        low, high = table_Q[above - 1], table_Q[above]
        share = ((log_s - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
        rank = torch.where(behind > first, (first + behind - 1) / 2, above - 1 + share)
        beyond = log_s - log_s.clamp(float(table_Q[0]), float(table_Q[-1]))
        return _between(self.deviate_Q, rank) + beyond / self.spread.clamp(min=MIN_SPREAD_LOG_S)

    def log_seconds(self, deviate: Tensor) -> Tensor:
        """The inverse of `deviates`."""
        known_Q = self.deviate_Q
        inside = deviate.clamp(float(known_Q[0]), float(known_Q[-1])).contiguous()
        above = torch.searchsorted(known_Q, inside).clamp(1, NUM_LEVELS - 1)
        low, high = known_Q[above - 1], known_Q[above]
        rank = above - 1 + (inside - low) / (high - low)
        return _between(self.log_s_Q, rank) + (deviate - inside) * self.spread


def _between(value_Q: Tensor, rank: Tensor) -> Tensor:
    """Values at ranks that need not be whole; exactly a value that stands on both sides."""
    below = rank.floor().long().clamp(0, len(value_Q) - 2)
    low, high = value_Q[below], value_Q[below + 1]
    return low + (rank - below) * (high - low)
