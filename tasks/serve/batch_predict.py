"""Batch prediction: a registered model on a file of trajectories, Parquet or CSV in and out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from tasks.config.pipeline import ForecastConfig
from tasks.registry.installed_weights import WEIGHTS, installed_weights
from tasks.registry.models import loaded_model
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.frozen import Frozen
from tasks.runtime.store import Store, replacing
from tasks.runtime.words import counted

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".csv")
COLUMNS = ("trajectory_id", "tracked_at", "lon_deg", "lat_deg")


class Predictions(Frozen):
    """What a forecast of a file came to."""

    model: str
    output: str
    num_trajectories: int
    num_points: int

    @property
    def line(self) -> str:
        points = counted(self.num_points, "point")
        return (
            f"{points} of {counted(self.num_trajectories, 'trajectory')} written to {self.output}"
        )


def forecast_file(config: ForecastConfig, source: str, output: str, store: Store) -> Predictions:
    """Write the forecasts of every trajectory in a file with a registered model."""
    given, wanted = Path(source), Path(output)
    check_request(given, wanted)
    points = read_points(given)
    choices = config.model_dump(exclude={"model", "trust_model_code"})
    with asked_model(config, store) as model:
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


@contextlib.contextmanager
def asked_model(config: ForecastConfig, store: Store) -> Iterator[Any]:
    """The weights that are installed, or a registered model."""
    if config.model == WEIGHTS:
        yield installed_weights()
    else:
        trusts = config.trust_model_code
        with loaded_model(config.model, store, trust_model_code=trusts) as model:
            yield model


def check_forecasts(model: Any, address: str) -> None:
    # A version of before there were other tasks does not name its own.
    tasks = getattr(model, "tasks", ("forecast",))
    if "forecast" not in tasks:
        raise ConfigError(
            f"{address} does not forecast; it serves {', '.join(tasks)}: load it with MLflow, as "
            "README.md shows, or give --model one that forecasts"
        )


def check_request(source: Path, output: Path) -> None:
    """Refuse what cannot go well, before anything is started: names, folders, columns."""
    check_names(source, output)
    there = columns_of(source)
    for name in COLUMNS:
        if name not in there:
            raise DataError(
                f"{source.name}: column {name} is missing; a file of points has: "
                f"{', '.join(COLUMNS)}"
            )


def columns_of(source: Path) -> list[str]:
    """The names of the columns of a file, whose rows are not read."""
    with unreadable_told(source):
        if source.suffix == ".csv":
            with pyarrow.csv.open_csv(source) as reader:
                return list(reader.schema.names)
        return list(pq.read_schema(source).names)


@contextlib.contextmanager
def unreadable_told(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{source.name} is not a readable {source.suffix[1:]} file") from error


def check_names(source: Path, output: Path) -> None:
    if not source.is_file():
        raise ConfigError(f"no file {source}; give a file of points with --input")
    for path in (source, output):
        if path.suffix not in SUFFIXES:
            raise ConfigError(f"{path.name} must end in one of: {', '.join(SUFFIXES)}")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"no folder {output.absolute().parent}; make it first")


def read_points(source: Path) -> pa.Table:
    """The points of a file; the model itself checks the columns."""
    # An id stays as it is written: 007 is not 7.
    as_written = pyarrow.csv.ConvertOptions(
        column_types={"trajectory_id": pa.string()},
        strings_can_be_null=True,
        null_values=["", "nan", "NaN", "null"],
    )
    with unreadable_told(source):
        if source.suffix == ".csv":
            return pyarrow.csv.read_csv(source, convert_options=as_written)
        return pq.read_table(source, partitioning=None)


def write_rows(rows: pd.DataFrame, output: Path) -> None:
    with replacing(output) as beside:
        if output.suffix == ".csv":
            rows.to_csv(beside, index=False)
        else:
            rows.to_parquet(beside, index=False)
