"""Columns: tensors or arrays under names, of which some places can be taken alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Columns:
    """The base of what holds columns, or further columns; whatever else it holds goes along."""

    def columns(self) -> dict[str, Any]:
        """Every column that there is, by its name."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        kinds = (Columns, Tensor, np.ndarray)
        return {name: value for name, value in values.items() if isinstance(value, kinds)}

    def at(self, *index: Any) -> Self:
        """The same at some places alone."""
        chosen = {
            name: value.at(*index) if isinstance(value, Columns) else value[index]
            for name, value in self.columns().items()
        }
        return replace(self, **chosen)


Part = TypeVar("Part", bound=Columns)


def joined(parts: Sequence[Part]) -> Part:
    """Tensors of parts one behind the other; whatever else they hold is that of the first."""
    columns = {name: [getattr(part, name) for part in parts] for name in parts[0].columns()}
    whole = {
        name: joined(values) if isinstance(values[0], Columns) else torch.cat(values)
        for name, values in columns.items()
    }
    return replace(parts[0], **whole)
