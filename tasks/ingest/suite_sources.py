"""Sources of named data: where their raw files are, on the machine of whoever runs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.config.datasets import dataset_named
from tasks.config.named_data import NamedData
from tasks.ingest.download import is_address
from tasks.runtime.errors import ConfigError


def source_of(data: NamedData, folder: str) -> str | None:
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


def sources_of(members: Sequence[NamedData], folder: str) -> list[str]:
    """The sources of all; a model of fewer data than its name says would be another one."""
    found = [source_of(one, folder) for one in members]
    lacking = [one for one, source in zip(members, found, strict=True) if source is None]
    if lacking:
        told = ", ".join(f"{one.name} ({one.source or 'no source is told'})" for one in lacking)
        raise ConfigError(
            f"no raw files of {told}; name the folder that holds them by --source-folder"
        )
    return [source for source in found if source is not None]
