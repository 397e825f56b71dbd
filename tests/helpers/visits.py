"""Small generated shards of visits, for the tests of whatever reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from model.data.visits import PLACES_FILE, VISIT_SCHEMA, VISIT_WINDOW_SCHEMA, VisitShards
from model.earth.cells import cells_of, centres_of
from model.earth.geometry import step_between
from model.features.normaliser import Quantiles
from model.features.places import Places

CENTROID_DEG = (179.99, -17.0)
RESOLUTION = 8
START_US = 1_714_979_289_000_010  # a Monday morning
SCHEMA = pa.schema({"split": pa.string(), **VISIT_SCHEMA})
NUM_HISTORY = 3
SOME = Quantiles(10.0, 100.0, 1_000.0)


def places_of(cells: Sequence[int], **changes: Any) -> Places:
    """Places of these cells around the centroid, with made-up scales."""
    lon_deg_R, lat_deg_R = map(torch.from_numpy, centres_of(np.array(cells)))
    centre = (torch.tensor(degrees, dtype=torch.float64) for degrees in CENTROID_DEG)
    east_m_R, north_m_R = step_between(*centre, lon_deg_R, lat_deg_R)
    told = {
        "resolution": RESOLUTION,
        "cells": tuple(cells),
        "centroid_lon_deg": CENTROID_DEG[0],
        "centroid_lat_deg": CENTROID_DEG[1],
        "east_m": tuple(east_m_R.tolist()),
        "north_m": tuple(north_m_R.tolist()),
        "num_visits": 100,
        "min_stay_s": 300.0,
        **dict.fromkeys(("duration_s", "travel_s", "distance_m"), SOME),
        "max_distance_m": 5_000.0,
        "max_elapsed_s": 1e6,
    }
    return Places(**(told | changes))


def write_visit_shards(
    folder: Path, lengths: Mapping[str, Sequence[int]], rows_per_group: int = 3, zone: str = "UTC"
) -> VisitShards:
    """Visits near the date line: a row of each length, and a window for each visit but three."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    rows = {
        split: [_row(generator, split, *of) for of in enumerate(sizes)]
        for split, sizes in lengths.items()
    }
    known = sorted({cell for row in rows["train"] for cell in _cells(row).tolist()})
    places = places_of(known)
    windows: list[dict[str, Any]] = []
    for split, told in rows.items():
        for row in told:
            exact = (np.array(row["exact_lon_deg"]), np.array(row["exact_lat_deg"]))
            row["region_id"] = places.region_ids(*exact)
            row["lon_deg"], row["lat_deg"] = centres_of(_cells(row))
            windows += _windows(row, split)
        table = pa.Table.from_pylist(told, schema=SCHEMA)
        path = folder / f"{split}-000.parquet"
        pq.write_table(table, path, row_group_size=rows_per_group, write_page_checksum=True)
    # Numbered against the order of rows, so that nothing may lean on it.
    for number, window in enumerate(reversed(windows)):
        window["window_id"] = number
    index = pa.Table.from_pylist(windows, schema=pa.schema(VISIT_WINDOW_SCHEMA))
    pq.write_table(index, folder / "windows.parquet", write_page_checksum=True)
    (folder / PLACES_FILE).write_text(json.dumps(places.to_json()))
    return VisitShards.open(folder, zone)


def _row(generator: np.random.Generator, split: str, number: int, size: int) -> dict[str, Any]:
    """Visits at some of five places of one's own; stays of up to a day, ways of up to an hour."""
    duration_us = generator.integers(300_000_000, 86_400_000_000, size)
    travel_us = generator.integers(0, 3_600_000_000, size)
    place = generator.integers(0, 5, size) + (0 if split == "train" else 4)
    return {
        "entity_id": f"{split}-{number}",
        "split": split,
        "arrived_us": START_US + np.cumsum(duration_us + travel_us) - duration_us,
        "duration_s": duration_us / 1e6,
        "exact_lon_deg": (CENTROID_DEG[0] + 0.01 * place + 180) % 360 - 180,
        "exact_lat_deg": CENTROID_DEG[1] + 0.01 * generator.random(size).round(),
        "is_censored": generator.random(size) < 0.2,
        "is_way_seen": generator.random(size) < 0.8,
    }


def _cells(row: Mapping[str, Any]) -> np.ndarray:
    return cells_of(row["exact_lon_deg"], row["exact_lat_deg"], RESOLUTION)


def _windows(row: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    return [
        {
            "entity_id": row["entity_id"],
            "split": split,
            "task": "next_visit",
            "mask": "last",
            "start": start,
            "num_points": NUM_HISTORY + 1,
            "num_context": NUM_HISTORY,
            "is_observed": [True] * NUM_HISTORY + [False],
        }
        for start in range(len(row["arrived_us"]) - NUM_HISTORY)
    ]
