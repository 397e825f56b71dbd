"""Prepare: points to clean points, trips, steps, windows and shards."""

from prefect import flow

from flows import steps
from tasks.config.pipeline import PipelineConfig
from tasks.runtime.store import Receipt


@flow
def prepare(config: PipelineConfig = PipelineConfig()) -> Receipt:
    """Make shards of the points of a dataset, as they were last ingested.

    Args:
        config: The dataset, and everything else that can change a result.
    """
    return steps.prepare(config)
