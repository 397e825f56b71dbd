"""From raw files to a registered model: ingest, prepare, pretrain, assess."""

from prefect import flow

from flows.assess import assessment_of
from flows.ingest import points_of
from flows.prepare import shards_of
from flows.pretrain import checkpoint_of
from tasks.assessment import Assessment
from tasks.config import PipelineConfig
from tasks.runs import recorded_run
from tasks.settings import Paths
from tasks.store import Store


@flow
def pipeline(config: PipelineConfig = PipelineConfig(), source: str = "") -> Assessment:
    """From the raw files of a dataset to a registered model.

    Args:
        config: The dataset, and everything else that can change a result.
        source: File, folder, archive or address of the raw files; empty for the embedded sample.
    """
    store = Store(Paths().store)
    with recorded_run(store, "pipeline", config.dataset):
        points = points_of(config, source, store)
        shards = shards_of(config, points, store)
        trained = checkpoint_of(config, shards, store)
        return assessment_of(config, shards, trained, store)
