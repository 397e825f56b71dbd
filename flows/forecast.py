"""Forecast: a registered model on a file of trajectories, as batch inference."""

from prefect import flow

from flows import steps
from tasks.config.pipeline import ForecastConfig
from tasks.serve.batch_predict import Predictions


@flow
def forecast(source: str, output: str, config: ForecastConfig = ForecastConfig()) -> Predictions:
    """Forecast the trajectories of a file with a registered model.

    Args:
        source: Parquet or CSV file with trajectory_id, tracked_at, lon_deg and lat_deg.
        output: Parquet file to write.
        config: The registered model, how far it forecasts, and its samples.
    """
    return steps.forecast(source, output, config)
