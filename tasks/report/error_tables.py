"""Error tables as people read them, in markdown and in the terminal, from one table of scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.evaluation.judged_tasks import (
    FORECAST,
    PATH_INFERENCE,
    RECOVER,
    TIMES_GIVEN,
    TRACKS,
    TRAVEL_TIME,
)
from model.evaluation.score_table import ALL, wide_rows
from model.evaluation.verdict import BAR, verdict
from tasks.prepare.conventions import SCORES_FILE
from tasks.report.markup import grouped, markdown_table, metres, percent, share, spoken
from tasks.runtime.words import counted

if TYPE_CHECKING:
    from rich.table import Table

Row = Mapping[str, Any]
Spell = Callable[[Row], str]
Columns = Mapping[str, Spell]
INTERVAL = "95 % interval"
SKILL_INTERVAL, VERDICT = "its interval", "verdict"
# Of the terminal, for they do not fit.
LEFT_OUT = ("windows", "p50", "p90", "RMSE", "MAPE", SKILL_INTERVAL, VERDICT)
TRACK_WORDS = {
    "times_given": "times given",
    "times_hidden": "times hidden",
    "times_predicted": "times predicted",
    "ends": "origin, destination and departure given",
    "path_given": "path and departure given",
}
TASK_WORDS = {
    RECOVER: "hidden points recovered",
    PATH_INFERENCE: "paths between two ends",
    TRAVEL_TIME: "travel time",
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

    def tables(self, scores: pa.Table, *splits: str) -> list[ErrorTable]:
        """A table for each split, task and track that anyone was judged on."""
        found = [
            error_table(scores, split, task, track, self.columns[task])
            for split in splits
            for task in self.tasks
            for track in self.tracks
        ]
        return [table for table in found if table.cells]

    def parts(self, scores: pa.Table, *splits: str) -> list[str]:
        """The tables of a report under their heading, explained."""
        tables = [markdown_errors(table) for table in self.tables(scores, *splits)]
        return [f"## {self.heading}", self.explained if tables else self.unjudged, *tables]


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
    def rows(self) -> list[Sequence[str]]:
        """The cells of the lines; what lines in turn are about is written once."""
        return grouped(self.cells) if self.num_names > 1 else list(self.cells)

    @property
    def num_names(self) -> int:
        """The columns that tell lines apart: the model, and before it what lines are about."""
        return self.columns.index("model") + 1


# What is told of each task ----------------------------------------------------------------------


def size(metric: str) -> Spell:
    """Metres or seconds, which are told with the same digits; nothing where there is none."""
    return lambda row: metres(row[metric]) if row.get(metric) is not None else ""


def part(metric: str) -> Spell:
    return lambda row: share(row.get(metric, math.nan))


def interval(row: Row) -> str:
    if row["low"] is None:
        return ""
    return f"{metres(row['low'])}–{metres(row['high'])}"


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


def pit_words(row: Row) -> str:
    return " ".join(f"{100 * row[f'pit_{tenth}0']:.0f}" for tenth in range(1, 11))


def mask_words(mask: str) -> str:
    """What a mask hides, in words."""
    kind, _, number = mask.rpartition("_")
    words = {"keep_1": f"all but 1/{number}", "block": f"a block of {number}"}
    whole = {"ends": "all but the ends", "all": "any of these"}
    return words.get(kind, whole.get(mask, spoken(mask)))


MODEL: Mapping[str, Spell] = {"model": lambda row: spoken(row["model"])}
WINDOWS: Mapping[str, Spell] = {"windows": lambda row: f"{row['num_windows']:,}"}
SAMPLED: Mapping[str, Spell] = {
    "windows": lambda row: f"{row.get('coverage_80_windows', row['num_windows']):,}"
}
COVERAGE: Mapping[str, Spell] = {
    f"within {percent_held} %": covered(f"coverage_{percent_held}") for percent_held in (50, 80, 95)
}
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
# The columns of a task, each with how it is spelt; a new task is one entry here.
COLUMNS: Mapping[str, Mapping[str, Spell]] = {
    FORECAST: {
        "step": lambda row: str(row["horizon"]),
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
}


CALIBRATION_COLUMNS: Mapping[str, Columns] = {
    FORECAST: {
        "step": lambda row: str(row["horizon"]),
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
}


# Topics -----------------------------------------------------------------------------------------

PAIRED = (
    "The bar is the baseline that is best on validation; on test another may be luckier. The "
    "interval of a skill is a paired bootstrap over entities, the model and the bar on the same "
    "windows: where it covers zero, the two cannot be told apart."
)
FORECASTS = Topic(
    "Errors in metres",
    (FORECAST,),
    (TIMES_GIVEN,),
    "ADE is the mean, FDE the last displacement over the first steps of the horizon. Every "
    "forecaster sees the same stored windows. The interval is a bootstrap over entities; skill is "
    "1 - error / error of the bar, so below zero is worse than that. " + PAIRED,
)
RECOVERIES = Topic(
    "Recovery errors in metres",
    (RECOVER, PATH_INFERENCE),
    TRACKS[RECOVER],
    "MAE is the mean over windows of the mean displacement of hidden points, p50 and p90 are "
    "over windows, RMSE is over points. With times given, hidden points show when they were; "
    "with times hidden they show nothing. Linear goes along the great circle between the known "
    "neighbours, Hermite also arrives and leaves as the known points beyond them tell. The "
    "interval is a bootstrap over entities; skill is 1 - error / error of the bar, so below zero "
    "is worse than that. Over all masks together the bar is that of each mask. " + PAIRED,
    "Recovery is not judged: no masked windows of validation and test are stored.",
)
TRAVEL_TIMES = Topic(
    "Travel time errors in seconds",
    (TRAVEL_TIME,),
    TRACKS[TRAVEL_TIME],
    "Whole journeys. A path of more points than the model reads is thinned evenly for it, with "
    "both ends kept. Baselines are fitted on journeys of train: distance over mean speed, the "
    "mean between the same two cells at the same hour (else at any hour, else mean speed), and "
    "boosted trees of distance, number of points, hour, weekday and both ends. Where points "
    "come at even intervals, a given path tells its duration by their number. MAPE leaves out "
    "journeys that took no time. Skill is 1 - MAE / MAE of the bar, so below zero is worse than "
    "that. " + PAIRED,
    "Travel times are not judged: either train holds no whole journey to fit the baselines on, "
    "or neither validation nor test holds one to judge.",
)
CALIBRATION = Topic(
    "Calibration",
    (FORECAST, TRAVEL_TIME),
    (TIMES_GIVEN, *TRACKS[TRAVEL_TIME]),
    "Of those who tell a spread. Within 50, 80 and 95 % are the shares of windows in which the "
    "truth lies in the area, or between the times, that should hold as many; a bracket is a 95 % "
    "interval over entities. Areas of forecasts are discs around the point forecast, filled by "
    "samples. The energy score and CRPS are errors of the whole spread, in metres and in seconds: "
    "of a single answer they are its displacement and its absolute error. minADE_5 is the ADE of "
    "the best of five samples. PIT is the share of windows, in percent, in each tenth of the "
    "spread, from its middle outwards: tens throughout are best, many at the end mean areas that "
    "are too small. NLL is in nats of seconds. Samples may be of fewer windows than the errors.",
    "Nobody who was judged tells a spread.",
    CALIBRATION_COLUMNS,
)
TOPICS = (FORECASTS, RECOVERIES, TRAVEL_TIMES)


# Tables -----------------------------------------------------------------------------------------


def read_scores(evaluated: Path) -> pa.Table:
    """The table of scores in a folder of the evaluation."""
    return pq.read_table(evaluated / SCORES_FILE, partitioning=None)


def error_table(
    scores: pa.Table, split: str, task: str, track: str, columns: Columns | None = None
) -> ErrorTable:
    """The errors on one split, task and track; of the calibration only who tells a spread."""
    columns = columns or COLUMNS[task]
    rows = wide_rows(scores, split=split, task=task, track=track, stratum=ALL)
    if columns is CALIBRATION_COLUMNS.get(task):
        rows = [row for row in rows if "coverage_80" in row]
    if len({row["mask"] for row in rows}) == 2:  # one mask, and the same again as all
        rows = [row for row in rows if row["mask"] != ALL]
    words = (split.capitalize(), TASK_WORDS.get(task, ""), TRACK_WORDS[track])
    return ErrorTable(
        ", ".join(word for word in words if word),
        "seconds" if task == TRAVEL_TIME else "metres",
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
    step = f" at step {row['horizon']}" if row["horizon"] else ""
    alike = (one for one in rows if all(one[key] == row[key] for key in ("mask", "horizon")))
    bars = [f" over {spoken(one['model'])}" for one in alike if skill_verdict(one) == BAR]
    skill = f"skill {percent(row['skill'])}{bars[0] if bars else ''} ({skill_interval(row)})"
    return f"{spoken(row['model'])}{step}: {skill}, {skill_verdict(row)}"


def markdown_errors(table: ErrorTable) -> str:
    """A table under its title, with ours in bold."""
    cells = markdown_table(table.columns, table.rows, table.are_ours, table.num_names)
    return f"### {table.title}\n\n{cells}"


# Terminal ---------------------------------------------------------------------------------------


def summary_tables(evaluated: Path) -> list[Table]:
    """The test errors of every task that was judged, for the terminal."""
    scores = read_scores(evaluated)
    shown = []
    for topic in TOPICS:
        for found in topic.tables(scores, "test"):
            title = found.title
            if topic is FORECASTS:
                windows = counted(found.num_windows, "test window")
                title = f"{windows} of {counted(found.num_entities, 'entity')}, times given"
            shown.append(terminal_table(f"{title}, {found.unit}", found))
    return shown


def terminal_table(title: str, errors: ErrorTable) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, caption=errors.told, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown = [place for place, name in enumerate(errors.columns) if name not in LEFT_OUT]
    for place in shown:
        justify: Any = "left" if place < errors.num_names else "right"
        table.add_column(errors.columns[place], justify=justify, no_wrap=True)
    for number, (row, is_ours) in enumerate(zip(errors.rows, errors.are_ours, strict=True)):
        if number and row[0] and errors.num_names > 1:
            table.add_section()
        table.add_row(*(row[place] for place in shown), style="bold" if is_ours else "")
    return table
