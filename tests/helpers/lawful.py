"""Windows of `World(kind="ar1")`, whose best answer is known, and that answer.

Shapes: B windows, T points, C coordinates (east, north).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from helpers.walks import STARTED_US, batch_of
from model.data.shards import TRIP_SCHEMA, WINDOW_SCHEMA
from model.earth.geometry import step_between
from model.features.normaliser import Normaliser
from model.features.point_features import steps_of
from model.interface.batch import Batch
from model.synthetic.world import World, trajectories

torch.set_num_threads(1)


def points_of_world(world: World, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
    """Longitudes, latitudes and seconds (B, T) of whole trajectories."""
    found = list(trajectories(world, start, stop))
    instant_us_BT = torch.from_numpy(np.stack([one.tracked_us_T for one in found]))
    return (
        torch.from_numpy(np.stack([one.lon_deg_T for one in found])),
        torch.from_numpy(np.stack([one.lat_deg_T for one in found])),
        (instant_us_BT - instant_us_BT[:, :1]).double() / 1e6,
    )


def normaliser_of(points: tuple[Tensor, Tensor, Tensor]) -> Normaliser:
    step_BTF = steps_of(*points)[:, 1:]
    step_m, step_s = step_BTF[..., :2].norm(dim=-1), step_BTF[..., 2]
    values = {"step_s": step_s, "speed_mps": step_m / step_s, "step_m": step_m}
    shares = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
    stored = {
        name: {key: float(value.flatten().quantile(share)) for key, share in shares.items()}
        for name, value in values.items()
    }
    return Normaliser.from_json({"num_steps": step_s.numel(), **stored})


def write_shards_of_world(
    folder: Path, world: World, spans: dict[str, tuple[int, int]], rows_per_group: int = 2_000
) -> None:
    """Whole trajectories as what training reads: trips of each split, and the scales of train."""
    folder.mkdir(parents=True, exist_ok=True)
    index = pa.schema(WINDOW_SCHEMA).empty_table()
    pq.write_table(index, folder / "windows.parquet")
    for split, (start, stop) in spans.items():
        points = points_of_world(world, start, stop)
        num_rows, num_points = points[0].shape
        edges = pa.array(np.arange(num_rows + 1) * num_points, pa.int32())
        columns = [*points, *steps_of(*points).float().unbind(-1)]
        lists = [pa.ListArray.from_arrays(edges, value.numpy().ravel()) for value in columns]
        names = ("lon_deg", "lat_deg", "t_s", "step_east_m", "step_north_m", "step_s")
        table = {
            **dict.fromkeys(
                ("trip_id", "entity_id"),
                pa.array([f"{split}-{number:07d}" for number in range(num_rows)]),
            ),
            "started_at": pa.array([STARTED_US] * num_rows, pa.timestamp("us", tz="UTC")),
            **dict(zip(names, lists, strict=True)),
        }
        trips = pa.table({name: table[name] for name in TRIP_SCHEMA}, pa.schema(TRIP_SCHEMA))
        pq.write_table(trips, folder / f"{split}-000.parquet", row_group_size=rows_per_group)
        if split == "train":
            stored = normaliser_of(points).to_json()
            (folder / "normaliser.json").write_text(json.dumps(stored))


def batch_of_world(points: tuple[Tensor, Tensor, Tensor], rows: Tensor | slice) -> Batch:
    """Some of the trajectories as a batch; each keeps the number of its row as window."""
    window_N = torch.arange(len(points[0]))[rows]
    return replace(batch_of(*(value[rows] for value in points)), window_id_B=window_N)


def smoothed_m(
    world: World, points: tuple[Tensor, Tensor, Tensor], is_known_BT: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Best places (B, T, C) of all points given the known ones, and their variances (B, T).

    By conditioning of Gaussians in the plane, which also is what a Kalman smoother gives.
    """
    law, num = world.ar1, points[0].shape[1]
    lag_TT = np.abs(np.subtract.outer(np.arange(num), np.arange(num)))
    step_TT = law.step_sigma_m**2 * law.persistence**lag_TT
    step_TT[0] = step_TT[:, 0] = 0.0
    sum_TT = np.tril(np.ones((num, num)))
    # Where the first point truly lies is as good as unknown: a kilometre, beside metres.
    place_TT = sum_TT @ step_TT @ sum_TT.T + 1e6
    seen_TT = place_TT + law.noise_m**2 * np.eye(num)
    place_m_BTC = places_m(points)
    mean_BTC, variance_BT = np.empty_like(place_m_BTC), np.empty(is_known_BT.shape)
    weights: dict[bytes, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for row, is_known_T in enumerate(is_known_BT):
        key = is_known_T.tobytes()
        if key not in weights:
            known_TN = place_TT[:, is_known_T]
            weight_TN = np.linalg.solve(seen_TT[np.ix_(is_known_T, is_known_T)], known_TN.T).T
            variance_T = np.diag(seen_TT) - (weight_TN * known_TN).sum(axis=1)
            weights[key] = weight_TN, variance_T
        weight_TN, variance_BT[row] = weights[key]
        mean_BTC[row] = weight_TN @ place_m_BTC[row, is_known_T]
    return mean_BTC, variance_BT


def places_m(points: tuple[Tensor, Tensor, Tensor]) -> NDArray[np.float64]:
    """Places (B, T, C) seen from the first point: the law bends by millimetres on the sphere."""
    lon_deg_BT, lat_deg_BT, _ = points
    starts = lon_deg_BT[:, :1], lat_deg_BT[:, :1]
    return torch.stack(step_between(*starts, lon_deg_BT, lat_deg_BT), dim=-1).numpy()
