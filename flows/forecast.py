"""A registered model on a file of trajectories: batch inference."""

from prefect import flow

from tasks.config import ForecastConfig
from tasks.forecast import Predictions, forecast_file
from tasks.register import as_task
from tasks.settings import Paths
from tasks.store import Store


@flow
def forecast(source: str, output: str, config: ForecastConfig = ForecastConfig()) -> Predictions:
    """Forecast the trajectories of a file with a registered model.

    Args:
        source: Parquet or CSV file with trajectory_id, tracked_at, lon_deg and lat_deg.
        output: Parquet file to write.
        config: The registered model, how far it forecasts, and its samples.
    """
    store = Store(Paths().store)
    store.prepare()
    return as_task(forecast_file)(config, source, output, store)
