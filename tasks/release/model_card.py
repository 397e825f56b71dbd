"""The model card: what a stranger should know before using a registered version, in markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from model.evaluation.judged_tasks import (
    FORECAST,
    INFILL,
    NEXT_REGION,
    NEXT_STAY,
    NEXT_TRAVEL,
    RECOVER,
    TRAVEL_TIME,
)
from model.families import FILES, VISITS, knows_place, remembers
from tasks.config.datasets import Dataset
from tasks.config.pipeline import PipelineConfig
from tasks.evaluate.seen import seen_warning
from tasks.prepare.conventions import PLACES_FILE
from tasks.release.champion_gate import unjudged_reason
from tasks.report.error_columns import Row
from tasks.report.error_tables import FORECASTS, TOPICS, read_scores
from tasks.report.facts import INITIALISED, LEAKY, RunSteps, split_pairs
from tasks.report.first_screen import Subject, first_screen
from tasks.report.generation_tables import (
    EXPLAINED,
    HEADING,
    copying_sentence,
    generators_table,
    read_generation,
    sentence,
)
from tasks.report.markup import pairs_table
from tasks.report.page_parts import markdown_of
from tasks.runtime.store import Receipt

SPLITS = ("validation", "test")


def model_card(steps: RunSteps, reported: Receipt) -> str:
    """Data with licence, split, metrics beside the baselines, limits, privacy, and recipes."""
    config, row = steps.config, steps.config.source_row
    counts, scores = steps.trained.counts, read_scores(steps.evaluation)
    parts = [
        f"# {config.model.family} ({config.model.size}) trained on {row.title}",
        first_screen_text(steps),
        what_it_does(scores),
        *([VISIT_INPUT, LOSS_OF_VISITS] if config.reads_visits else [INPUT]),
        "## Data",
        f"{row.title}: {row.homepage}  \nLicence: {row.licence}. Citation: {row.citation}.  \n"
        + split_note(config),
        *([f"**{LEAKY}**"] if config.split.kind == "random_window" else []),
        *([f"**{seen}**"] if (seen := seen_warning(steps.evaluated)) else []),
        *([f"**It cannot be champion**: {lack}."] if (lack := unjudged_reason(steps)) else []),
        pairs_table(("fact", "value"), split_pairs(steps.shards.counts)),
        *([vocabulary_note(steps)] if config.reads_visits else []),
        *origin_note(steps),
        *places_note(steps.store.sound(steps.trained)),
        *generation_note(read_generation(steps.evaluation), config.model.family),
        *errors(config, scores),
        "Skill is 1 - error / error of the best simple baseline; below zero is worse than it. "
        "Gates read validation; test is only reported.",
        "## Limits",
        f"Judged on {row.entity_kinds} of this dataset only, with {sampling_words(config)}; other "
        "objects, regions and sampling are untested. "
        f"Trained for {counts.get('steps', '?')} steps, "
        f"{counts.get('parameters', '?')} parameters. Not for navigation or safety.",
        "## Privacy",
        privacy_note(row, config),
        *copying_note(read_generation(steps.evaluation), config.model.family),
        "## Recipes",
        recipes(steps, reported),
    ]
    return "\n\n".join(parts) + "\n"


def first_screen_text(steps: RunSteps) -> str:
    """The verdict and its numbers, as the report begins; also the description of the run."""
    row = steps.config.source_row
    subject = Subject(
        steps.config.model.family,
        row.entity_kind,
        steps.config.evaluate_rules.gate_horizon,
        row.is_nautical,
        steps.config.split.kind == "random_window",
    )
    return markdown_of(first_screen(read_scores(steps.evaluation), subject))


def what_it_does(scores: pa.Table) -> str:
    """The tasks that the model was judged on, in words."""
    judged = set(scores["task"].to_pylist())
    return " ".join(text for task, text in SAID.items() if task in judged) or (
        "Was not judged on any window."
    )


SAID = {
    FORECAST: "Forecasts the next points of a trajectory, each with the radius that holds half and "
    "four fifths of the sampled futures.",
    RECOVER: "Recovers hidden points of a trajectory from the known ones around them, with or "
    "without their times.",
    TRAVEL_TIME: "Tells travel times, each with the seconds between which four fifths of journeys "
    "should lie.",
    NEXT_REGION: "Tells the next visit after a history of visits, one of the regions that train "
    "knows, each with its probability; makes up sequences of visits too.",
    NEXT_TRAVEL: "Tells how long the way to a region takes, as a density of seconds.",
    NEXT_STAY: "Tells how long a stay lasts, as a density of seconds.",
    INFILL: "Fills gaps between visits, given those on both sides, as often as it is asked to.",
}


INPUT = (
    "Asked about rows of points: `trajectory_id` (text or a number), `tracked_at` (a time or its "
    "ISO 8601 text, UTC where it names no zone), `lon_deg` and `lat_deg` (decimal degrees). Other "
    "columns are left alone."
)


VISIT_INPUT = (
    "Asked about rows of visits: `entity_id` or `trajectory_id` (text or a number), `arrived_at` "
    "and `left_at` (times or their ISO 8601 text, UTC where they name no zone; a stay that goes on "
    "has no `left_at`), `lon_deg` and `lat_deg` (decimal degrees). Of a place it knows the region "
    "alone; one that train does not know is an unknown region, and is counted in `num_unknown`. "
    "Other columns are left alone."
)
LOSS_OF_VISITS = (
    "Its loss has three parts, each with weight 1 and in nats: the surprise of the region, of the "
    "travel given the region, and of the stay given both. Times are in seconds: a density is of "
    "seconds, and its surprise is log(3,600) = 8.19 nats less in hours. A travel that was not seen "
    "costs nothing, and a stay whose end was not seen what lasting that long costs."
)


def vocabulary_note(steps: RunSteps) -> str:
    """The regions that a model of visits knows."""
    places = json.loads((steps.store.sound(steps.trained) / FILES[VISITS]).read_bytes())
    number, config = len(places["cells"]), steps.config
    return (
        f"Its vocabulary has {number:,} regions, H3 cells of resolution {places['resolution']} "
        f"with at least {config.region.min_count} visits of train. The least stay that is a visit "
        f"is {places['min_stay_s']:g} s."
    )


def sampling_words(config: PipelineConfig) -> str:
    """How the data were sampled."""
    points = f"points about {config.source_row.interval_s:g} s apart"
    return f"visits found in {points}" if config.reads_visits else points


def errors(config: PipelineConfig, scores: pa.Table) -> list[str]:
    """The errors of every task, ours in bold."""
    window, parts = config.windowing, []
    for topic in TOPICS:
        heading = f"## {topic.heading}"
        if topic is FORECASTS:
            known, asked = window.num_context, window.num_horizon
            heading += f", times given ({known} known points, {asked} forecast)"
        tables = topic.tables(scores, *SPLITS)
        parts += [heading, *(table.part.markdown for table in tables)] if tables else []
    return parts


def generation_note(rows: Sequence[Row], model: str) -> list[str]:
    """How well made-up trips pass for real ones, beside simple generators."""
    if not rows:
        return []
    tables = [generators_table(rows, split, model) for split in SPLITS]
    shown = [table.markdown for table in tables if table.rows]
    return [f"## {HEADING}", sentence(rows, "test", model), EXPLAINED, *shown]


def copying_note(rows: Sequence[Row], model: str) -> list[str]:
    """What made-up trips give away of those of train."""
    told = copying_sentence(rows, "test", model)
    return [f"{HEADING}: {told}"] if told else []


def origin_note(steps: RunSteps) -> list[str]:
    """What the training went on from, if it did not begin with fresh weights."""
    digest, address = steps.initial_weights, steps.config.train.init
    note = f"`{address}`, content `{digest}`. {INITIALISED}"
    return ["## Initial weights", note] if digest else []


def places_note(trained: Path) -> list[str]:
    """Whose the table of named places is that a model looks up, if it does."""
    from model.interface.named_places import LETTERS, read_named_places

    if not (trained / PLACES_FILE).exists():
        return []
    places = read_named_places(trained)
    way = "the letters that they share" if places.way == LETTERS else f"`{places.way}`"
    note = (
        f"It looks up {len(places.lon_deg_P):,} named places around each point, whose texts became "
        f"{places.num_numbers} numbers by {way}. Source: {places.source}. "
        f"Licence: {places.licence}. The table travels with this version."
    )
    return ["## Named places", note]


def split_note(config: PipelineConfig) -> str:
    """How the data were set apart, in a sentence."""
    split, row = config.split, config.source_row
    kind, kinds = row.entity_kind, row.entity_kinds
    shares = f"{split.validation_percent} % validation, {split.test_percent} % test"
    notes = {
        "entity": f"Entities ({kinds}) are split whole, copies together: {shares}.",
        "time": f"The last points of each {kind} are test, those before validation ({shares} of "
        "its points), with a purge gap before each border; copies are cut alike.",
        "region": f"Trips wholly between {split.west_deg} and {split.east_deg} degrees east and "
        f"{split.south_deg} and {split.north_deg} degrees north are test; the other {kinds} are "
        f"split whole, {split.validation_percent} % validation.",
        "random_window": f"Stretches of every trip are drawn at random: {shares}.",
    }
    return notes[config.split_kind]


REMEMBERED = (
    "Beside its weights this version carries a memory, the places and instants of the trips of "
    "train, which its forecasts recall. An entity is taken out of it by `forgetting`."
)


def privacy_note(row: Dataset, config: PipelineConfig) -> str:
    family = config.model.family
    if row.is_personal:
        is_placed = config.model.inputs == "plain" or knows_place(family)
        known = ", but for the middle of the places of train or a coarse map of them"
        known = known if is_placed else ""
        stored = f"Nothing stored with this version holds a coordinate of the data{known}."
        if config.reads_visits:
            stored = (
                "This version holds the regions that were visited in train, homes among them, "
                "though not by whom."
            )
        return (
            f"Trained on movements of a {row.entity_kind} at a time: four points often single out "
            "one person, and a model may remember what it saw. Share it only under the licence of "
            f"the data. {stored}"
        )
    note = f"The data follow {row.entity_kinds} and hold no movements of people."
    return f"{note} {REMEMBERED}" if remembers(family) else note


def recipes(steps: RunSteps, reported: Receipt) -> str:
    """The steps that led here, by their names in the store."""
    return pairs_table(("step", "recipe"), [*steps.recipes.items(), ("report", reported.recipe)])
