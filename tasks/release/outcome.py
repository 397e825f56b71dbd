"""The outcome of a run for people: what was compared, what the registry holds, where to look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq

from tasks.release.promote import Promotion
from tasks.release.register import Registration
from tasks.runtime.frozen import Frozen
from tasks.runtime.machine import Machine
from tasks.runtime.run_records import StageRun, stages_so_far
from tasks.runtime.store import Counts, Receipt, Store

SHOWN_SPLIT = "test"


@dataclass(frozen=True)
class Shown:
    """What Prefect shows of a table of errors: its columns, and the digits of its numbers."""

    file: str
    description: str
    columns: tuple[str, ...]
    digits: Mapping[str, int]
    track: str = ""


SHOWN: Mapping[str, Shown] = MappingProxyType(
    {
        "errors": Shown(
            "metrics.parquet",
            "Errors in metres on test windows, times given.",
            ("model", "horizon_steps", "ade_m", "fde_m", "skill", "num_windows"),
            {"ade_m": 0, "fde_m": 0, "skill": 3},
            "times_given",
        ),
        "recovery": Shown(
            "recovery.parquet",
            "Errors in metres at hidden points of test windows.",
            ("task", "track", "mask", "model", "mae_m", "rmse_m", "skill", "num_windows"),
            {"mae_m": 0, "rmse_m": 0, "skill": 3},
        ),
        "durations": Shown(
            "durations.parquet",
            "Errors of travel times in seconds on test journeys.",
            ("track", "model", "mae_s", "rmse_s", "mape", "coverage_80", "skill", "num_windows"),
            {"mae_s": 0, "rmse_s": 0, "mape": 3, "coverage_80": 3, "skill": 3},
        ),
    }
)


class Assessment(Frozen):
    """The steps of a run, the registered version, and what the gate said of it."""

    dataset: str
    stages: tuple[StageRun, ...]
    registration: Registration
    promotion: Promotion

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
        tracking = Machine().tracking_uri
        root = tracking if tracking.startswith("http") else Machine().mlflow_page
        name, version = self.registration.name, self.registration.version
        return f"{root.rstrip('/')}/#/models/{name}/versions/{version}"


def assessed(dataset: str, registration: Registration, promotion: Promotion) -> Assessment:
    """What the present run has come to."""
    return Assessment(
        dataset=dataset,
        stages=stages_so_far(),
        registration=registration,
        promotion=promotion,
    )


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
    from prefect.artifacts import (
        create_link_artifact,
        create_markdown_artifact,
        create_table_artifact,
    )

    name = assessment.dataset.replace("_", "-")  # all that the key of an artifact may hold
    report = store.folder(assessment.receipt("report")) / "report.md"
    create_markdown_artifact(
        report.read_text(encoding="utf-8"),
        key=f"{name}-report",
        description="What was read, trained and measured.",
    )
    for kind, about in SHOWN.items():
        if rows := shown_errors(assessment, store, kind):
            create_table_artifact(rows, key=f"{name}-{kind}", description=about.description)
    create_link_artifact(
        assessment.page,
        key=f"{name}-model",
        link_text=assessment.candidate_uri,
        description="The registered version in MLflow.",
    )


def shown_errors(
    assessment: Assessment, store: Store, kind: str = "errors"
) -> list[dict[str, Any]]:
    """Errors of the model and the baselines on the test split, rounded; what is NaN is empty."""
    shown = SHOWN[kind]
    asked = [("split", "=", SHOWN_SPLIT)] + ([("track", "=", shown.track)] if shown.track else [])
    table = pq.read_table(
        store.folder(assessment.receipt("evaluate")) / shown.file, filters=asked
    ).select(list(shown.columns))
    rows: list[dict[str, Any]] = table.to_pylist()
    return [
        row | {name: rounded(row[name], digits) for name, digits in shown.digits.items()}
        for row in rows
    ]


def rounded(value: float, digits: int) -> float | None:
    """A number that JSON can hold, or nothing."""
    return round(value, digits) if math.isfinite(value) else None
