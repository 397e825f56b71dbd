"""Ladder tables of a leaderboard: models at each step, over whom one could ask instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tasks.evaluate.ladder import OVER_BASELINES, OVER_OWN, OVER_SIMPLE
from tasks.evaluate.opened_cells import Row, grouped
from tasks.report.markup import markdown_table, percent, spoken

if TYPE_CHECKING:
    from rich.table import Table

CONTROL = "control"
USUAL_SPLIT = "entity"
OVER_WORDS = {
    OVER_SIMPLE: "simple",
    OVER_BASELINES: "best baseline",
    OVER_OWN: "own training",
}
EXPLAINED = (
    "The skill of every model at each step, with its paired 95 % interval over entities, over "
    "three others: the best *simple* forecast (last position, constant velocity over one or three "
    "steps, damped velocity), the *best baseline* of all, both chosen by validation, and the same "
    "family's *own training* on these data alone. *Joint* weights learn from all data of the "
    "suite, *held out* ones from all but those that they are asked about; behind a percent they "
    "were trained on with as many of the train entities there. *With past trips here* the trips "
    "of train there are the memory, of which nothing is learned."
)


def ladder_parts(rows: Sequence[Row]) -> list[str]:
    """Skill over simple forecasts on all data at each step that all of them tell; without leaks."""
    honest = [row for row in rows if row["against"] == OVER_SIMPLE and not row["is_leaky"]]
    data = list(grouped(honest, place_of))
    parts = []
    for step, own in sorted(grouped(honest, lambda row: row["horizon"]).items()):
        if {place_of(row) for row in own} == {*data}:
            models = grouped(own, lambda row: row["model"])
            cells = [(spoken(name), *across(data, alike)) for name, alike in models.items()]
            parts += [f"### Step {step}, over simple", markdown_table(("model", *data), cells)]
    return parts


def across(data: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """The skill of a model on each of the data, empty where it was not asked."""
    told = {place_of(row): percent(row["skill"]) for row in rows}
    return (told.get(place, "") for place in data)


def place_of(row: Row) -> str:
    """The data, and their split where it is not the usual one."""
    if row["split_kind"] == USUAL_SPLIT:
        return str(row["dataset"])
    return f"{row['dataset']}, {CONTROL if row['is_leaky'] else row['split_kind']}"


def ladder_table(rows: Sequence[Row]) -> str:
    """The models on some data under one split: over whom, and the skill at each step."""
    steps = sorted({row["horizon"] for row in rows})
    cells = [
        (spoken(model), OVER_WORDS[against], *skills_at(steps, own))
        for (model, against), own in by_model(rows).items()
    ]
    header = ("model", "over", *(f"step {step}" for step in steps))
    return markdown_table(header, cells, num_names=2)


def by_model(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by their model and by whom it is over, in the order in which models come."""
    found = grouped(rows, lambda row: (row["model"], row["against"]))
    models = list(dict.fromkeys(model for model, _ in found))
    pairs = ((model, against) for model in models for against in OVER_WORDS)
    return {pair: found[pair] for pair in pairs if pair in found}


def skills_at(steps: Sequence[int], rows: Sequence[Row]) -> Iterator[str]:
    told = {row["horizon"]: f"{percent(row['skill'])} ({interval_of(row)})" for row in rows}
    return (told.get(step, "") for step in steps)


def interval_of(row: Row) -> str:
    return f"{percent(row['low'])} to {percent(row['high'])}"


def terminal_ladder(rows: Sequence[Row]) -> Table:
    """Skills over simple for the terminal, those of all steps in one cell."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    over_simple = [row for row in rows if row["against"] == OVER_SIMPLE]
    steps = sorted({row["horizon"] for row in over_simple})
    table = Table(title="Forecasts, over simple", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("data", "model", f"% at step {' / '.join(map(str, steps))}"):
        table.add_column(name)
    for (place, model), own in grouped(
        over_simple, lambda row: (place_of(row), row["model"])
    ).items():
        told = {row["horizon"]: f"{100 * row['skill']:+.1f}" for row in own}
        table.add_row(place, model, " / ".join(told.get(step, "-") for step in steps))
    return table
