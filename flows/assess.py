"""Assess: model and baselines on the same windows, a report, a candidate, perhaps a champion."""

from prefect import flow

from flows import steps
from tasks.config.pipeline import PipelineConfig
from tasks.release.outcome import Assessment


@flow
def assess(config: PipelineConfig = PipelineConfig()) -> Assessment:
    """Compare a model with the baselines, register it, and promote it if it is better.

    Args:
        config: The dataset, and everything else that can change a result.
    """
    return steps.assess(config)
