"""Shards of made-up vehicles, as the notebooks read them: what a run of the pipeline would write.

Shapes: T points, F step features (east_m, north_m, s).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from model.data.shards import TRIP_SCHEMA, WINDOW_SCHEMA, Shards
from model.features.point_features import steps_of
from model.synthetic.world import Trajectory, World, trajectories

SHARES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
SHORTEST = 12  # points of the shortest trip


def write_vehicles(
    folder: Path, world: World, spans: Mapping[str, range], trips_per_file: int = 500
) -> Shards:
    """The vehicles of each split in files of so many trips, and the scales of train.

    Trips are of different lengths: each is the beginning of a trajectory of the world. Shards that
    the folder holds are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*-[0-9]*.parquet"):
        stale.unlink()
    pq.write_table(pa.schema(WINDOW_SCHEMA).empty_table(), folder / "windows.parquet")
    for split, span in spans.items():
        rows = [_row(one, index) for index, one in zip(span, _drawn(world, span), strict=True)]
        for number, first in enumerate(range(0, len(rows), trips_per_file)):
            part = pa.Table.from_pylist(
                rows[first : first + trips_per_file], pa.schema(TRIP_SCHEMA)
            )
            pq.write_table(part, folder / f"{split}-{number:03d}.parquet", row_group_size=100)
        if split == "train":
            (folder / "normaliser.json").write_text(json.dumps(_scales(rows)))
    return Shards.open(folder)


def _drawn(world: World, span: range) -> Iterator[Trajectory]:
    return trajectories(world, span.start, span.stop)


def _row(one: Trajectory, index: int) -> dict[str, Any]:
    num_points = int(np.random.default_rng(index).integers(SHORTEST, len(one.lon_deg_T) + 1))
    lon_deg_T, lat_deg_T = one.lon_deg_T[:num_points], one.lat_deg_T[:num_points]
    t_s_T = (one.tracked_us_T[:num_points] - one.tracked_us_T[0]) / 1e6
    points = (torch.from_numpy(axis_T) for axis_T in (lon_deg_T, lat_deg_T, t_s_T))
    east_m_T, north_m_T, step_s_T = steps_of(*points).numpy().T
    return {
        "trip_id": one.entity_id,
        "entity_id": one.entity_id,
        "started_at": int(one.tracked_us_T[0]),
        "t_s": t_s_T,
        "lon_deg": lon_deg_T,
        "lat_deg": lat_deg_T,
        "step_east_m": east_m_T,
        "step_north_m": north_m_T,
        "step_s": step_s_T,
    }


def _scales(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Deciles and medians of the steps, as the pipeline fits them on train."""
    steps = [
        np.stack([row[name][1:] for name in ("step_east_m", "step_north_m", "step_s")])
        for row in rows
    ]
    east_m_N, north_m_N, step_s_N = np.concatenate(steps, axis=1)
    step_m_N = np.hypot(east_m_N, north_m_N)
    measures = {"step_s": step_s_N, "speed_mps": step_m_N / step_s_N, "step_m": step_m_N}
    quantiles = {
        name: {key: float(np.quantile(value_N, share)) for key, share in SHARES.items()}
        for name, value_N in measures.items()
    }
    return {"num_steps": len(step_s_N), **quantiles}
