"""Sources of a suite: where the raw files of its data are, on the machine of whoever runs it."""

from __future__ import annotations

from pathlib import Path

from tasks.config.datasets import dataset_named
from tasks.config.suite import SuiteData
from tasks.ingest.download import is_address


def source_of(data: SuiteData, folder: str) -> str | None:
    """The path or address of raw files, nothing where none are needed, None where they lack.

    A relative path counts from the folder of sources, or without one from the working folder.
    """
    row = dataset_named(data.dataset)
    if not data.source:
        return "" if row.sample or row.is_generated else None
    if is_address(data.source):
        return data.source
    path = Path(folder).expanduser() / Path(data.source).expanduser()
    return str(path) if path.exists() else None
