"""Fine-tuning: a short training that begins with a registered model, on a few entities."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tasks.config.pipeline import DataConfig, PipelineConfig
from tasks.config.sections import ModelConfig, TrainConfig
from tasks.pretrain.train import train
from tasks.registry.initial_weights import initial_model, kind_of
from tasks.runtime.store import Receipt, Store

FLAG = "--model"
# Few entities are learned by heart in few steps: validation stops it before.
COURSE = {
    "max_steps": 200,
    "learning_rate": 3e-4,
    "warmup_steps": 10,
    "validate_every": 20,
    "patience": 5,
}


def fine_tuned(
    config: DataConfig,
    address: str,
    learning: Receipt,
    store: Store,
    course: Mapping[str, Any] = MappingProxyType({}),
) -> Receipt:
    """What becomes of the model at an address that is trained on learning shards.

    The course names settings of training that are other than here.
    """
    store.prepare()
    with initial_model(address, store, FLAG) as folder:
        kind = kind_of(folder, address)
    given = {name: getattr(config, name) for name in DataConfig.model_fields}
    given |= {
        "model": ModelConfig.model_validate(kind),
        "train": TrainConfig.model_validate({"init": address} | COURSE | {**course}),
    }
    return train(PipelineConfig.model_validate(given), learning, store)
