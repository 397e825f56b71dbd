"""Origin of weights: the data that a version was trained on, as it carries them along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.config.datasets import Dataset
from tasks.runtime.frozen import Frozen

ORIGIN_FILE = "origin.json"


class Source(Frozen):
    """Data that were learned from."""

    dataset: str
    title: str
    licence: str
    citation: str
    homepage: str
    is_redistributable: bool
    is_personal: bool
    is_generated: bool
    split_hash: str

    @classmethod
    def of(cls, row: Dataset, counts: Mapping[str, Any]) -> Source:
        """A row of the table of datasets, and what is known of its shards."""
        told = row.model_dump(include=cls.model_fields.keys() - {"dataset", "split_hash"})
        return cls(dataset=row.name, split_hash=str(counts.get("split_hash", "")), **told)


class Origin(Frozen):
    """What weights come from: data, and weights that the training went on from, if it did."""

    sources: tuple[Source, ...]
    init: str = ""
