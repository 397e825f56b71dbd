"""Tables of errors as people read them: HTML, markdown and the terminal, from the same rows."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from tasks.config.judged_tasks import TIMES_GIVEN
from tasks.evaluate.recovery_scores import EVERY_MASK, TRACKS_OF, mask_order
from tasks.evaluate.travel_time_scores import TRACKS as DURATION_TRACKS

if TYPE_CHECKING:
    from rich.table import Table
from tasks.report.markup import bold, markdown_table, metres, percent, plain, seconds, share, spoken

INTERVAL = "95 % interval"
COLUMNS = ("model", "step", "windows", "ADE", INTERVAL, "p50", "p90", "FDE", "skill")
TERMINAL_COLUMNS = ("model", "step", "ADE", INTERVAL, "FDE", "skill")
RECOVERY_COLUMNS = ("model", "hidden", "windows", "MAE", INTERVAL, "p50", "p90", "RMSE", "skill")
DURATION_COLUMNS = ("model", "windows", "MAE", INTERVAL, "RMSE", "MAPE", "within 80 %", "skill")
LEFT_OUT = ("p50", "p90", "RMSE", "MAPE")  # of the terminal, for they do not fit
SIMPLE = (
    *("last_position", "constant_velocity", "constant_velocity_3", "damped_velocity"),
    *("linear", "hermite", "mean_speed", "od_hour", "boosting"),
)
TRACK_WORDS = {
    "times_given": "times given",
    "times_hidden": "times hidden",
    "times_predicted": "times predicted",
    "ends": "origin, destination and departure given",
    "path_given": "path and departure given",
}
TASK_WORDS = {"recover": "hidden points recovered", "path_inference": "paths between two ends"}


@dataclass(frozen=True)
class Line:
    """One row of a table as text; `group` changes where a reader wants a line between rows."""

    cells: tuple[str, ...]
    group: str
    is_ours: bool


@dataclass(frozen=True)
class ErrorTable:
    """Errors of one split, task and track: ours and the baselines', the best first."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


# Rows -------------------------------------------------------------------------------------------


def has_rows(table: Path) -> bool:
    """Whether a stored table holds anything: it is empty where a task is not judged."""
    return bool(pq.read_metadata(table).num_rows)


def metric_rows(metrics: Path, split: str, track: str = TIMES_GIVEN) -> list[dict[str, Any]]:
    """The rows of one split and track, by horizon and then from the best forecaster down."""
    rows = pq.read_table(metrics, filters=[("split", "=", split), ("track", "=", track)])
    return sorted(
        rows.to_pylist(), key=lambda row: (row["horizon_steps"], row["ade_m"], row["model"])
    )


def forecast_table(metrics: Path, split: str, track: str = TIMES_GIVEN) -> ErrorTable:
    """The errors of forecasts in metres, by horizon."""
    rows = metric_rows(metrics, split, track)
    lines = [line_of(row, cells_of(row), str(row["horizon_steps"])) for row in rows]
    return ErrorTable(f"{split.capitalize()}, {TRACK_WORDS[track]}", COLUMNS, tuple(lines))


def recovery_tables(folder: Path, split: str) -> list[ErrorTable]:
    """The errors of recovery in metres, by mask: a table for each task and track that was asked."""
    asked = [(task, track) for task, tracks in TRACKS_OF.items() for track in tracks]
    tables = []
    for task, track in asked:
        rows = asked_rows(folder / "recovery.parquet", split, task=task, track=track)
        if len({row["mask"] for row in rows}) == 2:  # one mask, and the same again as all
            rows = [row for row in rows if row["mask"] != EVERY_MASK]
        rows.sort(key=lambda row: (mask_order(row["mask"]), row["mae_m"], row["model"]))
        lines = [line_of(row, recovery_cells(row), row["mask"]) for row in rows]
        title = f"{split.capitalize()}, {TASK_WORDS[task]}, {TRACK_WORDS[track]}"
        tables += [ErrorTable(title, RECOVERY_COLUMNS, tuple(lines))] if lines else []
    return tables


def duration_tables(folder: Path, split: str) -> list[ErrorTable]:
    """The errors of travel times: a table for each track."""
    tables = []
    for track in DURATION_TRACKS:
        rows = asked_rows(folder / "durations.parquet", split, track=track)
        rows.sort(key=lambda row: (row["mae_s"], row["model"]))
        lines = [line_of(row, duration_cells(row), "") for row in rows]
        title = f"{split.capitalize()}, travel time, {TRACK_WORDS[track]}"
        tables += [ErrorTable(title, DURATION_COLUMNS, tuple(lines))] if lines else []
    return tables


def asked_rows(table: Path, split: str, **wanted: str) -> list[dict[str, Any]]:
    filters = [(name, "=", value) for name, value in {"split": split, **wanted}.items()]
    rows: list[dict[str, Any]] = pq.read_table(table, filters=filters).to_pylist()
    return rows


def line_of(row: Mapping[str, Any], cells: tuple[str, ...], group: str) -> Line:
    return Line(cells, group, row["model"] not in SIMPLE)


def cells_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One row of forecasts as text, under `COLUMNS`."""
    return (
        spoken(row["model"]),
        str(row["horizon_steps"]),
        f"{row['num_windows']:,}",
        metres(row["ade_m"]),
        f"{metres(row['ade_low_m'])}–{metres(row['ade_high_m'])}",
        metres(row["ade_p50_m"]),
        metres(row["ade_p90_m"]),
        metres(row["fde_m"]),
        percent(row["skill"]),
    )


def recovery_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One row of recovery as text, under `RECOVERY_COLUMNS`."""
    return (
        spoken(row["model"]),
        mask_words(row["mask"]),
        f"{row['num_windows']:,}",
        metres(row["mae_m"]),
        f"{metres(row['mae_low_m'])}–{metres(row['mae_high_m'])}",
        metres(row["mae_p50_m"]),
        metres(row["mae_p90_m"]),
        metres(row["rmse_m"]),
        percent(row["skill"]),
    )


def duration_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One row of travel times as text, under `DURATION_COLUMNS`."""
    return (
        spoken(row["model"]),
        f"{row['num_windows']:,}",
        seconds(row["mae_s"]),
        f"{seconds(row['mae_low_s'])}–{seconds(row['mae_high_s'])}",
        seconds(row["rmse_s"]),
        share(row["mape"]),
        share(row["coverage_80"]),
        percent(row["skill"]),
    )


def mask_words(mask: str) -> str:
    """What a mask hides, in words."""
    kind, _, number = mask.rpartition("_")
    words = {"keep_1": f"all but 1/{number}", "block": f"a block of {number}"}
    whole = {"ends": "all but the ends", "all": "any of these"}
    return words.get(kind, whole.get(mask, spoken(mask)))


# Markdown ---------------------------------------------------------------------------------------


def error_table(metrics: Path, split: str, track: str = TIMES_GIVEN) -> str:
    """The forecast errors of a split as a markdown table, in metres."""
    table = forecast_table(metrics, split, track)
    return markdown_table(table.columns, [line.cells for line in table.lines])


def markdown_errors(table: ErrorTable) -> str:
    """A table under its title, with ours in bold."""
    lines = [
        "| " + " | ".join(bold(cell) if line.is_ours else plain(cell) for cell in line.cells) + " |"
        for line in table.lines
    ]
    return "\n".join([f"### {table.title}\n", markdown_table(table.columns, []), *lines])


# HTML -------------------------------------------------------------------------------------------


def html_errors(table: ErrorTable) -> str:
    """A table under its title; ours is marked, and each group begins with a line."""
    lines = [f"<tr>{''.join(f'<th>{name}</th>' for name in table.columns)}</tr>"]
    before = None
    for line in table.lines:
        kinds = ["ours"] if line.is_ours else []
        kinds += ["first"] if line.group != before else []
        before = line.group
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in line.cells)
        lines.append(f'<tr class="{" ".join(kinds)}">{cells}</tr>')
    body = '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"
    return f"<h3>{html.escape(table.title)}</h3>{body}"


# Terminal ---------------------------------------------------------------------------------------


def summary_tables(folder: Path) -> list[Table]:
    """The test errors of every task that was judged, for the terminal."""
    metrics = folder / "metrics.parquet"
    tables = [summary_table(metrics)] if has_rows(metrics) else []
    for found in (*recovery_tables(folder, "test"), *duration_tables(folder, "test")):
        unit = "metres" if found.columns == RECOVERY_COLUMNS else "seconds"
        shown = tuple(name for name in found.columns if name not in LEFT_OUT)
        tables.append(terminal_table(f"{found.title}, {unit}", found, shown))
    return tables


def summary_table(metrics: Path) -> Table:
    """The test errors of forecasts for the terminal, times given, in metres."""
    rows = metric_rows(metrics, "test")
    num_windows, num_entities = (
        max((row[name] for row in rows), default=0) for name in ("num_windows", "num_entities")
    )
    title = f"{num_windows:,} test windows of {num_entities:,} entities, times given, metres"
    return terminal_table(title, forecast_table(metrics, "test"), TERMINAL_COLUMNS)


def terminal_table(title: str, errors: ErrorTable, shown: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in shown:
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    for line, following in zip(errors.lines, [*errors.lines[1:], None], strict=True):
        is_last = following is None or following.group != line.group
        cells = dict(zip(errors.columns, line.cells, strict=True))
        style = "bold" if line.is_ours else ""
        table.add_row(*(cells[name] for name in shown), style=style, end_section=is_last)
    return table
