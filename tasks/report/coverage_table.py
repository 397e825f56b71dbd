"""Coverage table of a leaderboard: whether areas that promise 80 % of test windows hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import pyarrow.parquet as pq

from model.evaluation.judged_tasks import FORECAST, TIMES_GIVEN
from model.evaluation.score_table import ALL
from model.evaluation.verdict import AS_PROMISED, TOO_FEW_TO_SAY, coverage_verdict
from tasks.evaluate.benchmark import SHOWN_SPLIT, Row, grouped
from tasks.prepare.conventions import SCORES_FILE
from tasks.report.error_tables import HELD
from tasks.report.markup import spoken

COLUMNS = ("data", "split", "model", "windows", "entities", "raw", "calibrated", HELD)
EXPLAINED = (
    "The share of test windows in which the truth lies within the 80 % area of a forecast, at each "
    "step that is told: raw as the samples fill it, and calibrated by factors that validation "
    "tells (split conformal), as models are served. Of at least 1,000 windows or 100 entities, 76 "
    "to 84 % are as promised; steps that miss this are named. Several seeds are a mean."
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
    raw, after = (
        {
            step: mean(row["value"] for row in own)
            for step, own in sorted(grouped(named, lambda row: row["horizon"]).items())
        }
        for named in ([row for row in rows if row["metric"] == name] for name in COVERAGES)
    )
    num_windows, num_entities = first["num_windows"], first["num_entities"]
    found = {
        step: coverage_verdict(value, num_windows, num_entities) for step, value in after.items()
    }
    return (
        first["dataset"],
        spoken(first["split_kind"]),
        spoken(first["model"]),
        f"{num_windows:,}",
        f"{num_entities:,}",
        shares(raw),
        shares(after),
        verdict_words(found),
    )


def shares(by_step: dict[int, float]) -> str:
    return ", ".join(f"{value:.0%} at {step}" for step, value in by_step.items())


def verdict_words(found: dict[int, str]) -> str:
    """The verdict of all steps, or of each that is not as promised."""
    if len(set(found.values())) == 1 or TOO_FEW_TO_SAY in found.values():
        return next(iter(found.values()))
    return ", ".join(f"{word} at {step}" for step, word in found.items() if word != AS_PROMISED)
