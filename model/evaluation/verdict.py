"""Verdict: what may be said of a skill, given its interval and what it rests on. Needs no torch."""

from __future__ import annotations

# Below these an interval over entities is too narrow: a bootstrap of few has too few outcomes.
MIN_WINDOWS, MIN_ENTITIES = 30, 10
AHEAD, BEHIND, ALIKE, BAR = "ahead", "behind", "cannot be told apart", "the bar"
TOO_FEW = "too few to judge"

LEAST_HELD, MOST_HELD = 0.76, 0.84  # of the windows, in areas that promise to hold 80 %
TOLD_WINDOWS, TOLD_ENTITIES = 1_000, 100
AS_PROMISED, TOO_FEW_TO_SAY = "as promised", "too few to say"
NOT_TOLD = "cannot be told"


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


def coverage_verdict(
    coverage_80: float,
    low: float | None,
    high: float | None,
    num_windows: int,
    num_entities: int,
) -> str:
    """Whether areas of 80 % hold as many, of test windows that are enough to say so.

    A share that misses what is promised may do so by chance, where its interval does not.
    """
    if num_windows < TOLD_WINDOWS and num_entities < TOLD_ENTITIES:
        return TOO_FEW_TO_SAY
    if coverage_80 < LEAST_HELD:
        return NOT_TOLD if high is not None and high >= LEAST_HELD else "too small"
    if coverage_80 > MOST_HELD:
        return NOT_TOLD if low is not None and low <= MOST_HELD else "too large"
    return AS_PROMISED
