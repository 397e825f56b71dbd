"""Reading options: what decides which crops of a split are read, and how they share batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Batching = Literal["bucketed", "packed"]

LENGTHENED = 4  # times the points of a plain crop that are read, where some are thinned
POOL_POINTS = 1 << 20  # points mixed at a time: bounds the memory, not the data


@dataclass(frozen=True)
class Reading:
    """How a split is read for training.

    `batch_size` counts rows; bucketed, a row holds one crop of at most `max_points`, packed, as
    many as fit into these.
    """

    split: str
    seed: int
    batch_size: int
    max_points: int
    batching: Batching = "bucketed"
    pool_points: int = POOL_POINTS

    def __post_init__(self) -> None:
        is_known = self.batching in get_args(Batching)
        if self.batch_size < 1 or self.max_points < 2 or not is_known:
            raise ValueError("reading needs batch_size >= 1, max_points >= 2, bucketed or packed")


@dataclass(frozen=True)
class Draws:
    """The shares of the rows of training that are thinned, made finer and cut short."""

    thinned: float = 0.0
    finer: float = 0.0
    short: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.thinned, self.finer, self.short)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError("shares of thinned, finer and short rows must add up to 1 at most")

    @property
    def are_any(self) -> bool:
        return self.thinned + self.finer + self.short > 0

    def num_read(self, max_points: int) -> int:
        """The length of the crops that are read: more is needed where some are thinned."""
        return max_points * (LENGTHENED if self.thinned > 0 else 1)
