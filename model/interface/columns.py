"""Columns: tensors or arrays under names, of which some places can be taken alike."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class Columns:
    """The base of what holds columns alone, or further columns."""

    def at(self, *index: Any) -> Self:
        """The same at some places alone."""
        return type(self)(
            *(
                value.at(*index) if isinstance(value, Columns) else value[index]
                for value in (getattr(self, entry.name) for entry in fields(self))
            )
        )
