"""Words: nouns in the number that a count asks for."""

from __future__ import annotations

SAME = ("aircraft", "fish", "sheep")


def plural_of(noun: str) -> str:
    """Of what moves, and of what is counted."""
    if noun in SAME:
        return noun
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and not noun.endswith(("ay", "ey", "oy", "uy")):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def counted(count: int, noun: str) -> str:
    """A count with its noun: 1 window, 2,000 windows."""
    return f"{count:,} {noun if count == 1 else plural_of(noun)}"
