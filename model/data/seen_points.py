"""Seen points: a sketch of what a model was trained on, that tells whether a test is one.

A point is its place, to a millionth of a degree, and its instant, mixed to 64 bits, whatever the
data set or the split calls it. The smallest of these numbers are kept: an even draw of the points
(a bottom-k sketch, Cohen and Kaplan 2007). They tell no place by themselves, but whoever guesses a
place and its instant can look whether it is among them.

Shapes: N points, K kept numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..earth.arrays import Bits, Floats, Ints, mixed
from .shards import ShardFolder, row_groups

SEEN_FILE = "seen_points.safetensors"
MAX_KEPT = 65_536
FITTED_SPLITS = ("train", "validation")  # weights, and which of them are kept
EVERY = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class SeenPoints:
    """The smallest numbers of the points that were seen, in their order, and up to which number
    all of them are kept.
    """

    bits_K: Bits
    limit: np.uint64 = EVERY

    @classmethod
    def of(cls, parts: Sequence[Bits]) -> SeenPoints:
        return cls(np.unique(np.concatenate(parts))).cut()

    def cut(self) -> SeenPoints:
        """No more than `MAX_KEPT` of them."""
        if len(self.bits_K) <= MAX_KEPT:
            return self
        kept_K = self.bits_K[:MAX_KEPT]
        return SeenPoints(kept_K, kept_K[-1])

    def with_those_of(self, earlier: SeenPoints) -> SeenPoints:
        """The points of both: of a model that was trained twice."""
        limit = min(self.limit, earlier.limit)
        both_K = np.union1d(self.bits_K, earlier.bits_K)
        return SeenPoints(both_K[both_K <= limit], limit).cut()

    def share_of(self, bits_N: Bits) -> float:
        """The share of some points that were seen; zero where the sketch tells nothing of them."""
        told_N = bits_N[bits_N <= self.limit]
        return float(np.isin(told_N, self.bits_K).mean()) if len(told_N) else 0.0

    def write(self, folder: Path) -> None:
        numbers = {"bits": self.bits_K, "limit": np.array([self.limit], np.uint64)}
        held = {name: torch.from_numpy(value.view(np.int64)) for name, value in numbers.items()}
        save_file(held, folder / SEEN_FILE)

    @classmethod
    def read(cls, folder: Path) -> SeenPoints | None:
        """What a trained model tells; nothing of one that was trained before they were kept."""
        path = folder / SEEN_FILE
        if not path.is_file():
            return None
        held = {name: value.numpy().view(np.uint64) for name, value in load_file(path).items()}
        return cls(held["bits"], held["limit"][0])


def seen_points(shards: ShardFolder[Any]) -> SeenPoints:
    """The sketch of whoever is trained on these shards."""
    none = [np.empty(0, np.uint64)]
    return SeenPoints.of(
        [*none, *(bits for split in FITTED_SPLITS for bits in bits_of(shards, split))]
    )


def seen_share(seen: SeenPoints, shards: ShardFolder[Any], split: str) -> float:
    """The share of the points of a split that were seen, each counted once."""
    parts = list(bits_of(shards, split))
    return seen.share_of(np.unique(np.concatenate(parts))) if parts else 0.0


def bits_of(shards: ShardFolder[Any], split: str) -> Iterator[Bits]:
    """The numbers of the points of a split, one row group at a time."""
    for group in row_groups(shards, split):
        yield point_bits(*shards.tracked(group))


def point_bits(instant_us_N: Ints, lon_deg_N: Floats, lat_deg_N: Floats) -> Bits:
    """The number (N) of each point."""
    bits_N = mixed(instant_us_N.view(np.uint64))
    for value_N in (lon_deg_N, lat_deg_N):
        bits_N = mixed(bits_N ^ np.rint(value_N * 1e6).astype(np.int64).view(np.uint64))
    return bits_N
