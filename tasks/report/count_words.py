"""Counts in words: what stages count under short names, as people are told of it in reports."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tasks.report.markup import spoken
from tasks.runtime.store import spelt

Pairs = list[tuple[str, str]]
STAGES = ("snapshot_", "clean_", "regions_")  # of which a report tells together
SHARE = "_share"
REGIONS = {
    "": "{} of {}",
    "_unknown_share": "share of {} of {} in no region that has an id",
    "_unseen_share": "share of {} of {} in a cell where train never was",
}
WORDS: Mapping[str, str] = MappingProxyType(
    {
        "num_files": "files",
        "num_files_read": "files read",
        "num_files_failed": "files that could not be read",
        "num_files_ignored": "files passed over",
        "num_files_of_equal_content": "files whose content another file has",
        "num_contents_given_again": "contents that came more than once",
        "num_records": "records",
        "num_points": "records read as points",
        "num_kept": "records read as points",
        "num_rejected": "records rejected",
        "num_missing": "records announced that did not come",
        "num_label_records": "records of labels",
        "num_labels": "labels",
        "num_labels_rejected": "labels rejected",
        "points": "points before cleaning",
        "kept": "points kept",
        "rejected": "points rejected",
        "redated": "points whose week was put right",
        "parted": "points of a second entity under one identity",
        "conflicts": "runs of points that may be right against the speed limit",
        "point_regions": "regions of points",
        "visit_regions": "regions of visits",
        "num_silences": "silences",
        "num_overlaps": "trips that begin before the last one ends",
        "p50": "median silence, in seconds",
        "p95": "95 % of silences are at most, in seconds",
        "p100": "longest silence, in seconds",
        "num_cells": "cells",
        "cell_deg": "side of a cell, in degrees",
        **{f"{side}_deg": f"{side}, in degrees" for side in ("west", "south", "east", "north")},
        **{
            f"{kind}_{split}{ending}": words.format(kind, split)
            for kind in ("points", "visits")
            for split in ("train", "validation", "test")
            for ending, words in REGIONS.items()
        },
        **{
            f"visit_windows_{split}": f"windows of next visits in {split}"
            for split in ("train", "validation", "test")
        },
    }
)


def count_pairs(counts: Mapping[str, int | float | str]) -> Pairs:
    """Counts under names that people read."""
    return [(count_words(name), count_value(name, value)) for name, value in counts.items()]


def count_words(name: str) -> str:
    """What is counted; of a rule, that records or points were rejected for it."""
    for stage in STAGES:
        name = name.removeprefix(stage)
    if name in WORDS:
        return WORDS[name]
    if name.startswith("num_"):
        return f"records rejected: {spoken(name.removeprefix('num_'))}"
    if name.startswith("rejected_"):
        return f"rejected: {spoken(name.removeprefix('rejected_'))}"
    return spoken(name)


def count_value(name: str, value: int | float | str) -> str:
    """A number with its digits, a share in percent."""
    if name.endswith(SHARE) and not isinstance(value, str):
        return f"{value:.1%}"
    return spoken(spelt(value)) if name == "split_kind" else spelt(value)
