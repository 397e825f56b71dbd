"""Formats of raw files by name: each is a reader that is loaded when it is asked for, alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from tasks.ingest.readers.records import Reader

# Each module defines `READER`.
MODULES = {
    "delimited": "delimited",
    "gpx": "gpx",
    "hurdat2": "hurdat2",
    "icebergs": "icebergs",
    "opensky": "opensky",
    "own": "own_files",
    "plt": "geolife",
    "porto": "porto",
    "synthetic": "synthetic",
    "traj": "tracktable",
}


class _Formats(Mapping[str, Reader]):
    """The readers, loaded one by one."""

    def __getitem__(self, name: str) -> Reader:
        reader: Reader = import_module(module_named(name)).READER
        return reader

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


FORMATS: Mapping[str, Reader] = _Formats()


def module_named(name: str) -> str:
    """The full name of a format's module, which no `import` statement shows."""
    return f"{__package__}.{MODULES[name]}"
