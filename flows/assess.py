"""Assess: model and baselines on the same windows, a report, a candidate, perhaps a champion."""

from prefect import flow
from prefect.runtime import flow_run

from flows.prepare import Prepared, prepared
from flows.pretrain import Pretrained, pretrained
from tasks.catalog.run import recorded_run
from tasks.catalog.warehouse import points_in_force
from tasks.config.pipeline import PipelineConfig
from tasks.evaluate.evaluate import evaluate
from tasks.release.outcome import Assessment, data_counts, show_in_prefect
from tasks.release.promote import promote
from tasks.release.register import register
from tasks.report.facts import RunSteps
from tasks.report.report import report
from tasks.runtime.machine import Machine
from tasks.runtime.stage import as_task
from tasks.runtime.store import Store


def assessment_of(
    config: PipelineConfig, data: Prepared, trained: Pretrained, store: Store
) -> Assessment:
    """The errors of a model beside the baselines, its version, and what the gate says of it."""
    counts = data_counts([data.points, *data.cleaned, data.regions])
    evaluated = evaluate(config, data.shards, trained.model, store)
    steps = RunSteps(config, store, data.shards, trained.model, evaluated, data.quality)
    reported = report(steps, trained.probe, counts)
    candidate = as_task(register)(steps, reported, flow_run.id)
    promotion = as_task(promote)(steps, candidate)
    assessment = Assessment(dataset=config.dataset, registration=candidate, promotion=promotion)
    show_in_prefect(assessment, store)
    return assessment


@flow
def assess(config: PipelineConfig = PipelineConfig()) -> Assessment:
    """Compare a model with the baselines, register it, and promote it if it is better.

    Args:
        config: The dataset, and everything else that can change a result.
    """
    store = Store(Machine().store)
    with recorded_run(store, "assess", config.dataset):
        points = points_in_force(config.dataset, store)
        data = prepared(config, points, store)
        trained = pretrained(config, data.shards, store)
        return assessment_of(config, data, trained, store)
