"""Coverage table of a leaderboard: whether areas that promise 80 % of test windows hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import pyarrow.parquet as pq

from model.evaluation.judged_tasks import FORECAST, TIMES_GIVEN
from model.evaluation.score_table import ALL
from model.evaluation.verdict import AS_PROMISED, TOO_FEW_TO_SAY, coverage_verdict
from tasks.evaluate.opened_cells import SHOWN_SPLIT, Row, grouped
from tasks.prepare.conventions import SCORES_FILE
from tasks.report.error_columns import HELD
from tasks.report.markup import spoken

COLUMNS = ("data", "split", "model", "windows", "entities", "raw", "calibrated", HELD)
EXPLAINED = (
    "The share of test windows in which the truth lies within the 80 % area of a forecast, at each "
    "step that is told: raw as the samples fill it, and calibrated by factors that validation "
    "tells (split conformal), as models are served. Of at least 1,000 windows or 100 entities, 76 "
    "to 84 % are as promised; steps that miss this are named, and it cannot be told of those whose "
    "95 % interval over entities reaches as far. Several seeds are a mean."
)
COVERAGES = ("raw_coverage_80", "coverage_80")


def coverage_rows(folder: Path) -> list[Row]:
    """The coverages of forecasts on test in the long table of a benchmark."""
    wanted = {
        "split": SHOWN_SPLIT,
        "task": FORECAST,
        "track": TIMES_GIVEN,
        "mask": ALL,
        "stratum": ALL,
        "is_leaky": False,
    }
    told = [(name, "=", value) for name, value in wanted.items()]
    told.append(("metric", "in", COVERAGES))
    table = pq.read_table(folder / SCORES_FILE, filters=told, partitioning=None)
    rows: list[Row] = table.to_pylist()
    return rows


def coverage_cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """One row for each model on some data, under `COLUMNS`."""
    models = grouped(rows, lambda row: (row["dataset"], row["split_kind"], row["model"]))
    return [model_cells(own) for own in models.values()]


def model_cells(rows: Sequence[Row]) -> tuple[str, ...]:
    first = rows[0]
    raw, told = (by_step(rows, name, "value") for name in COVERAGES)
    low, high = (by_step(rows, COVERAGES[1], end) for end in ("low", "high"))
    num_windows, num_entities = first["num_windows"], first["num_entities"]
    found = {
        step: coverage_verdict(value, low.get(step), high.get(step), num_windows, num_entities)
        for step, value in told.items()
    }
    return (
        first["dataset"],
        spoken(first["split_kind"]),
        spoken(first["model"]),
        f"{num_windows:,}",
        f"{num_entities:,}",
        shares(raw),
        shares(told),
        verdict_words(found),
    )


def by_step(rows: Sequence[Row], metric: str, column: str) -> dict[int, float]:
    """A coverage at each step, or an end of its interval: the mean over seeds, of those told."""
    told = [row for row in rows if row["metric"] == metric and row[column] is not None]
    alike = sorted(grouped(told, lambda row: row["horizon"]).items())
    return {step: mean(row[column] for row in own) for step, own in alike}


def shares(told: dict[int, float]) -> str:
    return ", ".join(f"{value:.0%} at {step}" for step, value in told.items())


def verdict_words(found: dict[int, str]) -> str:
    """The verdict of all steps, or of each that is not as promised."""
    if len(set(found.values())) == 1 or TOO_FEW_TO_SAY in found.values():
        return next(iter(found.values()))
    return ", ".join(f"{word} at {step}" for step, word in found.items() if word != AS_PROMISED)
