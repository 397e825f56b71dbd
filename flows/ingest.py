"""Ingest: raw files of one dataset to points."""

from prefect import flow

from tasks.catalog.run import recorded_run
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.ingest import ingest as ingest_files
from tasks.report.quality import refusal_reported
from tasks.runtime.machine import Machine
from tasks.runtime.store import Receipt, Store


def points_of(config: PipelineConfig, source: str, store: Store) -> Receipt:
    """The snapshot of the points of the raw files; only new and changed files are read."""
    with refusal_reported(config, store):
        return ingest_files(config, source, store)


@flow
def ingest(config: PipelineConfig = PipelineConfig(), source: str = "") -> Receipt:
    """Read the raw files of a dataset into points.

    Args:
        config: The dataset, and everything else that can change a result.
        source: File, folder, archive or address of the raw files; empty for the embedded sample.
    """
    store = Store(Machine().store)
    with recorded_run(store, "ingest", config.dataset):
        return points_of(config, source, store)
