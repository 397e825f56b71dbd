"""Seen test points: when a test is none since a model was trained on it, and how that is told."""

from __future__ import annotations

from tasks.runtime.store import Receipt

SEEN_SHARE = "test_seen_share"  # among the counts of an evaluation
MAX_SEEN_SHARE = 0.01  # two movers may be at one place at one instant


def seen_words(share: float) -> str:
    return (
        f"No test: the model was trained on {share:.1%} of the points of test, by itself or by the "
        "model that it went on from. Its errors say nothing of new data."
    )


def seen_warning(evaluated: Receipt) -> str:
    """That a model was judged on what it was trained on; nothing if it was not."""
    share = float(evaluated.counts.get(SEEN_SHARE, 0.0))
    return seen_words(share) if share > MAX_SEEN_SHARE else ""
