"""Fitted baselines: every baseline of every table, fitted on train where it has something to fit.

A new baseline is one answerer and one line here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..baselines.forecast import (
    CONSTANT_VELOCITY,
    CONSTANT_VELOCITY_3,
    LAST_POSITION,
    ForecastBaseline,
    fitted_damped_velocity,
)
from ..baselines.recovery import HERMITE, LINEAR
from ..baselines.travel_time import Departures, TravelTimeBaseline, fitted_on
from ..data.journeys import read_journeys
from ..data.shards import Shards, window_index
from ..earth.columns import joined
from ..interface.answerer import Answerer
from ..interface.contexts import Context
from .fitted_past_trips import past_trips
from .forecast_scores import read_forecast_windows
from .judged_tasks import (
    ENDS,
    FORECAST,
    PATH_GIVEN,
    PATH_INFERENCE,
    RECOVER,
    TRAVEL_TIME,
)
from .travel_time_scores import travel_question

FITTED_WINDOWS = 20_000  # enough for one number, whatever the size of the data


def fitted_baselines(
    shards: Shards, tasks: Sequence[str], resolution: int = 8, seed: int = 0
) -> list[Answerer]:
    """The baselines of these tasks; of travel times none where train holds no whole journey.

    The resolution is that of the H3 cells between which travel times are told.
    """
    found: list[Answerer] = []
    if FORECAST in tasks:
        found += [LAST_POSITION, CONSTANT_VELOCITY, CONSTANT_VELOCITY_3]
        found.append(fitted_damping(shards))
    if {RECOVER, PATH_INFERENCE} & {*tasks}:
        found += [LINEAR, HERMITE]
    if TRAVEL_TIME in tasks:
        found += fitted_travel_times(shards, resolution, seed)
    return found + past_trips(shards, tasks)


def fitted_damping(shards: Shards, batch_size: int = 1_024) -> ForecastBaseline:
    """The damped velocity whose time constant fits windows spread evenly over the train split."""
    stride = math.ceil(len(window_index(shards, "train")) / FITTED_WINDOWS)
    contexts: list[Context] = []
    asked: list[list[Tensor]] = []
    seen = 0
    for _, windows in read_forecast_windows(shards, "train", batch_size):
        rows = slice(-seen % stride, None, stride)
        contexts.append(windows.context.at(rows))
        values = (windows.lon_deg_BH, windows.lat_deg_BH, windows.time_s_BH, windows.is_target_BH)
        asked.append([value_BH[rows] for value_BH in values])
        seen += len(windows.time_s_BH)
    columns = (torch.cat(parts) for parts in zip(*asked, strict=True))
    return fitted_damped_velocity(joined(contexts), *columns)


def fitted_travel_times(shards: Shards, resolution: int, seed: int) -> list[TravelTimeBaseline]:
    journeys = read_journeys(shards, "train", 2)
    if not len(journeys.duration_s_J):
        return []
    by_track = [
        fitted_on(
            Departures.of(travel_question(journeys, track, shards.zone), resolution),
            journeys.duration_s_J,
            seed,
        )
        for track in (ENDS, PATH_GIVEN)
    ]
    return [
        TravelTimeBaseline(ends, path, resolution) for ends, path in zip(*by_track, strict=True)
    ]
