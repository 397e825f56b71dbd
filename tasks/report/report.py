"""Report: what a run found, as one self-contained page, a markdown artifact and figures."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.config.judged_tasks import (
    PATH_INFERENCE,
    RECOVER,
    TIMES_GIVEN,
    TIMES_PREDICTED,
    TRAVEL_TIME,
    judged_tasks,
)
from tasks.config.pipeline import PipelineConfig
from tasks.config.slices import ReportRules
from tasks.evaluate.strata import strata_rows
from tasks.pretrain import encoding_probe
from tasks.report.error_tables import (
    ErrorTable,
    duration_tables,
    error_table,
    forecast_table,
    has_rows,
    html_errors,
    markdown_errors,
    recovery_tables,
)
from tasks.report.error_tables import summary_table as summary_table
from tasks.report.facts import (
    data_pairs,
    initial_weights,
    recipes_of,
    split_counts,
    split_pairs,
    warnings_of,
)
from tasks.report.figures import MIN_ENTITIES, cell_map, error_figure, example_map, training_figure
from tasks.report.html_page import document, picture
from tasks.report.markup import html_pairs, html_rows, metres, percent, plain, spoken
from tasks.report.markup import markdown_table as markdown_table
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Receipt, Store, spelt

STRATA_COLUMNS = ("windows are", "", "windows", "entities", "ADE", "best baseline", "ADE", "skill")


def report(
    config: PipelineConfig,
    shards: Receipt,
    trained: Receipt,
    evaluated: Receipt,
    proved: Receipt,
    store: Store,
    data_counts: Mapping[str, int | float | str],
) -> Receipt:
    """The report of a run; `data_counts` are records read, kept and rejected by rule."""
    row = config.source_row
    rules = ReportRules(
        title=row.title,
        licence=row.licence,
        citation=row.citation,
        homepage=row.homepage,
        entity_kind=row.entity_kind,
        is_personal=row.is_personal,
        family=config.model.family,
        preset=config.model.preset,
        num_context=config.window.num_context,
        num_horizon=config.window.num_horizon,
        gate_horizon=config.assess.gate_horizon,
        tasks=config.window.tasks,
        data_counts=dict(data_counts),
        recipes=recipes_of(shards, trained, evaluated, store),
        init=initial_weights(trained, store),
    )
    inputs = {"shards": shards, "trained": trained, "evaluated": evaluated, "proved": proved}
    return REPORT(REPORT.job(config.dataset, rules, inputs, store, licence=row.licence))


def build(draft: Path, job: Job[ReportRules]) -> Counts:
    """Draw the figures, then write the page and the markdown."""
    figures = drawn(job)
    for name, content in figures.items():
        (draft / f"{name}.png").write_bytes(content)
    (draft / "report.html").write_text(page(job, figures), encoding="utf-8")
    (draft / "report.md").write_text(markdown(job), encoding="utf-8")
    return {"figures": len(figures)}


def drawn(job: Job[ReportRules]) -> dict[str, bytes]:
    """The figures by name. Trips of people are never drawn, only cells that many of them share."""
    rules, evaluated = job.settings, job.folder("evaluated")
    figures = {"training": training_figure(job.folder("trained") / "metrics.jsonl")}
    if is_forecasting(job):
        curve = evaluated / "curve-test.parquet"
        figures["error_by_horizon"] = error_figure(curve, rules.family, "test")
    drawn_map = None
    if rules.is_personal:
        drawn_map = cell_map(job.folder("shards"))
    elif is_forecasting(job):
        drawn_map = example_map(evaluated / "examples.parquet", rules.family)
    return figures if drawn_map is None else figures | {"map": drawn_map}


def is_forecasting(job: Job[ReportRules]) -> bool:
    """Whether the family forecasts: a run always stores windows for it."""
    return has_rows(job.folder("evaluated") / "metrics.parquet")


# Tables -----------------------------------------------------------------------------------------


def strata_cells(job: Job[ReportRules]) -> list[tuple[str, ...]]:
    """The test errors by what the windows are like, under `STRATA_COLUMNS`."""
    rules = job.settings
    rows = strata_rows(
        job.folder("evaluated") / "errors.parquet",
        job.folder("shards") / "windows.parquet",
        "test",
        rules.gate_horizon,
        rules.family,
    )
    return [
        (
            row["stratum"],
            row["part"],
            f"{row['num_windows']:,}",
            f"{row['num_entities']:,}",
            metres(row["ade_m"]),
            spoken(row["baseline"]),
            metres(row["baseline_m"]),
            percent(row["skill"]),
        )
        for row in rows
    ]


# Page -------------------------------------------------------------------------------------------


def page(job: Job[ReportRules], figures: Mapping[str, bytes]) -> str:
    """One HTML page that needs no other file and no network."""
    rules = job.settings
    title = f"{rules.family} {rules.preset} on {rules.title}"
    pictures = {name: picture(content, name) for name, content in figures.items()}
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="lead">{html.escape(lead(job))}</p>',
        *(f"<p><strong>{html.escape(text)}</strong></p>" for text in warnings_of(job)),
        *(forecast_sections(job, pictures["error_by_horizon"]) if is_forecasting(job) else ()),
        *other_sections(job),
        "<h2>Training</h2>",
        pictures["training"],
        "<h2>What the encoding keeps</h2>",
        f"<p>{html.escape(KEPT)}</p>",
        html_rows(encoding_probe.COLUMNS, encoding_probe.recovery_cells(job.folder("proved"))),
        *map_section(job, pictures),
        "<h2>Data</h2>",
        html_pairs(data_pairs(job)),
        "<h2>Split</h2>",
        html_pairs(split_pairs(split_counts(job))),
        "<h2>Recipes</h2>",
        html_pairs(list(job.settings.recipes.items())),
    ]
    return document(title, sections)


def forecast_sections(job: Job[ReportRules], curve: str) -> list[str]:
    """The errors of forecasts: by horizon, by track, and by what the windows are like."""
    metrics = job.folder("evaluated") / "metrics.parquet"
    shown = (("test", TIMES_GIVEN), ("test", TIMES_PREDICTED), ("validation", TIMES_GIVEN))
    return [
        "<h2>Errors in metres</h2>",
        f"<p>{html.escape(EXPLAINED)}</p>",
        *(html_errors(forecast_table(metrics, split, track)) for split, track in shown),
        f"<h2>{html.escape(strata_heading(job.settings))}</h2>",
        html_rows(STRATA_COLUMNS, strata_cells(job)),
        "<h2>Error by horizon</h2>",
        curve,
    ]


def other_sections(job: Job[ReportRules]) -> list[str]:
    """The errors of every other task that is judged."""
    return [
        text
        for heading, explained, tables in other_errors(job)
        for text in (
            f"<h2>{html.escape(heading)}</h2>",
            f"<p>{html.escape(explained)}</p>",
            *map(html_errors, tables),
        )
    ]


def map_section(job: Job[ReportRules], pictures: Mapping[str, str]) -> list[str]:
    """The map; of people there is one, or the reason why not, whatever the family serves."""
    if "map" in pictures:
        return ["<h2>Map</h2>", pictures["map"]]
    hidden = f"<p>No cell holds {MIN_ENTITIES} entities, so no map is drawn.</p>"
    return ["<h2>Map</h2>", hidden] if job.settings.is_personal else []


EXPLAINED = (
    "ADE is the mean, FDE the last displacement over the first steps of the horizon. Every "
    "forecaster sees the same stored windows. The interval is a bootstrap over entities; skill is "
    "1 - error / error of the best simple baseline, so below zero is worse than that baseline."
)


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


# Other tasks ------------------------------------------------------------------------------------

Section = tuple[str, str, list[ErrorTable]]


def other_errors(job: Job[ReportRules]) -> list[Section]:
    """(heading, what it means, tables) of recovery and of travel times, where they are asked."""
    rules, folder = job.settings, job.folder("evaluated")
    judged = judged_tasks(rules.family, rules.tasks)
    sections: list[Section] = []
    if set(judged) & {RECOVER, PATH_INFERENCE}:
        tables = [table for split in SPLITS for table in recovery_tables(folder, split)]
        sections.append((RECOVERY_HEADING, RECOVERY_EXPLAINED if tables else NOT_MASKED, tables))
    if TRAVEL_TIME in judged:
        tables = [table for split in SPLITS for table in duration_tables(folder, split)]
        sections.append((DURATION_HEADING, DURATION_EXPLAINED if tables else NO_JOURNEYS, tables))
    return sections


SPLITS = ("test", "validation")
RECOVERY_HEADING = "Recovery errors in metres"
RECOVERY_EXPLAINED = (
    "MAE is the mean over windows of the mean displacement of hidden points, p50 and p90 are over "
    "windows, RMSE is over points. With times given, hidden points show when they were; with times "
    "hidden they show nothing. Linear goes along the great circle between the known neighbours, "
    "Hermite also arrives and leaves as the known points beyond them tell. The interval is a "
    "bootstrap over entities; skill is 1 - error / error of the best of these baselines, so below "
    "zero is worse than that baseline."
)
NOT_MASKED = "Recovery is not judged: no masked windows of validation and test are stored."
DURATION_HEADING = "Travel time errors in seconds"
DURATION_EXPLAINED = (
    "Whole journeys. A path of more points than the model reads is thinned evenly for it, with "
    "both ends kept. Baselines are fitted on journeys of train: distance over mean speed, the mean "
    "between the same two cells at the same hour (else at any hour, else mean speed), and boosted "
    "trees of distance, number of points, hour, weekday and both ends. Where points come at even "
    "intervals, a given path tells its duration by their number. MAPE leaves out journeys that "
    "took no time; within 80 % is the share of journeys between the first and the last decile "
    "told. Skill is 1 - MAE / MAE of the best baseline, so below zero is worse than that baseline."
)
NO_JOURNEYS = (
    "Travel times are not judged: either train holds no whole journey to fit the baselines on, or "
    "neither validation nor test holds one to judge."
)


def strata_heading(rules: ReportRules) -> str:
    return f"Test errors at step {rules.gate_horizon} by what the windows are like"


def markdown(job: Job[ReportRules]) -> str:
    """The report as the artifact that Prefect shows."""
    rules = job.settings
    parts = [
        f"# {plain(f'{rules.family} {rules.preset} on {rules.title}')}",
        lead(job),
        *(f"**{plain(text)}**" for text in warnings_of(job)),
        *(forecast_parts(job) if is_forecasting(job) else ()),
        *(
            text
            for heading, explained, tables in other_errors(job)
            for text in (f"## {heading}", explained, *map(markdown_errors, tables))
        ),
        "## Data",
        markdown_table(("fact", "value"), data_pairs(job)),
        "## Split",
        markdown_table(("fact", "value"), split_pairs(split_counts(job))),
        "## Recipes",
        markdown_table(("step", "recipe"), list(job.settings.recipes.items())),
    ]
    return "\n\n".join(parts) + "\n"


def forecast_parts(job: Job[ReportRules]) -> list[str]:
    metrics = job.folder("evaluated") / "metrics.parquet"
    return [
        "## Test errors in metres, times given",
        error_table(metrics, "test"),
        EXPLAINED,
        "## Validation errors in metres, times given",
        error_table(metrics, "validation"),
        f"## {strata_heading(job.settings)}",
        markdown_table(STRATA_COLUMNS, strata_cells(job)),
    ]


REPORT = Stage("report", build)
