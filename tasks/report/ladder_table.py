"""Ladder tables of a leaderboard: models at each step, over whom one could ask instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tasks.evaluate.cells import Pace
from tasks.evaluate.ladder import OVER_BASELINES, OVER_OWN, OVER_SIMPLE
from tasks.evaluate.opened_cells import Row, grouped
from tasks.report.markup import markdown_table, percent, spoken

if TYPE_CHECKING:
    from rich.table import Table

CONTROL = "control"
USUAL_SPLIT, LEAKY_SPLIT = "entity", "random_window"
OVER_WORDS = {
    OVER_SIMPLE: "simple",
    OVER_BASELINES: "best baseline",
    OVER_OWN: "own training",
}
TIMED = "CPU s to +10 %"
PACE_EXPLAINED = (
    "CPU seconds of own training until the weights that it would have kept are 10 % ahead of the "
    "best simple forecast on windows of validation, at the step that decides a promotion; NaN "
    "where they never are. What comes before the first step, such as the memory of past trips, is "
    "not counted, nor are validations. A clock is of the machine and of what else it did, so these "
    "figures alone are others in another run."
)
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
    return f"{row['dataset']}, {CONTROL if row['split_kind'] == LEAKY_SPLIT else row['split_kind']}"


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


def pace_parts(paces: Sequence[Pace]) -> list[str]:
    """How long own training took until it was ahead of simple forecasts, if that was timed."""
    if not paces:
        return []
    models = grouped(paces, lambda one: (place_of(one.model_dump()), one.model))
    cells = [
        (place, spoken(model), *(seconds(one) for one in own))
        for (place, model), own in models.items()
    ]
    seeds = [f"seed {seed}" for seed in dict.fromkeys(one.seed for one in paces)]
    table = markdown_table(("data", "model", *seeds), cells, num_names=2)
    return ["### Time to skill", PACE_EXPLAINED, table]


def seconds(pace: Pace) -> str:
    return "NaN" if pace.cpu_s is None else f"{pace.cpu_s:.1f}"


def seconds_of(row: Row, paces: Sequence[Pace]) -> str:
    """Those of all seeds, of a model on some data."""
    names = "dataset", "split_kind", "model"
    own = [one for one in paces if all(getattr(one, name) == row[name] for name in names)]
    return " / ".join(map(seconds, own))


def terminal_ladder(rows: Sequence[Row], paces: Sequence[Pace] = ()) -> Table:
    """Skills over simple for the terminal, those of all steps in one cell."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    over_simple = [row for row in rows if row["against"] == OVER_SIMPLE]
    steps = sorted({row["horizon"] for row in over_simple})
    table = Table(title="Forecasts, over simple", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    timed = [TIMED] if paces else []
    for name in ("data", "model", f"% at step {' / '.join(map(str, steps))}", *timed):
        table.add_column(name)
    for (place, model), own in grouped(
        over_simple, lambda row: (place_of(row), row["model"])
    ).items():
        told = {row["horizon"]: f"{100 * row['skill']:+.1f}" for row in own}
        took = [seconds_of(own[0], paces)] if paces else []
        table.add_row(place, model, " / ".join(told.get(step, "-") for step in steps), *took)
    return table
