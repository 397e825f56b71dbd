"""Benchmark: the errors of all cells of a suite as one long table, and who is ahead of whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.evaluation.judged_tasks import FORECAST, TRACKS
from model.evaluation.score_table import SCORES
from tasks.config.sections import Section
from tasks.config.suite import Cell, Suite
from tasks.evaluate.cells import JudgedCell
from tasks.evaluate.ladder import rungs_of
from tasks.evaluate.opened_cells import (
    CellRules,
    OpenedCell,
    Row,
    asked_in,
    grouped,
    horizon_of,
)
from tasks.prepare.conventions import CELLS_FILE, SCORES_FILE
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

if TYPE_CHECKING:
    pass

RANKINGS_FILE, STANDINGS_FILE = "rankings.parquet", "standings.parquet"
LADDER_FILE = "ladder.parquet"
CELLS = pa.schema(
    {
        **dict.fromkeys(("dataset", "split_kind"), pa.string()),
        "is_leaky": pa.bool_(),
        **dict.fromkeys(("family", "row"), pa.string()),
        "seed": pa.int64(),
        "recipe": pa.string(),
    }
)
# A baseline is fitted on the data, whatever is trained beside it: it stands once, without a seed.
LONG = pa.schema([*(field for field in CELLS if field.name not in ("family", "row")), *SCORES])
PLACE = {
    **dict.fromkeys(("task", "dataset", "split_kind"), pa.string()),
    "is_leaky": pa.bool_(),
    "horizon": pa.int32(),
}
TOLD = {
    "model": pa.string(),
    "is_baseline": pa.bool_(),
    "error": pa.float64(),
    "bar": pa.string(),
    **dict.fromkeys(("bar_error", "skill", "low", "high", "seed_low", "seed_high"), pa.float64()),
    **dict.fromkeys(("num_seeds", "num_windows", "num_entities"), pa.int64()),
}
RANKINGS = pa.schema({**PLACE, **TOLD})
LADDER = pa.schema({**PLACE, "against": pa.string(), **TOLD})
STANDINGS = pa.schema(
    {
        **dict.fromkeys(("task", "model"), pa.string()),
        "is_baseline": pa.bool_(),
        "num_datasets": pa.int64(),
        **dict.fromkeys(("win_rate", "win_low", "win_high", "skill", "low", "high"), pa.float64()),
    }
)


class BenchmarkRules(Section):
    """The cells, in the order of their errors, and how intervals are drawn."""

    cells: tuple[CellRules, ...]
    num_bootstrap: int
    seed: int


def benchmark(suite: Suite, judged: Sequence[JudgedCell], store: Store) -> Receipt:
    """The tables of a suite, made of the errors of its cells."""
    rules = [rules_of(suite, one.cell, one.evaluated) for one in judged]
    asked = suite.config_of(*judged[0].cell[:3]).evaluate_rules
    job = BENCHMARK.job(
        f"suite_{suite.name}",
        BenchmarkRules(cells=tuple(rules), num_bootstrap=asked.num_bootstrap, seed=asked.seed),
        {"evaluated": [one.evaluated for one in judged]},
        store,
        licence="; ".join(sorted({licence_of(suite, one.cell) for one in judged})),
    )
    return BENCHMARK(job)


def rules_of(suite: Suite, cell: Cell, evaluated: Receipt) -> CellRules:
    config = suite.config_of(cell.data, cell.split, cell.family)
    return CellRules(
        dataset=cell.data.name,
        split_kind=cell.split,
        is_leaky=config.split_rules.is_leaky,
        family=cell.family,
        row=cell.row,
        seed=cell.seed,
        recipe=evaluated.recipe,
        gate_horizon=config.evaluate_rules.gate_horizon,
    )


def licence_of(suite: Suite, cell: Cell) -> str:
    return suite.config_of(cell.data, cell.split, cell.family).source_row.licence


def build(draft: Path, job: Job[BenchmarkRules]) -> Counts:
    """Write the cells, all their scores, the rankings and the standings."""
    cells = [
        OpenedCell(rules, job.store.folder(receipt))
        for rules, receipt in zip(job.settings.cells, job.receipts("evaluated"), strict=True)
    ]
    rankings = list(rankings_of(cells, job.settings))
    tables = {
        CELLS_FILE: pa.Table.from_pylist([cell.rules.model_dump() for cell in cells], CELLS),
        SCORES_FILE: long_table(cells),
        RANKINGS_FILE: pa.Table.from_pylist(rankings, RANKINGS),
        STANDINGS_FILE: pa.Table.from_pylist(list(standings_of(rankings, job.settings)), STANDINGS),
        LADDER_FILE: pa.Table.from_pylist(list(ladder_of(cells, job.settings)), LADDER),
    }
    for name, table in tables.items():
        pq.write_table(table, draft / name, compression="zstd", write_page_checksum=True)
    return {
        "cells": len(cells),
        "datasets": len({cell.rules.dataset for cell in cells}),
        "families": len({cell.rules.family for cell in cells}),
        "scores": len(tables[SCORES_FILE]),
    }


# The long table ---------------------------------------------------------------------------------


def long_table(cells: Sequence[OpenedCell]) -> pa.Table:
    """The scores of all cells; those of a baseline once for each data and split."""
    tables, told = [LONG.empty_table()], set()
    for cell in cells:
        scores = pq.read_table(cell.folder / SCORES_FILE, partitioning=None)
        of_model = pc.invert(scores["is_baseline"])
        tables.append(labelled(scores.filter(of_model), cell.rules, cell.rules.seed))
        rivals = scores.filter(scores["is_baseline"])
        for task in rivals["task"].unique().to_pylist():
            if (*cell.rules.place, task) not in told:
                own = rivals.filter(pc.equal(rivals["task"], task))
                tables.append(labelled(own, cell.rules, None))
                told.add((*cell.rules.place, task))
    return pa.concat_tables(tables)


def labelled(scores: pa.Table, rules: CellRules, seed: int | None) -> pa.Table:
    """Scores beside what they are of."""
    about = rules.model_dump() | {"seed": seed}
    columns = {
        field.name: pa.repeat(pa.scalar(about[field.name], field.type), len(scores))
        for field in LONG
        if field.name not in SCORES.names
    }
    return pa.table(columns | {name: scores[name] for name in SCORES.names}, LONG)


# Rankings ---------------------------------------------------------------------------------------


def rankings_of(cells: Sequence[OpenedCell], rules: BenchmarkRules) -> Iterator[Row]:
    """Everyone on the test windows of each task, data and split, on the first track.

    Forecasts are told at the step of the gate.
    """
    from model.evaluation.leaderboard import ranking

    for task in TRACKS:
        for place, own in grouped(cells, lambda cell: cell.rules.place).items():
            asked = asked_in(own, task, horizon_of(own[0].rules, task))
            if asked is None:
                continue
            first = own[0].rules
            about = {"task": task, **dict(zip(("dataset", "split_kind"), place, strict=True))}
            about |= {"is_leaky": first.is_leaky, "horizon": horizon_of(first, task)}
            for row in ranking(asked, rules.seed, rules.num_bootstrap):
                yield about | row


def ladder_of(cells: Sequence[OpenedCell], rules: BenchmarkRules) -> Iterator[Row]:
    """Every model at each step, over simple forecasts, all baselines and own training."""
    for place, own in grouped(cells, lambda cell: cell.rules.place).items():
        about = {"task": FORECAST, **dict(zip(("dataset", "split_kind"), place, strict=True))}
        about["is_leaky"] = own[0].rules.is_leaky
        for row in rungs_of(own, rules.seed, rules.num_bootstrap):
            yield about | row


def standings_of(rankings: Sequence[Row], rules: BenchmarkRules) -> Iterator[Row]:
    """Everyone over all data of a task; what leaks is no evidence."""
    from model.evaluation.leaderboard import standings

    honest = [row for row in rankings if not row["is_leaky"]]
    for task, rows in grouped(honest, lambda row: row["task"]).items():
        for row in standings(rows, rules.seed, rules.num_bootstrap):
            yield {"task": task, **row}


def rankings_in(made: Path) -> list[Row]:
    """The rankings of a benchmark, from its folder."""
    rows: list[Row] = pq.read_table(made / RANKINGS_FILE, partitioning=None).to_pylist()
    return rows


BENCHMARK = Stage("benchmark", build)
