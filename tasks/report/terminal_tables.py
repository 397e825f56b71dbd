"""Terminal tables: the test errors of a run, for the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.report.error_columns import SKILL_INTERVAL, VERDICT
from tasks.report.error_tables import FORECASTS, TOPICS, ErrorTable, read_scores
from tasks.runtime.words import counted

if TYPE_CHECKING:
    from rich.table import Table

# They do not fit.
LEFT_OUT = ("windows", "p50", "p90", "RMSE", "MAPE", SKILL_INTERVAL, VERDICT)


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
