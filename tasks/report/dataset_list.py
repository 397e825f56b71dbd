"""List of the known data sets as one table of markdown: made from their entries, for people."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.config.datasets import DATASETS, Dataset
from tasks.report.markup import escaped
from tasks.report.units import MANY_STEPS_S, horizon

COLUMNS = ("name", "what moves", "size", "a point every", "licence", "where from", "command")


def dataset_list(rows: Iterable[Dataset] = DATASETS.values()) -> str:
    """A row for each data set: what it holds, on what terms, and how a reader's copy is used."""
    cells = (COLUMNS, ["---"] * len(COLUMNS), *map(cells_of, rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def cells_of(row: Dataset) -> tuple[str, ...]:
    """What is known of one data set, as markdown."""
    every = horizon(row.interval_s, in_days=row.interval_s >= MANY_STEPS_S)
    told = (f"{row.entity_kinds}: {row.title}", row.size, every, row.licence)
    return (f"`{row.name}`", *map(escaped, told), place_of(row), f"`{row.command}`")


def place_of(row: Dataset) -> str:
    """Where the data come from, as a link where there is one."""
    if not row.homepage.startswith("https://"):
        return escaped(row.homepage or row.citation)
    site = row.homepage.removeprefix("https://").partition("/")[0].removeprefix("www.")
    return f"[{escaped(site)}]({row.homepage})"
