"""Forecasts by peers, run in the environment of the peers (`tests/peers.txt`): Arrow in, Arrow out.

`bench_forecast_peers.py PEER FORM WINDOWS POINTS [WEIGHTS]`: `WINDOWS` is an Arrow file whose rows
are the stored windows, in metres east and north of the last known point and in seconds since it;
`POINTS` is written with the places at the target times. Peers are series models: each axis is a
series of its own, of velocities whose forecast is summed over the steps, or of positions as they
stand. They know nothing of times but that steps follow one another.

Shapes: N windows, T known values, H values asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather

Forecaster = Callable[[np.ndarray, int], np.ndarray]
MIN_VALUES = 8  # a shorter series is no question to fracast: its first value stands before it again
AXES = ("east_m", "north_m")


def last_value(value_NT: np.ndarray, num_asked: int) -> np.ndarray:
    """The last value goes on: of velocities the constant one, of positions none at all."""
    return np.repeat(value_NT[:, -1:], num_asked, axis=1)


def fracast(value_NT: np.ndarray, num_asked: int) -> np.ndarray:
    """Fracast-0, whose weights are in its wheel."""
    from fracast.inference import FracastModel

    model = FracastModel.from_pretrained(weights="fp32")
    told_NHQ = model.forecast_batch(value_NT, horizon=num_asked)
    return told_NHQ[:, :, model.quantiles.index(0.5)]


def auto_theta(value_NT: np.ndarray, num_asked: int) -> np.ndarray:
    """AutoTheta of statsforecast, fitted to each series alone: what no training is needed for."""
    from statsforecast.models import AutoTheta

    told = [AutoTheta(season_length=1).forecast(y=row_T, h=num_asked)["mean"] for row_T in value_NT]
    return np.stack(told)


def chronos(value_NT: np.ndarray, num_asked: int, weights: str) -> np.ndarray:
    """A Chronos, Chronos-Bolt or Chronos-2 in a folder of weights: its median."""
    import torch
    from chronos import BaseChronosPipeline

    pipeline = BaseChronosPipeline.from_pretrained(weights, device_map="cpu")
    quantiles, _ = pipeline.predict_quantiles(
        list(torch.from_numpy(value_NT).float()), num_asked, quantile_levels=[0.5]
    )
    told = [np.asarray(one).reshape(-1)[-num_asked:] for one in quantiles]
    return np.stack(told)


def timesfm(value_NT: np.ndarray, num_asked: int, weights: str) -> np.ndarray:
    """A TimesFM 2.5 in a folder of weights: its point forecast."""
    import timesfm as library

    model = library.TimesFM_2p5_200M_torch.from_pretrained(weights, torch_compile=False)
    asked = {"max_context": 1_024, "max_horizon": 128, "normalize_inputs": True}
    model.compile(library.ForecastConfig(**asked, infer_is_positive=False))
    point_NH, _ = model.forecast(horizon=num_asked, inputs=list(value_NT))
    return np.asarray(point_NH)


PEERS: dict[str, Callable[..., np.ndarray]] = {
    one.__name__: one for one in (last_value, fracast, auto_theta, chronos, timesfm)
}


def long_enough(value_NT: np.ndarray) -> np.ndarray:
    missing = max(MIN_VALUES - value_NT.shape[1], 0)
    return np.pad(value_NT, ((0, 0), (missing, 0)), mode="edge")


def as_velocities(
    place_NT: np.ndarray, step_NT: np.ndarray, step_NH: np.ndarray, tell: Forecaster
) -> np.ndarray:
    """Places at the targets, from a forecast of the velocity in each step; none stands for 0 s."""
    moved_NT = np.diff(place_NT, axis=1)
    rate_NT = np.divide(moved_NT, step_NT, out=np.zeros_like(moved_NT), where=step_NT > 0)
    velocity_NH = tell(long_enough(rate_NT), step_NH.shape[1])
    return place_NT[:, -1:] + np.cumsum(velocity_NH * step_NH, axis=1)


def as_positions(
    place_NT: np.ndarray, step_NT: np.ndarray, step_NH: np.ndarray, tell: Forecaster
) -> np.ndarray:
    """Places at the targets, as the series of places goes on."""
    return tell(long_enough(place_NT), step_NH.shape[1])


FORMS = {"velocities": as_velocities, "positions": as_positions}


def answered(windows: pa.Table, form: str, tell: Forecaster) -> pa.Table:
    """The places at the target times of each window; equal lengths are told together."""
    rows = {name: windows[name].to_pylist() for name in windows.column_names}
    lengths = [
        (len(known), len(asked))
        for known, asked in zip(rows["time_s"], rows["target_s"], strict=True)
    ]
    told: dict[str, list[list[float] | None]] = {name: [None] * len(windows) for name in AXES}
    for length in sorted(set(lengths)):
        alike = [place for place, own in enumerate(lengths) if own == length]
        known_NT, asked_NH = (
            np.array([rows[name][one] for one in alike]) for name in ("time_s", "target_s")
        )
        step_NT = np.diff(known_NT, axis=1)
        step_NH = np.diff(asked_NH, axis=1, prepend=known_NT[:, -1:])
        for axis in AXES:
            place_NT = np.array([rows[axis][one] for one in alike])
            found_NH = FORMS[form](place_NT, step_NT, step_NH, tell)
            for place, found_H in zip(alike, found_NH.astype(np.float64).tolist(), strict=True):
                told[axis][place] = found_H
    return pa.table({name: pa.array(told[name], pa.list_(pa.float64())) for name in AXES})


if __name__ == "__main__":
    peer, form, windows, points, *weights = sys.argv[1:]
    tell = partial(PEERS[peer], weights=weights[0]) if weights else PEERS[peer]
    feather.write_feather(answered(feather.read_table(windows), form, tell), points)
