"""Register: a trained model as a version in MLflow, which this file and `registry/` import.

Cheap and idempotent instead of cached, since the registry is outside state that no recipe can name:
`register` first looks for the version. `promote.py` does the same for its decision.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from model.families import VISITS, reads
from tasks.config.pipeline import PipelineConfig
from tasks.registry.client import experiment_id, registry
from tasks.registry.models import CANDIDATE, alias_version
from tasks.release.bundle import (
    ENTRY,
    answer_of,
    example_points,
    example_visits,
    requirements_of,
    write_bundle,
)
from tasks.release.mlflow_metrics import mlflow_metrics
from tasks.release.version_facts import Judged, VersionFacts, facts_of_version
from tasks.report.corpus_report import CorpusSteps
from tasks.report.facts import RunSteps
from tasks.runtime.frozen import Frozen
from tasks.runtime.store import Receipt, Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

DESCRIPTION = "mlflow.note.content"  # the tag that MLflow shows as the description of a run
MAX_CURVE_POINTS = 1_000  # of one metric: more would slow MLflow's own pages


class Registration(Frozen):
    """A version of a registered model."""

    name: str
    version: str
    run_id: str
    is_new: bool


def registered_name(config: PipelineConfig) -> str:
    return f"trajfoundry-{config.model.family}-{config.dataset}"


# Register ---------------------------------------------------------------------------------------


def register(
    steps: RunSteps | CorpusSteps, reported: Receipt, flow_run_id: str | None = None
) -> Registration:
    """The version of a trained model, made only if there is none yet; always the candidate.

    The report, and the quality report of its data where there is one, are logged with the run.
    """
    told = facts_of_version(steps, reported)
    name, facts = told.name, told.facts
    with registry(steps.store) as client:
        version = find_version(client, name, facts)
        is_new = version is None
        if version is None:
            run_id, model_id, source = log_run(client, told, steps.store, flow_run_id)
            ensure_registered(client, told)
            version = client.create_model_version(
                name, source, run_id, tags=dict(facts), description=told.card, model_id=model_id
            )
        elif any(version.tags.get(key) != text for key, text in facts.items()):
            # A newer assessment of the same weights.
            log_numbers(client, str(version.run_id), told.metrics)
            client.set_tag(str(version.run_id), DESCRIPTION, told.summary)
            client.update_model_version(name, version.version, told.card)
            for key, text in facts.items():
                client.set_model_version_tag(name, version.version, key, text)
        if alias_version(client, name, CANDIDATE) != str(version.version):
            client.set_registered_model_alias(name, CANDIDATE, version.version)
        return Registration(
            name=name, version=str(version.version), run_id=str(version.run_id), is_new=is_new
        )


def find_version(client: MlflowClient, name: str, facts: Mapping[str, str]) -> ModelVersion | None:
    """The newest version of these weights, calibration and source whose files are still there.

    Weights are named by content: what another recipe has made alike is no new version.
    """
    wanted = " and ".join(
        [f"name = '{name}'"]
        + [f"tags.`{key}` = '{facts[key]}'" for key in ("train_content", "calibration", "source")]
    )
    found = client.search_model_versions(wanted, order_by=["version_number DESC"])
    return next((version for version in found if has_files(client, version)), None)


def has_files(client: MlflowClient, version: ModelVersion) -> bool:
    """Whether a version's files are where they were put; those of a moved store are not."""
    location = client.get_model_version_download_uri(version.name, version.version)
    if location.startswith("models:/m-"):
        location = client.get_logged_model(location.removeprefix("models:/")).artifact_location
    parts = urlsplit(location)
    return parts.scheme != "file" or (Path(unquote(parts.path)) / "MLmodel").is_file()


def ensure_registered(client: MlflowClient, told: VersionFacts) -> None:
    from mlflow.exceptions import MlflowException

    tags = {"dataset": told.subject}
    try:
        client.create_registered_model(told.name, tags=tags, description=told.about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def log_run(
    client: MlflowClient, told: VersionFacts, store: Store, flow_run_id: str | None
) -> tuple[str, str, str]:
    """One MLflow run with all that is known of a model: its id, the model's id and address."""
    import mlflow
    import pandas as pd

    trained = told.trained
    tags = {
        "train_recipe": trained.recipe,
        "mlflow.source.name": "trajfoundry",
        DESCRIPTION: told.summary,
    }
    if flow_run_id:
        tags["prefect.flow_run_id"] = flow_run_id
    title = f"{told.config.model.family}-{told.subject}-{trained.recipe[:8]}"
    with mlflow.start_run(
        experiment_id=experiment_id(client, store), run_name=title, tags=tags
    ) as started:
        run_id = str(started.info.run_id)
        # Nested settings with dotted names.
        [settings] = pd.json_normalize(dict(told.settings)).to_dict("records")
        mlflow.log_params({str(name): value for name, value in settings.items()})
        log_numbers(client, run_id, told.metrics)
        log_curve(client, run_id, store.sound(trained) / "metrics.jsonl")
        for one in told.judged:
            context = "training" if one.is_learned else "evaluation"
            mlflow.log_input(dataset_input(one), context=context)
        for folder, receipt in told.papers.items():
            for path in sorted(store.sound(receipt).iterdir()):
                if path.suffix in (".html", ".md", ".png") or path.name == "quality.json":
                    client.log_artifact(run_id, str(path), folder)
        with store.draft() as scratch:
            model = log_model(told, store.sound(trained), scratch)
    return run_id, model.model_id, model.model_uri


def log_metrics(client: MlflowClient, run_id: str, evaluated: Path) -> None:
    """The errors of the model and the baselines on every task that is judged."""
    log_numbers(client, run_id, mlflow_metrics(evaluated))


def log_numbers(client: MlflowClient, run_id: str, numbers: Sequence[tuple[str, float]]) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(name, value, 0, 0) for name, value in numbers]
    for first in range(0, len(metrics), 1_000):
        client.log_batch(run_id, metrics=metrics[first : first + 1_000])


def log_curve(client: MlflowClient, run_id: str, path: Path) -> None:
    """The course of training, thinned to what a plot can show."""
    from mlflow.entities import Metric

    names = ("loss", "validation_loss", "learning_rate", "gradient_norm")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name in names:
        points = [(line["step"], line[name]) for line in lines if name in line]
        stride = -(-len(points) // MAX_CURVE_POINTS) or 1
        metrics = [Metric(f"train/{name}", value, 0, step) for step, value in points[::stride]]
        if metrics:
            client.log_batch(run_id, metrics=metrics)


def dataset_input(judged: Judged) -> Any:
    """Data that a model was trained or judged on: their name, home page and recipe."""
    from mlflow.data.http_dataset_source import HTTPDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    source = HTTPDatasetSource(judged.row.homepage)
    described: Any = MetaDataset  # its base declares a method that MLflow never asks for
    return described(source, name=judged.dataset, digest=judged.shards.recipe)


def log_model(told: VersionFacts, trained: Path, scratch: Path) -> Any:
    """Store the model as a Python file with its bundle; nothing in it is pickled."""
    import mlflow

    defaults, family = told.defaults, told.config.model.family
    example = example_visits() if reads(family) == VISITS else example_points(defaults["task"])
    evaluated = told.judged[0].folder
    bundle = write_bundle(scratch / "bundle", trained, defaults, evaluated, told.origin)
    return mlflow.pyfunc.log_model(
        name="model",
        python_model=str(ENTRY),
        artifacts={"bundle": bundle.as_uri()},
        signature=signature(defaults, family),
        input_example=example.to_pandas(),
        pip_requirements=list(requirements_of(bundle)),
    )


def signature(defaults: Mapping[str, Any], family: str) -> Any:
    """The parameters, and the answer of the default task.

    The rows have no schema: MLflow's would refuse whole numbers, times and tables of Arrow, and
    CSV that it serves. The entry checks them itself, and the input example shows them.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    answer = answer_of(defaults["task"], family)
    outputs: list[Any] = [ColSpec(kind, name) for name, kind in answer.items()]
    types = {str: "string", int: "long"}
    params = [ParamSpec(name, types[type(value)], value) for name, value in defaults.items()]
    if "horizon" in defaults:
        params.append(ParamSpec("at", "string", [], shape=(-1,)))
    return ModelSignature(None, Schema(outputs), ParamSchema(params))
