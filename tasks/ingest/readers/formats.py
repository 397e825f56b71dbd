"""Formats of raw files by name: each is a reader that is loaded when it is asked for, alone."""

from __future__ import annotations

from importlib import import_module

from tasks.ingest.readers.records import Reader


def reader_named(name: str) -> Reader:
    """The reader of a format, which its module defines as `READER`."""
    reader: Reader = import_module(module_named(name)).READER
    return reader


def module_named(name: str) -> str:
    """The full name of a format's module, which no `import` statement shows."""
    return f"{__package__}.{name}"
