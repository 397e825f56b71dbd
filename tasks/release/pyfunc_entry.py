"""Pyfunc entry of a registered model: what MLflow runs to load it, with nothing of this project.

MLflow copies this one file into the model. It reads the model's own source from the bundle beside
it, under a name made of that source: no other module, and no other version, can take its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

COLUMNS = ("trajectory_id", "tracked_at", "lon_deg", "lat_deg")


class Refused(MlflowException, ValueError):
    """A request that is refused in a sentence, by `predict` and by MLflow's server alike."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence, INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        return self.sentence

    @message.setter
    def message(self, text: str) -> None:
        """Keep the sentence: the server would write the caller's points before it."""


def source_hash(folder: Path) -> str:
    """SHA-256 over the names and texts of the Python files of a package."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()


def load_package(folder: Path) -> ModuleType:
    """The serving module of the package in a folder, imported under a private name."""
    name = f"trajfoundry_model_{source_hash(folder)[:8]}"
    writes_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a registered model is never changed, not even by a cache
    try:
        if name not in sys.modules:
            import_package(name, folder)
        return importlib.import_module(f"{name}.inference.serving")
    finally:
        sys.dont_write_bytecode = writes_bytecode


def import_package(name: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


class TrajectoryModel(PythonModel):
    """Answers about trajectories: a long frame of points in, a frame of answers out.

    `tasks` are what it can be asked; each is a method of that name.
    """

    def load_context(self, context: Any) -> None:
        bundle = Path(context.artifacts["bundle"])
        facts = json.loads((bundle / "serving.json").read_bytes())
        self.serving = load_package(bundle / "model")
        self.trained = self.serving.load_trained(bundle, facts["weights_sha256"])
        self.defaults = self.serving.Params(**facts["params"])

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.trained.tasks)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The answer of the task that the parameters name."""
        try:
            return self.answer(model_input, dict(params or {}))
        except ValueError as error:
            raise Refused(str(error)) from None

    def answer(self, points: Any, choices: dict[str, Any]) -> pd.DataFrame:
        at = choices.pop("at", ())
        task = self.defaults.with_choices(choices).task
        self.serving.check_task(self.trained.model, task)
        if len(at):
            if task != "forecast":
                raise ValueError(f"at is for forecasts: {task} is asked by the rows alone")
            choices["at"] = at
        answer: pd.DataFrame = getattr(self, task)(points, **choices)
        return answer

    def request_of(
        self, task: str, points: Any, choices: dict[str, Any], may_lack: bool = False
    ) -> tuple[Any, Any, Any]:
        """The caller's choices in place of the defaults, the points, and the trajectories' ids.

        Of points that may lack something, places and times may be missing.
        """
        params = self.defaults.with_choices({"task": task} | choices)
        self.serving.check_task(self.trained.model, params.task)
        if params.task != task:
            raise ValueError(f"{task} was called with the task {params.task!r}; leave it out")
        frame = as_frame(points, COLUMNS)
        number_N, id_R = numbered(frame["trajectory_id"])
        instant_N = instants(frame["tracked_at"], may_lack)
        places = numbers(frame["lon_deg"]), numbers(frame["lat_deg"])
        columns = number_N, as_us(instant_N), *places
        if may_lack:
            has_time_N = instant_N.notna().to_numpy()
            return params, self.serving.sorted_sketch(*columns, has_time_N), id_R
        return params, self.serving.sorted_points(*columns), id_R

    # ------------------------------------------------------------------ tasks

    def forecast(
        self, points: Any, target_at: Any = None, at: Sequence[Any] = (), **choices: Any
    ) -> pd.DataFrame:
        """The next points of each trajectory, in the order in which the trajectories came.

        Takes frames and Arrow tables, any ids, whole-number coordinates, and times in any zone.
        `target_at` holds the instants asked for, as rows (trajectory_id, tracked_at) of equally
        many for each trajectory, and `at` those that are the same for all; without either they
        are predicted. Repeated rows count once.
        """
        params, known, id_R = self.request_of("forecast", points, choices)
        last_us_R = known.instant_us_N[known.offset_R[1:] - 1]
        target_us_RH = None
        if len(at):
            target_at = at_each(at, id_R)
        if target_at is not None:
            target_us_RH = targets_us(as_frame(target_at, COLUMNS[:2]), id_R)
            check_ahead(target_us_RH, last_us_R)
            params = params.with_choices({"horizon": target_us_RH.shape[1]})
        found = self.serving.forecast_points(self.trained, known, params, target_us_RH)
        return as_rows(found, id_R, last_us_R)

    def recover(self, points: Any, **choices: Any) -> pd.DataFrame:
        """All points of each trajectory, places that are missing filled in.

        A place is missing where both coordinates are NaN. Times may be missing too: the rows of
        such a trajectory count in the order given, all others in the order of time. What the model
        cannot tell, such as a stretch without a known point on both sides, stays missing.
        """
        params, sketch, id_R = self.request_of("recover", points, choices, may_lack=True)
        found = self.serving.recover_points(self.trained, sketch, params)
        return as_points(found, id_R)

    def travel_time(self, points: Any, **choices: Any) -> pd.DataFrame:
        """Seconds from the first row of each trajectory to its last, whose time is missing.

        Rows count in the order given. Those between are the path: places without times. Of a long
        one the model reads points at even distances in the row.
        """
        params, sketch, id_R = self.request_of("travel_time", points, choices, may_lack=True)
        found = self.serving.travel_times(self.trained, sketch, params)
        return pd.DataFrame(
            {
                "trajectory_id": id_R,
                "travel_s": found.median_s_B.double().numpy(),
                "travel_p10_s": found.p10_s_B.double().numpy(),
                "travel_p90_s": found.p90_s_B.double().numpy(),
            }
        )

    def embed(self, points: Any, **choices: Any) -> pd.DataFrame:
        """A vector of each trajectory in the columns e0, e1, and so on."""
        params, known, id_R = self.request_of("embed", points, choices)
        value_RD = self.serving.embeddings(self.trained, known, params)
        names = [f"e{number}" for number in range(value_RD.shape[1])]
        rows = pd.DataFrame(value_RD, columns=names)
        rows.insert(0, "trajectory_id", id_R)
        return rows

    def score(self, points: Any, **choices: Any) -> pd.DataFrame:
        """Mean surprise of a step of each trajectory in nats; missing where there is no step."""
        params, known, id_R = self.request_of("score", points, choices)
        value_R = self.serving.scores(self.trained, known, params)
        return pd.DataFrame({"trajectory_id": id_R, "surprise_nats": value_R})

    # ------------------------------------------------------------------ files

    def forecast_files(self, points: Path, target_at: Path, output: Path, **choices: Any) -> None:
        """As `forecast`, from Parquet to Parquet, one row group at a time.

        The row groups of both files hold whole trajectories, the same ones in the same order.
        """
        write_answers(partial(self.forecast, **choices), (points, target_at), output)

    def recover_files(self, points: Path, output: Path, **choices: Any) -> None:
        """As `recover`, from Parquet to Parquet, one row group of whole trajectories at a time."""
        write_answers(partial(self.recover, **choices), (points,), output)


def write_answers(ask: Callable[..., pd.DataFrame], files: tuple[Path, ...], output: Path) -> None:
    """Ask about each row group of the files and write the answer as a row group."""
    with contextlib.ExitStack() as opened:
        given = [opened.enter_context(pq.ParquetFile(path)) for path in files]
        groups = range(given[0].metadata.num_row_groups)
        frames = (ask(*(file.read_row_group(i) for file in given)) for i in groups)
        tables = (pa.table({name: as_column(frame[name]) for name in frame}) for frame in frames)
        first = next(tables)
        writer = opened.enter_context(pq.ParquetWriter(output, first.schema))
        for table in itertools.chain([first], tables):
            writer.write_table(table)


def as_column(column: pd.Series) -> pa.Array:
    """A column for Arrow, to which pandas hands no times with a zone without a warning."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        instant_N = column.dt.tz_convert(None).to_numpy()
        return pa.array(instant_N, pa.timestamp("us", "UTC"), from_pandas=True)
    return pa.array(column)


def as_frame(table: Any, columns: tuple[str, ...]) -> pd.DataFrame:
    """The columns that are read of a frame, a table of another library, or what JSON holds."""
    frame = table.to_pandas() if hasattr(table, "to_pandas") else table
    are_records = isinstance(frame, list) and all(isinstance(row, Mapping) for row in frame)
    if isinstance(frame, Mapping) or are_records:
        frame = pd.DataFrame(frame)
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"expected a DataFrame or an Arrow table, not {type(frame).__name__}")
    wanted = ", ".join(columns)
    for name in columns:
        if (count := list(frame.columns).count(name)) != 1:
            fault = "there twice" if count else "missing"
            raise ValueError(f"column {name} is {fault}; a frame of points has: {wanted}")
    return pd.DataFrame({name: plain(frame[name]) for name in columns})


def plain(column: pd.Series) -> pd.Series:
    """The values of a column themselves, where it is categorical."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(object).infer_objects()
    return column


def numbered(trajectory_id: pd.Series) -> tuple[Any, Any]:
    """The number of each row's trajectory, counted as they came, and the ids by number."""
    try:
        number_N, id_R = pd.factorize(trajectory_id)
    except TypeError:
        raise ValueError("trajectory_id holds a value that is neither text nor number") from None
    if (number_N < 0).any():
        raise ValueError(f"trajectory_id is missing in {rows(int((number_N < 0).sum()))}")
    return number_N.astype(np.int64), id_R


def rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def instants(tracked_at: pd.Series, may_lack: bool = False) -> pd.Series:
    """Instants, all of them or as far as given; a time without a zone is taken as UTC.

    Numbers are refused: nobody can tell seconds from milliseconds.
    """
    num_missing = int(tracked_at.isna().sum())
    if num_missing and not may_lack:
        raise ValueError(f"tracked_at is missing in {num_missing} of {rows(len(tracked_at))}")
    given = tracked_at.dropna()
    if (number := number_among(given)) is not None:
        raise ValueError(
            f"tracked_at must be a date and time or its ISO 8601 text, {WANTED_TIME}, "
            f"not a number such as {number}"
        )
    try:
        return pd.to_datetime(tracked_at, utc=True, format="ISO8601")
    except (ValueError, TypeError, OverflowError):
        is_read = pd.to_datetime(given, utc=True, format="ISO8601", errors="coerce").notna()
        unread = [str(value)[:40] for value in given[~is_read].head(1)]
        raise ValueError(
            f"tracked_at holds {unread[0]!r}, which is not a date and time; give ISO 8601 text, "
            f"{WANTED_TIME}"
        ) from None


WANTED_TIME = "such as 2024-09-01T06:00Z"


def number_among(column: pd.Series) -> Any:
    """A number that a column of times holds, if there is one."""
    if pd.api.types.is_numeric_dtype(column):
        return next(iter(column), None)
    values = column if column.dtype == object else ()
    return next((value for value in values if isinstance(value, int | float | np.number)), None)


def as_us(instant: pd.Series) -> Any:
    """Microseconds since 1970 UTC."""
    return instant.dt.as_unit("us").astype("int64").to_numpy()


def numbers(column: pd.Series) -> Any:
    """Numbers, NaN where one is missing. A refusal shows none: it may be somebody's home."""
    if column.dtype == object:
        column = column.mask(column.isna(), np.nan)
    try:
        return column.astype("float64").to_numpy()
    except (ValueError, TypeError):
        raise ValueError(
            f"{column.name} holds a value that is not a number; give decimal degrees, with a point"
        ) from None


def at_each(at: Sequence[Any], id_R: Any) -> pd.DataFrame:
    """The same instants for each trajectory."""
    asked = pd.DataFrame({"tracked_at": list(at)})
    return pd.DataFrame({"trajectory_id": id_R}).merge(asked, how="cross")


def targets_us(frame: pd.DataFrame, id_R: Any) -> Any:
    """Instants asked for (R, H), in the order of the trajectories."""
    number_N = pd.Index(id_R).get_indexer(frame["trajectory_id"])
    count_R = np.bincount(number_N[number_N >= 0], minlength=len(id_R))
    if (number_N < 0).any() or count_R.min() < 1 or count_R.min() != count_R.max():
        raise ValueError("target_at needs equally many instants for each trajectory of the points")
    instant_us_N = as_us(instants(frame["tracked_at"]))
    order_N = np.lexsort((instant_us_N, number_N))
    return instant_us_N[order_N].reshape(len(id_R), count_R[0])


def check_ahead(target_us_RH: Any, last_us_R: Any) -> None:
    """Refuse instants before the last known point."""
    num_past = int((target_us_RH < last_us_R[:, None]).any(axis=1).sum())
    if num_past:
        raise ValueError(
            f"an instant asked for lies before the last point of {num_past} of {len(last_us_R)} "
            "trajectories; ask for later ones, or leave out the points after it"
        )


def as_rows(found: Any, id_R: Any, last_us_R: Any) -> pd.DataFrame:
    """One row per forecast point; `horizon_s` counts from the last known point.

    `is_extrapolated` tells of steps that the model was not trained on.
    """
    num_trajectories, num_horizon = found.lon_deg_RH.shape
    instant_N = found.instant_us_RH.ravel().astype("datetime64[us]")
    return pd.DataFrame(
        {
            "trajectory_id": np.repeat(id_R, num_horizon),
            "step": np.tile(np.arange(1, num_horizon + 1), num_trajectories),
            "tracked_at": pd.Series(instant_N).dt.tz_localize("UTC"),
            "horizon_s": ((found.instant_us_RH - last_us_R[:, None]) / 1e6).ravel(),
            "lon_deg": found.lon_deg_RH.ravel(),
            "lat_deg": found.lat_deg_RH.ravel(),
            "radius_p50_m": found.radius_p50_m_RH.ravel(),
            "radius_p80_m": found.radius_p80_m_RH.ravel(),
            "radius_p95_m": found.radius_p95_m_RH.ravel(),
            "is_extrapolated": np.repeat(found.is_extrapolated_R, num_horizon),
        }
    )


def as_points(found: Any, id_R: Any) -> pd.DataFrame:
    """One row per point; what could not be told is missing."""
    points = found.points
    instant_N = points.instant_us_N.astype("datetime64[us]")
    instant_N[~points.has_time_N] = np.datetime64("NaT")
    return pd.DataFrame(
        {
            "trajectory_id": id_R[points.trajectory_N],
            "tracked_at": pd.Series(instant_N).dt.tz_localize("UTC"),
            "lon_deg": points.lon_deg_N,
            "lat_deg": points.lat_deg_N,
            "is_recovered": found.is_recovered_N,
        }
    )


set_model(TrajectoryModel())
