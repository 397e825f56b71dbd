"""Register: the model of a run that could not reach the registry."""

from prefect import flow

from flows.assess import assessment_of
from flows.prepare import prepared
from flows.pretrain import pretrained
from tasks.catalog.run import recorded_run
from tasks.catalog.warehouse import points_last_reported
from tasks.config.pipeline import PipelineConfig
from tasks.release.outcome import Assessment
from tasks.runtime.machine import Machine
from tasks.runtime.store import Store


@flow
def register(config: PipelineConfig = PipelineConfig()) -> Assessment:
    """Register what a run has trained and judged; its finished steps are only looked up.

    Args:
        config: As that run was asked: the dataset, and everything else that can change a result.
    """
    store = Store(Machine().store)
    with recorded_run(store, "register", config.dataset):
        points = points_last_reported(config.dataset, store)
        data = prepared(config, points, store)
        trained = pretrained(config, data.shards, store)
        return assessment_of(config, data, trained, store)
