"""Register: the model of a run that could not reach the registry."""

from prefect import flow

from flows import steps
from tasks.config.pipeline import PipelineConfig
from tasks.release.outcome import Assessment


@flow
def register(config: PipelineConfig = PipelineConfig()) -> Assessment:
    """Register what a run has trained and judged; its finished steps are only looked up.

    Args:
        config: As that run was asked: the dataset, and everything else that can change a result.
    """
    return steps.register(config)
