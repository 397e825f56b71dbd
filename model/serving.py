"""A stored model as a service: from a folder of weights and JSON to forecasts of flat points.

The folder is what training publishes. This file and what it imports travel with a registered model,
so everything here is numpy and torch only.

Shapes: N points, R trajectories, T points of a context, H points of the horizon.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import torch
from numpy.typing import NDArray

from .checkpoint import load_weights
from .encoding import Normaliser
from .families import Model, build
from .inference import Context, forecast

FORECAST = "forecast"  # the task of `inference.py` that is served from flat points
TRAJECTORIES_AT_ONCE = 1024  # bounds the memory of samples
MAX_HORIZON = 1_000
MAX_SAMPLES = 1_000

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """A trained network and the name of its family."""

    model: Model
    family: str


@dataclass(frozen=True)
class Params:
    """What a caller may choose; checked, so that a slip is an error and not another forecast."""

    task: str = "forecast"
    horizon: int = 20
    num_samples: int = 64
    seed: int = 0
    zone: str = "UTC"

    def __post_init__(self) -> None:
        _check_count("horizon", self.horizon, 1, MAX_HORIZON)
        _check_count("num_samples", self.num_samples, 0, MAX_SAMPLES)
        _check_count("seed", self.seed, 0, 2**31 - 1)
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, TypeError, OSError) as error:
            raise ValueError(f"unknown time zone {self.zone!r}; give one as Europe/Oslo") from error

    def with_choices(self, choices: Mapping[str, Any]) -> Params:
        """These parameters with a caller's choices in place of the defaults."""
        unknown = sorted(set(choices) - set(self.__dataclass_fields__))
        if unknown:
            known = ", ".join(self.__dataclass_fields__)
            raise ValueError(f"unknown parameter {unknown[0]!r}; the known ones are: {known}")
        return replace(self, **choices)


@dataclass(frozen=True)
class Points:
    """Known points of R trajectories, sorted by trajectory and time; `trajectory_N` counts to R."""

    trajectory_N: Ints
    instant_us_N: Ints
    lon_deg_N: Floats
    lat_deg_N: Floats

    @property
    def offset_R(self) -> Ints:
        """Trajectory r owns the points offset_R[r] up to offset_R[r + 1]."""
        return np.flatnonzero(np.diff(self.trajectory_N, prepend=-1, append=-1)).astype(np.int64)


@dataclass(frozen=True)
class Forecasts:
    """Forecast points (R, H); the radii are NaN where no samples were asked for."""

    instant_us_RH: Ints
    lon_deg_RH: Floats
    lat_deg_RH: Floats
    radius_p50_m_RH: Floats
    radius_p80_m_RH: Floats


def load_trained(folder: Path, weights_sha256: str | None = None) -> Trained:
    """The model of a folder with `weights.safetensors`, `config.json` and `normaliser.json`."""
    config = json.loads((folder / "config.json").read_bytes())
    normaliser = Normaliser.from_json(json.loads((folder / "normaliser.json").read_bytes()))
    model = build(config["family"], config["config"], normaliser)
    load_weights(model, folder / "weights.safetensors", weights_sha256)
    return Trained(model.eval(), config["family"])


def sorted_points(
    trajectory_N: Ints, instant_us_N: Ints, lon_deg_N: Floats, lat_deg_N: Floats
) -> Points:
    """Checked points in order of trajectory and time; a row given twice counts once.

    No message names a coordinate: it may be somebody's home.
    """
    if not len(trajectory_N):
        raise ValueError("no points were given; a forecast needs at least one for each trajectory")
    _check_range("lon_deg", lon_deg_N, 180.0)
    _check_range("lat_deg", lat_deg_N, 90.0)
    order_N = np.lexsort((lat_deg_N, lon_deg_N, instant_us_N, trajectory_N))
    every = Points(
        trajectory_N[order_N], instant_us_N[order_N], lon_deg_N[order_N], lat_deg_N[order_N]
    )
    same_instant_N = (np.diff(every.trajectory_N) == 0) & (np.diff(every.instant_us_N) == 0)
    same_place_N = (np.diff(every.lon_deg_N) == 0) & (np.diff(every.lat_deg_N) == 0)
    is_tie_N = same_instant_N & ~same_place_N
    if is_tie_N.any():
        raise ValueError(
            f"{int(is_tie_N.sum())} points share trajectory_id and tracked_at with another point "
            "at a different place; keep one of them"
        )
    is_new_N = np.append(True, ~same_instant_N)
    return Points(
        every.trajectory_N[is_new_N],
        every.instant_us_N[is_new_N],
        every.lon_deg_N[is_new_N],
        every.lat_deg_N[is_new_N],
    )


def forecast_points(
    trained: Trained, points: Points, params: Params, target_us_RH: Ints | None = None
) -> Forecasts:
    """The next points of each trajectory, at given instants or at predicted ones."""
    if params.task != FORECAST:
        raise ValueError(f"unknown task {params.task!r}; this model serves: {FORECAST}")
    parts = list(_forecast_parts(trained, points, params, target_us_RH))
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Forecasts.__dataclass_fields__
    }
    return Forecasts(**joined)


def _forecast_parts(
    trained: Trained, points: Points, params: Params, target_us_RH: Ints | None
) -> Iterator[Forecasts]:
    offset_R = points.offset_R
    longest = trained.model.config.max_points
    for first in range(0, len(offset_R) - 1, TRAJECTORIES_AT_ONCE):
        border_R = offset_R[first : first + TRAJECTORIES_AT_ONCE + 1]
        context = context_of(points, border_R, longest, params.zone)
        started_us_R1 = context.started_us_B.numpy()[:, None]
        target_s_RH = None
        if target_us_RH is not None:
            target_us = target_us_RH[first : first + TRAJECTORIES_AT_ONCE]
            target_s_RH = torch.from_numpy((target_us - started_us_R1) / 1e6)
        found = forecast(
            trained.model, context, params.horizon, target_s_RH, params.num_samples, params.seed
        )
        elapsed_us_RH = np.rint(found.time_s_BH.numpy() * 1e6).astype(np.int64)
        yield Forecasts(
            started_us_R1 + elapsed_us_RH,
            found.lon_deg_BH.numpy(),
            found.lat_deg_BH.numpy(),
            found.radius_p50_m_BH.double().numpy(),
            found.radius_p80_m_BH.double().numpy(),
        )


def context_of(points: Points, border_R: Ints, longest: int, zone: str) -> Context:
    """The last points, at most `longest`, of the trajectories between the borders."""
    num_points_R = np.minimum(np.diff(border_R), longest)
    slot_T = np.arange(num_points_R.max())
    is_pad_RT = slot_T >= num_points_R[:, None]
    index_RT = np.where(is_pad_RT, 0, (border_R[1:] - num_points_R)[:, None] + slot_T)
    started_us_R = points.instant_us_N[index_RT[:, 0]]
    time_s_RT = (points.instant_us_N[index_RT] - started_us_R[:, None]) / 1e6
    return Context(
        torch.from_numpy(points.lon_deg_N[index_RT]),
        torch.from_numpy(points.lat_deg_N[index_RT]),
        torch.from_numpy(time_s_RT),
        torch.from_numpy(started_us_R),
        zone,
        torch.from_numpy(is_pad_RT),
    )


def _check_count(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value}")


def _check_range(name: str, value_N: Floats, limit_deg: float) -> None:
    num_bad = int((~(np.abs(value_N) <= limit_deg)).sum())  # a NaN compares as False
    if num_bad:
        raise ValueError(
            f"{name} must be finite and from {-limit_deg:g} to {limit_deg:g}: "
            f"{num_bad} of {len(value_N)} rows are not"
        )
