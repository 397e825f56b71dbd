"""The stored windows: what each task is asked, and which points of it are observed.

A window is a row: a stretch of one part of a trip and a mask. Masks are drawn once, by the seed and
the window's own name, so that every model sees identical inputs.

- `forecast`: the context is observed, the horizon is asked.
- `path_inference`: the first and the last point are observed; the times of all are given.
- `recover`: six masks of each stretch, which keep 1/2, 1/4 or 1/8 of its points, or hide a block of
  5, 10 or 20. Both ends are observed.
- `travel_time`: a whole part of a trip. The places of its ends and the departure are given, and the
  instant of the last point is asked.

Stretches of the first three hold no step over two sampling steps; those that do are counted.
"""

from __future__ import annotations

from tasks.config import WindowRules
from tasks.database import Connection, append, check, count_rows, materialise
from tasks.split import SPLITS
from tasks.store import Counts

SQL = (
    "checks/windows_match_shards",
    "checks/windows_are_masked",
    "checks/windows_respect_origin",
    "intermediate/int_windows_measured",
    "intermediate/int_trips_measured",
    "intermediate/int_windows_masked",
    "marts/windows",
    "marts/near_duplicates",
)


def add_windows(con: Connection, rules: WindowRules) -> None:
    """Add the windows of a bucket, made of `int_points_parted`, to the table `all_windows`."""
    materialise(
        con,
        "intermediate/int_windows_measured",
        window_points=rules.num_points,
        stride=rules.stride,
    )
    append(con, "int_windows_measured", "all_stretches")
    materialise(con, "intermediate/int_trips_measured")
    materialise(
        con,
        "intermediate/int_windows_masked",
        num_context=rules.num_context,
        longest_step_s=rules.longest_step_s,
        tasks=list(rules.tasks),
        seed=rules.seed,
    )
    materialise(con, "marts/windows", tasks=list(rules.tasks))
    append(con, "windows", "all_windows")


def check_windows(con: Connection, rules: WindowRules) -> None:
    """Hold all windows against the shards that they lie in, and their masks against the task."""
    check(con, "checks/windows_match_shards")
    check(con, "checks/windows_are_masked")
    check(con, "checks/windows_respect_origin", num_context=rules.num_context)


def count_windows(con: Connection) -> Counts:
    """Windows by task and split, those with too long a step, and near duplicates of train.

    `windows_<split>` are those of the forecast, which every model is judged on.
    """
    materialise(con, "marts/near_duplicates")
    asked = con.execute(
        "select task, split, count(*) from all_windows group by task, split"
    ).fetchall()
    rows = {(task, split): number for task, split, number in asked}
    repeated = dict(
        con.execute("select split, count(*) from near_duplicates group by split").fetchall()
    )
    counts: Counts = {f"windows_{split}": rows.get(("forecast", split), 0) for split in SPLITS}
    for task in sorted({task for task, _ in rows} - {"forecast"}):
        counts |= {f"windows_{task}_{split}": rows.get((task, split), 0) for split in SPLITS}
    judged = sum(number for (task, _), number in rows.items() if task == "forecast")
    counts["windows_with_long_steps"] = count_rows(con, "all_stretches") - judged
    return counts | {
        f"near_duplicates_{split}": repeated.get(split, 0) for split in ("validation", "test")
    }
