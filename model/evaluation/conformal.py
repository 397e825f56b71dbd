"""Conformal calibration: the factors that a table of scores tells of a model."""

from __future__ import annotations

from collections.abc import Iterable

from ..interface.calibration import Calibration
from ..interface.conformal import LEAST_WINDOWS
from .judged_tasks import FORECAST, TIMES_GIVEN, TRAVEL_TIME
from .score_table import ALL, Row

PERCENTS = (50, 80, 95)
VALIDATION = "validation"


def calibration_of(rows: Iterable[Row], model: str) -> Calibration:
    """The factors of a model in a table of scores, where enough validation windows tell them."""
    radius: dict[int, dict[int, float]] = {}
    decile: dict[str, float] = {}
    for row in rows:
        name, _, percent = row["metric"].rpartition("_")
        wanted = (VALIDATION, model, ALL, ALL, "factor")
        if (row["split"], row["model"], row["mask"], row["stratum"], name) != wanted:
            continue
        # Where all lay at the point itself there is nothing to stretch.
        if not row["value"] > 0 or row["num_windows"] < LEAST_WINDOWS:
            continue
        if (row["task"], row["track"]) == (FORECAST, TIMES_GIVEN):
            radius.setdefault(int(percent), {})[row["horizon"]] = row["value"]
        elif row["task"] == TRAVEL_TIME:
            decile[row["track"]] = row["value"]
    return Calibration(radius, decile)
