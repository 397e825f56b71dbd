"""Ingest: raw files of one dataset to points."""

from prefect import flow

from flows import steps
from tasks.config.pipeline import PipelineConfig
from tasks.runtime.store import Receipt


@flow
def ingest(config: PipelineConfig = PipelineConfig(), source: str = "") -> Receipt:
    """Read the raw files of a dataset into points.

    Args:
        config: The dataset, and everything else that can change a result.
        source: File, folder, archive or address of the raw files; empty for the embedded sample.
    """
    return steps.ingest(config, source)
