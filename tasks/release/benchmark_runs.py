"""Benchmark runs in MLflow: the suite, below it its cells, and below each the trainings by seed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING

from tasks.config.suite import Suite
from tasks.evaluate.benchmark import rankings_in
from tasks.evaluate.cells import JudgedCell
from tasks.evaluate.opened_cells import Row, grouped
from tasks.registry.client import experiment_id, registry
from tasks.release.register import log_metrics, log_numbers
from tasks.runtime.errors import Unavailable
from tasks.runtime.progress import log
from tasks.runtime.stage import as_task
from tasks.runtime.store import Receipt, Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT = "mlflow.parentRunId"
DONE = "leaderboard_recipe"  # set last: a run that was cut short has none, and is made again


def logged(
    suite: Suite, judged: Sequence[JudgedCell], made: Receipt, page: Receipt, store: Store
) -> str:
    """The MLflow run of a benchmark; none where the registry is away, for the results stand."""
    try:
        return as_task(log_benchmark)(suite, judged, made, page, store)
    except Unavailable as error:
        log(f"not logged in MLflow, run again once it answers: {error}", logging.WARNING)
        return ""


def log_benchmark(
    suite: Suite, judged: Sequence[JudgedCell], made: Receipt, page: Receipt, store: Store
) -> str:
    """The MLflow run of a benchmark, made only if there is none yet."""
    ranked = rankings_in(store.sound(made))
    with registry(store) as client:
        experiment = experiment_id(client, store)
        found = client.search_runs([experiment], f"tags.{DONE} = '{page.recipe}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        with started(client, experiment, f"benchmark-{suite.name}", {"suite": suite.name}) as run:
            for path in sorted(store.sound(page).glob("leaderboard.*")):
                client.log_artifact(run, str(path))
            for own in grouped(judged, lambda one: one.cell.place).values():
                log_cell(client, experiment, run, own, ranked, store)
            client.set_tag(run, DONE, page.recipe)
        return run


def log_cell(
    client: MlflowClient,
    experiment: str,
    parent: str,
    judged: Sequence[JudgedCell],
    ranked: Sequence[Row],
    store: Store,
) -> None:
    """The run of a cell with its skills, and below it one for each seed with all its errors."""
    about = dict(zip(("dataset", "split_kind", "model"), judged[0].cell.place, strict=True))
    own = [row for row in ranked if about.items() <= row.items()]
    skills = [
        (f"{row['task']}/{name}", row[name])
        for row in own
        for name in ("skill", "low", "high", "seed_low", "seed_high")
    ]
    with started(client, experiment, judged[0].cell.title, {PARENT: parent} | about) as run:
        log_numbers(client, run, [(name, value) for name, value in skills if isfinite(value)])
        for one in judged:
            tags = {PARENT: run, "evaluate_recipe": one.evaluated.recipe} | about
            with started(client, experiment, f"seed {one.cell.seed}", tags) as nested:
                client.log_param(nested, "seed", one.cell.seed)
                log_metrics(client, nested, store.sound(one.evaluated))


@contextmanager
def started(
    client: MlflowClient, experiment: str, title: str, tags: dict[str, str]
) -> Iterator[str]:
    """A run that ends with what becomes of it."""
    run_id = str(client.create_run(experiment, tags=tags, run_name=title).info.run_id)
    try:
        yield run_id
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
