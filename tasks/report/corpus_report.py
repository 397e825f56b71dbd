"""Report of a corpus: its members, and the errors on each of them and on what was held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tasks.config.corpus import SHIPPED, Corpus, Member
from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import Section
from tasks.evaluate.seen import seen_warning
from tasks.report.count_words import count_value
from tasks.report.error_sections import HOW
from tasks.report.error_tables import TOPICS, read_scores
from tasks.report.facts import INITIALISED, LEAKY, RunSteps
from tasks.report.first_screen import Subject, first_screen, headline, standings
from tasks.report.html_page import markdown_text, page, script_text
from tasks.report.markup import escaped, pairs_table
from tasks.report.page_parts import Folded, Part, Table
from tasks.report.report import nats_of, training_chart
from tasks.report.reproducing import command_of, reproducing
from tasks.runtime.stage import Input, Job, Stage
from tasks.runtime.store import Counts, Receipt, Store, sha256_text
from tasks.runtime.words import counted

HELD_OUT = "held out whole"
MEMBER_COLUMNS = ("member", "learned from", "points in train", "split", "split hash", "licence")


@dataclass(frozen=True)
class JudgedMember:
    """A member, the steps that judged the corpus's model on it, and its part of the batches."""

    member: Member
    steps: RunSteps
    share: float

    @property
    def title(self) -> str:
        """What tables call it: its dataset, and where it has one its own label."""
        own = f" ({self.member.name})" if self.member.label else ""
        return f"{self.steps.config.source_row.title}{own}"

    @property
    def part(self) -> str:
        """What of the training it was, in words."""
        if self.member.is_held_out:
            return HELD_OUT
        return f"{self.share:.1%} of the batches"


@dataclass(frozen=True)
class CorpusSteps:
    """The steps of a run on a corpus that its report and its version tell of."""

    corpus: Corpus
    config: PipelineConfig
    store: Store
    trained: Receipt
    judged: tuple[JudgedMember, ...]

    @property
    def learned(self) -> tuple[JudgedMember, ...]:
        """The members that were learned from: the gate asks these."""
        return tuple(one for one in self.judged if not one.member.is_held_out)

    @property
    def family(self) -> str:
        return self.config.model.family

    @property
    def recipes(self) -> dict[str, str]:
        """The names, in the store, of the steps that led here."""
        found = {"trained": self.trained.recipe}
        for one in self.judged:
            found[f"shards of {one.member.name}"] = one.steps.shards.recipe
            found[f"errors on {one.member.name}"] = one.steps.evaluated.recipe
        return found


class MemberRules(Section):
    """What the report says of a member beside its errors."""

    name: str
    title: str
    part: str
    licence: str
    citation: str
    homepage: str
    entity_kind: str
    gate_horizon: int
    is_nautical: bool


class CorpusReportRules(Section):
    """What the report says beside the errors."""

    title: str
    family: str
    preset: str
    members: tuple[MemberRules, ...]
    recipes: dict[str, str]
    is_tuned: bool
    command: str
    script: str


def corpus_report(steps: CorpusSteps) -> Receipt:
    """The report of a run on a corpus."""
    config, corpus = steps.config, steps.corpus
    rules = CorpusReportRules(
        title=corpus.title,
        family=steps.family,
        preset=config.model.size,
        members=tuple(rules_of(one) for one in steps.judged),
        recipes=steps.recipes,
        is_tuned=bool(config.train.init),
        command=command_of(
            config, corpus.name if corpus.name in SHIPPED else f"{corpus.name}.toml"
        ),
        script=sha256_text(script_text()),
    )
    inputs: dict[str, Input] = {
        "trained": steps.trained,
        "shards": [one.steps.shards for one in steps.judged],
        "evaluated": [one.steps.evaluated for one in steps.judged],
    }
    licence = licence_of(steps)
    return REPORT(REPORT.job(corpus.subject, rules, inputs, steps.store, licence=licence))


def licence_of(steps: CorpusSteps) -> str:
    """The licences of all that was learned from: a model may be used as the strictest allows."""
    return "; ".join(sorted({one.steps.config.source_row.licence for one in steps.learned}))


def rules_of(judged: JudgedMember) -> MemberRules:
    row = judged.steps.config.source_row
    return MemberRules(
        name=judged.member.name,
        title=judged.title,
        part=judged.part,
        licence=row.licence,
        citation=row.citation,
        homepage=row.homepage,
        entity_kind=row.entity_kind,
        gate_horizon=judged.steps.config.evaluate_rules.gate_horizon,
        is_nautical=row.is_nautical,
    )


def build(draft: Path, job: Job[CorpusReportRules]) -> Counts:
    """Write the page and the markdown."""
    rules = job.settings
    title = f"{rules.family} {rules.preset} on {rules.title}"
    parts = report_parts(title, job)
    (draft / "report.html").write_text(page(title, parts, script_text()), encoding="utf-8")
    (draft / "report.md").write_text(markdown_text(parts), encoding="utf-8")
    return {"members": len(rules.members)}


# Parts ------------------------------------------------------------------------------------------


def report_parts(title: str, job: Job[CorpusReportRules]) -> list[str | Part]:
    """All that the report says, in the order in which a reader wants it."""
    rules = job.settings
    told = list(zip(rules.members, job.receipts("shards"), job.receipts("evaluated"), strict=True))
    subjects = [subject_of(rules, member, shards) for member, shards, _ in told]
    folders = [job.store.folder(evaluated) for _, _, evaluated in told]
    return [
        f"# {escaped(title)}",
        lead(rules.members),
        *([f"**{escaped(INITIALISED)}**"] if rules.is_tuned else []),
        "## At a glance",
        GLANCE,
        skill_table(rules.members, subjects, folders),
        *(
            part
            for (member, shards, evaluated), subject, folder in zip(
                told, subjects, folders, strict=True
            )
            for part in member_parts(member, shards, evaluated, subject, folder)
        ),
        *how_to_read([read_scores(folder) for folder in folders]),
        "## Training",
        training_chart(job.folder("trained") / "metrics.jsonl", nats_of(rules.family)),
        "## Members",
        member_table(rules.members, job.receipts("shards")),
        *(f"{one.title}: {one.homepage}. Citation: {one.citation}." for one in rules.members),
        "## How to reproduce",
        reproducing(rules.command),
        Folded("Recipes", [pairs_table(("step", "recipe"), list(rules.recipes.items()))]),
    ]


GLANCE = (
    "Each member at the step of its gate, on its own stored test windows and beside the baselines "
    "that were fitted on it. Radii are as the network tells them: one set cannot be calibrated for "
    "several datasets."
)


def lead(members: Sequence[MemberRules]) -> str:
    """What one model learned from, and what it never saw."""
    held_out = [one.title for one in members if one.part == HELD_OUT]
    text = f"One set of weights, learned from {counted(len(members) - len(held_out), 'dataset')}."
    if held_out:
        text += f" Held out whole, so that nothing of them was learned: {', '.join(held_out)}."
    return text


def subject_of(rules: CorpusReportRules, member: MemberRules, shards: Receipt) -> Subject:
    return Subject(
        rules.family,
        member.entity_kind,
        member.gate_horizon,
        member.is_nautical,
        bool(shards.counts.get("is_leaky")),
    )


def skill_table(
    members: Sequence[MemberRules], subjects: Sequence[Subject], folders: Sequence[Path]
) -> Table:
    """A line for each member: how the model stands at the step of its gate."""
    rows = []
    for member, subject, folder in zip(members, subjects, folders, strict=True):
        main = headline(standings(read_scores(folder), subject), subject)
        if main is not None:
            rows.append((f"{member.name}{mark_of(member)}", *main.cells))
    columns = ("member", "asked", "error", "best baseline", "its error", "skill", "95 %", "verdict")
    return Table("Skill on each member", columns, rows, [False] * len(rows), 2)


def mark_of(member: MemberRules) -> str:
    return f", {HELD_OUT}" if member.part == HELD_OUT else ""


def member_parts(
    member: MemberRules, shards: Receipt, evaluated: Receipt, subject: Subject, folder: Path
) -> list[str | Part]:
    """What was found on one member: the verdict, and the tables of every task."""
    scores = read_scores(folder)
    verdict, *chart = first_screen(scores, subject)
    numbers = chart[-1:]  # a page holds one chart of skill, and this one has many members
    warnings = [LEAKY] if shards.counts.get("is_leaky") else []
    warnings += [seen] if (seen := seen_warning(evaluated)) else []
    return [
        f"## {escaped(member.title)}{mark_of(member)}",
        verdict,
        *(f"**{escaped(text)}**" for text in warnings),
        *numbers,
        *(
            Folded(table.caption, [table.part])
            for topic in TOPICS
            for table in topic.tables(scores, "test", "validation", is_nautical=subject.is_nautical)
        ),
    ]


def how_to_read(scores: Sequence[pa.Table]) -> list[str | Part]:
    """What the errors of the tables mean, once for all members."""
    judged = {task for one in scores for task in one["task"].unique().to_pylist()}
    topics = [topic for topic in TOPICS if judged & {*topic.tasks}]
    told = [part for topic in topics for part in (f"### {topic.heading}", topic.explained)]
    return [Folded(HOW, told)] if told else []


def member_table(members: Sequence[MemberRules], shards: Sequence[Receipt]) -> Table:
    """Where the members come from and how they were split."""
    rows = [
        (
            one.title,
            one.part,
            *(
                count_value(name, made.counts[name]) if name in made.counts else ""
                for name in ("points_train", "split_kind", "split_hash")
            ),
            one.licence,
        )
        for one, made in zip(members, shards, strict=True)
    ]
    return Table("Members of the corpus", MEMBER_COLUMNS, rows, [False] * len(rows), 1)


REPORT = Stage("corpus_report", build)
