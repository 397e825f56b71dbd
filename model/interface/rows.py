"""Rows: tensors with a row each of whatever a model is fed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch

from ..earth.columns import Columns


@dataclass(frozen=True)
class Rows(Columns):
    """The base of what a model is fed: tensors with a row each, of points, visits or tokens."""

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return replace(self, **{key: value.to(device) for key, value in self.columns().items()})

    def part(self, first: int, end: int | None, num_points: int | None = None) -> Self:
        """Some rows, and of them the first `num_points`, or visits: all, if none are named."""
        rows = self.at(slice(first, end))
        points = {
            key: value[:, :num_points]
            for key, value in rows.columns().items()
            if "_BT" in key or "_BV" in key
        }
        return replace(rows, **points)
