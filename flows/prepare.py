"""Points to clean points, trips, steps, windows and shards."""

from prefect import flow

from tasks.clean import clean
from tasks.config import PipelineConfig
from tasks.features import features
from tasks.quality import quality, show_quality
from tasks.regions import regions
from tasks.runs import recorded_run
from tasks.settings import Paths
from tasks.shards import shards
from tasks.split import split
from tasks.store import Receipt, Store
from tasks.warehouse import points_in_force


def shards_of(config: PipelineConfig, points: Receipt, store: Store) -> Receipt:
    """The shards that training and evaluation read, made of the points of a snapshot."""
    cleaned = clean(config, points, store)
    entities = split(config, cleaned, store)
    featured = features(config, cleaned, store)
    known = regions(config, cleaned, entities, store)
    show_quality(quality(config, points, cleaned, featured, known, store), store)
    return shards(config, cleaned, featured, entities, known, store)


@flow
def prepare(config: PipelineConfig = PipelineConfig()) -> Receipt:
    """Make shards of the points of a dataset, as they were last ingested.

    Args:
        config: The dataset, and everything else that can change a result.
    """
    store = Store(Paths().store)
    with recorded_run(store, "prepare", config.dataset):
        points = points_in_force(config.dataset, store)
        return shards_of(config, points, store)
