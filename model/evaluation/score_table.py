"""Score table: the columns of the long table of scores, and how it is read. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .judged_tasks import (
    FORECAST,
    INFILL,
    NEXT_REGION,
    NEXT_STAY,
    NEXT_TRAVEL,
    PATH_INFERENCE,
    RECOVER,
    TRAVEL_TIME,
)

ALL = "all"  # masks, or strata, together
KEYS = ("split", "task", "track", "mask", "horizon", "stratum", "model")
SCORES = pa.schema(
    {
        **dict.fromkeys(("split", "task", "track", "mask"), pa.string()),
        "horizon": pa.int32(),
        **dict.fromkeys(("stratum", "model"), pa.string()),
        "is_baseline": pa.bool_(),
        "metric": pa.string(),
        **dict.fromkeys(("value", "low", "high"), pa.float64()),
        **dict.fromkeys(("num_windows", "num_entities"), pa.int64()),
    }
)
WINDOW_ERRORS = pa.schema(
    {
        **dict.fromkeys(("split", "task", "track", "mask"), pa.string()),
        "horizon": pa.int32(),
        "window_id": pa.int64(),
        **dict.fromkeys(("entity_id", "model", "metric"), pa.string()),
        "value": pa.float64(),
    }
)
# The metric of each task that is compared, and that its skill and its order rest on.
MAIN_METRICS: Mapping[str, str] = {
    FORECAST: "ade_m",
    RECOVER: "mae_m",
    PATH_INFERENCE: "mae_m",
    TRAVEL_TIME: "mae_s",
    NEXT_REGION: "nll",
    NEXT_TRAVEL: "crps_s",
    NEXT_STAY: "crps_s",
    INFILL: "misplaced_share",
}
Row = dict[str, Any]


def mask_order(mask: str) -> tuple[bool, str, int]:
    """Masks by kind, then by their number: `block_5` before `block_20`; all together last."""
    kind, _, number = mask.rpartition("_")
    kind, size = (kind, int(number)) if number.isdecimal() else (mask, 0)
    return mask == ALL, kind, size


def chosen_rows(table: pa.Table, **wanted: str | int | None) -> list[Row]:
    """The rows of a table of scores that hold these values."""
    for name, value in wanted.items():
        is_wanted = pc.is_null(table[name]) if value is None else pc.equal(table[name], value)
        table = table.filter(is_wanted)
    rows: list[Row] = table.to_pylist()
    return rows


def wide_rows(table: pa.Table, **wanted: str | int | None) -> list[Row]:
    """One row for each answerer on some windows, its metrics side by side.

    Of the main metric there are `low` and `high`, of others with an interval `skill_low` and the
    like, and where they rest on other windows `coverage_80_windows`. The best stands first in its
    mask and horizon.
    """
    found: dict[tuple[Any, ...], Row] = {}
    for row in chosen_rows(table, **wanted):
        main = MAIN_METRICS[row["task"]]
        wide = found.setdefault(tuple(row[key] for key in KEYS), {"main": main})
        wide |= {key: row[key] for key in (*KEYS, "is_baseline")} | {row["metric"]: row["value"]}
        if row["metric"] == main:
            wide |= {key: row[key] for key in ("low", "high", "num_windows", "num_entities")}
        elif row["low"] is not None:
            name = row["metric"]
            wide |= {f"{name}_low": row["low"], f"{name}_high": row["high"]}
            wide |= {f"{name}_windows": row["num_windows"]}

    def rank(row: Row) -> tuple[Any, ...]:
        return mask_order(row["mask"]), row["horizon"] or 0, row[row["main"]], row["model"]

    return sorted((row for row in found.values() if row["main"] in row), key=rank)
