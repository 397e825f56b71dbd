"""Generation tables: what a model makes up beside simple generators, as people read it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from model.evaluation.generation.generation_rows import (
    AUC,
    COPYING,
    LEARNER_ERROR,
    LOST,
    SKILL,
    Row,
    bar_areas,
    copied_by,
    whole_rows,
)
from tasks.prepare.conventions import GENERATION_FILE
from tasks.report.markup import percent, share, spoken
from tasks.report.page_parts import Folded, Part, Table
from tasks.report.units import digits, distance, duration
from tasks.runtime.words import counted

HEADING = "Made-up trips"
HOW = "How to read this"
FLOOR, CEILING = "real trips", "trips of train drawn again"
INTERVAL = "95 % interval"
# What a column or a row of measures is called, by the beginning of its name.
WORDS = {
    AUC: "told from real by trees",
    "discriminator_auc_of_places": "told from real by trees that read no times",
    "discriminator_auc_of_points": "told from real by a Transformer",
    LOST: "skill that is lost by learning from it",
    LEARNER_ERROR: "error of who learnt from it",
    "copied_share": "copies of train",
    "membership_auc_by_sample": "tells who was in train, by itself",
    "membership_auc_by_loss": "tells who was in train, by the losses of the model",
    "w1_trip_m": "length of a trip",
    "w1_step_m": "length of a step",
    "w1_gyration_m": "radius of gyration",
    "w1_duration_s": "duration",
    "w1_rest_share": "share of the time at rest",
    "w1_dwell_s": "how long a rest lasts",
    "w1_start_hour": "hour of the start",
    "w1_trips_a_day": "trips a day",
    "jsd_trip_m": "length of a trip, in bins",
    "jsd_step_m": "length of a step, in bins",
    "jsd_gyration_m": "radius of gyration, in bins",
    "jsd_duration_s": "duration, in bins",
    "jsd_rest_share": "share of the time at rest, in bins",
    "jsd_dwell_s": "how long a rest lasts, in bins",
    "jsd_start_hour": "hour of the start, in bins",
    "jsd_trips_a_day": "trips a day, in bins",
    "jsd_density_": "where points lie, in cells of ",
    "jsd_ends_": "origin and destination, in cells of ",
    "jsd_visit_ranks_": "how visits spread over cells of ",
    "unseen_moves_": "moves that train never made, between cells of ",
    "duplicates_": "the same trip again, to ",
    "too_fast": "steps above the speed limit",
    "nights_at_home": "points of the night at home",
    "off_sphere": "off the Earth",
    "unordered": "not in order of time",
}
BRIEF = {  # the columns of the table of generators
    AUC: "told from real",
    "discriminator_auc_of_places": "by places alone",
    "discriminator_auc_of_points": "by a Transformer",
    "copied_share": "copies",
    "membership_auc_by_sample": "tells members",
    "w1_trip_m": "length off by",
    "w1_step_m": "steps off by",
    "w1_duration_s": "duration off by",
    LOST: "skill lost",
}
EXPLAINED = (
    "Every generator is asked for one trip from the start of each window of the split, place and "
    "time, and nobody was fitted on these. *Told from real* is the area under the ROC curve of "
    "boosted trees that shall tell made-up trips from real ones of entities that they have not "
    "seen: 0.5 is perfect, and 1 means that every trip gives itself away. Where data tick evenly, "
    "as every six hours, times alone do so: *by places alone* is the area of trees that read no "
    "times, and *by a Transformer*, if a run asks for it, that of a small one that reads points in "
    "their order. *Off by* is the Wasserstein-1 distance from the real trips, the less the better. "
    "*Copies* are trips nearer to one of train than all but 1 % of the real trips are, and *tells "
    "members* is how well the nearness of a sample tells who was in train, 0.5 not at all: both "
    "should be no more than *real trips* score, which are other trips of the same data. *Trips of "
    "train drawn again* are the most that a copy can reach. Divergences are Jensen-Shannon's in "
    "bits, from 0 to 1. Trips off the Earth or not in order of time are counted and left out of all"
    " else. *Skill lost*, if a run asks for it, is what a small forecaster lacks that learnt from "
    "such trips alone, beside one that learnt from as many real trips in as many steps, in percent "
    "of the error of damped velocity: both are asked about the same real windows, and *real trips* "
    "tell what another seed makes of it. The rollouts are of the latter forecaster."
)


def read_generation(evaluated: Path) -> list[Row]:
    """The rows of a folder of the evaluation; none of a family that makes nothing up."""
    path = evaluated / GENERATION_FILE
    if not path.is_file():
        return []
    rows: list[Row] = pq.read_table(path, partitioning=None).to_pylist()
    return rows


def generation_parts(evaluated: Path, model: str) -> list[str | Part]:
    """What a report says of made-up trips: a sentence, the generators, and every measure."""
    rows = read_generation(evaluated)
    if not rows:
        return []
    tables = [
        table
        for split in ("test", "validation")
        for table in (generators_table(rows, split, model), measures_table(rows, split, model))
    ]
    return [
        f"## {HEADING}",
        sentence(rows, "test", model),
        Folded(HOW, [EXPLAINED]),
        *(Folded(table.caption, [table]) for table in tables if table.rows),
    ]


def sentence(rows: Sequence[Row], split: str, model: str) -> str:
    """How well made-up trips pass for real ones, and whether they are copies."""
    own = of_split(rows, split)
    told = whole_rows(own, model)
    if AUC not in told:
        return "Too few trips were made up, or real, to tell them apart."
    area, bars = told[AUC], bar_areas(own)
    text = (
        f"Trees tell what {spoken(model)} makes up from real trips with an area of "
        f"{digits(area['value'])} ({INTERVAL} {interval_of(area)}), where 0.5 is perfect and "
        f"other real trips reach {digits(area['floor'])}"
    )
    if bars:
        best = min(bars, key=lambda name: (bars[name], name))
        text += f"; {spoken(best)}, the best simple generator that copies nothing, {bars[best]:.2f}"
    if (skill := told.get(SKILL)) is not None:
        value, low, high = (percent(skill[key]) for key in ("value", "low", "high"))
        text += f" (skill {value}, {low} to {high})"
    return f"{text}. {use_sentence(told)}{copying_sentence(rows, split, model)}"


def use_sentence(told: Mapping[str, Row]) -> str:
    """What made-up trips are worth to who has no others."""
    if LOST not in told:
        return ""
    row = told[LOST]
    return (
        f"Who learns to forecast from such trips alone, and from no real ones, loses {spelt(row)} "
        f"of skill ({INTERVAL} {interval_of(row)}; by another seed {spelt(row, 'floor')}). "
    )


def copying_sentence(rows: Sequence[Row], split: str, model: str) -> str:
    """What made-up trips give away of train, in words."""
    told = whole_rows(of_split(rows, split), model)
    found = [
        f"{WORDS[name]} {spelt(told[name])} (real trips {spelt(told[name], 'floor')}, up to "
        f"{spelt(told[name], 'floor_high')} by chance)"
        for name in COPYING
        if name in told
    ]
    if not found:
        return ""
    verdict = "It copies train" if copied_by(told) else "No copying of train is found"
    return f"{verdict}: {'; '.join(found)}."


def generators_table(rows: Sequence[Row], split: str, model: str) -> Table:
    """One row a generator, the hardest to tell first, then real trips and train drawn again."""
    own = of_split(rows, split)
    every = {name: whole_rows(own, name) for name in dict.fromkeys(row["model"] for row in own)}
    shown = {name: told for name, told in every.items() if AUC in told}
    order = sorted(shown, key=lambda name: (shown[name][AUC]["value"], name))
    brief = [one for one in BRIEF if any(one in told for told in shown.values())]
    cells = [[spoken(name), *(cell(shown[name], measure) for measure in brief)] for name in order]
    bounds = shown.get(model, {})
    for words, key in ((FLOOR, "floor"), (CEILING, "ceiling")):
        if bounds:
            cells.append([words, *(cell(bounds, measure, key) for measure in brief)])
    number = counted(bounds[AUC]["num_trips"], "trip") if bounds else ""
    ours = [name == model for name in order] + [False] * (len(cells) - len(order))
    columns = ("made up by", *(BRIEF[one] for one in brief))
    return Table(f"Generators, {split}, {number}", columns, cells, ours)


def measures_table(rows: Sequence[Row], split: str, model: str) -> Table:
    """Every measure of what a model makes up, of all trips and of a fourth of them."""
    own = [row for row in of_split(rows, split) if row["model"] == model]
    cells = [
        (
            words_of(row["measure"]),
            f"{row['num_trips']:,}",
            spelt(row),
            interval_of(row),
            spelt(row, "floor"),
            spelt(row, "ceiling"),
        )
        for row in sorted(own, key=lambda row: (-row["num_trips"], row["measure"]))
        if row["measure"] != SKILL
    ]
    columns = ("measure", "trips", spoken(model), INTERVAL, FLOOR, CEILING)
    return Table(f"Every measure, {split}", columns, cells)


# Words ------------------------------------------------------------------------------------------


def of_split(rows: Sequence[Row], split: str) -> list[Row]:
    return [row for row in rows if row["split"] == split]


def words_of(measure: str) -> str:
    """A measure in words."""
    if measure in WORDS:
        return WORDS[measure]
    start = next((name for name in WORDS if name.endswith("_") and measure.startswith(name)), "")
    return WORDS[start] + measure.removeprefix(start) if start else spoken(measure)


def cell(told: Mapping[str, Row], measure: str, key: str = "value") -> str:
    return spelt(told[measure], key) if measure in told else ""


def interval_of(row: Row) -> str:
    low, high = spelt(row, "low"), spelt(row, "high")
    return f"{low} to {high}" if low and high else ""


def spelt(row: Row, key: str = "value") -> str:
    """A number of a row in its unit; nothing of what is none."""
    value = row[key]
    if value is None or math.isnan(value):
        return ""
    return spelling(row["measure"])(value)


def spelling(measure: str) -> Callable[[float], str]:
    if measure == LOST:
        return share
    if measure.startswith(("w1_", LEARNER_ERROR)):
        ends: dict[str, Callable[[float], str]]
        ends = {"_m": distance, "_s": duration, "_hour": hours, "_share": share}
        return next((spell for end, spell in ends.items() if measure.endswith(end)), digits)
    shares = ("copied_share", "unseen_", "duplicates_", "too_", "nights_", "off_", "unordered")
    return share if measure.startswith(shares) else digits


def hours(value: float) -> str:
    return duration(3_600 * value)
