"""Examples of forecasts: windows that are typical, and those that a model misses by most.

Of each there is what was known, what came, and what everyone forecast, and of whoever tells a
spread samples and the radius that should hold four fifths of what comes.

Shapes: C windows, H horizon steps, S samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import torch
from torch import Tensor

from ..data.shards import Shards
from ..interface.answerer import Forecaster, Sampler
from ..interface.answers import Forecast
from .forecast_scores import ForecastWindows, read_forecast_windows
from .score_table import Row

NUM_EACH = 3
NUM_SAMPLES = 64
NUM_SHOWN = 20  # of the samples
WINDOWS_AT_ONCE = 1_024
TYPICAL, WORST = "typical", "worst"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema(
    {
        "window_id": pa.int64(),
        **dict.fromkeys(("role", "entity_id", "kind"), pa.string()),
        **dict.fromkeys(("sample", "step"), pa.int64()),
        "at": pa.timestamp("us", "UTC"),
        **dict.fromkeys(("lon_deg", "lat_deg", "radius_p80_m"), pa.float64()),
    }
)


@dataclass(frozen=True)
class Line:
    """Points of one kind (C, H) of some windows, the first of them at a step."""

    kind: str
    first_step: int
    columns: tuple[Tensor, Tensor, Tensor]
    radius_p80_m_CH: Tensor | None = None
    sample: int | None = None

    def rows(self, place: int) -> Iterator[Row]:
        """One row a point of a window; `time_s` counts as its window does."""
        radius_m_CH = self.radius_p80_m_CH
        points = zip(*(column[place].tolist() for column in self.columns), strict=True)
        for number, (lon_deg, lat_deg, time_s) in enumerate(points):
            radius_m = torch.nan if radius_m_CH is None else radius_m_CH[place, number].item()
            yield {
                "kind": self.kind,
                "sample": self.sample,
                "step": self.first_step + number,
                "time_s": time_s,
                "lon_deg": lon_deg,
                "lat_deg": lat_deg,
                "radius_p80_m": radius_m if radius_m == radius_m else None,
            }


def chosen_windows(errors: pa.Table) -> dict[int, str]:
    """The role of each window that is shown, by the errors of the model (`window_errors` rows).

    The worst are of different entities; the typical ones are nearest to the median.
    """
    found = errors.select(["value", "window_id", "entity_id"]).to_pylist()
    ranked = sorted(found, key=lambda row: (-row["value"], row["window_id"]))
    first_of_entity = {row["entity_id"]: row["window_id"] for row in reversed(ranked)}
    worst = [row for row in ranked if first_of_entity[row["entity_id"]] == row["window_id"]]
    roles = dict.fromkeys((row["window_id"] for row in worst[:NUM_EACH]), WORST)
    middle = len(ranked) / 2
    by_middle = sorted(enumerate(ranked), key=lambda item: abs(item[0] - middle))
    typical = [row["window_id"] for _, row in by_middle if row["window_id"] not in roles]
    return roles | dict.fromkeys(typical[:NUM_EACH], TYPICAL)


def example_forecasts(
    shards: Shards,
    forecasters: Sequence[Forecaster],
    split: str,
    roles: Mapping[int, str],
    seed: int = 0,
) -> pa.Table:
    """The windows of these roles, times given, one row a point.

    `kind` is context, truth or the name of a forecaster; step 0 is the last known point. Rows with
    a `sample` are one of the futures that this forecaster tells.
    """
    rows: list[Row] = []
    for stored, windows in read_forecast_windows(shards, split, WINDOWS_AT_ONCE):
        names = stored.batch.window_id_B.tolist()
        places = [place for place, name in enumerate(names) if name in roles]
        if not places:
            continue
        asked = windows.at(torch.tensor(places))
        lines = [line for one in lines_of(asked, forecasters, seed) for line in one]
        for number, place in enumerate(places):
            name, start_us = names[place], stored.started_us_B[place].item()
            about = {"window_id": name, "role": roles[name], "entity_id": stored.entity_id_B[place]}
            rows += [
                about | at_instant(row, start_us) for line in lines for row in line.rows(number)
            ]
    return pa.Table.from_pylist(rows, SCHEMA)


def at_instant(row: Row, started_us: float) -> Row:
    instant = timedelta(microseconds=int(started_us)) + timedelta(seconds=row["time_s"])
    return row | {"at": EPOCH + instant}


def lines_of(
    asked: ForecastWindows, forecasters: Sequence[Forecaster], seed: int
) -> Iterator[list[Line]]:
    """What is drawn of some windows."""
    known = asked.context
    before = (known.lon_deg_BT, known.lat_deg_BT, known.time_s_BT)
    yield [Line("context", 1 - known.lon_deg_BT.shape[1], before)]
    yield [Line("truth", 1, (asked.lon_deg_BH, asked.lat_deg_BH, asked.time_s_BH))]
    num_steps = asked.time_s_BH.shape[1]
    for one in forecasters:
        if isinstance(one, Sampler):
            told = one.sampled_forecast(known, num_steps, asked.time_s_BH, NUM_SAMPLES, seed)
        else:
            told = one.forecast(known, num_steps, asked.time_s_BH)
        yield told_lines(one.name, told, asked)


def told_lines(name: str, told: Forecast, asked: ForecastWindows) -> list[Line]:
    """The point forecast with its areas, and some samples."""
    points, times = (told.lon_deg_BH, told.lat_deg_BH), asked.time_s_BH
    lines = [Line(name, 1, (*points, times), told.radius_p80_m_BH)]
    lon_deg_CSH, lat_deg_CSH = told.sample_lon_deg_BSH, told.sample_lat_deg_BSH
    if lon_deg_CSH is None or lat_deg_CSH is None:
        return lines
    pairs = zip(lon_deg_CSH.unbind(1), lat_deg_CSH.unbind(1), strict=True)
    return lines + [
        Line(name, 1, (*pair, times), sample=number)
        for number, pair in enumerate(pairs)
        if number < NUM_SHOWN
    ]
