"""Pretrain: shards to a trained model."""

from prefect import flow

from flows import steps
from tasks.config.pipeline import PipelineConfig
from tasks.runtime.store import Receipt


@flow
def pretrain(config: PipelineConfig = PipelineConfig()) -> Receipt:
    """Train a model on a dataset as it was last ingested.

    Args:
        config: The dataset, and everything else that can change a result.
    """
    return steps.pretrain(config)
