"""The stored windows: what each task is asked, and which points of it are observed.

A window is a row: a stretch of one part of a trip and a mask. Masks are drawn once, by the seed and
the window's own name, so that every model sees identical inputs.

- `forecast`: the context is observed, the horizon is asked.
- `path_inference`: the first and the last point are observed; the times of all are given.
- `recover`: six masks of each stretch, which keep 1/2, 1/4 or 1/8 of its points, or hide a block of
  5, 10 or 20. Both ends are observed.
- `travel_time`: a whole part of a trip. The places of its ends and the departure are given, and the
  instant of the last point is asked.

Stretches of the first three hold no step that is long beside those of train: over twice the 99th
percentile, which cuts the tail of what is sampled unevenly (ships, at 8 minutes) as well as the
missing fixes of what is sampled evenly (storms). Those that do, and those that ask for a point
that the source interpolated, are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import pyarrow as pa

import sql
from model.earth.cells import cells_of
from tasks.config.sections import Task
from tasks.config.slices import WindowRules
from tasks.database import (
    Connection,
    Value,
    append,
    check,
    materialise,
    write_query,
)
from tasks.prepare.conventions import LINES_A_DEGREE, SPLITS
from tasks.prepare.near_duplicates import near_duplicates
from tasks.runtime.store import Counts

STEP_QUANTILE, STEP_FACTOR = 0.99, 2.0
REST_RADIUS_M = 50.0
JUDGED = ("validation", "test")
SQL = (
    "marts/longest_step",
    "checks/windows_match_shards",
    "checks/windows_are_masked",
    "checks/windows_respect_origin",
    "intermediate/int_windows_measured",
    "intermediate/int_trips_measured",
    "intermediate/int_windows_named",
    *(f"intermediate/int_windows_{task}" for task in get_args(Task)),
    "intermediate/int_forecasts_judged",
    "marts/windows",
    "marts/window_origins",
    "marts/stored_windows",
    "reports/windows_left_out",
    "reports/windows_reported",
)


def longest_step_s(con: Connection) -> float | None:
    """The longest step of a window that is judged, told by the steps of train alone."""
    materialise(con, "marts/longest_step", quantile=STEP_QUANTILE, factor=STEP_FACTOR)
    [(found,)] = con.execute("select longest_step_s from longest_step").fetchall()
    return None if found is None else float(found)


def add_windows(con: Connection, rules: WindowRules, longest_s: float | None) -> None:
    """Add the windows of a bucket, made of `int_points_parted`, to the table `all_windows`."""
    sizes: dict[str, Value] = {"window_points": rules.num_points, "num_context": rules.num_context}
    measured = "intermediate/int_windows_measured"
    materialise(con, measured, **sizes, stride=rules.stride, rest_radius_m=REST_RADIUS_M)
    append(con, "int_windows_measured", "all_stretches")
    limits: dict[str, Value] = {"longest_step_s": longest_s, "purge_gap_s": rules.split.purge_gap_s}
    materialise(con, "intermediate/int_windows_named", **limits)
    append(con, "int_windows_named", "all_named")
    materialise(con, "intermediate/int_trips_measured")
    for task in rules.tasks:
        masked = f"intermediate/int_windows_{task}"
        materialise(con, masked, table="int_windows_masked", **rules.model_dump())
        materialise(con, "marts/windows")
        append(con, "windows", "all_windows")
        materialise(con, "marts/window_origins", lines_a_degree=LINES_A_DEGREE)
        append(con, "window_origins", "all_origins")


def write_windows(con: Connection, path: Path, resolution: int) -> None:
    """Write all windows.

    `regions` holds the cells that training knows, at this resolution.
    """
    origins = con.table("all_origins").to_arrow_table()
    lon_deg_N, lat_deg_N = (origins[name].to_numpy() for name in ("lon_deg", "lat_deg"))
    cells = pa.array(cells_of(lon_deg_N, lat_deg_N, resolution))
    con.register("window_cells", pa.table({"window_id": origins["window_id"], "cell": cells}))
    write_query(con, sql.read("marts/stored_windows"), path)


def check_windows(con: Connection, rules: WindowRules) -> None:
    """Hold all windows against the shards that they lie in, and their masks against the task."""
    check(con, "checks/windows_match_shards")
    check(con, "checks/windows_are_masked")
    check(con, "checks/windows_respect_origin", num_context=rules.num_context)


def count_windows(
    con: Connection, files: Mapping[str, Sequence[Path]], is_motion_reported: bool
) -> Counts:
    """Windows by task and split, those with too long a step, and near duplicates of train.

    `windows_<split>` are those of the forecast, which every model is judged on.
    """
    asked = con.execute(
        "select task, split, count(*) from all_windows group by task, split"
    ).fetchall()
    rows = {(task, split): number for task, split, number in asked}
    judged = [path for split in JUDGED for path in files[split]]
    forecasts = con.sql(sql.read("intermediate/int_forecasts_judged")).to_arrow_table()
    repeated = Counter(near_duplicates(forecasts, judged, files["train"])["split"].to_pylist())
    counts: Counts = {f"windows_{split}": rows.get(("forecast", split), 0) for split in SPLITS}
    for task in sorted({task for task, _ in rows} - {"forecast"}):
        counts |= {f"windows_{task}_{split}": rows.get((task, split), 0) for split in SPLITS}
    [left_out] = con.sql(sql.read("reports/windows_left_out")).to_arrow_table().to_pylist()
    if is_motion_reported:
        [(reported,)] = con.execute(sql.read("reports/windows_reported")).fetchall()
        counts["windows_with_reported_motion"] = reported
    return counts | left_out | {f"near_duplicates_{split}": repeated[split] for split in JUDGED}
