"""Pipeline: from raw files to a registered model: ingest, prepare, pretrain, assess."""

from prefect import flow

from flows import steps
from tasks.config.pipeline import PipelineConfig
from tasks.release.outcome import Assessment


@flow
def pipeline(config: PipelineConfig = PipelineConfig(), source: str = "") -> Assessment:
    """From the raw files of a dataset to a registered model.

    Args:
        config: The dataset, and everything else that can change a result.
        source: File, folder, archive or address of the raw files; empty for the embedded sample.
    """
    return steps.pipeline(config, source)
