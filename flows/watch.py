"""Watch: a registered model on the newest data, marked where it falls behind the baselines."""

from prefect import flow

from flows import steps
from flows.steps import Watched
from tasks.config.pipeline import DataConfig


@flow
def watch(config: DataConfig = DataConfig(), model: str = "", source: str = "") -> Watched:
    """Judge a registered model on the newest data, and mark it if it falls behind the baselines.

    Nothing is trained. A fall is told by the event trajfoundry.model.fell-behind, and by the tag
    drift of the version.

    Args:
        config: The dataset, and everything else that decides its windows.
        model: A registered model; if empty the champion of chemin on the dataset.
        source: Raw files with the newest data; empty for what was last ingested.
    """
    return steps.watch(config, model, source)
