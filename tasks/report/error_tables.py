"""Error tables as people read them, in units of their size, from one table of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    TIMES_GIVEN,
    TRACKS,
    TRAVEL_TIME,
)
from model.evaluation.score_table import ALL, MAIN_METRICS, chosen_rows, wide_rows
from model.evaluation.verdict import (
    BAR,
    TOLD_ENTITIES,
    TOLD_WINDOWS,
)
from tasks.prepare.conventions import SCORES_FILE
from tasks.report.error_columns import (
    CALIBRATION_COLUMNS,
    COLUMNS,
    HELD,
    Columns,
    Row,
    size,
    skill_interval,
    skill_verdict,
    step_words,
)
from tasks.report.markup import grouped, percent, spoken
from tasks.report.page_parts import Table
from tasks.report.units import NAUTICAL_MILE, Unit, spelt_horizons, unit_of

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


# Topics -----------------------------------------------------------------------------------------

PAIRED = (
    "The bar is the baseline that is best on validation; on test another may be luckier. The "
    "interval of a skill is a paired bootstrap over entities, the model and the bar on the same "
    "windows: where it covers zero, the two cannot be told apart."
)
FORECASTS = Topic(
    "Error by horizon",
    (FORECAST,),
    (TIMES_GIVEN,),
    "ADE is the mean distance between forecast and truth over all steps up to this one, FDE that "
    "at this step alone. Every forecaster sees the same stored windows. The interval is a "
    "bootstrap over entities; skill is 1 - error / error of the bar, so below zero is worse than "
    "that. " + PAIRED,
)
RECOVERIES = Topic(
    "Recovery errors",
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
    "Travel time errors",
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
NEXT_VISITS = Topic(
    "Errors of next visits",
    (NEXT_REGION, NEXT_TRAVEL, NEXT_STAY),
    (HISTORY, REGION_GIVEN, ARRIVAL_GIVEN),
    "The last visit of a window is asked. NLL is the surprise of the region that came, in nats: 0 "
    "for one who was certain. *First 5* is the share of windows in which it is among the five "
    "likeliest regions, of all regions of the vocabulary; MRR is the mean of 1 / its place, and "
    "NDCG@10 discounts the first ten places. A region that comes is *seen* in the history, *new* "
    "to it, or *unknown* to train, which is a miss whatever is answered. Travel is told by one who "
    "knows the region, the stay by one who knows the arrival too. CRPS is an error of the whole "
    "density: of a single answer it is its absolute error. *Within 5 min* is the mass nearer to "
    "the truth than that, and NLL of durations is in nats of seconds. A stay whose end the record "
    "does not show counts in NLL alone, as lasting that long. Skill is 1 - error / error of the "
    "bar, NLL for regions and CRPS for durations, so below zero is worse than that. " + PAIRED,
    "Next visits are not judged: no windows of validation and test are stored.",
)
INFILLS = Topic(
    "Errors of visits in gaps",
    (INFILL,),
    (BOTH_SIDES,),
    "Inner visits of a window are hidden, each with one chance in five and one at least, and asked "
    "of those who see the visits on both sides. Each gap is filled 20 times. *Misplaced* is the "
    "share of its time in which an answer has one elsewhere than one was, another region or the "
    "way, as an energy score: of a single answer it is that share, and of samples half the mean "
    "share in which two of them differ is taken off. *Regions right* and *edits* are of the rows "
    "of regions: of the most frequent answer the share that is right at its place, and over all "
    "answers the mean edit distance by the length of the longer row. *Number right* is the share "
    "of answers with as many visits as there were. The last two columns are CRPS of when the first "
    "hidden visit began and the last one ended. Time that nobody saw is not judged. A region "
    "unknown to train is a miss whatever is answered. Skill is 1 - error / error of the bar, of "
    "what is misplaced, so below zero is worse than that. " + PAIRED,
    "Gaps are not judged: no windows of validation and test have visits to hide.",
)
CALIBRATION = Topic(
    "Calibration",
    (FORECAST, TRAVEL_TIME, NEXT_TRAVEL, NEXT_STAY),
    (TIMES_GIVEN, *TRACKS[TRAVEL_TIME], REGION_GIVEN, ARRIVAL_GIVEN),
    f"Of those who tell a spread. *Within 80 %* is the share of windows in which the truth lies in "
    "the area, or between the times, that should hold 80 % of them; 50 and 95 % likewise, and a "
    "bracket is a 95 % interval over entities. In the chart each dot should lie on the line of its "
    "share: left of it areas are too small, right of it too large. Areas of forecasts are discs "
    "around the point forecast, as large as the samples make them, times a factor that validation "
    "tells (split conformal). *Raw* is the share before that; on validation itself no factor of "
    f"its own is applied. *{HELD}* as promised if they hold 76 to 84 % of the windows, and it "
    "cannot be told where they do not but their interval reaches as far; below "
    f"{TOLD_WINDOWS:,} windows and {TOLD_ENTITIES} entities there are too few to say. The columns "
    "that follow are of the samples, which no factor changes. The energy score and CRPS are errors "
    "of the whole spread, distances and durations: of a single answer they are its displacement "
    "and its absolute error. "
    "minADE_5 is the ADE of the best of five samples. PIT is the share of windows, in percent, in "
    "each tenth of the spread, from its middle outwards: tens throughout are best, many at the end "
    "mean areas that are too small, many at the beginning too large. NLL is in nats of seconds. "
    "Samples may be of fewer windows than the errors. No factor is applied to ways and stays of "
    "next visits.",
    "Nobody who was judged tells a spread.",
    CALIBRATION_COLUMNS,
)
TOPICS = (FORECASTS, RECOVERIES, TRAVEL_TIMES, NEXT_VISITS, INFILLS)


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
    """The model's last skill: that of the longest horizon, or of all masks.

    What the same weights tell without a memory, or of few entities, has a longer name than theirs.
    """
    last = next((row for row in reversed(rows) if not row["is_baseline"]), {})
    alike = [one for one in rows if all(one[key] == last.get(key) for key in ("mask", "horizon"))]
    ours = (one for one in alike if not one["is_baseline"])
    row = min(ours, key=lambda one: len(one["model"]), default=last)
    if not skill_interval(row):
        return ""
    step = f" at step {step_words(row)}" if row["horizon"] else ""
    bars = [f" over {spoken(one['model'])}" for one in alike if skill_verdict(one) == BAR]
    skill = f"skill {percent(row['skill'])}{bars[0] if bars else ''} ({skill_interval(row)})"
    return f"{spoken(row['model'])}{step}: {skill}, {skill_verdict(row)}"
