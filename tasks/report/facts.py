"""Facts of a report beside its errors: warnings, the data, their split, recipes and lineage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.evaluate.seen import seen_warning
from tasks.prepare.conventions import RECOVERY_FILE, SPLITS
from tasks.report.count_words import count_pairs, count_value
from tasks.report.units import digits
from tasks.runtime.stage import Job
from tasks.runtime.store import Receipt, Store

if TYPE_CHECKING:
    from tasks.config.pipeline import PipelineConfig
    from tasks.config.slices import ReportRules


@dataclass(frozen=True)
class RunSteps:
    """The steps of a run that its report and its version tell of, and the store that holds them."""

    config: PipelineConfig
    store: Store
    shards: Receipt
    trained: Receipt
    evaluated: Receipt
    quality: Receipt | None = None

    @property
    def evaluation(self) -> Path:
        """The folder of the errors."""
        return self.store.sound(self.evaluated)

    @property
    def initial_weights(self) -> str:
        """The content that the training went on from; empty if it began with fresh weights."""
        return str(self.store.manifest(self.trained).recipe.inputs.get("init", ""))

    @property
    def recipes(self) -> dict[str, str]:
        """The names, in the store, of the steps that led here."""
        lineage = sorted(self.store.manifest(self.shards).lineage.items())
        steps = {name: getattr(self, name).recipe for name in ("shards", "trained", "evaluated")}
        return (
            {name: given for name, given in lineage if isinstance(given, str)}
            | steps
            | ({"initial weights": self.initial_weights} if self.initial_weights else {})
        )


def warnings_of(job: Job[ReportRules]) -> list[str]:
    """What a reader must know before any number."""
    is_leaky = job.receipt("shards").counts.get("is_leaky")
    is_tuned = job.settings.init
    seen = seen_warning(job.receipt("evaluated"))
    told = ((LEAKY, is_leaky), (INITIALISED, is_tuned), (seen, seen))
    return [text for text, holds in told if holds]


LEAKY = (
    "Leakage control, not a result: stretches of every trip were drawn at random to train, "
    "validation and test, so models are judged between points that they were trained on."
)


INITIALISED = (
    "Training went on from an earlier model, with that model's normaliser. What that one was "
    "trained on counts: a test that holds more than 1 % of it is told, and decides nothing. Of a "
    "model that does not tell what it was trained on, nothing is known."
)


def split_pairs(counts: Mapping[str, int | float | str]) -> list[tuple[str, str]]:
    """The kind of a split, its hash, what it leaves out, and what its parts share."""
    told = ((name, words) for name, words in SPLIT_FACTS.items() if name in counts)
    return [(words, count_value(name, counts[name])) for name, words in told]


SPLIT_FACTS = {
    "split_kind": "kind",
    "split_hash": "split hash",
    "points_train": "points in train",
    "points_validation": "points in validation",
    "points_test": "points in test",
    "points_purged": "points in no split",
    **{f"visits_{split}": f"visits in {split}" for split in SPLITS},
    "visits_purged": "visits in no split",
    **{f"visits_censored_{split}": f"stays in {split} whose end was not seen" for split in SPLITS},
    **{f"visits_unknown_{split}": f"visits in {split} in no region of train" for split in SPLITS},
    "regions": "regions that train knows",
    "longest_step_s": "longest step of a window judged, in seconds: twice the 99th percentile of "
    "train",
    "windows_with_long_steps": "windows not judged, for a longer step",
    "windows_with_long_steps_share": "as a share of all windows",
    "windows_with_interpolated_points": "windows not judged, for asking a point that the source "
    "interpolated",
    "windows_with_interpolated_points_share": "as a share of all windows",
    "windows_with_reported_motion": "windows of forecasts at whose last known point the source "
    "reported speed and course",
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
    return about + count_pairs(rules.data_counts)


ENCODING_COLUMNS = ("shown", "place p50", "p99", "time p50", "p99", "worse share p50", "p99")


def encoding_cells(proved: Path) -> list[tuple[str, ...]]:
    """What the probe of the encoding found, a row of text a variant, under `ENCODING_COLUMNS`."""
    found = json.loads((proved / RECOVERY_FILE).read_text())
    return [
        (
            name,
            *(f"{digits(one[f'{percentile}_m'])} m" for percentile in ("p50", "p99")),
            *(f"{digits(one[f'{percentile}_s'])} s" for percentile in ("p50", "p99")),
            f"{one['p50_share']:.3%}",
            f"{one['p99_share']:.3%}",
        )
        for name, one in found.items()
    ]
