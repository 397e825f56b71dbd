"""Raw files from an address: streamed into the store, named by their content."""

from __future__ import annotations

from pathlib import Path

from tasks.datasets import Dataset
from tasks.store import Store


def is_address(source: str) -> bool:
    """Whether a source is an address rather than a path."""
    return "://" in source


def fetched(row: Dataset, address: str, store: Store) -> Path:
    raise NotImplementedError
