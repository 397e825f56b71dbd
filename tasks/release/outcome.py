"""The outcome of a run for people: what was compared, what the registry holds, where to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import Field

from tasks.release.promote import Promotion
from tasks.release.register import Registration
from tasks.report.error_tables import (
    FORECASTS,
    INFILLS,
    NEXT_VISITS,
    RECOVERIES,
    TRAVEL_TIMES,
    Topic,
    read_scores,
)
from tasks.runtime.frozen import Frozen
from tasks.runtime.machine import Machine
from tasks.runtime.progress import is_in_run
from tasks.runtime.redaction import parted
from tasks.runtime.run_records import StageRun, stages_so_far
from tasks.runtime.store import Counts, Receipt, Store

SHOWN_SPLIT = "test"


# Tables that Prefect shows beside a run: the key, what stands in it, and of which tasks.
SHOWN: Mapping[str, tuple[str, Topic]] = MappingProxyType(
    {
        "errors": ("Errors in metres on test windows, times given.", FORECASTS),
        "recovery": ("Errors in metres at hidden points of test windows.", RECOVERIES),
        "durations": ("Errors of travel times in seconds on test journeys.", TRAVEL_TIMES),
        "visits": ("Errors of next visits on test windows.", NEXT_VISITS),
        "gaps": ("Errors of visits in gaps of test windows.", INFILLS),
    }
)


class Assessment(Frozen):
    """The steps of a run, the registered version, and what the gate said of it."""

    dataset: str
    registration: Registration
    promotion: Promotion
    stages: tuple[StageRun, ...] = Field(default_factory=stages_so_far)

    def receipt(self, stage: str) -> Receipt:
        """The receipt of a stage that makes one folder."""
        return next(run.receipt for run in self.stages if run.receipt.stage == stage)

    @property
    def candidate_uri(self) -> str:
        return f"models:/{self.registration.name}@candidate"

    @property
    def lines(self) -> list[str]:
        """What the registry holds now, in plain words."""
        version = self.registration.version
        novelty = "new" if self.registration.is_new else "as before"
        verdict = f"version {version}" if self.promotion.is_champion else "not this version"
        return [
            f"candidate  {self.candidate_uri}, version {version} ({novelty})",
            f"champion   {verdict}: {self.promotion.reason}",
        ]

    @property
    def page(self) -> str:
        """The page of the version in MLflow."""
        tracking, *_ = parted(Machine().tracking_uri)
        root = tracking if tracking.startswith("http") else Machine().mlflow_page
        name, version = self.registration.name, self.registration.version
        return f"{root.rstrip('/')}/#/models/{name}/versions/{version}"


class MemberErrors(Frozen):
    """A member of a corpus, and the errors on its windows."""

    name: str
    title: str
    part: str
    evaluated: Receipt


class CorpusAssessment(Assessment):
    """The same of a run on a corpus, whose version is judged on each member by itself."""

    members: tuple[MemberErrors, ...]
    reported: Receipt


def data_counts(steps: Sequence[Receipt]) -> Counts:
    """What became of the records, by the steps that they went through, over all their buckets."""
    totals: Counts = {}
    for step in steps:
        for name, count in step.counts.items():
            key = f"{step.stage}_{name}"
            before = totals.get(key, 0)
            if not isinstance(count, str) and not isinstance(before, str):
                totals[key] = before + count
    return totals


def show_in_prefect(assessment: Assessment, store: Store) -> None:
    """Leave the report, the table of errors and the way to the model beside the flow run."""
    if not is_in_run():
        return
    from prefect.artifacts import (
        create_link_artifact,
        create_markdown_artifact,
        create_table_artifact,
    )

    name = assessment.dataset.replace("_", "-")  # all that the key of an artifact may hold
    report = store.sound(assessment.receipt("report")) / "report.md"
    create_markdown_artifact(
        report.read_text(encoding="utf-8"),
        key=f"{name}-report",
        description="What was read, trained and measured.",
    )
    for kind, (about, _) in SHOWN.items():
        if rows := shown_errors(assessment, store, kind):
            create_table_artifact(rows, key=f"{name}-{kind}", description=about)
    create_link_artifact(
        assessment.page,
        key=f"{name}-model",
        link_text=assessment.candidate_uri,
        description="The registered version in MLflow.",
    )


def show_corpus_in_prefect(assessment: CorpusAssessment, store: Store) -> None:
    """Leave the report and the way to the model beside the flow run."""
    if not is_in_run():
        return
    from prefect.artifacts import create_link_artifact, create_markdown_artifact

    name = assessment.dataset.replace("_", "-")
    report = store.sound(assessment.reported) / "report.md"
    create_markdown_artifact(
        report.read_text(encoding="utf-8"),
        key=f"{name}-report",
        description="What was learned from each member, and the errors on it.",
    )
    create_link_artifact(
        assessment.page,
        key=f"{name}-model",
        link_text=assessment.candidate_uri,
        description="The registered version in MLflow.",
    )


def shown_errors(
    assessment: Assessment, store: Store, kind: str = "errors"
) -> list[dict[str, Any]]:
    """Errors of the model and the baselines on the test split, as the report spells them."""
    scores = read_scores(store.sound(assessment.receipt("evaluate")))
    return [
        {"asked": table.title, **dict(zip(table.columns, cells, strict=True))}
        for table in SHOWN[kind][1].tables(scores, SHOWN_SPLIT)
        for cells in table.cells
    ]
