"""The model card: what a stranger should know before using a registered version, in markdown."""

from __future__ import annotations

from pathlib import Path

from tasks.config.pipeline import PipelineConfig
from tasks.report.error_tables import (
    duration_tables,
    error_table,
    has_rows,
    markdown_errors,
    recovery_tables,
)
from tasks.report.facts import INITIALISED, LEAKY, initial_weights, split_pairs
from tasks.report.markup import markdown_table
from tasks.runtime.store import Receipt, Store

SPLITS = ("validation", "test")


def model_card(
    config: PipelineConfig,
    shards: Receipt,
    trained: Receipt,
    evaluated: Receipt,
    reported: Receipt,
    store: Store,
) -> str:
    """Data with licence, split, metrics beside the baselines, limits, privacy, and recipes."""
    row = config.source_row
    counts = trained.counts
    parts = [
        f"# {config.model.family} ({config.model.preset}) trained on {row.title}",
        what_it_does(store.folder(evaluated)),
        "## Data",
        f"{row.title}: {row.homepage}  \nLicence: {row.licence}. Citation: {row.citation}.  \n"
        + split_note(config),
        *([f"**{LEAKY}**"] if config.split.kind == "random_window" else []),
        markdown_table(("fact", "value"), split_pairs(shards.counts)),
        *origin_note(config, trained, store),
        *forecast_errors(config, store.folder(evaluated)),
        *other_errors(store.folder(evaluated)),
        "Skill is 1 - error / error of the best simple baseline; below zero is worse than it. "
        "Gates read validation; test is only reported.",
        "## Limits",
        f"Judged on {row.entity_kind}s of this dataset only, with points about "
        f"{row.interval_s:g} s apart; other objects, regions and sampling are untested. "
        f"Trained for {counts.get('steps', '?')} steps, "
        f"{counts.get('parameters', '?')} parameters. Not for navigation or safety.",
        "## Privacy",
        privacy_note(row.is_personal, row.entity_kind),
        "## Recipes",
        recipes(shards, trained, evaluated, reported, store),
    ]
    return "\n\n".join(parts) + "\n"


def what_it_does(evaluated: Path) -> str:
    """The tasks that the model was judged on, in words."""
    said = {
        "metrics": "Forecasts the next points of a trajectory, each with the radius that holds "
        "half and four fifths of the sampled futures.",
        "recovery": "Recovers hidden points of a trajectory from the known ones around them, with "
        "or without their times.",
        "durations": "Tells travel times, each with the seconds between which four fifths of "
        "journeys should lie.",
    }
    judged = [text for name, text in said.items() if has_rows(evaluated / f"{name}.parquet")]
    return " ".join(judged) or "Was not judged on any window."


def forecast_errors(config: PipelineConfig, evaluated: Path) -> list[str]:
    metrics = evaluated / "metrics.parquet"
    if not has_rows(metrics):
        return []
    return ["## Errors in metres, times given"] + [
        f"{split.capitalize()} windows ({config.window.num_context} known points, "
        f"{config.window.num_horizon} forecast)\n\n" + error_table(metrics, split)
        for split in SPLITS
    ]


def other_errors(evaluated: Path) -> list[str]:
    """The errors of recovery in metres and of travel times in seconds, ours in bold."""
    parts = []
    for heading, tables_of in (
        ("## Recovery errors in metres", recovery_tables),
        ("## Travel time errors in seconds", duration_tables),
    ):
        tables = [table for split in SPLITS for table in tables_of(evaluated, split)]
        parts += [heading, *map(markdown_errors, tables)] if tables else []
    return parts


def origin_note(config: PipelineConfig, trained: Receipt, store: Store) -> list[str]:
    """What the training went on from, if it did not begin with fresh weights."""
    digest = initial_weights(trained, store)
    if not digest:
        return []
    return ["## Initial weights", f"`{config.train.init}`, content `{digest}`. {INITIALISED}"]


def split_note(config: PipelineConfig) -> str:
    """How the data were set apart, in a sentence."""
    split, kind = config.split, config.source_row.entity_kind
    shares = f"{split.validation_percent} % validation, {split.test_percent} % test"
    notes = {
        "entity": f"Entities ({kind}s) are split whole, copies together: {shares}.",
        "time": f"The last points of each {kind} are test, those before validation ({shares} of "
        "its points), with a purge gap before each border; copies are cut alike.",
        "region": f"Trips wholly between {split.west_deg} and {split.east_deg} degrees east and "
        f"{split.south_deg} and {split.north_deg} degrees north are test; the other {kind}s are "
        f"split whole, {split.validation_percent} % validation.",
        "random_window": f"Stretches of every trip are drawn at random: {shares}.",
    }
    return notes[split.kind]


def privacy_note(is_personal: bool, entity_kind: str) -> str:
    if is_personal:
        return (
            f"Trained on movements of a {entity_kind} at a time: four points often single out one "
            "person, and a model may remember what it saw. Share it only under the licence of the "
            "data. Nothing stored with this version holds a coordinate of the data."
        )
    return f"The data follow {entity_kind}s and hold no movements of people."


def recipes(
    shards: Receipt, trained: Receipt, evaluated: Receipt, reported: Receipt, store: Store
) -> str:
    """The steps that led here, by their names in the store."""
    named = {"split": str(store.manifest(shards).lineage.get("split", "unknown"))}
    named |= {step.stage: step.recipe for step in (shards, trained, evaluated, reported)}
    lines = [f"| {stage} | `{name}` |" for stage, name in named.items()]
    return "\n".join(["| step | recipe |", "|---|---|", *lines])
