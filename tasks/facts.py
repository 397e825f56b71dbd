"""What a reader should know beside errors: warnings, the data, their split, and recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasks.stage import Job
from tasks.store import Counts, Receipt, Store, canonical_json, spelt

if TYPE_CHECKING:
    from tasks.report import ReportRules


def warnings_of(job: Job[ReportRules]) -> list[str]:
    """What a reader must know before any number."""
    is_leaky = split_counts(job).get("is_leaky")
    is_tuned = initial_weights(job.receipt("trained"), job.store)
    return [text for text, holds in ((LEAKY, is_leaky), (INITIALISED, is_tuned)) if holds]


def initial_weights(trained: Receipt, store: Store) -> str:
    """The content that a training went on from; empty if it began with fresh weights."""
    return str(store.manifest(trained).recipe.inputs.get("init", ""))


LEAKY = (
    "Leakage control, not a result: stretches of every trip were drawn at random to train, "
    "validation and test, so models are judged between points that they were trained on."
)


INITIALISED = (
    "Training went on from an earlier model, with that model's normaliser. What that one was "
    "trained on is not known here: it may hold parts of this validation and test."
)


def split_counts(job: Job[ReportRules]) -> Counts:
    """What the shards tell of their split."""
    return job.store.manifest(job.receipt("shards")).counts


def split_pairs(counts: Mapping[str, int | float | str]) -> list[tuple[str, str]]:
    """The kind of a split, its hash, what it leaves out, and what its parts share."""
    return [(words, spelt(counts[name])) for name, words in SPLIT_FACTS.items() if name in counts]


SPLIT_FACTS = {
    "split_kind": "kind",
    "split_hash": "split hash",
    "points_train": "points in train",
    "points_validation": "points in validation",
    "points_test": "points in test",
    "points_purged": "points in no split",
    "windows_with_long_steps": "windows not judged, for a step over two sampling steps",
    "near_duplicates_validation": "validation windows that repeat a run of train",
    "near_duplicates_test": "test windows that repeat a run of train",
}


def data_pairs(job: Job[ReportRules]) -> list[tuple[str, str]]:
    """Where the data come from and how much of them was kept."""
    rules = job.settings
    about = [
        ("dataset", rules.title),
        ("licence", rules.licence),
        ("citation", rules.citation),
        ("home page", rules.homepage),
    ]
    counted = rules.data_counts.items()
    return about + [(name.replace("_", " "), spelt(value)) for name, value in counted]


def recipe_pairs(job: Job[ReportRules]) -> list[tuple[str, str]]:
    """The names, in the store, of the steps that led here."""
    shards = job.store.manifest(job.receipt("shards")).recipe.inputs
    before = [
        (name, given if isinstance(given, str) else canonical_json(given))
        for name, given in sorted(shards.items())
        if isinstance(given, str)
    ]
    steps = [(name, job.receipt(name).recipe) for name in ("shards", "trained", "evaluated")]
    init = initial_weights(job.receipt("trained"), job.store)
    return before + steps + ([("initial weights", init)] if init else [])
