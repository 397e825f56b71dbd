"""Ladder: models at each step of a forecast, over those that anybody could ask instead.

*Simple* is the best of the forecasts that need no fitting of more than one number, *baselines* the
best of all baselines, both by validation, and *own* the same family trained on these data alone,
with its memory of past trips where it has one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.parquet as pq

from model.evaluation.judged_tasks import FORECAST, TRACKS
from tasks.config.suite import OWN
from tasks.evaluate.opened_cells import (
    SHOWN_SPLIT,
    OpenedCell,
    Row,
    asked_in,
    grouped,
    named_bars,
)
from tasks.prepare.conventions import SCORES_FILE

if TYPE_CHECKING:
    from torch import Tensor

    from model.evaluation.leaderboard import Asked

SIMPLE = ("last_position", "constant_velocity", "constant_velocity_3", "damped_velocity")
OVER_SIMPLE, OVER_BASELINES, OVER_OWN = "simple", "baselines", "own"


class Over(NamedTuple):
    """The models that are told over a bar, and its error in each window (B)."""

    against: str
    asked: Asked
    bar_B: Tensor
    bar: str


def rungs_of(cells: Sequence[OpenedCell], seed: int, num_resamples: int) -> Iterator[Row]:
    """The models of all cells on some data: a row for each step and each bar."""
    from model.evaluation.leaderboard import told_over

    for horizon in horizons_in(cells[0]):
        asked = asked_in(cells, FORECAST, horizon)
        if asked is None:
            continue
        models = models_of(cells)
        for over in (
            over_best(OVER_SIMPLE, asked, models, cells[0], horizon, SIMPLE),
            over_best(OVER_BASELINES, asked, models, cells[0], horizon, asked.baselines),
            *over_own(asked, cells),
        ):
            rows = told_over(over.asked, over.bar_B, over.bar, seed, num_resamples)
            for row in rows:
                yield {"horizon": horizon, "against": over.against} | row


def over_best(
    against: str,
    asked: Asked,
    models: Collection[str],
    cell: OpenedCell,
    horizon: int,
    names: Collection[str],
) -> Over:
    """Models over the best of some baselines."""
    from model.evaluation.leaderboard import bar_names
    from model.evaluation.skill import bar_of

    bars = named_bars(cell, FORECAST, horizon, {*asked.mask}, names)
    rivals = {name: asked.error_SB[name][0] for name in names}
    bar = bar_names(rivals, replace(asked, bars=bars))
    return Over(against, of_models(asked, models), bar_of(rivals, asked.mask, bars), bar)


def over_own(asked: Asked, cells: Sequence[OpenedCell]) -> Iterator[Over]:
    """The models of each family that learned from other data, over the one that did not."""
    for family, own in grouped(cells, lambda cell: cell.rules.family).items():
        mine = models_of([cell for cell in own if cell.rules.row == OWN])
        others = models_of([cell for cell in own if cell.rules.row != OWN])
        bar = next((name for name in (f"{family}_with_memory", family) if name in mine), None)
        if bar is not None and others:
            bar_B = asked.error_SB[bar].mean(dim=0)
            yield Over(OVER_OWN, of_models(asked, others), bar_B, bar)


def models_of(cells: Sequence[OpenedCell]) -> list[str]:
    """The models of cells in their order, and within one by their names: 5 % before 10 %."""

    def place(name: str) -> list[tuple[float, str]]:
        return [(float(word) if word.isdecimal() else math.inf, word) for word in name.split()]

    return list(dict.fromkeys(name for cell in cells for name in sorted(cell.models, key=place)))


def of_models(asked: Asked, names: Collection[str]) -> Asked:
    """The same windows, and these models alone."""
    return replace(asked, error_SB={name: asked.error_SB[name] for name in names})


def horizons_in(cell: OpenedCell) -> list[int]:
    """The steps of forecasts that are told of a cell."""
    wanted = {"split": SHOWN_SPLIT, "task": FORECAST, "track": TRACKS[FORECAST][0]}
    told = pq.read_table(
        cell.folder / SCORES_FILE,
        columns=["horizon"],
        filters=[(name, "=", value) for name, value in wanted.items()],
        partitioning=None,
    )
    return sorted(step for step in told["horizon"].unique().to_pylist() if step is not None)
