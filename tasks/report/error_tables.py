"""Error tables as people read them, in units of their size, from one table of scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.evaluation.judged_tasks import (
    ARRIVAL_GIVEN,
    BOTH_SIDES,
    FORECAST,
    HISTORY,
    INFILL,
    NEXT_REGION,
    NEXT_STAY,
    NEXT_TRAVEL,
    PATH_INFERENCE,
    RECOVER,
    REGION_GIVEN,
    TRAVEL_TIME,
)
from model.evaluation.score_table import ALL, MAIN_METRICS, chosen_rows, wide_rows
from model.evaluation.verdict import (
    BAR,
    coverage_verdict,
    verdict,
)
from tasks.prepare.conventions import SCORES_FILE
from tasks.report.markup import grouped, percent, share, spoken
from tasks.report.page_parts import Table
from tasks.report.units import NAUTICAL_MILE, Unit, duration, spelt_horizons, unit_of

Row = Mapping[str, Any]
Spell = Callable[[Row], str]
Columns = Mapping[str, Spell]
INTERVAL = "95 % interval"
SKILL_INTERVAL, VERDICT = "its interval", "verdict"
TRACK_WORDS = {
    "times_given": "times given",
    "times_hidden": "times hidden",
    "times_predicted": "times predicted",
    "ends": "origin, destination and departure given",
    "path_given": "path and departure given",
    HISTORY: "the visits before it given",
    REGION_GIVEN: "its region given too",
    ARRIVAL_GIVEN: "its region and arrival given too",
    BOTH_SIDES: "the visits on both sides given",
}
TASK_WORDS = {
    RECOVER: "hidden points recovered",
    PATH_INFERENCE: "paths between two ends",
    TRAVEL_TIME: "travel time",
    NEXT_REGION: "region of the next visit",
    NEXT_TRAVEL: "travel to the next visit",
    NEXT_STAY: "stay of the next visit",
    INFILL: "visits in gaps",
}


NOUNS = {
    **{"ade_m": "ADE", "mae_m": "MAE", "mae_s": "MAE", "nll": "NLL", "crps_s": "CRPS"},
    "misplaced_share": "misplaced",
}


@dataclass(frozen=True)
class Topic:
    """Tasks that are told of under one heading, on these of their tracks.

    `explained` says what their errors mean, `unjudged` why there may be none.
    """

    heading: str
    tasks: tuple[str, ...]
    tracks: tuple[str, ...]
    explained: str
    unjudged: str = ""
    columns: Mapping[str, Columns] = field(default_factory=lambda: COLUMNS)

    def tables(self, scores: pa.Table, *splits: str, is_nautical: bool = False) -> list[ErrorTable]:
        """A table for each split, task and track that anyone was judged on."""
        found = [
            error_table(scores, split, task, track, self.columns[task], is_nautical)
            for split in splits
            for task in self.tasks
            for track in self.tracks
        ]
        return [table for table in found if table.cells]


@dataclass(frozen=True)
class ErrorTable:
    """Errors of one split, task and track: ours and the baselines', the best first."""

    title: str
    unit: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    are_ours: tuple[bool, ...]
    num_windows: int
    num_entities: int
    told: str = ""  # the last skill of ours, in words

    @property
    def caption(self) -> str:
        return f"{self.title}, {self.unit}"

    @property
    def part(self) -> Table:
        """The table in a report, ours in bold."""
        return Table(self.caption, self.columns, self.rows, self.are_ours, self.num_names)

    @property
    def rows(self) -> list[Sequence[str]]:
        """The cells of the lines; what lines in turn are about is written once."""
        return grouped(self.cells) if self.num_names > 1 else list(self.cells)

    @property
    def num_names(self) -> int:
        """The columns that tell lines apart: the model, and before it what lines are about."""
        return self.columns.index("model") + 1


# What is told of each task ----------------------------------------------------------------------


def size(metric: str, unit: Unit | None = None) -> Spell:
    """A distance or a duration, in the unit of the table; nothing where there is none."""
    return lambda row: (unit or row["unit"]).of(row[metric]) if row.get(metric) is not None else ""


def duration_cell(row: Row, metric: str) -> str:
    """A duration with its unit, in a table of another one."""
    return duration(row[metric]) if row.get(metric) is not None else ""


def step_words(row: Row) -> str:
    """A step, and how long after the last known point it is."""
    return f"{row['horizon']} ({row['after']})" if row.get("after") else str(row["horizon"])


def part(metric: str) -> Spell:
    return lambda row: share(row.get(metric, math.nan))


def interval(row: Row) -> str:
    if row["low"] is None:
        return ""
    return f"{row['unit'].of(row['low'])}–{row['unit'].of(row['high'])}"


def skill_interval(row: Row) -> str:
    if row.get("skill_low") is None:
        return ""
    return f"{percent(row['skill_low'])} to {percent(row['skill_high'])}"


def skill_verdict(row: Row) -> str:
    """Whether a skill is one, in words."""
    if "skill" not in row:
        return ""
    bounds = row.get("skill_low"), row.get("skill_high")
    return verdict(row["skill"], *bounds, row["num_windows"], row["num_entities"])


def covered(metric: str) -> Spell:
    """A share of windows, and its interval."""

    def spell(row: Row) -> str:
        if metric not in row:
            return ""
        low, high = (row.get(f"{metric}_{end}") for end in ("low", "high"))
        bracket = "" if low is None or high is None else f" ({low:.0%} to {high:.0%})"
        return share(row[metric]) + bracket

    return spell


def coverage_words(row: Row) -> str:
    """Whether four fifths of many windows lie within the areas that promise it."""
    if "coverage_80" not in row:
        return ""
    num_windows = row.get("coverage_80_windows", row["num_windows"])
    bounds = row.get("coverage_80_low"), row.get("coverage_80_high")
    return coverage_verdict(row["coverage_80"], *bounds, num_windows, row["num_entities"])


def pit_words(row: Row) -> str:
    return " ".join(f"{100 * row[f'pit_{tenth}0']:.0f}" for tenth in range(1, 11))


COMING = {"seen": "a region seen", "new": "a new region", "unknown": "an unknown region"}


def mask_words(mask: str) -> str:
    """What a mask hides, in words."""
    kind, _, number = mask.rpartition("_")
    words = {"keep_1": f"all but 1/{number}", "block": f"a block of {number}"}
    whole = {"ends": "all but the ends", "all": "any of these", **COMING}
    return words.get(kind, whole.get(mask, spoken(mask)))


MODEL: Mapping[str, Spell] = {"model": lambda row: spoken(row["model"])}
WINDOWS: Mapping[str, Spell] = {"windows": lambda row: f"{row['num_windows']:,}"}
SAMPLED: Mapping[str, Spell] = {
    "windows": lambda row: f"{row.get('coverage_80_windows', row['num_windows']):,}"
}
HELD, RAW = "80 % areas are", "80 %, raw"
COVERAGE: Mapping[str, Spell] = {
    f"within {percent_held} %": covered(f"coverage_{percent_held}") for percent_held in (50, 80, 95)
} | {RAW: covered("raw_coverage_80"), HELD: lambda row: coverage_words(row)}
SKILL: Mapping[str, Spell] = {
    "skill": lambda row: percent(row["skill"]) if "skill" in row else "",
    SKILL_INTERVAL: lambda row: skill_interval(row),
    VERDICT: lambda row: skill_verdict(row),
}
RECOVERY: Mapping[str, Spell] = {
    "hidden": lambda row: mask_words(row["mask"]),
    **MODEL,
    **WINDOWS,
    "MAE": size("mae_m"),
    INTERVAL: interval,
    "p50": size("mae_p50_m"),
    "p90": size("mae_p90_m"),
    "RMSE": size("rmse_m"),
    **SKILL,
}
NEXT_VISIT: Mapping[str, Spell] = {
    "comes": lambda row: mask_words(row["mask"]),
    **MODEL,
    **WINDOWS,
}
NEXT_DURATION: Mapping[str, Spell] = {
    **NEXT_VISIT,
    "CRPS": size("crps_s"),
    INTERVAL: interval,
    **{f"within {minutes} min": part(f"within_{minutes}_min") for minutes in (5, 10, 20)},
    "80 % areas hold": covered("coverage_80"),
    "NLL": lambda row: f"{row['nll']:.2f}" if "nll" in row else "",
    **SKILL,
}
# The columns of a task, each with how it is spelt; a new task is one entry here.
COLUMNS: Mapping[str, Mapping[str, Spell]] = {
    FORECAST: {
        "step": step_words,
        **MODEL,
        **WINDOWS,
        "ADE": size("ade_m"),
        INTERVAL: interval,
        "p50": size("ade_p50_m"),
        "p90": size("ade_p90_m"),
        "FDE": size("fde_m"),
        **SKILL,
    },
    RECOVER: RECOVERY,
    PATH_INFERENCE: RECOVERY,
    TRAVEL_TIME: {
        **MODEL,
        **WINDOWS,
        "MAE": size("mae_s"),
        INTERVAL: interval,
        "RMSE": size("rmse_s"),
        "MAPE": part("mape"),
        **SKILL,
    },
    NEXT_REGION: {
        **NEXT_VISIT,
        "NLL": size("nll"),
        INTERVAL: interval,
        **{f"first {hit}": part(f"acc_{hit}") for hit in (1, 5, 10, 20)},
        "MRR": lambda row: f"{row['mrr']:.3f}",
        "NDCG@10": lambda row: f"{row['ndcg_10']:.3f}",
        **SKILL,
    },
    NEXT_TRAVEL: NEXT_DURATION,
    NEXT_STAY: NEXT_DURATION,
    INFILL: {
        **MODEL,
        **WINDOWS,
        "misplaced": size("misplaced_share"),
        INTERVAL: interval,
        "regions right": part("region_acc"),
        "edits": part("edit_share"),
        "number right": part("num_right"),
        "likeliest number right": part("num_acc"),
        "first arrival": lambda row: duration_cell(row, "arrival_crps_s"),
        "last departure": lambda row: duration_cell(row, "departure_crps_s"),
        **SKILL,
    },
}


NEXT_SPREAD: Mapping[str, Spell] = {
    **NEXT_VISIT,
    **{name: spell for name, spell in COVERAGE.items() if name != RAW},
    "CRPS": size("crps_s"),
    "NLL": lambda row: f"{row['nll']:.2f}" if "nll" in row else "",
}
CALIBRATION_COLUMNS: Mapping[str, Columns] = {
    FORECAST: {
        "step": step_words,
        **MODEL,
        **SAMPLED,
        **COVERAGE,
        "energy score": size("energy_score_m"),
        "minADE_5": size("minade_5_m"),
        "PIT": lambda row: pit_words(row),
    },
    TRAVEL_TIME: {
        **MODEL,
        **SAMPLED,
        **COVERAGE,
        "CRPS": size("crps_s"),
        "NLL": lambda row: f"{row['nll']:.2f}" if "nll" in row else "",
    },
    NEXT_TRAVEL: NEXT_SPREAD,
    NEXT_STAY: NEXT_SPREAD,
}


# Tables -----------------------------------------------------------------------------------------


def read_scores(evaluated: Path) -> pa.Table:
    """The table of scores in a folder of the evaluation."""
    return pq.read_table(evaluated / SCORES_FILE, partitioning=None)


def elapsed_of(scores: pa.Table, split: str) -> dict[int, float]:
    """The seconds from the last known point to each step: the median of the windows of a split."""
    rows = chosen_rows(scores, split=split, metric="elapsed_s", stratum=ALL)
    return {row["horizon"]: row["value"] for row in rows}


def unit_of_rows(rows: Sequence[Row], task: str) -> Unit:
    """The unit in which the errors of the model are easiest to read."""
    main = MAIN_METRICS[task]
    ours = [row[main] for row in rows if not row["is_baseline"]]
    return unit_of(main, max(ours or [row[main] for row in rows], default=0.0))


def readable_rows(scores: pa.Table, split: str, task: str, track: str) -> list[Row]:
    """The rows of all windows, each with the unit of them all and the time of its horizon."""
    rows = wide_rows(scores, split=split, task=task, track=track, stratum=ALL)
    unit, after = unit_of_rows(rows, task), spelt_horizons(elapsed_of(scores, split))
    return [row | {"unit": unit, "after": after.get(row["horizon"] or 0, "")} for row in rows]


def error_table(
    scores: pa.Table,
    split: str,
    task: str,
    track: str,
    columns: Columns | None = None,
    is_nautical: bool = False,
) -> ErrorTable:
    """The errors on one split, task and track; of the calibration only who tells a spread."""
    columns = columns or COLUMNS[task]
    rows = readable_rows(scores, split, task, track)
    unit = unit_of_rows(rows, task)
    if columns is CALIBRATION_COLUMNS.get(task):
        rows = [row for row in rows if "coverage_80" in row]
    elif is_nautical and task == FORECAST:
        columns = {**columns, "ADE, nmi": size("ade_m", NAUTICAL_MILE)}
    if len({row["mask"] for row in rows}) == 2:  # one mask, and the same again as all
        rows = [row for row in rows if row["mask"] != ALL]
    words = (split.capitalize(), TASK_WORDS.get(task, ""), TRACK_WORDS[track])
    return ErrorTable(
        ", ".join(word for word in words if word),
        unit.sign,
        tuple(columns),
        tuple(tuple(spell(row) for spell in columns.values()) for row in rows),
        tuple(not row["is_baseline"] for row in rows),
        max((row["num_windows"] for row in rows), default=0),
        max((row["num_entities"] for row in rows), default=0),
        told_skill(rows),
    )


def told_skill(rows: Sequence[Row]) -> str:
    """Our last skill: that of the longest horizon, or of all masks."""
    row = next((row for row in reversed(rows) if not row["is_baseline"]), {})
    if not skill_interval(row):
        return ""
    step = f" at step {step_words(row)}" if row["horizon"] else ""
    alike = (one for one in rows if all(one[key] == row[key] for key in ("mask", "horizon")))
    bars = [f" over {spoken(one['model'])}" for one in alike if skill_verdict(one) == BAR]
    skill = f"skill {percent(row['skill'])}{bars[0] if bars else ''} ({skill_interval(row)})"
    return f"{spoken(row['model'])}{step}: {skill}, {skill_verdict(row)}"
