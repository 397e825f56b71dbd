"""Selection of weights: how far answers are off on stored windows of validation, in metres.

The gate compares versions by the answers of these windows, and the loss of training is another
thing. Forecasts are asked at the true times, as far as the windows go; of a family that makes none
hidden places are.

Shapes: B windows, T points, H points that are asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..data.reading import read_windows
from ..data.shards import ShardFolder, Shards, window_index
from ..earth.geometry import haversine_m
from ..interface.batch import Batch
from ..interface.contexts import Context
from ..interface.family import Family
from .ranks import Ranks
from .validation import TrainingError, device_of

MOST_WINDOWS = 256  # that are asked at each validation, spread evenly over all
AT_ONCE = 64
SPLIT = "validation"
Judge = Callable[[nn.Module, Ranks], float]
Ask = Callable[[Any, Any], tuple[Tensor, Tensor]]


def judge_of(family: Family, folders: Sequence[ShardFolder[Any]]) -> Judge:
    """What asks a model of this family about the stored windows of its one folder of shards."""
    task = next((task for task in ASKS if task in family.tasks), None)
    if task is None:
        raise ValueError(f"select_by error needs a family that can {' or '.join(ASKS)}")
    if len(folders) != 1:
        raise ValueError("metres of several datasets cannot be added up: select_by must be loss")
    windows = list(spread_windows(cast(Shards, folders[0]), task))
    if not windows:
        raise ValueError(f"no stored windows of {task} to select by: choose by the loss")

    def error_m(model: nn.Module, ranks: Ranks) -> float:
        """Mean over windows of their mean distances."""
        mean_m, model = [torch.zeros(0, dtype=torch.float64)], model.eval()
        for window in windows[ranks.rank :: ranks.world]:
            away_m_BT, is_asked_BT = ASKS[task](model, window)
            sum_m_B = away_m_BT.where(is_asked_BT, 0).sum(1)
            mean_m.append((sum_m_B / is_asked_BT.sum(1)).double().cpu())
        mean_m_B = torch.cat(mean_m)
        total_m, count = ranks.add(torch.tensor([mean_m_B.sum(), len(mean_m_B)]).double()).tolist()
        if not math.isfinite(total_m):
            raise TrainingError(f"answers of {task} are not finite on windows of {SPLIT}")
        return total_m / count

    return error_m


def spread_windows(shards: Shards, task: str) -> Iterator[Any]:
    """Stored windows of a task, as many as are asked, some at a time."""
    index = window_index(shards, SPLIT, task)
    stride, seen = math.ceil(len(index) / MOST_WINDOWS), 0
    for stored in read_windows(shards, SPLIT, AT_ONCE * max(1, stride), task=task):
        chosen = slice(-seen % stride, None, stride)
        num_context = index["num_context"][0].as_py()
        yield stored.batch.at(chosen), stored.started_us_B[chosen], shards.zone, num_context
        seen += len(stored.started_us_B)


@torch.no_grad()
def asked_ahead(model: Any, window: tuple[Batch, Tensor, str, int]) -> tuple[Tensor, Tensor]:
    """Distances (B, H) of a forecast, and which of them count."""
    batch, started_us_B, zone, num_context = window
    device = device_of(model)
    batch = batch.to(device)
    known, ahead = slice(None, num_context), slice(num_context, None)
    columns = [getattr(batch, name) for name in ("lon_deg_BT", "lat_deg_BT", "time_s_BT")]
    reported_mps_BTC = batch.reported_mps_BTC
    if reported_mps_BTC is not None:
        reported_mps_BTC = reported_mps_BTC[:, known]
    lon_deg_BT, lat_deg_BT, time_s_BT = (column_BT[:, known] for column_BT in columns)
    points = lon_deg_BT, lat_deg_BT, time_s_BT, started_us_B.to(device)
    beside = reported_mps_BTC, batch.kind_B
    context = Context(*points, zone, batch.is_pad_BT[:, known], *beside)
    lon_deg_BH, lat_deg_BH, time_s_BH = (column_BT[:, ahead] for column_BT in columns)
    told = model.forecast(context, time_s_BH.shape[1], time_s_BH, 0, 0)
    away_m_BH = haversine_m(told.lon_deg_BH, told.lat_deg_BH, lon_deg_BH, lat_deg_BH)
    return away_m_BH, batch.is_target_BT[:, ahead]


@torch.no_grad()
def asked_between(model: Any, window: tuple[Batch, Tensor, str, int]) -> tuple[Tensor, Tensor]:
    """Distances (B, T) of places that are hidden, and which of them count."""
    batch = window[0].to(device_of(model))
    told = model.recover(batch)
    truth = batch.lon_deg_BT, batch.lat_deg_BT
    return haversine_m(told.lon_deg_BT, told.lat_deg_BT, *truth), batch.is_target_BT


ASKS: dict[str, Ask] = {"forecast": asked_ahead, "recover": asked_between}
