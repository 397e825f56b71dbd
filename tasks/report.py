"""Report: what a run found, as one self-contained page, a markdown artifact and figures."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from tasks import pretext
from tasks.config import PipelineConfig, Settings
from tasks.figures import MIN_ENTITIES, cell_map, error_figure, example_map, training_figure
from tasks.scoring import TIMES_GIVEN, TIMES_PREDICTED
from tasks.stage import Job, Stage
from tasks.store import Counts, Receipt, Store, canonical_json, spelt
from tasks.strata import strata_rows

if TYPE_CHECKING:
    from rich.table import Table

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
COLUMNS = ("model", "step", "windows", "ADE", "95 % interval", "p50", "p90", "FDE", "skill")
STRATA_COLUMNS = ("windows are", "", "windows", "entities", "ADE", "best baseline", "ADE", "skill")
TERMINAL_COLUMNS = ("model", "step", "ADE", "95 % interval", "FDE", "skill")
STYLE = """
:root { --ink: #22313f; --line: #e1e7ec; --soft: #f6f8fa; --ours: #d1495b; }
body { margin: 0; color: var(--ink); background: #fff;
       font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p.lead { margin: 0; color: #5b6b7a; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .82rem;
        font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .6rem; text-align: right; white-space: nowrap;
         border-bottom: 1px solid var(--line); }
th { background: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
table.pairs td { text-align: left; white-space: normal; }
table.pairs td:first-child { width: 12rem; color: #5b6b7a; }
tr.ours td { color: var(--ours); font-weight: 600; }
tr.first td { border-top: 2px solid #b8c2cc; }
img { max-width: 100%; height: auto; }
code { font-size: .82rem; word-break: break-all; }
"""


class ReportRules(Settings):
    """What a report says beside the errors."""

    title: str
    licence: str
    citation: str
    homepage: str
    entity_kind: str
    is_personal: bool
    family: str
    preset: str
    num_context: int
    num_horizon: int
    gate_horizon: int
    data_counts: dict[str, int | float | str]


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
        data_counts=dict(data_counts),
    )
    inputs = {"shards": shards, "trained": trained, "evaluated": evaluated, "proved": proved}
    return REPORT(REPORT.job(config.dataset, rules, inputs, store, licence=row.licence))


def build(draft: Path, job: Job[ReportRules]) -> Counts:
    """Draw the figures, then write the page and the markdown."""
    figures = drawn(job)
    for name, content in figures.items():
        (draft / f"{name}.png").write_bytes(content)
    metrics = job.folder("evaluated") / "metrics.parquet"
    (draft / "report.html").write_text(page(job, metrics, figures), encoding="utf-8")
    (draft / "report.md").write_text(markdown(job, metrics), encoding="utf-8")
    return {"figures": len(figures)}


def drawn(job: Job[ReportRules]) -> dict[str, bytes]:
    """The figures by name. Trips of people are never drawn, only cells that many of them share."""
    rules, evaluated = job.settings, job.folder("evaluated")
    figures = {
        "error_by_horizon": error_figure(evaluated / "curve-test.parquet", rules.family, "test"),
        "training": training_figure(job.folder("trained") / "metrics.jsonl"),
    }
    if rules.is_personal:
        drawn_map = cell_map(job.folder("shards"))
    else:
        drawn_map = example_map(evaluated / "examples.parquet", rules.family)
    return figures if drawn_map is None else figures | {"map": drawn_map}


# Tables -----------------------------------------------------------------------------------------


def metric_rows(metrics: Path, split: str, track: str = TIMES_GIVEN) -> list[dict[str, Any]]:
    """The rows of one split and track, by horizon and then from the best forecaster down."""
    rows = pq.read_table(metrics, filters=[("split", "=", split), ("track", "=", track)])
    return sorted(
        rows.to_pylist(), key=lambda row: (row["horizon_steps"], row["ade_m"], row["model"])
    )


def cells_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One row of an error table as text, under `COLUMNS`."""
    return (
        row["model"].replace("_", " "),
        str(row["horizon_steps"]),
        f"{row['num_windows']:,}",
        metres(row["ade_m"]),
        f"{metres(row['ade_low_m'])}–{metres(row['ade_high_m'])}",
        metres(row["ade_p50_m"]),
        metres(row["ade_p90_m"]),
        metres(row["fde_m"]),
        f"{row['skill']:+.1%}",
    )


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
            row["baseline"].replace("_", " "),
            metres(row["baseline_m"]),
            f"{row['skill']:+.1%}",
        )
        for row in rows
    ]


def metres(value_m: float) -> str:
    """Metres with as many digits as a reader can use."""
    return f"{value_m:,.0f}" if abs(value_m) >= 100 else f"{value_m:,.1f}"


def error_table(metrics: Path, split: str, track: str = TIMES_GIVEN) -> str:
    """The errors of a split as a markdown table, in metres."""
    return markdown_table(COLUMNS, [cells_of(row) for row in metric_rows(metrics, split, track)])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(plain, line))} |" for line in lines)


def plain(text: str) -> str:
    """Text that cannot end a markdown cell or start markup."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def summary_table(metrics: Path) -> Table:
    """The test errors for the terminal, times given, in metres."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    rows = metric_rows(metrics, "test")
    names = {row["model"] for row in rows if row["model"] not in SIMPLE}
    num_windows, num_entities = (
        max((row[name] for row in rows), default=0) for name in ("num_windows", "num_entities")
    )
    title = f"{num_windows:,} test windows of {num_entities:,} entities, times given, metres"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in TERMINAL_COLUMNS:
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        is_last = following is None or following["horizon_steps"] != row["horizon_steps"]
        cells = dict(zip(COLUMNS, cells_of(row), strict=True))
        style = "bold" if row["model"] in names else ""
        table.add_row(*(cells[name] for name in TERMINAL_COLUMNS), style=style, end_section=is_last)
    return table


SIMPLE = ("last_position", "constant_velocity", "constant_velocity_3", "damped_velocity")


# Page -------------------------------------------------------------------------------------------


def page(job: Job[ReportRules], metrics: Path, figures: Mapping[str, bytes]) -> str:
    """One HTML page that needs no other file and no network."""
    rules = job.settings
    title = f"{rules.family} {rules.preset} on {rules.title}"
    pictures = {name: picture(content, name) for name, content in figures.items()}
    hidden = f"<p>No cell holds {MIN_ENTITIES} entities, so no map is drawn.</p>"
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="lead">{html.escape(lead(job))}</p>',
        *(f"<p><strong>{html.escape(text)}</strong></p>" for text in warnings_of(job)),
        "<h2>Errors in metres</h2>",
        f"<p>{html.escape(EXPLAINED)}</p>",
        *(
            f"<h3>{split.capitalize()}, {track.replace('_', ' ')}</h3>"
            + html_table(metrics, split, track, rules.family)
            for split, track in (
                ("test", TIMES_GIVEN),
                ("test", TIMES_PREDICTED),
                ("validation", TIMES_GIVEN),
            )
        ),
        f"<h2>{html.escape(strata_heading(rules))}</h2>",
        html_rows(STRATA_COLUMNS, strata_cells(job)),
        "<h2>Error by horizon</h2>",
        pictures["error_by_horizon"],
        "<h2>Training</h2>",
        pictures["training"],
        "<h2>What the encoding keeps</h2>",
        f"<p>{html.escape(KEPT)}</p>",
        html_rows(pretext.COLUMNS, pretext.recovery_cells(job.folder("proved"))),
        "<h2>Map</h2>",
        pictures.get("map", hidden),
        "<h2>Data</h2>",
        html_pairs(data_pairs(job)),
        "<h2>Split</h2>",
        html_pairs(split_pairs(split_counts(job))),
        "<h2>Recipes</h2>",
        html_pairs(recipe_pairs(job)),
    ]
    return document(title, sections)


def document(title: str, sections: Sequence[str]) -> str:
    """A page in our style that may load and run nothing."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


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
    rules = job.settings
    counts = job.receipt("evaluated").counts
    windows = counts.get("test_windows", 0)
    return (
        f"{spelt(windows)} test windows of {rules.num_context} known points and "
        f"{rules.num_horizon} forecast ones, beside simple baselines on the same windows."
    )


def warnings_of(job: Job[ReportRules]) -> list[str]:
    """What a reader must know before any number."""
    is_leaky = split_counts(job).get("is_leaky")
    is_tuned = initial_weights(job.receipt("trained"), job.store)
    return [text for text, holds in ((LEAKY, is_leaky), (INITIALISED, is_tuned)) if holds]


def initial_weights(trained: Receipt, store: Store) -> str:
    """The content that a training went on from; empty if it began with fresh weights."""
    return str(store.manifest(trained).recipe.inputs.get("init", ""))


LEAKY = (
    "Leakage control, not a result: stretches of every trip were drawn at random to train, "
    "validation and test, so models are judged between points that they were trained on."
)


INITIALISED = (
    "Training went on from an earlier model, with that model's normaliser. What that one was "
    "trained on is not known here: it may hold parts of this validation and test."
)


def split_counts(job: Job[ReportRules]) -> Counts:
    """What the shards tell of their split."""
    return job.store.manifest(job.receipt("shards")).counts


def split_pairs(counts: Mapping[str, int | float | str]) -> list[tuple[str, str]]:
    """The kind of a split, its hash, what it leaves out, and what its parts share."""
    return [(words, spelt(counts[name])) for name, words in SPLIT_FACTS.items() if name in counts]


SPLIT_FACTS = {
    "split_kind": "kind",
    "split_hash": "split hash",
    "points_train": "points in train",
    "points_validation": "points in validation",
    "points_test": "points in test",
    "points_purged": "points in no split",
    "windows_with_long_steps": "windows not judged, for a step over two sampling steps",
    "near_duplicates_validation": "validation windows that repeat a run of train",
    "near_duplicates_test": "test windows that repeat a run of train",
}


def strata_heading(rules: ReportRules) -> str:
    return f"Test errors at step {rules.gate_horizon} by what the windows are like"


def html_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose rows begin with a name that is written once; each new name gets a line."""
    lines = [f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in header)}</tr>"]
    before = ""
    for name, *cells in rows:
        kind = "" if name == before else ' class="first"'
        shown = ["" if name == before else name, *cells]
        before = name
        lines.append(f"<tr{kind}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in shown)}</tr>")
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def html_table(metrics: Path, split: str, track: str, family: str) -> str:
    rows = metric_rows(metrics, split, track)
    lines = [f"<tr>{''.join(f'<th>{name}</th>' for name in COLUMNS)}</tr>"]
    before = None
    for row in rows:
        kinds = ["ours"] if row["model"] == family else []
        kinds += ["first"] if row["horizon_steps"] != before else []
        before = row["horizon_steps"]
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells_of(row))
        lines.append(f'<tr class="{" ".join(kinds)}">{cells}</tr>')
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def html_pairs(pairs: Sequence[tuple[str, str]]) -> str:
    lines = [
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>" for name, text in pairs
    ]
    return '<div class="scroll"><table class="pairs">\n' + "\n".join(lines) + "\n</table></div>"


def picture(content: bytes, name: str) -> str:
    encoded = base64.b64encode(content).decode()
    return (
        f'<img alt="{html.escape(name.replace("_", " "))}" src="data:image/png;base64,{encoded}">'
    )


def data_pairs(job: Job[ReportRules]) -> list[tuple[str, str]]:
    """Where the data come from and how much of them was kept."""
    rules = job.settings
    about = [
        ("dataset", rules.title),
        ("licence", rules.licence),
        ("citation", rules.citation),
        ("home page", rules.homepage),
    ]
    counted = rules.data_counts.items()
    return about + [(name.replace("_", " "), spelt(value)) for name, value in counted]


def recipe_pairs(job: Job[ReportRules]) -> list[tuple[str, str]]:
    """The names, in the store, of the steps that led here."""
    shards = job.store.manifest(job.receipt("shards")).recipe.inputs
    before = [
        (name, given if isinstance(given, str) else canonical_json(given))
        for name, given in sorted(shards.items())
        if isinstance(given, str)
    ]
    steps = [(name, job.receipt(name).recipe) for name in ("shards", "trained", "evaluated")]
    init = initial_weights(job.receipt("trained"), job.store)
    return before + steps + ([("initial weights", init)] if init else [])


def markdown(job: Job[ReportRules], metrics: Path) -> str:
    """The report as the artifact that Prefect shows."""
    rules = job.settings
    parts = [
        f"# {plain(f'{rules.family} {rules.preset} on {rules.title}')}",
        lead(job),
        *(f"**{plain(text)}**" for text in warnings_of(job)),
        "## Test errors in metres, times given",
        error_table(metrics, "test"),
        EXPLAINED,
        "## Validation errors in metres, times given",
        error_table(metrics, "validation"),
        f"## {strata_heading(rules)}",
        markdown_table(STRATA_COLUMNS, strata_cells(job)),
        "## Data",
        markdown_table(("fact", "value"), data_pairs(job)),
        "## Split",
        markdown_table(("fact", "value"), split_pairs(split_counts(job))),
        "## Recipes",
        markdown_table(("step", "recipe"), recipe_pairs(job)),
    ]
    return "\n\n".join(parts) + "\n"


REPORT = Stage("report", build)
