"""Report: what a run found, as one self-contained page and as markdown, in the same order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from model.evaluation.judged_tasks import FORECAST, judged_tasks
from model.families import VISITS, reads, tasks_of
from tasks.config.pipeline import PipelineConfig
from tasks.config.slices import ReportRules, taken
from tasks.prepare.conventions import EXAMPLES_FILE
from tasks.report.calibration import calibration_parts
from tasks.report.charts import Series, line_chart, steps_between
from tasks.report.error_sections import (
    horizon_parts,
    strata_parts,
    topic_parts,
    visit_strata_parts,
)
from tasks.report.error_tables import INFILLS, NEXT_VISITS, RECOVERIES, TRAVEL_TIMES, read_scores
from tasks.report.facts import (
    ENCODING_COLUMNS,
    RunSteps,
    data_pairs,
    encoding_cells,
    split_pairs,
    warnings_of,
)
from tasks.report.figures import MIN_ENTITIES
from tasks.report.first_screen import Subject, first_screen, headline, standings
from tasks.report.generation_tables import generation_parts
from tasks.report.html_page import markdown_text, page, script_text
from tasks.report.markup import escaped, pairs_table
from tasks.report.page_parts import Folded, Html, Part, Picture, Table
from tasks.report.ranking import rankings
from tasks.report.reproducing import command_of, reproducing
from tasks.report.window_map import Window, map_parts, read_windows
from tasks.runtime.stage import Input, Job, Stage
from tasks.runtime.store import Counts, Receipt, sha256_text, spelt
from tasks.runtime.words import counted


def report(
    steps: RunSteps, proved: Receipt | None, data_counts: Mapping[str, int | float | str]
) -> Receipt:
    """The report of a run; `data_counts` are records read, kept and rejected by rule.

    Of people it shows the map of the quality report, if there is one. Of the encoding of visits
    nothing is proved.
    """
    config, row = steps.config, steps.config.source_row
    rules = taken(
        ReportRules,
        *(config.windowing, config.evaluate_rules, config.model, row),
        tasks=judged_tasks_of(config),
        data_counts=dict(data_counts),
        recipes=steps.recipes,
        init=steps.initial_weights,
        preset=config.model.size,
        command=command_of(config),
        script=sha256_text(script_text()),
    )
    inputs: dict[str, Input] = {
        "shards": steps.shards,
        "trained": steps.trained,
        "evaluated": steps.evaluated,
    }
    if proved is not None:
        inputs["proved"] = proved
    if steps.quality is not None:
        inputs["quality"] = steps.quality
    return REPORT(REPORT.job(config.dataset, rules, inputs, steps.store, licence=row.licence))


def judged_tasks_of(config: PipelineConfig) -> tuple[str, ...]:
    """The stored tasks that the family serves."""
    return judged_tasks(tasks_of(config.model.family), config.evaluate_rules.tasks)


def build(draft: Path, job: Job[ReportRules]) -> Counts:
    """Write the page and the markdown."""
    scores = read_scores(job.folder("evaluated"))
    title = f"{job.settings.family} {job.settings.preset} on {job.settings.title}"
    parts = report_parts(title, job, scores)
    (draft / "report.html").write_text(page(title, parts, script_text()), encoding="utf-8")
    (draft / "report.md").write_text(markdown_text(parts), encoding="utf-8")
    return {"windows_drawn": len(drawn_windows(job, scores))}


def subject_of(job: Job[ReportRules]) -> Subject:
    rules = job.settings
    return Subject(
        rules.family,
        rules.entity_kind,
        rules.gate_horizon,
        rules.is_nautical,
        bool(job.receipt("shards").counts.get("is_leaky")),
    )


# Parts ------------------------------------------------------------------------------------------


def report_parts(title: str, job: Job[ReportRules], scores: pa.Table) -> list[str | Part]:
    """All that the report says, in the order in which a reader wants it."""
    rules, subject = job.settings, subject_of(job)
    verdict, *chart = first_screen(scores, subject)
    return [
        f"# {escaped(title)}",
        verdict,
        *(f"**{escaped(text)}**" for text in warnings_of(job)),
        lead(job),
        *chart,
        "## Leaderboard",
        *leaderboard_parts(scores, subject),
        *generation_parts(job.folder("evaluated"), rules.family),
        *error_parts(job, scores, subject),
        *calibration_parts(scores, subject),
        *window_parts(job, scores),
        "## Training",
        training_chart(job.folder("trained") / "metrics.jsonl", nats_of(rules.family)),
        *encoding_parts(job),
        "## Data card",
        Folded("Source and records", [COUNTED, pairs_table(("fact", "value"), data_pairs(job))]),
        Folded("Split", [pairs_table(("fact", "value"), split_pairs(shards_counts(job)))]),
        "## How to reproduce",
        reproducing(rules.command),
        Folded("Recipes", [pairs_table(("step", "recipe"), list(rules.recipes.items()))]),
    ]


def encoding_parts(job: Job[ReportRules]) -> list[str | Part]:
    """What the probe of the encoding found, where there was one."""
    if "proved" not in job.inputs:
        return []
    cells = encoding_cells(job.folder("proved"))
    table = Table("Errors of the probe", ENCODING_COLUMNS, cells)
    return ["## What the encoding keeps", Folded(table.caption, [KEPT, table])]


def leaderboard_parts(scores: pa.Table, subject: Subject) -> list[str | Part]:
    """The ranking of the first task, and those of the others folded."""
    tables = rankings(scores, subject)
    return [*tables[:1], *(Folded(table.caption, [table]) for table in tables[1:])]


def shards_counts(job: Job[ReportRules]) -> Counts:
    return job.receipt("shards").counts


def error_parts(job: Job[ReportRules], scores: pa.Table, subject: Subject) -> list[str | Part]:
    """The errors of each task that the family serves, and of forecasts by what windows are like."""
    tasks, parts = {*job.settings.tasks}, list[str | Part]()
    if FORECAST in tasks:
        parts += horizon_parts(scores, subject)
    for topic in (RECOVERIES, TRAVEL_TIMES, NEXT_VISITS, INFILLS):
        parts += topic_parts(topic, scores) if tasks & {*topic.tasks} else []
    parts += visit_strata_parts(scores, subject)
    if FORECAST in tasks:
        parts += strata_parts(scores, subject)
    return parts


def window_parts(job: Job[ReportRules], scores: pa.Table) -> list[str | Part]:
    """The map of windows; of people there is none, but one of cells that many of them share."""
    if job.settings.is_personal:
        # The map of the quality report shows no cell of fewer than `MIN_ENTITIES`.
        path = job.folder("quality") / "map.png" if "quality" in job.inputs else None
        if path is not None and path.is_file():
            return ["## Map", OF_PEOPLE, Picture("map of shared cells", path.read_bytes())]
        return ["## Map", f"No cell holds {MIN_ENTITIES} entities, so no map is drawn."]
    if FORECAST not in job.settings.tasks:
        return []
    drawn = drawn_windows(job, scores)
    return ["## Worst and typical windows", *map_parts(drawn)] if drawn else []


OF_PEOPLE = (
    f"Of people no trip and no forecast is drawn: the map shows cells that at least {MIN_ENTITIES} "
    "of them share."
)


def drawn_windows(job: Job[ReportRules], scores: pa.Table) -> list[Window]:
    """The stored examples beside the best baseline; of people there are none."""
    rules, subject = job.settings, subject_of(job)
    main = headline(standings(scores, subject), subject)
    if rules.is_personal or FORECAST not in rules.tasks or main is None:
        return []
    path = job.folder("evaluated") / EXAMPLES_FILE
    return read_windows(path, subject.model, main.bar_model, subject.is_nautical)


def nats_of(family: str) -> str:
    """The unit of the loss, by what is told one after the other."""
    return f"nats per target {'visit' if reads(family) == VISITS else 'point'}"


def training_chart(course: Path, nats: str) -> Html:
    """Training and validation loss by step."""
    lines = [json.loads(line) for line in course.read_text().splitlines()]
    names = {"validation_loss": "validation", "loss": "training"}
    series = [
        Series(words, [(line["step"], line[name]) for line in lines if name in line])
        for name, words in names.items()
    ]
    series = [one for one in series if one.points]
    ticks = [(step, f"{step:,.0f}") for step in steps_between(0, lines[-1]["step"])]
    ends = ", ".join(f"{one.name} {one.points[-1][1]:.3g}" for one in series)
    told = f"Loss after {counted(lines[-1]['step'], 'step')}, in {nats}: {ends}."
    labels = ("optimiser step", nats)
    return Html(line_chart("training", "Loss while training", series, ticks, labels, told), told)


KEPT = (
    "Errors of a small network that must tell from the features of a point where and when it was, "
    "counted from the first point of its window; shares are of the window's extent or duration, "
    "whichever is worse. *Features* is this network, *elsewhere* the same on another part of the "
    "Earth, and *with positions* one that also learned with the place in the sequence added: these "
    "must tell it. The others need not: *positions later* adds that place to a network that "
    "learned without, *some hidden* leaves points out, and the *lossy control* lacks the features "
    "that tell it, so that the probe is seen to fail there."
)
COUNTED = (
    "What became of the records, from the files to the points that were kept and their trips; then "
    "the regions, cells of a map that are numbered on train alone, and what lies outside of them."
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
        "test_generate_trips": "trips made up from their starts",
        "test_next_region_windows": "windows whose last visit is asked, region, travel and stay",
        "test_infill_windows": "windows with gaps between visits that are filled",
    }
    told = [f"{spelt(counts[name])} test {text}" for name, text in asked.items() if name in counts]
    return f"{listed(told)}, beside simple baselines on the same windows."


def listed(texts: Sequence[str]) -> str:
    """Texts as a list in a sentence; without any, that there is nothing."""
    first, *others = texts or ["No test windows"]
    return f"{', '.join([first, *others[:-1]])} and {others[-1]}" if others else first


REPORT = Stage("report", build)
