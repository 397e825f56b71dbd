"""Made-up trips: real windows as trips, and what generators make up from the starts of such trips.

Every generator is asked from the same starts, place and time, of trips that train does not hold:
what it makes up belongs to the entity whose start it was given.

Shapes: N points, R trips, T points of a trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch

from ...data.reading import read_windows
from ...data.shards import Shards, window_index
from ...earth.arrays import Ints
from ...interface.answerer import Generator
from ...interface.answers import Generated
from ...interface.contexts import Context
from ...interface.trips import Trips
from ..lesson import BATCH_SIZE, spread


def read_trips(shards: Shards, splits: Sequence[str], most: int) -> dict[str, Trips]:
    """The stored windows of forecasts of some splits as trips, at most so many, spread evenly.

    An entity has one number in all of them.
    """
    entities: dict[str, int] = {}
    return {split: _read(shards, split, most, entities) for split in splits}


def _read(shards: Shards, split: str, most: int, entities: dict[str, int]) -> Trips:
    """Of one split; entities that are new get the next numbers."""
    num_windows = len(window_index(shards, split))
    stored = read_windows(shards, split, BATCH_SIZE)
    kept = spread(stored, most, num_windows, lambda one: len(one.entity_id_B))
    parts = []
    for windows, row_R in kept:
        batch = windows.batch.at(row_R)
        number_R = [
            entities.setdefault(windows.entity_id_B[row], len(entities)) for row in row_R.tolist()
        ]
        elapsed_us_RT = (batch.time_s_BT * 1e6).round().long()
        instant_us_RT = windows.started_us_B[row_R].unsqueeze(1) + elapsed_us_RT
        is_point_RT = ~batch.is_pad_BT
        instant_us_N, lon_deg_N, lat_deg_N = (
            column_RT[is_point_RT].numpy()
            for column_RT in (instant_us_RT, batch.lon_deg_BT, batch.lat_deg_BT)
        )
        size_R, entity_R = is_point_RT.sum(1).numpy(), np.array(number_R, np.int64)
        parts.append(Trips.of(size_R, instant_us_N, lon_deg_N, lat_deg_N, entity_R))
    return reduce(Trips.followed_by, parts)


def starts_of(trips: Trips, zone: str) -> Context:
    """The first point of each trip."""
    first_R, points = trips.offset_R[:-1], trips.points
    lon_deg_R1, lat_deg_R1 = (
        torch.from_numpy(axis_N[first_R]).unsqueeze(1)
        for axis_N in (points.lon_deg_N, points.lat_deg_N)
    )
    started_us_R = torch.from_numpy(points.instant_us_N[first_R])
    origin_R1 = torch.zeros_like(lon_deg_R1)
    return Context(lon_deg_R1, lat_deg_R1, origin_R1, started_us_R, zone, origin_R1.bool())


def made_up(generator: Generator, real: Trips, zone: str, seed: int) -> Trips:
    """A trip from the start of each real one, of as many points as the longest of these."""
    num_points = int(np.diff(real.offset_R).max())
    starts = starts_of(real, zone)
    return generated_trips(generator.generate(starts, num_points, seed), starts, real.entity_R)


def generated_trips(found: Generated, starts: Context, entity_R: Ints) -> Trips:
    """What a generator answered, as trips; times that are no numbers come before all others."""
    num_trips, num_points = found.time_s_NT.shape
    elapsed_s_NT = found.time_s_NT.double().cpu().nan_to_num(nan=-1e6, posinf=-1e6, neginf=-1e6)
    instant_us_NT = starts.started_us_B.unsqueeze(1) + (elapsed_s_NT * 1e6).round().long()
    instant_us_N, lon_deg_N, lat_deg_N = (
        column_NT.cpu().flatten().numpy()
        for column_NT in (instant_us_NT, found.lon_deg_NT.double(), found.lat_deg_NT.double())
    )
    size_N = np.full(num_trips, num_points)
    return Trips.of(size_N, instant_us_N, lon_deg_N, lat_deg_N, entity_R)
