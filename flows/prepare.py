"""Prepare: points to clean points, trips, steps, windows and shards."""

from typing import NamedTuple

from prefect import flow

from tasks.catalog.run import recorded_run
from tasks.catalog.warehouse import points_in_force
from tasks.config.pipeline import PipelineConfig
from tasks.prepare.clean import clean
from tasks.prepare.regions import regions
from tasks.prepare.shards import shards
from tasks.prepare.split import split
from tasks.prepare.step_features import features
from tasks.report.quality import quality, show_quality
from tasks.runtime.machine import Machine
from tasks.runtime.store import Receipt, Store


class Prepared(NamedTuple):
    """What became of the points of a dataset, from the snapshot to the shards."""

    points: Receipt
    cleaned: list[Receipt]
    regions: Receipt
    quality: Receipt
    shards: Receipt


def prepared(config: PipelineConfig, points: Receipt, store: Store) -> Prepared:
    """The shards that training and evaluation read, made of the points of a snapshot."""
    cleaned = clean(config, points, store)
    entities = split(config, cleaned, store)
    featured = features(config, cleaned, store)
    known = regions(config, cleaned, entities, store)
    judged = quality(config, points, cleaned, featured, known, store)
    show_quality(judged, store)
    made = shards(config, cleaned, featured, entities, known, store)
    return Prepared(points, cleaned, known, judged, made)


@flow
def prepare(config: PipelineConfig = PipelineConfig()) -> Receipt:
    """Make shards of the points of a dataset, as they were last ingested.

    Args:
        config: The dataset, and everything else that can change a result.
    """
    store = Store(Machine().store)
    with recorded_run(store, "prepare", config.dataset):
        points = points_in_force(config.dataset, store)
        return prepared(config, points, store).shards
