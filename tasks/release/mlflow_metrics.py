"""The errors of an evaluation as named numbers, as a registry keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.config.judged_tasks import TIMES_GIVEN, TRAVEL_TIME


def measures(evaluated: Path) -> list[tuple[str, float]]:
    """(name, value) of the model and the baselines: `test/chemin/ade_m_step_10`, and of other
    tasks `test/recover/times_given/block_10/linear/mae_m`. What is no number is left out.
    """
    found = [
        *forecast_measures(rows_of(evaluated / "metrics.parquet")),
        *recovery_measures(rows_of(evaluated / "recovery.parquet")),
        *duration_measures(rows_of(evaluated / "durations.parquet")),
    ]
    return [(name, value) for name, value in found if math.isfinite(value)]


def rows_of(table: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(table).to_pylist()
    return rows


def forecast_measures(rows: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """Of times given."""
    for row in rows:
        if row["track"] == TIMES_GIVEN:
            for name in ("ade_m", "fde_m", "skill", "num_windows"):
                yield f"{row['split']}/{row['model']}/{name}_step_{row['horizon_steps']}", row[name]


def recovery_measures(rows: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    for row in rows:
        place = "/".join(row[key] for key in ("split", "task", "track", "mask", "model"))
        for name in ("mae_m", "rmse_m", "skill", "num_windows"):
            yield f"{place}/{name}", row[name]


def duration_measures(rows: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    for row in rows:
        place = "/".join((row["split"], TRAVEL_TIME, row["track"], row["model"]))
        for name in ("mae_s", "rmse_s", "mape", "coverage_80", "skill", "num_windows"):
            yield f"{place}/{name}", row[name]
