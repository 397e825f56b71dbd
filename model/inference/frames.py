"""Frames: tables as callers have them, read into flat arrays, with every slip told in words.

This and its neighbours, one for each kind of rows, alone of this package know pandas: they stand
between a registered model and whoever asks it. No message names a coordinate, for it may be
somebody's home.

Shapes: N rows, R ids.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


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


def as_frame(
    table: Any,
    columns: tuple[str, ...],
    what: str = "points",
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> pd.DataFrame:
    """The columns that are read of a frame; those that have a default need not be there."""
    frame = frame_of(table)
    wanted = ", ".join(columns)
    for name in columns:
        if (count := list(frame.columns).count(name)) != 1:
            fault = "there twice" if count else "missing"
            raise ValueError(f"column {name} is {fault}; a frame of {what} has: {wanted}")
    told = {name: plain(frame[name]) for name in columns}
    spare = {name: frame.get(name, default) for name, default in defaults.items()}
    return pd.DataFrame(told | spare)


def optional(frame: pd.DataFrame, name: str) -> pd.Series | None:
    """The values of a column that need not be there; None without it."""
    if (count := list(frame.columns).count(name)) > 1:
        raise ValueError(f"column {name} is there twice; leave one of them out")
    return plain(frame[name]) if count else None


def frame_of(table: Any) -> pd.DataFrame:
    """A frame of a frame, a table of another library, or what JSON holds."""
    frame = table.to_pandas() if hasattr(table, "to_pandas") else table
    are_records = isinstance(frame, list) and all(isinstance(row, Mapping) for row in frame)
    if isinstance(frame, Mapping) or are_records:
        frame = pd.DataFrame(frame)
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"expected a DataFrame or an Arrow table, not {type(frame).__name__}")
    return frame


def plain(column: pd.Series) -> pd.Series:
    """The values of a column themselves, where it is categorical."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(object).infer_objects()
    return column


def numbered(ids: pd.Series) -> tuple[Any, Any]:
    """The number of each row's id, counted as they came, and the ids by number."""
    try:
        number_N, id_R = pd.factorize(ids)
    except TypeError:
        raise ValueError(f"{ids.name} holds a value that is neither text nor number") from None
    if (number_N < 0).any():
        raise ValueError(f"{ids.name} is missing in {rows(int((number_N < 0).sum()))}")
    return number_N.astype(np.int64), id_R


def rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def instants(times: pd.Series, may_lack: bool = False) -> pd.Series:
    """Instants, all of them or as far as given; a time without a zone is taken as UTC.

    Numbers are refused: nobody can tell seconds from milliseconds.
    """
    num_missing = int(times.isna().sum())
    if num_missing and not may_lack:
        raise ValueError(f"{times.name} is missing in {num_missing} of {rows(len(times))}")
    given = times.dropna()
    if (number := number_among(given)) is not None:
        raise ValueError(
            f"{times.name} must be a date and time or its ISO 8601 text, {WANTED_TIME}, "
            f"not a number such as {number}"
        )
    try:
        return pd.to_datetime(times, utc=True, format="ISO8601")
    except (ValueError, TypeError, OverflowError):
        is_read = pd.to_datetime(given, utc=True, format="ISO8601", errors="coerce").notna()
        unread = [str(value)[:40] for value in given[~is_read].head(1)]
        raise ValueError(
            f"{times.name} holds {unread[0]!r}, which is not a date and time; give ISO 8601 text, "
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


def numbers(column: pd.Series, wanted: str = "decimal degrees") -> Any:
    """Numbers, NaN where one is missing. A refusal shows none: it may be somebody's home."""
    if column.dtype == object:
        column = column.mask(column.isna(), np.nan)
    try:
        return column.astype("float64").to_numpy()
    except (ValueError, TypeError):
        raise ValueError(
            f"{column.name} holds a value that is not a number; give {wanted}, with a point"
        ) from None
