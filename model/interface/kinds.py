"""Kinds of what moves, such as ship or taxi, as numbers that are the same everywhere.

A number is made of the name alone: no list of kinds has to be agreed on, or to travel along. What a
network makes of one is its own; 0 says that none is told.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

NOT_TOLD = 0


def kind_number(kind: str) -> int:
    """The number of a kind; that of an empty text is 0. Capitals and blanks around it count not."""
    return zlib.crc32(kind.strip().lower().encode())


def kind_numbers(kinds: Iterable[str]) -> list[int]:
    """The numbers of kinds that are to be told apart: refused if two are the same."""
    names = [*kinds]
    numbers = [kind_number(name) for name in names]
    if len({*numbers, NOT_TOLD}) <= len(numbers):
        raise ValueError(f"kinds must have names, each its own: {', '.join(names)}")
    return numbers
