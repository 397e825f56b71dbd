"""Examples of forecasts: a few windows, what was known of them, what came, and what was forecast.

Shapes: H horizon steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from ..data.shards import Shards, window_index
from ..interface.answerer import Forecaster
from .forecast_scores import ForecastWindows, read_forecast_windows
from .judged_tasks import TIMES_GIVEN

NUM_EXAMPLES = 6
WINDOWS_AT_ONCE = 1_024
SCHEMA = pa.schema(
    {
        "window_id": pa.int64(),
        "kind": pa.string(),
        "step": pa.int64(),
        "lon_deg": pa.float64(),
        "lat_deg": pa.float64(),
    }
)


def example_forecasts(shards: Shards, forecasters: Sequence[Forecaster], split: str) -> pa.Table:
    """Windows spread over a split, times given, one row a point.

    `kind` is context, truth or the name of a forecaster; step 0 is the last known point.
    """
    ids = window_index(shards, split)["window_id"].to_pylist()
    chosen = {ids[place * len(ids) // NUM_EXAMPLES] for place in range(NUM_EXAMPLES)} if ids else ()
    rows: list[dict[str, object]] = []
    for stored, windows in read_forecast_windows(shards, split, WINDOWS_AT_ONCE):
        names = stored.batch.window_id_B.tolist()
        places = [place for place, name in enumerate(names) if name in chosen]
        if places:
            rows += example_rows(names, places, list(lines_of(windows, forecasters)))
    return pa.Table.from_pylist(rows, SCHEMA)


def lines_of(
    windows: ForecastWindows, forecasters: Sequence[Forecaster]
) -> Iterator[tuple[str, int, list[list[float]], list[list[float]]]]:
    """(kind, first step, longitudes, latitudes) of all windows."""
    known = windows.context
    num_context = known.lon_deg_BT.shape[1]
    yield "context", 1 - num_context, known.lon_deg_BT.tolist(), known.lat_deg_BT.tolist()
    yield "truth", 1, windows.lon_deg_BH.tolist(), windows.lat_deg_BH.tolist()
    for one in forecasters:
        lon_deg_BH, lat_deg_BH = windows.answered(one, TIMES_GIVEN)
        yield one.name, 1, lon_deg_BH.tolist(), lat_deg_BH.tolist()


def example_rows(
    names: Sequence[int],
    places: Sequence[int],
    lines: Sequence[tuple[str, int, list[list[float]], list[list[float]]]],
) -> list[dict[str, object]]:
    return [
        {
            "window_id": names[place],
            "kind": kind,
            "step": first + number,
            "lon_deg": lon_deg,
            "lat_deg": lat_deg,
        }
        for place in places
        for kind, first, lon_deg_BH, lat_deg_BH in lines
        for number, (lon_deg, lat_deg) in enumerate(
            zip(lon_deg_BH[place], lat_deg_BH[place], strict=True)
        )
    ]
