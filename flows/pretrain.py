"""Pretrain: shards to a trained model."""

from typing import NamedTuple

from prefect import flow

from flows.prepare import prepared
from tasks.catalog.run import recorded_run
from tasks.catalog.warehouse import points_in_force
from tasks.config.pipeline import PipelineConfig
from tasks.pretrain.encoding_check import probe_encoding
from tasks.pretrain.train import train
from tasks.runtime.machine import Machine
from tasks.runtime.store import Receipt, Store


class Pretrained(NamedTuple):
    """The weights of a model, and the proof that its encoding keeps places and times."""

    probe: Receipt
    model: Receipt


def pretrained(config: PipelineConfig, shards: Receipt, store: Store) -> Pretrained:
    """A model whose encoding is proved; a training that was cut short goes on."""
    probe = probe_encoding(config, shards, store)
    return Pretrained(probe, train(config, shards, store))


@flow
def pretrain(config: PipelineConfig = PipelineConfig()) -> Receipt:
    """Train a model on a dataset as it was last ingested.

    Args:
        config: The dataset, and everything else that can change a result.
    """
    store = Store(Machine().store)
    with recorded_run(store, "pretrain", config.dataset):
        points = points_in_force(config.dataset, store)
        data = prepared(config, points, store)
        return pretrained(config, data.shards, store).model
