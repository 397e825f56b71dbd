"""Cells of a benchmark: each is trained and judged, and what cannot be is told.

Whatever comes before a training is made once for all cells on the same data and split, and before
anything is trained: some rows learn from several data.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from model.families import POINTS, reads
from tasks.config.suite import CPU_S_TO_SKILL, OWN, Cell, Suite
from tasks.evaluate.evaluate import evaluate
from tasks.evaluate.seen import seen_warning
from tasks.evaluate.shared_rows import Making, Ready, judged_shared
from tasks.ingest.suite_sources import source_of
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.frozen import Frozen
from tasks.runtime.progress import log
from tasks.runtime.store import Receipt, Store


class JudgedCell(NamedTuple):
    """A cell that was trained, and its errors."""

    cell: Cell
    evaluated: Receipt
    pace: Receipt | None = None


class Pace(Frozen):
    """CPU seconds of a training until it was ahead of simple forecasts; None where it never was."""

    dataset: str
    split_kind: str
    model: str
    seed: int
    cpu_s: float | None


class LeftOut(Frozen):
    """What of a suite was not judged, and why."""

    what: str
    reason: str

    @property
    def line(self) -> str:
        return f"left out: {self.what}: {self.reason}"


def judged_cells(
    suite: Suite, folder: str, store: Store, making: Making
) -> tuple[list[JudgedCell], tuple[LeftOut, ...]]:
    """The cells of a suite that could be judged, and all else; an error where there is none."""
    found = list(judged_of(suite, folder, store, making))
    judged = [one for one in found if isinstance(one, JudgedCell)]
    left_out = tuple(one for one in found if isinstance(one, LeftOut))
    if not judged:
        raise DataError("; ".join(["nothing could be judged", *(one.line for one in left_out)]))
    return judged, left_out


def judged_of(
    suite: Suite, folder: str, store: Store, making: Making
) -> Iterator[JudgedCell | LeftOut]:
    """All cells of a suite, one by one; what cannot be judged is told, and hinders no other."""
    found = list(ready_of(suite, folder, store, making))
    yield from (one for one in found if isinstance(one, LeftOut))
    ready = [one for one in found if isinstance(one, Ready)]
    for own in ready:
        yield from judged_on(suite, own, ready, store, making)


def ready_of(suite: Suite, folder: str, store: Store, making: Making) -> Iterator[Ready | LeftOut]:
    """The shards of all data of a suite; those who read alike are judged on the same windows."""
    for data in suite.datasets:
        source = source_of(data, folder)
        if source is None:
            yield told_missing(data.name, "no source")
            continue
        for kind in suite.splits_of(data):
            for read, cells in grouped_by_input(suite.cells_of(data, kind)).items():
                words = f"{data.name}, {kind} split" + (f", {read}" if read != POINTS else "")
                with unusable_told(words, *places_of(source, store)) as missing:
                    shards = making.shards_of(suite.config_of(*cells[0][:3]), source, store)
                    yield Ready(data, kind, source, shards, tuple(cells))
                yield from missing


def judged_on(
    suite: Suite, own: Ready, ready: Sequence[Ready], store: Store, making: Making
) -> Iterator[JudgedCell | LeftOut]:
    """The cells on some data; a model that has seen what it is asked is told of, and not judged."""
    for cell in own.cells:
        log(f"{cell.title}, seed {cell.seed}")
        with unusable_told(cell.title, *places_of(own.source, store)) as missing:
            pace = None
            if cell.row == OWN:
                config = suite.config_of(*cell[:4])
                trained = making.train(config, own.shards, store)
                evaluated = evaluate(suite.config_of(*cell[:3]), own.shards, trained, store)
                if suite.is_timed(cell.family):
                    pace = making.pace(config, own.shards, store)
            else:
                evaluated = judged_shared(suite, cell, own, ready, store, making)
                if said := seen_warning(evaluated):
                    raise DataError(said)
            yield JudgedCell(cell, evaluated, pace)
        yield from missing


def paces_of(judged: Sequence[JudgedCell]) -> tuple[Pace, ...]:
    """The pace of each cell of which it was told."""
    found = ((*one.cell.place, one.cell.seed, one.pace) for one in judged if one.pace is not None)
    names = "dataset", "split_kind", "model", "seed"
    return tuple(
        Pace(**dict(zip(names, place, strict=True)), cpu_s=pace.counts.get(CPU_S_TO_SKILL))
        for *place, pace in found
    )


def places_of(source: str, store: Store) -> tuple[Path, ...]:
    """Where on this machine the files are that an error may name."""
    return (store.root, Path(source).parent) if source else (store.root,)


def grouped_by_input(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells by what their families read, points or visits."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(reads(cell.family), []).append(cell)
    return found


@contextlib.contextmanager
def unusable_told(what: str, *places: Path) -> Iterator[list[LeftOut]]:
    """What is left out, for data or settings that cannot be used; any other error ends the run.

    The reason names nothing by where it lies on this machine.
    """
    missing: list[LeftOut] = []
    try:
        yield missing
    except (ConfigError, DataError) as error:
        reason = str(error)
        for place in places:
            reason = reason.replace(f"{place}/", "")
        missing.append(told_missing(what, reason))


def told_missing(what: str, reason: str) -> LeftOut:
    missing = LeftOut(what=what, reason=reason)
    log(missing.line)
    return missing
