"""First screen: what a run found in one sentence and one chart, the same wherever it is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from model.evaluation.judged_tasks import (
    ENDS,
    FORECAST,
    INFILL,
    NEXT_REGION,
    NEXT_STAY,
    NEXT_TRAVEL,
    PATH_GIVEN,
    PATH_INFERENCE,
    RECOVER,
    TOLD_AFTERWARDS,
    TRACKS,
    TRAVEL_TIME,
)
from model.evaluation.score_table import ALL, MAIN_METRICS
from model.evaluation.verdict import AHEAD, BAR, BEHIND, TOO_FEW
from tasks.report.charts import ChartRow, Mark, skill_chart
from tasks.report.error_columns import INTERVAL, VERDICT, Row, skill_interval, skill_verdict
from tasks.report.error_tables import TASK_WORDS, TRACK_WORDS, readable_rows
from tasks.report.markup import escaped, percent, spoken
from tasks.report.page_parts import Folded, Html, Part, Table
from tasks.report.units import NAT, PERCENT, distance, duration
from tasks.runtime.words import counted, plural_of

SPLIT = "test"
EACH_MASK = "the best baseline of each mask"
# What is said of a model that is ahead, behind, or neither, by the task that it was judged on.
CLAIMS = {
    FORECAST: ("forecasts {} better than", "forecasts {} worse than", "in forecasts of {}"),
    RECOVER: (
        "recovers hidden points of {} better than",
        "recovers hidden points of {} worse than",
        "in recovering hidden points of {}",
    ),
    PATH_INFERENCE: (
        "infers paths of {} better than",
        "infers paths of {} worse than",
        "in inferring paths of {}",
    ),
    TRAVEL_TIME: (
        "tells travel times of {} better than",
        "tells travel times of {} worse than",
        "in travel times of {}",
    ),
    NEXT_REGION: (
        "tells the next region of {} better than",
        "tells the next region of {} worse than",
        "in next regions of {}",
    ),
    NEXT_TRAVEL: (
        "tells the next travel of {} better than",
        "tells the next travel of {} worse than",
        "in next travels of {}",
    ),
    NEXT_STAY: (
        "tells the next stay of {} better than",
        "tells the next stay of {} worse than",
        "in next stays of {}",
    ),
    INFILL: (
        "fills gaps between visits of {} better than",
        "fills gaps between visits of {} worse than",
        "in gaps between visits of {}",
    ),
}
ASKED_ALONE = {NEXT_REGION, NEXT_TRAVEL, NEXT_STAY, INFILL}  # each is asked in one way
UNITS = {"nll": NAT, MAIN_METRICS[INFILL]: PERCENT}  # of neither metres nor seconds
BRIEFLY = {ENDS: "ends given", PATH_GIVEN: "path given"}  # for a phone is narrow
EXPLAINED = (
    "Skill is 1 - error / error of the best baseline on the same windows, chosen by validation for "
    "each horizon or task by itself: right of the line is better than that baseline, left of it "
    "worse. The stroke through a dot is its 95 % interval, a paired bootstrap over entities; where "
    "it crosses the line, the two cannot be told apart."
)
CHART_COLUMNS = ("asked", "model", "best baseline", "its error", "skill", INTERVAL, VERDICT)


@dataclass(frozen=True)
class Subject:
    """Whom a report is about, and what decides how it is told."""

    model: str
    kind: str  # of what moves
    gate_horizon: int
    is_nautical: bool = False
    is_leaky: bool = False

    @property
    def kinds(self) -> str:
        return plural_of(self.kind)


@dataclass(frozen=True)
class Standing:
    """The model beside the best baseline by validation, on the same windows of test."""

    asked: str
    ours: Row
    bar: str
    bar_error: float
    is_nautical: bool
    bar_model: str = ""  # the best baseline of all windows together
    is_first: bool = True  # whether no baseline errs less here, chosen or not

    @property
    def verdict(self) -> str:
        return skill_verdict(self.ours)

    @property
    def error(self) -> str:
        return self.spelt(self.ours[self.ours["main"]])

    @property
    def bar_words(self) -> str:
        return self.spelt(self.bar_error)

    def spelt(self, value: float) -> str:
        """An error in a sentence."""
        main = self.ours["main"]
        if main in UNITS:
            return f"{UNITS[main].of(value)} {UNITS[main].sign}"
        is_time = main.endswith("_s")
        return duration(value) if is_time else distance(value, self.is_nautical)

    @property
    def mark(self) -> Mark:
        kind = {AHEAD: "ahead", BEHIND: "behind"}.get(self.verdict, "alike")
        skill = self.ours["skill"]
        low, high = (self.ours.get(f"skill_{end}") for end in ("low", "high"))
        return Mark(skill, skill if low is None else low, skill if high is None else high, kind)

    @property
    def chart_row(self) -> ChartRow:
        """The row of a chart, which a phone has to hold: with one unit, and the verdict in words
        for those who cannot see its colour.
        """
        told = replace(self, is_nautical=False)
        below = f"{told.error}, {self.bar} {told.bar_words}"
        return ChartRow(self.asked, percent(self.ours["skill"]), below, [self.mark], self.verdict)

    @property
    def cells(self) -> tuple[str, ...]:
        skill = percent(self.ours["skill"])
        interval = skill_interval(self.ours)
        return (self.asked, self.error, self.bar, self.bar_words, skill, interval, self.verdict)


# Standings --------------------------------------------------------------------------------------


def standings(scores: pa.Table, subject: Subject) -> list[Standing]:
    """Where the model stands on test: by horizon, then on each other task and track."""
    return [
        standing
        for task, tracks in TRACKS.items()
        for track in (tracks[:1] if task == FORECAST else tracks)
        for standing in standings_of(scores, subject, task, track)
    ]


def standings_of(scores: pa.Table, subject: Subject, task: str, track: str) -> Iterator[Standing]:
    rows = readable_rows(scores, SPLIT, task, track)
    # Some masks, and all of them together.
    has_masks = len({row["mask"] for row in rows}) > 2 and task not in TOLD_AFTERWARDS
    whole = [row for row in rows if row["mask"] == ALL]
    for horizon in dict.fromkeys(row["horizon"] for row in whole):
        alike = [row for row in whole if row["horizon"] == horizon]
        ours = next((row for row in alike if row["model"] == subject.model), None)
        rivals = [row for row in alike if row["is_baseline"]]
        if ours is None or not rivals or "skill" not in ours:
            continue
        error, errors = ours[ours["main"]], [row[row["main"]] for row in rivals]
        # The bar was chosen by validation, and on test another may have outdone it.
        best = next((row for row in rivals if skill_verdict(row) == BAR), rivals[0])
        bar_error = best[best["main"]]
        if has_masks and ours["skill"] != 1:
            bar_error = error / (1 - ours["skill"])
        yield Standing(
            asked_words(ours),
            ours,
            EACH_MASK if has_masks else spoken(best["model"]),
            bar_error,
            subject.is_nautical,
            best["model"],
            error < min(errors),
        )


def asked_words(row: Row) -> str:
    """What was asked: how far ahead, or which task and what of it was given."""
    if row["task"] == FORECAST:
        step = counted(row["horizon"], "step")
        return f"{row['after']} ({step})" if row["after"] else step
    given = BRIEFLY.get(row["track"], TRACK_WORDS[row["track"]])
    words = TASK_WORDS[row["task"]]
    return words if row["task"] in ASKED_ALONE else f"{words}, {given}"


def headline(found: Sequence[Standing], subject: Subject) -> Standing | None:
    """The standing that the sentence is about: at the step of the gate, else the first."""
    gate = (one for one in found if one.ours["horizon"] == subject.gate_horizon)
    return next(gate, found[0] if found else None)


# Words ------------------------------------------------------------------------------------------


def sentence(found: Sequence[Standing], subject: Subject) -> str:
    """The verdict, with the numbers that it rests on."""
    return ": ".join(filter(None, claim_and_numbers(found, subject))) + "."


def claim_and_numbers(found: Sequence[Standing], subject: Subject) -> tuple[str, str]:
    """What may be said of a model, and why; without a standing, that there is nothing to say."""
    main, name = headline(found, subject), spoken(subject.model)
    if main is None:
        return f"{name} was judged on no window", ""
    ours = main.ours
    better, worse, between = (text.format(subject.kinds) for text in CLAIMS[ours["task"]])
    claims = {
        AHEAD: f"{name} {better} {'every baseline' if main.is_first else main.bar}",
        BEHIND: f"{name} {worse} {main.bar}",
        TOO_FEW: f"Too little data to judge {name} {between}",
    }
    claim = claims.get(main.verdict, f"{name} cannot be told apart from {main.bar} {between}")
    windows = counted(ours["num_windows"], f"{SPLIT} window")
    is_surprise = ours["main"] == "nll"
    off = "its surprise is" if is_surprise else "it is off by"
    bar = f"that of {main.bar}" if is_surprise else f"{main.bar} by"
    return (
        f"Leakage control, not a result: {claim}" if subject.is_leaky else claim,
        f"{reach(main)} {off} {main.error} on average, {bar} {main.bar_words}, a skill of "
        f"{percent(ours['skill'])} (95 % interval {skill_interval(ours)}; {windows} of "
        f"{counted(ours['num_entities'], subject.kind)})",
    )


def reach(main: Standing) -> str:
    """How far, or of what, the error of a sentence is."""
    row = main.ours
    if row["task"] != FORECAST:
        return f"with {TRACK_WORDS[row['track']]}"
    steps = f"{counted(row['horizon'], 'step')}"
    return f"over the next {row['after']} ({steps})" if row["after"] else f"over {steps}"


def first_screen(scores: pa.Table, subject: Subject) -> list[str | Part]:
    """The sentence, the chart, and its numbers as a table."""
    found = standings(scores, subject)
    claim, *numbers = map(escaped, filter(None, claim_and_numbers(found, subject)))
    told: list[str | Part] = [f"**{': '.join([f'{claim}**', *numbers])}."]
    if not found:
        return told
    rows = [one.chart_row for one in found]
    title = f"Skill of {spoken(subject.model)} against the best baseline"
    chart = skill_chart("skill", title, rows, "best baseline")
    table = Table(title, CHART_COLUMNS, [one.cells for one in found])
    tables: list[str | Part] = [table, EXPLAINED]
    return [*told, Html(chart), Folded("The chart as a table, and how to read it", tables)]
