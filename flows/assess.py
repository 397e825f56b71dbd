"""Model and baselines on the same windows: a report, a candidate, and a champion or the reason."""

from prefect import flow
from prefect.runtime import flow_run

from flows.prepare import shards_of
from flows.pretrain import checkpoint_of
from tasks.assessment import (
    Assessment,
    assessed,
    data_counts,
    quality_report,
    show_in_prefect,
)
from tasks.config import PipelineConfig
from tasks.evaluate import evaluate
from tasks.pretext import pretext
from tasks.promote import promote
from tasks.register import as_task, register
from tasks.report import report
from tasks.runs import recorded_run
from tasks.settings import Paths
from tasks.store import Receipt, Store
from tasks.warehouse import points_in_force


def assessment_of(
    config: PipelineConfig, shards: Receipt, trained: Receipt, store: Store
) -> Assessment:
    """The errors of a model beside the baselines, its version, and what the gate says of it."""
    evaluated = evaluate(config, shards, trained, store)
    proved = pretext(config, shards, store)
    written = report(config, shards, trained, evaluated, proved, store, data_counts())
    candidate = as_task(register)(
        config, trained, evaluated, written, store, flow_run.id, quality_report()
    )
    promotion = as_task(promote)(config, candidate, evaluated, store)
    assessment = assessed(config.dataset, candidate, promotion)
    show_in_prefect(assessment, store)
    return assessment


@flow
def assess(config: PipelineConfig = PipelineConfig()) -> Assessment:
    """Compare a model with the baselines, register it, and promote it if it is better.

    Args:
        config: The dataset, and everything else that can change a result.
    """
    store = Store(Paths().store)
    with recorded_run(store, "assess", config.dataset):
        points = points_in_force(config.dataset, store)
        shards = shards_of(config, points, store)
        trained = checkpoint_of(config, shards, store)
        return assessment_of(config, shards, trained, store)
