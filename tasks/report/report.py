"""Report: what a run found, as one self-contained page, a markdown artifact and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from model.evaluation.judged_tasks import FORECAST, TIMES_GIVEN, TIMES_PREDICTED, judged_tasks
from model.evaluation.score_table import ALL, Row, wide_rows
from model.evaluation.strata import BARS
from model.families import tasks_of
from tasks.config.pipeline import PipelineConfig
from tasks.config.slices import ReportRules, taken
from tasks.prepare.conventions import EXAMPLES_FILE
from tasks.report.error_tables import (
    CALIBRATION,
    FORECASTS,
    RECOVERIES,
    SKILL_INTERVAL,
    TRAVEL_TIMES,
    VERDICT,
    error_table,
    markdown_errors,
    read_scores,
    skill_interval,
    skill_verdict,
)
from tasks.report.facts import (
    ENCODING_COLUMNS,
    RunSteps,
    data_pairs,
    encoding_cells,
    split_pairs,
    warnings_of,
)
from tasks.report.figures import MIN_ENTITIES, error_figure, example_map, training_figure
from tasks.report.html_page import Picture, markdown_text, page
from tasks.report.markup import (
    escaped,
    grouped,
    markdown_table,
    metres,
    pairs_table,
    percent,
    spoken,
)
from tasks.runtime.stage import Input, Job, Stage
from tasks.runtime.store import Counts, Receipt, spelt

STRATA_COLUMNS = (
    *("windows are", "", "windows", "entities", "ADE", "bar", "ADE", "skill"),
    *(SKILL_INTERVAL, VERDICT),
)


def report(
    steps: RunSteps, proved: Receipt, data_counts: Mapping[str, int | float | str]
) -> Receipt:
    """The report of a run; `data_counts` are records read, kept and rejected by rule.

    Of people it shows the map of the quality report, if there is one.
    """
    config, row = steps.config, steps.config.source_row
    rules = taken(
        ReportRules,
        *(config.windowing, config.evaluate_rules, config.model, row),
        tasks=judged_tasks_of(config),
        data_counts=dict(data_counts),
        recipes=steps.recipes,
        init=steps.initial_weights,
    )
    inputs: dict[str, Input] = {
        "shards": steps.shards,
        "trained": steps.trained,
        "evaluated": steps.evaluated,
        "proved": proved,
    }
    if steps.quality is not None:
        inputs["quality"] = steps.quality
    return REPORT(REPORT.job(config.dataset, rules, inputs, steps.store, licence=row.licence))


def judged_tasks_of(config: PipelineConfig) -> tuple[str, ...]:
    """The stored tasks that the family serves."""
    return judged_tasks(tasks_of(config.model.family), config.windowing.tasks)


def build(draft: Path, job: Job[ReportRules]) -> Counts:
    """Draw the figures, then write the page and the markdown."""
    scores = read_scores(job.folder("evaluated"))
    figures = drawn(job, scores)
    for name, content in figures.items():
        (draft / f"{name}.png").write_bytes(content)
    title = f"{job.settings.family} {job.settings.preset} on {job.settings.title}"
    parts = report_parts(title, job, scores, figures)
    (draft / "report.html").write_text(page(title, parts), encoding="utf-8")
    (draft / "report.md").write_text(markdown_text(parts), encoding="utf-8")
    return {"figures": len(figures)}


def drawn(job: Job[ReportRules], scores: pa.Table) -> dict[str, bytes]:
    """The figures by name. Trips of people are never drawn, only cells that many of them share."""
    rules = job.settings
    figures = {"training": training_figure(job.folder("trained") / "metrics.jsonl")}
    if is_forecasting(job):
        figures["error_by_horizon"] = error_figure(scores, rules.family, "test")
    if rules.is_personal:
        # The map of the quality report shows no cell of fewer than `MIN_ENTITIES`.
        path = job.folder("quality") / "map.png" if "quality" in job.inputs else None
        drawn_map = path.read_bytes() if path is not None and path.is_file() else None
    else:
        forecasts = job.folder("evaluated") / EXAMPLES_FILE
        drawn_map = example_map(forecasts, rules.family) if is_forecasting(job) else None
    return figures if drawn_map is None else figures | {"map": drawn_map}


def is_forecasting(job: Job[ReportRules]) -> bool:
    """Whether the family forecasts: a run always stores windows for it."""
    return FORECAST in job.settings.tasks


# Errors -----------------------------------------------------------------------------------------


def strata_cells(job: Job[ReportRules], scores: pa.Table) -> list[tuple[str, ...]]:
    """The test errors by what the windows are like, under `STRATA_COLUMNS`."""
    found = wide_rows(scores, split="test", task=FORECAST, track=TIMES_GIVEN)
    cells: list[tuple[str, ...]] = []
    for stratum in scores["stratum"].unique().to_pylist():
        rows = [row for row in found if row["stratum"] == stratum]
        if stratum == ALL or not rows:
            continue
        ours = next(row for row in rows if row["model"] == job.settings.family)
        bar = bar_of(stratum, rows)
        name, _, part = stratum.partition(": ")
        cells.append(
            (
                name,
                part,
                f"{ours['num_windows']:,}",
                f"{ours['num_entities']:,}",
                metres(ours["ade_m"]),
                spoken(bar["model"]),
                metres(bar["ade_m"]),
                percent(ours["skill"]),
                skill_interval(ours),
                skill_verdict(ours),
            )
        )
    return cells


def bar_of(stratum: str, rows: Sequence[Row]) -> Row:
    """The baseline that a model is held against: the stratum's own, else the best, which is first.

    The rows are of one stratum, the best answerer first.
    """
    rivals = [row for row in rows if row["is_baseline"]]
    return next((row for row in rivals if row["model"] == BARS.get(stratum)), rivals[0])


# Parts ----------------------------------------------------------------------------------------


def report_parts(
    title: str, job: Job[ReportRules], scores: pa.Table, figures: Mapping[str, bytes]
) -> list[str | Picture]:
    """All that the report says, in the order in which a reader wants it."""
    rules = job.settings
    pictures = {name: Picture(name, content) for name, content in figures.items()}
    return [
        f"# {escaped(title)}",
        lead(job),
        *(f"**{escaped(text)}**" for text in warnings_of(job)),
        *(forecast_parts(job, scores, pictures) if is_forecasting(job) else ()),
        *(
            text
            for topic in (RECOVERIES, TRAVEL_TIMES, CALIBRATION)
            if {*topic.tasks} & {*rules.tasks}
            for text in topic.parts(scores, "test", "validation")
        ),
        "## Training",
        pictures["training"],
        "## What the encoding keeps",
        KEPT,
        markdown_table(ENCODING_COLUMNS, encoding_cells(job.folder("proved"))),
        *map_parts(job, pictures),
        "## Data",
        pairs_table(("fact", "value"), data_pairs(job)),
        "## Split",
        pairs_table(("fact", "value"), split_pairs(job.receipt("shards").counts)),
        "## Recipes",
        pairs_table(("step", "recipe"), list(rules.recipes.items())),
    ]


def forecast_parts(
    job: Job[ReportRules], scores: pa.Table, pictures: Mapping[str, Picture]
) -> list[str | Picture]:
    """The errors of forecasts: by horizon, by track, and by what the windows are like."""
    shown = (("test", TIMES_GIVEN), ("test", TIMES_PREDICTED), ("validation", TIMES_GIVEN))
    tables = [error_table(scores, split, FORECAST, track) for split, track in shown]
    return [
        f"## {FORECASTS.heading}",
        FORECASTS.explained,
        *(markdown_errors(table) for table in tables if table.cells),
        f"## Test errors at step {job.settings.gate_horizon} by what the windows are like",
        markdown_table(STRATA_COLUMNS, grouped(strata_cells(job, scores)), num_names=2),
        "## Error by horizon",
        pictures["error_by_horizon"],
    ]


def map_parts(job: Job[ReportRules], pictures: Mapping[str, Picture]) -> list[str | Picture]:
    """The map; of people there is one, or the reason why not, whatever the family serves."""
    if "map" in pictures:
        return ["## Map", pictures["map"]]
    hidden = f"No cell holds {MIN_ENTITIES} entities, so no map is drawn."
    return ["## Map", hidden] if job.settings.is_personal else []


KEPT = (
    "Errors of a small network that must tell from the features of a point where and when it was, "
    "counted from the first point of its window; shares are of the window's extent or duration, "
    "whichever is worse. The control lacks the features that tell it."
)


def lead(job: Job[ReportRules]) -> str:
    """What was asked of the model, and on how much."""
    rules = job.settings
    counts = job.receipt("evaluated").counts
    asked = {
        "test_windows": f"windows of {rules.num_context} known points and {rules.num_horizon} "
        "forecast ones",
        "test_recover_windows": "masked windows whose hidden points are recovered",
        "test_path_inference_windows": "windows of which the ends alone are known",
        "test_travel_time_windows": "journeys whose travel time is told",
    }
    told = [f"{spelt(counts[name])} test {text}" for name, text in asked.items() if name in counts]
    return f"{listed(told)}, beside simple baselines on the same windows."


def listed(texts: Sequence[str]) -> str:
    """Texts as a list in a sentence; without any, that there is nothing."""
    first, *others = texts or ["No test windows"]
    return f"{', '.join([first, *others[:-1]])} and {others[-1]}" if others else first


REPORT = Stage("report", build)
