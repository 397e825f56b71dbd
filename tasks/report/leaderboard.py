"""Leaderboard: what a benchmark found, as one self-contained page and as markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from model.evaluation.judged_tasks import FORECAST, TRACKS
from model.evaluation.score_table import MAIN_METRICS
from model.evaluation.verdict import AHEAD, ALIKE, BAR, BEHIND, TOO_FEW, verdict
from tasks.config.sections import Section
from tasks.config.suite import Suite
from tasks.evaluate.benchmark import LADDER_FILE, STANDINGS_FILE, rankings_in
from tasks.evaluate.cells import LeftOut, Pace
from tasks.evaluate.opened_cells import Row, grouped
from tasks.prepare.conventions import CELLS_FILE
from tasks.report.coverage_table import COLUMNS, EXPLAINED, coverage_cells, coverage_rows
from tasks.report.error_columns import INTERVAL, SKILL_INTERVAL, VERDICT
from tasks.report.error_tables import TRACK_WORDS
from tasks.report.html_page import page
from tasks.report.ladder_table import (
    EXPLAINED as LADDER_EXPLAINED,
)
from tasks.report.ladder_table import (
    interval_of,
    ladder_parts,
    ladder_table,
    pace_parts,
    place_of,
    terminal_ladder,
)
from tasks.report.markup import escaped, markdown_table, percent, spoken
from tasks.report.units import Unit, unit_of
from tasks.runtime.progress import is_in_run
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Receipt, Store
from tasks.runtime.words import counted

if TYPE_CHECKING:
    from rich.table import Table

CONTROL = "control, leaks"
MIN_DATASETS = 3  # below these a bootstrap over data sets has next to no outcomes
TASK_TITLES = {
    "forecast": "Forecasts",
    "recover": "Hidden points recovered",
    "path_inference": "Paths between two ends",
    "travel_time": "Travel times",
    "next_region": "Regions of next visits",
    "next_travel": "Travel to next visits",
    "next_stay": "Stays of next visits",
    "infill": "Visits in gaps",
}
STANDING_COLUMNS = ("model", "data sets", "win rate", INTERVAL, "skill", SKILL_INTERVAL)
RANKING_COLUMNS = ("model", "error", "skill", SKILL_INTERVAL, "over seeds", VERDICT)
SUMMARY_COLUMNS = ("task", "model", AHEAD, ALIKE, BEHIND, TOO_FEW, "of data sets")
CELL_COLUMNS = ("data", "split", "family", "seed", "recipe of the errors")


class LeaderboardRules(Section):
    """What the page says beside the tables."""

    name: str
    title: str
    data: dict[str, str]
    num_seeds: int
    left_out: tuple[LeftOut, ...]
    paces: tuple[Pace, ...]
    suite: str


def leaderboard(
    suite: Suite,
    made: Receipt,
    left_out: Sequence[LeftOut],
    store: Store,
    paces: Sequence[Pace] = (),
) -> Receipt:
    """The page of a benchmark."""
    rules = LeaderboardRules(
        name=suite.name,
        title=suite.title,
        data={
            data.name: suite.config_of(
                data, suite.splits_of(data)[0], suite.families[0]
            ).source_row.title
            for data in suite.datasets
        },
        num_seeds=len(suite.seeds),
        left_out=tuple(left_out),
        paces=tuple(paces),
        suite=suite.model_dump_json(indent=2),
    )
    licence = store.manifest(made).licence
    return LEADERBOARD(
        LEADERBOARD.job(made.dataset, rules, {"benchmark": made}, store, licence=licence)
    )


def build(draft: Path, job: Job[LeaderboardRules]) -> Counts:
    parts = page_parts(job)
    (draft / "leaderboard.html").write_text(page(job.settings.title, parts), encoding="utf-8")
    (draft / "leaderboard.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return {"left_out": len(job.settings.left_out)}


def rows_in(folder: Path, name: str) -> list[Row]:
    rows: list[Row] = pq.read_table(folder / name, partitioning=None).to_pylist()
    return rows


# Parts ------------------------------------------------------------------------------------------


def page_parts(job: Job[LeaderboardRules]) -> list[str]:
    """All that the page says, in the order in which a reader wants it."""
    rules, folder = job.settings, job.folder("benchmark")
    rankings = rankings_in(folder)
    cells = rows_in(folder, CELLS_FILE)
    ladder = rows_in(folder, LADDER_FILE)
    return [
        f"# {escaped(rules.title)}",
        lead(rankings, cells),
        *(["## Left out", left_out_list(rules.left_out)] if rules.left_out else []),
        "## At a glance",
        GLANCE,
        markdown_table(SUMMARY_COLUMNS, summary_cells(rankings), num_names=2),
        "## Over all data",
        OVER_ALL,
        *standing_parts(rows_in(folder, STANDINGS_FILE)),
        *(
            ["## Step by step", LADDER_EXPLAINED, *ladder_parts(ladder), *pace_parts(rules.paces)]
            if ladder
            else []
        ),
        *(
            part
            for dataset, rows in grouped(rankings, lambda row: row["dataset"]).items()
            for part in dataset_parts(rules.data[dataset], dataset, rows, ladder)
        ),
        "## Calibration",
        EXPLAINED,
        markdown_table(COLUMNS, coverage_cells(coverage_rows(folder)), num_names=3),
        "## How to make it again",
        reproduction(rules),
        markdown_table(CELL_COLUMNS, [cell_words(cell) for cell in cells], num_names=5),
    ]


GLANCE = (
    "On how many data sets the whole interval of a model's skill is above zero, covers zero, so "
    "that the model and the bar cannot be told apart, or is below zero, and on how many there are "
    "too few windows or entities to judge. Controls do not count."
)
OVER_ALL = (
    "The win rate is the share of the other models and baselines that err more, as a mean over "
    "data sets. Skill is 1 - the geometric mean of error / error of the bar. Intervals hold 95 % "
    "of resamples of whole data sets; "
    f"of fewer than {MIN_DATASETS} data sets none is told. Controls do not count."
)


def lead(rankings: Sequence[Row], cells: Sequence[Row]) -> str:
    """One sentence on who is ahead, and how to read what follows."""
    models = [row for row in rankings if not (row["is_baseline"] or row["is_leaky"])]
    ahead = sum(verdict_of(row) == AHEAD for row in models)
    return (
        f"Of {counted(len(models), 'comparison')} with the best baseline, of a model on a task and "
        f"a data set, the model is ahead in {ahead:,}. {counted(len(cells), 'training')} were "
        "judged on test windows that all of them share. Skill is 1 - error / error of the bar, the "
        "best baseline on the same windows; its 95 % interval is paired and draws whole entities."
    )


def left_out_list(left_out: Sequence[LeftOut]) -> str:
    return "\n".join(f"- {escaped(one.what)}: {escaped(one.reason)}" for one in left_out)


def summary_cells(rankings: Sequence[Row]) -> list[tuple[str, ...]]:
    """How often each model is ahead, alike and behind, under `SUMMARY_COLUMNS`."""
    models = [row for row in rankings if not (row["is_baseline"] or row["is_leaky"])]
    cells = []
    for (task, model), rows in grouped(models, lambda row: (row["task"], row["model"])).items():
        found = [verdict_of(row) for row in rows]
        numbers = [found.count(word) for word in (AHEAD, ALIKE, BEHIND, TOO_FEW)]
        told = (f"{number:,}" for number in (*numbers, len(rows)))
        cells.append((TASK_TITLES[task], spoken(model), *told))
    return cells


def standing_parts(rows: Sequence[Row]) -> list[str]:
    """A table of win rates and skills for each task."""
    parts = []
    for task, own in grouped(rows, lambda row: row["task"]).items():
        are_ours = [not row["is_baseline"] for row in own]
        cells = [standing_cells(row) for row in own]
        parts += [f"### {TASK_TITLES[task]}", markdown_table(STANDING_COLUMNS, cells, are_ours)]
    return parts


def standing_cells(row: Row) -> tuple[str, ...]:
    is_told = row["num_datasets"] >= MIN_DATASETS
    between = f"{row['win_low']:.0%} to {row['win_high']:.0%}" if is_told else ""
    return (
        spoken(row["model"]),
        f"{row['num_datasets']:,}",
        f"{row['win_rate']:.0%}",
        between,
        percent(row["skill"]),
        interval_of(row) if is_told else "",
    )


def dataset_parts(
    title: str, dataset: str, rows: Sequence[Row], ladder: Sequence[Row]
) -> list[str]:
    """All that was judged on some data: the honest splits, and the control beside them."""
    name = title if title.startswith(dataset) else f"{dataset}: {title}"
    parts = [f"## {escaped(name)}"]
    for own in grouped(rows, lambda row: (row["task"], row["split_kind"])).values():
        first = own[0]
        unit = unit_of(MAIN_METRICS[first["task"]], max(row["error"] for row in own))
        parts.append(f"### {table_title(first, unit)}")
        parts.append(
            f"{counted(first['num_windows'], 'window')} of "
            f"{counted(first['num_entities'], 'entity')}. The bar: {spoken(first['bar'])}."
        )
        cells, are_ours = (
            [ranking_cells(row, unit) for row in own],
            [not row["is_baseline"] for row in own],
        )
        parts.append(markdown_table(RANKING_COLUMNS, cells, are_ours))
    for place, own in grouped(ladder, place_of).items():
        if own[0]["dataset"] == dataset:
            parts += [f"### Forecasts step by step, {place}", ladder_table(own)]
    return parts


def table_title(row: Row, unit: Unit) -> str:
    """Which task, asked how, in which unit and on which split, and whether it leaks."""
    step = f", step {row['horizon']}" if row["task"] == FORECAST else ""
    asked = TRACK_WORDS[TRACKS[row["task"]][0]]
    split = f"{spoken(row['split_kind'])} split" + (f" ({CONTROL})" if row["is_leaky"] else "")
    return f"{TASK_TITLES[row['task']]}{step}, {unit.sign}, {asked}, {split}"


def ranking_cells(row: Row, unit: Unit) -> tuple[str, ...]:
    return (
        spoken(row["model"]),
        unit.of(row["error"]),
        percent(row["skill"]),
        "" if verdict_of(row) == BAR else interval_of(row),
        seeds_of(row),
        verdict_of(row),
    )


def seeds_of(row: Row) -> str:
    """The least and the greatest skill of a single training."""
    if row["num_seeds"] < 2:
        return ""
    return f"{percent(row['seed_low'])} to {percent(row['seed_high'])}"


def verdict_of(row: Row) -> str:
    bounds = row["low"], row["high"]
    return verdict(row["skill"], *bounds, row["num_windows"], row["num_entities"])


def reproduction(rules: LeaderboardRules) -> str:
    return (
        f"`trajfoundry benchmark --suite {rules.name}`, with `--source-folder` where data are not "
        "embedded, of this suite; a recipe names a finished step in the store, and the same code, "
        f"data and settings give the same.\n\n```json\n{rules.suite}\n```"
    )


def cell_words(cell: Row) -> tuple[str, ...]:
    names = (cell["dataset"], spoken(cell["split_kind"]), spoken(cell["family"]))
    return (*names, str(cell["seed"]), cell["recipe"])


# Elsewhere --------------------------------------------------------------------------------------


def terminal_tables(made: Path, paces: Sequence[Pace] = ()) -> list[Table]:
    """The models' skills on every task, for the terminal; of the baselines the bar alone."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = []
    for task, rows in grouped(rankings_in(made), lambda row: row["task"]).items():
        table = Table(title=TASK_TITLES[task], box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in ("data", "model", "skill", SKILL_INTERVAL, VERDICT):
            table.add_column(name, no_wrap=True)
        for row in (row for row in rows if not row["is_baseline"]):
            told = (percent(row["skill"]), interval_of(row), verdict_of(row))
            table.add_row(place_of(row), row["model"], *told)
        shown.append(table)
    ladder = rows_in(made, LADDER_FILE)
    return [*shown, terminal_ladder(ladder, paces)] if ladder else shown


def show_leaderboard(made: Receipt, store: Store) -> None:
    """Leave the page beside the flow run; without one there is nothing to leave it beside."""
    if not is_in_run():
        return
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(
        (store.sound(made) / "leaderboard.md").read_text(encoding="utf-8"),
        key=f"{made.dataset.replace('_', '-')}-leaderboard",
        description="Who is ahead of the best baseline on which data.",
    )


LEADERBOARD = Stage("leaderboard", build)
