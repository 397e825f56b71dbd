"""Opened cells: what each was judged on, and the errors of everyone on the same windows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.evaluation.judged_tasks import FORECAST, TOLD_AFTERWARDS, TRACKS
from model.evaluation.score_table import ALL, MAIN_METRICS
from tasks.config.sections import Section, SplitKind
from tasks.config.suite import RowName
from tasks.prepare.conventions import SCORES_FILE, WINDOW_ERRORS_FILE
from tasks.runtime.errors import DataError

if TYPE_CHECKING:
    from model.evaluation.leaderboard import Asked

SHOWN_SPLIT = "test"
Row = dict[str, Any]


class CellRules(Section):
    """What a cell is, by value: equal content may have come on another way."""

    dataset: str
    split_kind: SplitKind
    is_leaky: bool
    family: str
    row: RowName
    seed: int
    recipe: str
    gate_horizon: int

    @property
    def place(self) -> tuple[str, str]:
        """The data whose windows all answer alike."""
        return self.dataset, self.split_kind


class OpenedCell:
    """A cell, and the folder of its errors."""

    def __init__(self, rules: CellRules, folder: Path) -> None:
        self.rules, self.folder = rules, folder

    @cached_property
    def models(self) -> frozenset[str]:
        """Those who were judged in the cell and are no baselines."""
        names = ["model", "is_baseline"]
        told = pq.read_table(self.folder / SCORES_FILE, columns=names, partitioning=None)
        return frozenset(told.filter(pc.invert(told["is_baseline"]))["model"].to_pylist())


def horizon_of(rules: CellRules, task: str) -> int | None:
    """The step that decides, of forecasts."""
    return rules.gate_horizon if task == FORECAST else None


def asked_in(cells: Sequence[OpenedCell], task: str, horizon: int | None) -> Asked | None:
    """The errors of all answerers on the same windows, or nothing where nobody was asked."""
    import torch

    from model.evaluation.leaderboard import Asked

    found: dict[str, list[Any]] = defaultdict(list)
    baselines: set[str] = set()
    windows: pa.Table | None = None
    for cell in cells:
        errors = errors_of(cell, task, horizon)
        for model in errors["model"].unique().to_pylist():
            own = errors.filter(pc.equal(errors["model"], model)).sort_by("window_id")
            keys = own.select(["window_id", "entity_id", "mask"])
            windows = keys if windows is None else windows
            if not keys.equals(windows):
                raise DataError(
                    f"{task} of {cell.rules.dataset}: not all were asked the same windows"
                )
            is_ours = model in cell.models
            baselines |= set() if is_ours else {model}
            if is_ours or model not in found:
                found[model].append(torch.from_numpy(own["value"].to_numpy().copy()))
    if windows is None or not baselines:
        return None
    mask, entity_id = (windows[name].to_pylist() for name in ("mask", "entity_id"))
    mask = [ALL] * len(mask) if task in TOLD_AFTERWARDS else mask
    errors_SB = {name: torch.stack(rows) for name, rows in found.items()}
    bars = named_bars(cells[0], task, horizon, set(mask), baselines)
    return Asked(errors_SB, frozenset(baselines), mask, entity_id, bars)


def named_bars(
    cell: OpenedCell, task: str, horizon: int | None, masks: set[str], names: Collection[str]
) -> dict[str, str]:
    """Of these baselines that of each mask that is best on validation: of all masks together if
    none is.
    """
    from model.evaluation.skill import bars_of

    asked = [("split", "=", "validation"), ("task", "=", task), ("model", "in", sorted(names))]
    scores = pq.read_table(cell.folder / SCORES_FILE, filters=asked, partitioning=None)
    bars, track = bars_of(scores.to_pylist()), TRACKS[task][0]
    named = {
        mask: bars.get((task, track, mask, horizon)) or bars.get((task, track, ALL, horizon))
        for mask in masks
    }
    return {mask: name for mask, name in named.items() if name}


def errors_of(cell: OpenedCell, task: str, horizon: int | None) -> pa.Table:
    """The main error of each test window of a task, by everyone who was judged in a cell."""
    wanted: Mapping[str, str | int | None] = {
        "split": SHOWN_SPLIT,
        "task": task,
        "track": TRACKS[task][0],
        "metric": MAIN_METRICS[task],
        "horizon": horizon,
    }
    told = [(name, "=", value) for name, value in wanted.items() if value is not None]
    return pq.read_table(cell.folder / WINDOW_ERRORS_FILE, filters=told, partitioning=None)


def grouped(rows: Sequence[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    """Rows by their key, in the order in which keys come first."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return dict(found)
