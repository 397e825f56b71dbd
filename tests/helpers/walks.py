"""Random walks as batches and contexts, for tests with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from helpers.motion import points_reached
from model.earth.calendar import calendar_features
from model.features.normaliser import Normaliser
from model.features.point_features import steps_of
from model.inference.api import Context
from model.interface.batch import Batch
from model.interface.masked_input import masked_input_of

# Tensors this small gain nothing from threads, which wait for each other on a busy machine.
torch.set_num_threads(1)

HIDDEN = (3, 4, 8)  # points of a window that is judged
STARTED_US = 1_714_550_400_000_000  # 2024-05-01 08:00 UTC
WALKING = Normaliser.from_json(
    {
        "num_steps": 1000,
        "step_s": {"p10": 5.0, "p50": 10.0, "p90": 30.0},
        "speed_mps": {"p10": 0.5, "p50": 1.5, "p90": 4.0},
        "step_m": {"p10": 5.0, "p50": 15.0, "p90": 60.0},
    }
)


def walk(
    num_rows: int, num_points: int, seed: int = 0, lon_deg: float = 8.0, lat_deg: float = 50.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Persistent walks of 1 to 2 m/s at uneven times: longitudes, latitudes, seconds (B, T)."""
    rng = np.random.default_rng(seed)
    step_s = rng.uniform(5, 20, (num_rows, num_points))
    heading = rng.uniform(0, 6, (num_rows, 1)) + rng.normal(0, 0.3, step_s.shape).cumsum(1)
    step_m = step_s * rng.uniform(1, 2, step_s.shape)
    step_BTF = np.stack([step_m * np.sin(heading), step_m * np.cos(heading), step_s], axis=-1)
    step_BTF[:, 0] = 0
    start = torch.ones(num_rows, dtype=torch.float64)
    return points_reached(lon_deg * start, lat_deg * start, 0 * start, torch.from_numpy(step_BTF))


STILL = ("no time", "no way", "neither")  # what a walk that stands still takes


def standing(still: str) -> tuple[Tensor, Tensor, Tensor]:
    """A walk whose steps take no time, lead nowhere, or neither."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(2, 10)
    if still != "no time":
        lon_deg_BT, lat_deg_BT = (value[:, :1].expand(2, 10) for value in (lon_deg_BT, lat_deg_BT))
    if still != "no way":
        time_s_BT = torch.zeros_like(time_s_BT)
    return lon_deg_BT, lat_deg_BT, time_s_BT


def batch_of(lon_deg_BT: Tensor, lat_deg_BT: Tensor, time_s_BT: Tensor, num_pads: int = 0) -> Batch:
    """All points observed and all but the first a target; pads, if any, hold nonsense."""
    num_rows, num_points = time_s_BT.shape

    def padded(value_BT: Tensor, nonsense: float | bool) -> Tensor:
        return torch.nn.functional.pad(value_BT, (0, num_pads), value=nonsense)

    is_target_BT = torch.ones(num_rows, num_points, dtype=torch.bool)
    is_target_BT[:, 0] = False
    lon_deg_BT, lat_deg_BT = padded(lon_deg_BT, -77.0), padded(lat_deg_BT, 33.0)
    time_s_BT = padded(time_s_BT, 5.0)
    instant_us_BT = STARTED_US + (time_s_BT * 1e6).long().numpy()
    return Batch(
        lon_deg_BT=lon_deg_BT,
        lat_deg_BT=lat_deg_BT,
        time_s_BT=time_s_BT,
        step_BTF=steps_of(lon_deg_BT, lat_deg_BT, time_s_BT).float(),
        calendar_BTK=torch.from_numpy(calendar_features(instant_us_BT, "UTC")),
        is_observed_BT=padded(torch.ones_like(is_target_BT), True),
        is_target_BT=padded(is_target_BT, True),
        is_pad_BT=padded(torch.zeros_like(is_target_BT), True),
        sequence_BT=torch.zeros(num_rows, num_points + num_pads, dtype=torch.long),
        window_id_B=torch.arange(num_rows),
    )


def window_of(points: Sequence[Tensor], num_pads: int = 0, hidden: Sequence[int] = HIDDEN) -> Batch:
    """A window as it is judged: some points are not observed, and these are the targets."""
    batch = batch_of(*points, num_pads=num_pads)
    is_target_BT = torch.zeros_like(batch.is_pad_BT)
    is_target_BT[:, list(hidden)] = True
    is_observed_BT = ~is_target_BT & ~batch.is_pad_BT
    return replace(batch, is_observed_BT=is_observed_BT, is_target_BT=is_target_BT)


def context_of(
    lon_deg_BT: Tensor,
    lat_deg_BT: Tensor,
    time_s_BT: Tensor,
    num_points_B: list[int] | None = None,
    nonsense: float = float("nan"),
) -> Context:
    """A context of the first points of each row; what follows them is padded with nonsense."""
    num_rows, num_points = time_s_BT.shape
    counts_B1 = torch.tensor(num_points_B or [num_points] * num_rows).unsqueeze(1)
    is_pad_BT = torch.arange(num_points) >= counts_B1
    return Context(
        lon_deg_BT.masked_fill(is_pad_BT, nonsense),
        lat_deg_BT.masked_fill(is_pad_BT, nonsense),
        time_s_BT.masked_fill(is_pad_BT, nonsense),
        torch.full((num_rows,), STARTED_US),
        "UTC",
        is_pad_BT,
    )


def shaken(
    family: Any, config: Any, normaliser: Normaliser = WALKING, spread: float = 0.2
) -> nn.Module:
    """A model none of whose parts is silent."""
    torch.manual_seed(5)
    model: nn.Module = family(config, normaliser).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model


def spoilt(batch: Batch, nonsense: float) -> Batch:
    """The batch with other values wherever something is hidden and not asked, and at pads."""
    shown = masked_input_of(batch)
    hides_place_BT = ~shown.shows_place_BT & ~shown.is_asked_BT
    hides_time_BT = ~shown.shows_time_BT & ~shown.is_asked_BT
    return replace(
        batch,
        lon_deg_BT=batch.lon_deg_BT.masked_fill(hides_place_BT, nonsense),
        lat_deg_BT=batch.lat_deg_BT.masked_fill(hides_place_BT, nonsense),
        time_s_BT=batch.time_s_BT.masked_fill(hides_time_BT, nonsense),
        calendar_BTK=batch.calendar_BTK.masked_fill(~shown.shows_time_BT.unsqueeze(-1), nonsense),
        step_BTF=torch.full_like(batch.step_BTF, nonsense),
    )


def trained(model, batch, num_steps):
    """A network after some steps on one batch."""
    model.fit_inputs([batch])
    model.fit_loss([batch])
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=0.01)
    for _ in range(num_steps):
        optimizer.zero_grad()
        model.loss(batch).mean.backward()
        optimizer.step()
    return model.eval()
