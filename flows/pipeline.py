"""Pipeline: from raw files to a registered model: ingest, prepare, pretrain, assess."""

from prefect import flow

from flows.assess import assessment_of
from flows.ingest import points_of
from flows.prepare import prepared
from flows.pretrain import pretrained
from tasks.catalog.run import recorded_run
from tasks.config.pipeline import PipelineConfig
from tasks.release.outcome import Assessment
from tasks.runtime.machine import Machine
from tasks.runtime.store import Store


@flow
def pipeline(config: PipelineConfig = PipelineConfig(), source: str = "") -> Assessment:
    """From the raw files of a dataset to a registered model.

    Args:
        config: The dataset, and everything else that can change a result.
        source: File, folder, archive or address of the raw files; empty for the embedded sample.
    """
    store = Store(Machine().store)
    with recorded_run(store, "pipeline", config.dataset):
        points = points_of(config, source, store)
        data = prepared(config, points, store)
        trained = pretrained(config, data.shards, store)
        return assessment_of(config, data, trained, store)
