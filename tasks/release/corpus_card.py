"""The model card of a corpus: its sources with licences, splits and shares, and all errors."""

from __future__ import annotations

from model.families import knows_place, remembers
from tasks.release.champion_gate import unjudged_reason
from tasks.release.model_card import INPUT, errors, places_note, split_note, what_it_does
from tasks.report.corpus_report import CorpusSteps, JudgedMember, licence_of
from tasks.report.error_tables import read_scores
from tasks.report.facts import INITIALISED, LEAKY, split_pairs
from tasks.report.first_screen import Subject, sentence, standings
from tasks.report.markup import escaped, pairs_table
from tasks.runtime.store import Receipt


def corpus_card(steps: CorpusSteps, reported: Receipt) -> str:
    """What a stranger should know before using a version that was trained on a corpus."""
    counts = steps.trained.counts
    first = read_scores(steps.judged[0].steps.evaluation)
    parts = [
        f"# {steps.family} ({steps.config.model.size}) trained on {steps.corpus.title}",
        corpus_summary(steps),
        what_it_does(first),
        INPUT,
        *([f"**{INITIALISED}**"] if steps.config.train.init else []),
        "## Data",
        f"Licences of what it was trained on: {licence_of(steps)}. Whoever uses or shares this "
        "version needs to keep all of them.",
        *(part for one in steps.judged for part in member_parts(one)),
        "Skill is 1 - error / error of the best simple baseline; below zero is worse than it. "
        "Gates read validation; test is only reported.",
        *places_note(steps.store.sound(steps.trained)),
        "## Limits",
        "Other objects, regions and sampling than these are untested. Radii are as the network "
        "tells them, for one set cannot be calibrated for several datasets. Of a place it is told "
        "latitude and longitude alone, so it knows no road or lane. "
        f"Trained for {counts.get('steps', '?')} steps, {counts.get('parameters', '?')} "
        "parameters. Not for navigation or safety.",
        "## Privacy",
        privacy(steps),
        "## Recipes",
        pairs_table(("step", "recipe"), [*steps.recipes.items(), ("report", reported.recipe)]),
    ]
    return "\n\n".join(parts) + "\n"


def corpus_summary(steps: CorpusSteps) -> str:
    """The verdict on each member, in a sentence each."""
    lines = [f"- {escaped(f'{one.title}, {one.part}: {verdict_of(one)}')}" for one in steps.judged]
    return "\n".join(lines)


def verdict_of(judged: JudgedMember) -> str:
    config = judged.steps.config
    row, step = config.source_row, config.evaluate_rules.gate_horizon
    subject = Subject(config.model.family, row.entity_kind, step, row.is_nautical)
    return sentence(standings(read_scores(judged.steps.evaluation), subject), subject)


def member_parts(judged: JudgedMember) -> list[str]:
    """Source, licence, split and share of a member, and how the model did on it."""
    steps, row = judged.steps, judged.steps.config.source_row
    lack = unjudged_reason(steps)
    return [
        f"## {judged.title}",
        f"{judged.part.capitalize()}. {row.homepage}  \nLicence: {row.licence}. "
        f"Citation: {row.citation}.  \n{split_note(steps.config)}",
        *([f"**{LEAKY}**"] if steps.config.split.kind == "random_window" else []),
        *([f"Not judged for the gate: {lack}."] if lack else []),
        pairs_table(("fact", "value"), split_pairs(steps.shards.counts)),
        *(
            part.replace("## ", "### ", 1)
            for part in errors(steps.config, read_scores(steps.evaluation))
        ),
    ]


REMEMBERED = (
    "Beside its weights this version carries a memory, the places and instants of train trips of "
    "the members that follow no people, which its forecasts recall. An entity is taken out of it "
    "by `forgetting`."
)


def privacy(steps: CorpusSteps) -> str:
    personal = [one.title for one in steps.learned if one.steps.config.source_row.is_personal]
    is_carried = remembers(steps.family) and len(personal) < len(steps.learned)
    carried = f" {REMEMBERED}" if is_carried else ""
    if not personal:
        return f"The data hold no movements of people.{carried}"
    # Of several members no frame of places is kept.
    is_placed = len(steps.learned) == 1 and knows_place(steps.family)
    known = ", but for the middle of the places of train" if is_placed else ""
    return (
        f"Trained on movements of people or their vehicles ({', '.join(personal)}): four points "
        "often single out one person, and a model may remember what it saw. Share it only under "
        "the licences of the data. Nothing stored with this version holds a coordinate of theirs"
        f"{known}.{carried}"
    )
