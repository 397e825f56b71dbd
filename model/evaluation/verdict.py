"""Verdict: what may be said of a skill, given its interval and what it rests on. Needs no torch."""

from __future__ import annotations

# Below these an interval over entities is too narrow: a bootstrap of few has too few outcomes.
MIN_WINDOWS, MIN_ENTITIES = 30, 10
AHEAD, BEHIND, ALIKE, BAR = "ahead", "behind", "cannot be told apart", "the bar"
TOO_FEW = "too few to judge"


def verdict(
    value: float, low: float | None, high: float | None, num_windows: int, num_entities: int
) -> str:
    """A skill in words; none where it has no interval."""
    if low is None or high is None:
        return ""
    if value == low == high == 0:
        return BAR
    if num_windows < MIN_WINDOWS or num_entities < MIN_ENTITIES:
        return TOO_FEW
    if low > 0:
        return AHEAD
    return BEHIND if high < 0 else ALIKE
