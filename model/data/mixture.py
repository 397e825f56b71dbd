"""Dataset mixture: the order in which datasets take turns, each with its share at every moment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

from .epoch_plan import generator


def shares_in_turn(weights: Sequence[float], seed: int, taken: Sequence[int]) -> Iterator[int]:
    """Numbers of the weights, without end, after each was `taken` so often.

    After any number of turns each count is less than one from its share: of those that have waited
    long enough the one whose time runs out first (Tijdeman 1980, the chairman assignment problem).
    The seed decides between equals. Fractions keep this exact over any number of turns.
    """
    if not weights or not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise ValueError(f"weights must be positive numbers, not {list(weights)}")
    taken = list(taken)
    total = sum(map(Fraction, weights))
    shares = [Fraction(weight) / total for weight in weights]
    slack = Fraction(1, max(1, 2 * len(weights) - 2))
    order = generator(seed, 4).permutation(len(weights)).tolist()
    turn = sum(taken)
    while True:
        turn += 1
        due = [k for k in order if turn * shares[k] - taken[k] >= slack]
        chosen = min(due, key=lambda k: (taken[k] + 1 - slack) / shares[k])
        taken[chosen] += 1
        yield chosen
