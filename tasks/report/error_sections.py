"""Sections of errors in a report: by horizon, by what windows are like, and of the other tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.judged_tasks import FORECAST, TIMES_GIVEN, TIMES_PREDICTED, TRACKS
from model.evaluation.score_table import ALL, MAIN_METRICS, Row, chosen_rows, wide_rows
from model.evaluation.strata import BARS
from tasks.report.charts import (
    ChartRow,
    Second,
    Series,
    line_chart,
    skill_chart,
)
from tasks.report.error_columns import SKILL_INTERVAL, VERDICT, skill_interval, skill_verdict
from tasks.report.error_tables import (
    FORECASTS,
    NEXT_VISITS,
    NOUNS,
    TASK_WORDS,
    Topic,
    elapsed_of,
    error_table,
)
from tasks.report.first_screen import SPLIT, Standing, Subject
from tasks.report.markup import grouped, percent, spoken
from tasks.report.page_parts import Folded, Html, Part, Table
from tasks.report.units import (
    METRE,
    NAUTICAL_MILE,
    Unit,
    distance_unit,
    spelt_horizons,
    unit_of,
)

HOW = "How to read this"
MAX_RIVALS = 5  # more lines than that nobody tells apart
STRATA_COLUMNS = (
    *("windows are", "", "windows", "entities", "error", "bar", "error", "skill"),
    *(SKILL_INTERVAL, VERDICT),
)


def topic_parts(topic: Topic, scores: pa.Table) -> list[str | Part]:
    """The tables of a topic under its heading, explained; of test and validation."""
    tables = topic.tables(scores, SPLIT, "validation")
    folded = [Folded(table.caption, [table.part]) for table in tables]
    explained = Folded(HOW, [topic.explained]) if tables else topic.unjudged
    return [f"## {topic.heading}", explained, *folded]


# Forecasts --------------------------------------------------------------------------------------


def horizon_parts(scores: pa.Table, subject: Subject) -> list[str | Part]:
    """How far forecasts are off by horizon, and the tables of each split and track."""
    shown = ((SPLIT, TIMES_GIVEN), (SPLIT, TIMES_PREDICTED), ("validation", TIMES_GIVEN))
    tables = [
        error_table(scores, split, FORECAST, track, is_nautical=subject.is_nautical)
        for split, track in shown
    ]
    return [
        f"## {FORECASTS.heading}",
        Folded(HOW, [FORECASTS.explained]),
        *horizon_charts(scores, subject),
        *(Folded(table.caption, [table.part]) for table in tables if table.cells),
    ]


def horizon_charts(scores: pa.Table, subject: Subject) -> list[Part]:
    """The mean displacement at each step, beside the best baselines."""
    rows = chosen_rows(scores, split=SPLIT, metric="displacement_m", stratum=ALL)
    points: dict[str, list[tuple[float, float]]] = {}
    for row in sorted(rows, key=lambda row: row["horizon"]):
        points.setdefault(row["model"], []).append((row["horizon"], row["value"]))
    if subject.model not in points:
        return []
    best_last = sorted(points, key=lambda name: (points[name][-1][1], name))
    rivals = [name for name in best_last if name != subject.model]
    names = [subject.model, *rivals[:MAX_RIVALS]]
    series = {name: points[name] for name in names}
    return [Html(horizon_chart(series, spelt_horizons(elapsed_of(scores, SPLIT)), subject))]


def horizon_chart(
    series: dict[str, list[tuple[float, float]]], after: dict[int, str], subject: Subject
) -> str:
    """In kilometres or metres; at sea, ticks in nautical miles too."""
    unit = distance_unit(series[subject.model][-1][1])
    ticks = tick_steps([int(step) for step, _ in series[subject.model]])
    is_nautical = subject.is_nautical and unit is not METRE
    lines = [
        Series(spoken(name), [(step, value_m / unit.size) for step, value_m in points])
        for name, points in series.items()
    ]
    last = ", ".join(f"{line.name} {unit.of(unit.size * line.points[-1][1])}" for line in lines)
    return line_chart(
        "errors",
        f"Mean distance between forecast and truth, {unit.sign}",
        lines,
        [(step, after.get(step, str(step))) for step in ticks],
        ("after the last known point" if after else "steps ahead", unit.sign),
        f"After {after.get(ticks[-1], f'{ticks[-1]} steps')}, in {unit.sign}: {last}.",
        Second(NAUTICAL_MILE.sign, unit.size / NAUTICAL_MILE.size) if is_nautical else None,
    )


def tick_steps(steps: Sequence[int], number: int = 5) -> list[int]:
    """Some of the steps, the last among them."""
    stride = max(1, round(len(steps) / number))
    return sorted(steps[::-1][::stride])


# Strata -----------------------------------------------------------------------------------------


def strata_parts(scores: pa.Table, subject: Subject) -> list[str | Part]:
    """The test errors by what the windows are like, at the step of the gate."""
    after = spelt_horizons(elapsed_of(scores, SPLIT)).get(subject.gate_horizon)
    step = f"step {subject.gate_horizon}{f' ({after})' if after else ''}"
    heading = f"## Test errors at {step} by what the windows are like"
    parts = strata_of(scores, subject, FORECAST)
    return [heading, *([STRATA_EXPLAINED, *parts] if parts else ["No stratum was judged."])]


STRATA_EXPLAINED = (
    "The bar is the best baseline of the same windows; where windows are at rest it is staying "
    "there, whichever baseline is best."
)


def visit_strata_parts(scores: pa.Table, subject: Subject) -> list[str | Part]:
    """The test errors of next visits by how much is known before them."""
    parts = [part for task in NEXT_VISITS.tasks for part in strata_of(scores, subject, task)]
    return ["## Next visits by what is known before them", VISIT_STRATA, *parts] if parts else []


VISIT_STRATA = (
    "*History* is how many visits before it are known, *last stay* how long the last of them was. "
    "The bar is the best baseline of the same windows."
)


def strata_of(scores: pa.Table, subject: Subject, task: str) -> list[str | Part]:
    """A chart and a folded table of the strata of a task; nothing where there are none."""
    pairs = strata_pairs(scores, subject, task)
    if not pairs:
        return []
    unit = unit_of(MAIN_METRICS[task], max(ours[ours["main"]] for ours, _ in pairs))
    named = Counter(name_of(ours) for ours, _ in pairs)  # one part alone is the whole again
    rows = [stratum_row(ours, bar) for ours, bar in pairs if named[name_of(ours)] > 1]
    of_task = "" if task == FORECAST else f" in the {TASK_WORDS[task]}"
    title = f"Skill of {spoken(subject.model)}{of_task} by what the windows are like"
    name = "strata" if task == FORECAST else f"strata_{task}"
    chart = skill_chart(name, title, rows, "the bar")
    cells = grouped([stratum_cells(ours, bar, unit) for ours, bar in pairs])
    about = "" if task == FORECAST else f", {TASK_WORDS[task]}"
    noun = NOUNS[MAIN_METRICS[task]]
    columns = [noun if name == "error" else name for name in STRATA_COLUMNS]
    table = Table(f"Strata of test windows{about}, {unit.sign}", columns, cells, num_names=2)
    return [Html(chart), Folded(table.caption, [table])]


def strata_pairs(scores: pa.Table, subject: Subject, task: str) -> list[tuple[Row, Row]]:
    """The model and its bar in each stratum."""
    found = wide_rows(scores, split=SPLIT, task=task, track=TRACKS[task][0])
    pairs = []
    own = scores.filter(pc.and_(pc.equal(scores["split"], SPLIT), pc.equal(scores["task"], task)))
    for stratum in own["stratum"].unique().to_pylist():
        rows = [row for row in found if row["stratum"] == stratum]
        ours = next((row for row in rows if row["model"] == subject.model), None)
        if stratum != ALL and ours is not None:
            pairs.append((ours, bar_of(stratum, rows)))
    return pairs


def bar_of(stratum: str, rows: Sequence[Row]) -> Row:
    """The baseline that a model is held against: the stratum's own, else the best, which is first.

    The rows are of one stratum, the best answerer first.
    """
    rivals = [row for row in rows if row["is_baseline"]]
    return next((row for row in rivals if row["model"] == BARS.get(stratum)), rivals[0])


def name_of(row: Row) -> str:
    """What a stratum parts windows by."""
    return str(row["stratum"].partition(": ")[0])


def stratum_row(ours: Row, bar: Row) -> ChartRow:
    bar_error = bar[bar["main"]]
    return Standing(ours["stratum"], ours, spoken(bar["model"]), bar_error, False).chart_row


def stratum_cells(ours: Row, bar: Row, unit: Unit) -> tuple[str, ...]:
    name, _, part = ours["stratum"].partition(": ")
    return (
        *(name, part, f"{ours['num_windows']:,}", f"{ours['num_entities']:,}"),
        *(unit.of(ours[ours["main"]]), spoken(bar["model"]), unit.of(bar[bar["main"]])),
        *(percent(ours["skill"]), skill_interval(ours), skill_verdict(ours)),
    )
