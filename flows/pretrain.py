"""Shards to a trained model."""

from prefect import flow

from flows.prepare import shards_of
from tasks.config import PipelineConfig
from tasks.pretext import pretext
from tasks.runs import recorded_run
from tasks.settings import Paths
from tasks.store import Receipt, Store
from tasks.train import train
from tasks.warehouse import points_in_force


def checkpoint_of(config: PipelineConfig, shards: Receipt, store: Store) -> Receipt:
    """The weights of a model whose encoding is proved; a training that was cut short goes on."""
    pretext(config, shards, store)
    return train(config, shards, store)


@flow
def pretrain(config: PipelineConfig = PipelineConfig()) -> Receipt:
    """Train a model on a dataset as it was last ingested.

    Args:
        config: The dataset, and everything else that can change a result.
    """
    store = Store(Paths().store)
    with recorded_run(store, "pretrain", config.dataset):
        points = points_in_force(config.dataset, store)
        shards = shards_of(config, points, store)
        return checkpoint_of(config, shards, store)
