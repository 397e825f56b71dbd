"""Batch prediction: a registered model on a file of trajectories, Parquet or CSV in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.config.pipeline import ForecastConfig
from tasks.registry.models import loaded_model
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.frozen import Frozen
from tasks.runtime.store import Store, replacing

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".csv")


class Predictions(Frozen):
    """What a forecast of a file came to."""

    model: str
    output: str
    num_trajectories: int
    num_points: int

    @property
    def line(self) -> str:
        return (
            f"{self.num_points:,} points of {self.num_trajectories:,} trajectories "
            f"written to {self.output}"
        )


def forecast_file(config: ForecastConfig, source: str, output: str, store: Store) -> Predictions:
    """Write the forecasts of every trajectory in a file with a registered model."""
    given, wanted = Path(source), Path(output)
    check_names(given, wanted)
    points = read_points(given)
    choices = config.model_dump(exclude={"model", "trust_model_code"})
    trusts = config.trust_model_code
    with loaded_model(config.model, store, trust_model_code=trusts) as model:
        check_forecasts(model, config.model)
        try:
            found = model.forecast(points, **choices)
        except ValueError as error:
            raise DataError(f"{given.name}: {error}") from error
    write_rows(found, wanted)
    return Predictions(
        model=config.model,
        output=output,
        num_trajectories=int(found["trajectory_id"].nunique()),
        num_points=len(found),
    )


def check_forecasts(model: Any, address: str) -> None:
    # A version of before there were other tasks does not name its own.
    tasks = getattr(model, "tasks", ("forecast",))
    if "forecast" not in tasks:
        raise ConfigError(
            f"{address} does not forecast; it serves {', '.join(tasks)}: load it with MLflow, as "
            "README.md shows, or give --model one that forecasts"
        )


def check_names(source: Path, output: Path) -> None:
    if not source.is_file():
        raise ConfigError(f"no file {source}; give a file of points with --input")
    for path in (source, output):
        if path.suffix not in SUFFIXES:
            raise ConfigError(f"{path.name} must end in one of: {', '.join(SUFFIXES)}")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"no folder {output.absolute().parent}; make it first")


def read_points(source: Path) -> Any:
    """The points of a file as an Arrow table; the model itself checks the columns."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    try:
        if source.suffix == ".csv":
            return pa.csv.read_csv(source)
        return pq.read_table(source)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{source.name} is not a readable {source.suffix[1:]} file") from error


def write_rows(rows: pd.DataFrame, output: Path) -> None:
    with replacing(output) as beside:
        if output.suffix == ".csv":
            rows.to_csv(beside, index=False)
        else:
            rows.to_parquet(beside, index=False)
