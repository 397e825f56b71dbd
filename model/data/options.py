"""Reading options: what decides which crops of a split are read, and how they share batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Batching = Literal["bucketed", "packed"]

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
