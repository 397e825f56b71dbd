"""Small generated shard folders, for the tests of whatever reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from model.data.shards import MOTION_SCHEMA, TRIP_SCHEMA, WINDOW_SCHEMA, Shards
from model.features.point_features import steps_of

SCHEMA = pa.schema(
    {
        "dataset": pa.string(),
        "entity_id": pa.string(),
        "split": pa.string(),
        **TRIP_SCHEMA,
        "speed_mps": pa.list_(pa.float32()),
        "turn_rad": pa.list_(pa.float32()),
    }
)
WINDOW_CONTEXT, WINDOW_POINTS = 20, 40


def write_shards(
    folder: Path,
    lengths: Mapping[str, Sequence[int]],
    rows_per_group: int = 4,
    rows_per_file: int = 1_000,
    started_at: datetime = datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC),
    t_s: Sequence[float] | None = None,
    zone: str = "UTC",
    reported_every: int = 0,
) -> Shards:
    """Random walks near the date line: a trip of each length, and windows every 5 points.

    Of every so manieth trip a motion is reported that is unlike any other, of none if it is 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    windows: list[dict[str, object]] = []
    for split, sizes in lengths.items():
        trips = [
            _trip(generator, split, number, size, started_at, t_s)
            for number, size in enumerate(sizes)
        ]
        schema = SCHEMA
        if reported_every:
            schema = pa.schema([*SCHEMA, *pa.schema(MOTION_SCHEMA)])
            for number, trip in enumerate(trips):
                trip |= reported(number, len(trip["t_s"]), number % reported_every == 0)
        for bucket, first in enumerate(range(0, len(trips), rows_per_file)):
            table = pa.Table.from_pylist(trips[first : first + rows_per_file], schema=schema)
            path = folder / f"{split}-{bucket:03d}.parquet"
            options = {"compression": "zstd", "write_page_checksum": True}
            pq.write_table(table, path, row_group_size=rows_per_group, **options)
        windows += _windows(trips, split)
    # Numbered against the order of trips, so that nothing may lean on it.
    for number, window in enumerate(reversed(windows)):
        window["window_id"] = number
    windows.sort(key=lambda window: window["window_id"])
    index = pa.Table.from_pylist(windows, schema=pa.schema(WINDOW_SCHEMA))
    pq.write_table(index, folder / "windows.parquet", write_page_checksum=True)
    return Shards.open(folder, zone)


def reported(number, size, is_reported):
    """East and north of a reported motion, which tell the trip and the point."""
    place_N = np.arange(size) if is_reported else np.full(size, np.nan)
    return {"reported_east_mps": number + 0.0 * place_N, "reported_north_mps": -place_N}


def _trip(generator, split, number, size, started_at, t_s):
    time_s = np.cumsum(generator.integers(1, 20_000_000, size)) / 1e6 if t_s is None else t_s
    time_s = np.asarray(time_s) - time_s[0]
    lon_deg = 179.99 + np.cumsum(generator.normal(0, 1e-3, size))
    lon_deg = (lon_deg + 180) % 360 - 180
    lat_deg = -17.0 + np.cumsum(generator.normal(0, 1e-3, size))
    step = steps_of(*(torch.from_numpy(value)[None] for value in (lon_deg, lat_deg, time_s)))[0]
    east_m, north_m, step_s = step.numpy().T
    return {
        "dataset": "walk",
        "entity_id": f"{split}-{number // 2}",
        "trip_id": f"{split}-{number:05d}",
        "split": split,
        "started_at": started_at,
        "t_s": time_s,
        "lon_deg": lon_deg,
        "lat_deg": lat_deg,
        "step_east_m": east_m,
        "step_north_m": north_m,
        "step_s": step_s,
        "speed_mps": np.zeros(size),
        "turn_rad": np.zeros(size),
    }


def forecast_window(split: str, num_context: int, num_points: int, start: int) -> dict[str, object]:
    """What a stored window tells besides its place."""
    return {
        "split": split,
        "task": "forecast",
        "mask": "horizon",
        "num_points": num_points,
        "num_context": num_context,
        "is_observed": [place < num_context for place in range(num_points)],
        "interval_s": 600.0,
        "speed_mps": 1.0 + start,
        "has_stop": start == 0,
        "turn_rad": 0.1 * start,
        "num_history": start,
        "is_seen": None if split == "train" else start > 0,
    }


def _windows(trips, split):
    return [
        {
            "trip_id": trip["trip_id"],
            "entity_id": trip["entity_id"],
            "start": start,
            **forecast_window(split, WINDOW_CONTEXT, WINDOW_POINTS, start),
        }
        for trip in trips
        for start in range(0, len(trip["t_s"]) - WINDOW_POINTS + 1, 5)
    ]
