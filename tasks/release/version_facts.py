"""Version facts: what the registry is told of a trained model, of one dataset or of a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.config.datasets import Dataset
from tasks.config.pipeline import PipelineConfig
from tasks.prepare.conventions import CALIBRATION_FILE
from tasks.release.bundle import default_params, source_digest
from tasks.release.corpus_card import corpus_card, corpus_summary
from tasks.release.gated import gated
from tasks.release.mlflow_metrics import mlflow_metrics
from tasks.release.model_card import first_screen_text, model_card
from tasks.release.origin import Origin, Source
from tasks.report.corpus_report import CorpusSteps, JudgedMember, licence_of
from tasks.report.facts import RunSteps
from tasks.runtime.store import Receipt, sha256_file

Metrics = list[tuple[str, float]]


@dataclass(frozen=True)
class Judged:
    """An evaluation, and the data that it is of; `place` stands before the names of its metrics."""

    row: Dataset
    dataset: str
    shards: Receipt
    folder: Path
    is_learned: bool = True
    place: str = ""

    @property
    def metrics(self) -> Metrics:
        return [(f"{self.place}{name}", value) for name, value in mlflow_metrics(self.folder)]


@dataclass(frozen=True)
class VersionFacts:
    """A version as it should stand in the registry.

    `subject` is what it was trained on, a dataset or a corpus; the facts are its tags.
    """

    config: PipelineConfig
    subject: str
    about: str
    card: str
    summary: str
    facts: Mapping[str, str]
    settings: Mapping[str, Any]
    trained: Receipt
    judged: tuple[Judged, ...]
    papers: Mapping[str, Receipt]
    defaults: dict[str, Any]

    @property
    def origin(self) -> Origin:
        """What the weights were trained on."""
        learned = [one for one in self.judged if one.is_learned]
        return Origin(
            init=self.config.train.init,
            sources=tuple(Source.of(one.row, one.shards.counts) for one in learned),
        )

    @property
    def name(self) -> str:
        return f"trajfoundry-{self.config.model.family}-{self.subject}"

    @property
    def metrics(self) -> Metrics:
        """The errors of the model and the baselines on every task and dataset that is judged."""
        return [metric for one in self.judged for metric in one.metrics]


def facts_of_version(steps: RunSteps | CorpusSteps, reported: Receipt) -> VersionFacts:
    """What the registry is told of the model of a run."""
    return of_corpus(steps, reported) if isinstance(steps, CorpusSteps) else of_run(steps, reported)


def of_run(steps: RunSteps, reported: Receipt) -> VersionFacts:
    config, row = steps.config, steps.config.source_row
    return VersionFacts(
        config=config,
        subject=config.dataset,
        about=f"{config.model.family} trained on {row.title}. Licence of the data: {row.licence}.",
        card=model_card(steps, reported),
        summary=first_screen_text(steps),
        facts=tags(steps, reported, steps.evaluation, config.dataset, steps.evaluated.recipe),
        settings=config.model_dump(mode="json"),
        trained=steps.trained,
        judged=(Judged(row, config.dataset, steps.shards, steps.evaluation),),
        papers={"report": reported} | ({"quality": steps.quality} if steps.quality else {}),
        defaults=default_params(config),
    )


def of_corpus(steps: CorpusSteps, reported: Receipt) -> VersionFacts:
    """The same of a corpus: the errors on each member under its name."""
    corpus, config = steps.corpus, steps.config
    first = steps.judged[0].steps
    judged = tuple(
        Judged(
            row_of(one),
            one.member.name,
            one.steps.shards,
            one.steps.evaluation,
            not one.member.is_held_out,
            f"{one.member.name}/",
        )
        for one in steps.judged
    )
    evaluated = ",".join(one.steps.evaluated.recipe for one in steps.judged)
    return VersionFacts(
        config=config,
        subject=corpus.name,
        about=f"{steps.family} trained on {corpus.title}. Licences: {licence_of(steps)}.",
        card=corpus_card(steps, reported),
        summary=corpus_summary(steps),
        facts=tags(steps, reported, first.evaluation, corpus.name, evaluated),
        settings=config.model_dump(mode="json", exclude={"dataset"}) | {"corpus": corpus.name},
        trained=steps.trained,
        judged=judged,
        papers={"report": reported},
        defaults=default_params(first.config) | {"zone": "UTC"},
    )


def row_of(judged: JudgedMember) -> Dataset:
    """The row of a member, with what its corpus says of the files."""
    told = {"is_redistributable": judged.member.may_be_passed_on}
    return judged.steps.config.source_row.model_copy(update=told)


def tags(
    steps: RunSteps | CorpusSteps, reported: Receipt, evaluation: Path, subject: str, evaluated: str
) -> dict[str, str]:
    """What names a version, and what of it may change without making another one."""
    return {
        "train_content": steps.store.manifest(steps.trained).content,
        "train_recipe": steps.trained.recipe,
        "calibration": sha256_file(evaluation / CALIBRATION_FILE)[:16],
        "source": source_digest(steps.config.model.family),
        "evaluate_recipe": evaluated,
        "report_recipe": reported.recipe,
        "dataset": subject,
        **gated(steps).score_tags,
    }
