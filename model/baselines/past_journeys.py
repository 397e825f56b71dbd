"""Past journeys: travel times from those of train between places near both ends.

Each neighbour's seconds are scaled by how fast traffic is at its hour of the week and at the hour
that is asked, and by the lengths of the two ways. The mean of their logarithms is the median of a
log-normal distribution.

Shapes: J journeys, K neighbours, W hours of a week.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..earth.arrays import Bools, Floats, Ints
from ..earth.calendar import calendar_of
from ..earth.columns import Columns
from ..earth.geometry import haversine_m
from ..interface.answers import Durations
from ..interface.contexts import Partial
from ..interface.memory.paths import in_space_m
from .travel_time import LEAST_S

HOURS = 7 * 24
PRIOR_JOURNEYS = 10.0  # of mean speed, in every hour of the week
DECILE = 1.2815515655446004  # standard deviations from the median to the tenth and ninth decile
NEIGHBOURS = (5, 10, 20, 40)  # of which the fit chooses, as of the powers
POWERS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Ways(Columns):
    """Where journeys begin and end, when, and the length of the way that is known."""

    ends_m_J6: Floats
    started_us_J: Ints
    hour_of_week_J: Ints
    length_m_J: Floats

    @classmethod
    def of(cls, partial: Partial) -> Ways:
        """Of a question about travel times; the way is the great circle where no path is given."""
        last_J1 = (~partial.is_pad_BT).sum(1, keepdim=True) - 1
        ends = [
            value_JT.gather(1, place_J1)[:, 0]
            for place_J1 in (torch.zeros_like(last_J1), last_J1)
            for value_JT in (partial.lon_deg_BT, partial.lat_deg_BT)
        ]
        length_m_J = haversine_m(*ends) if partial.path_m_B is None else partial.path_m_B
        lon_a, lat_a, lon_b, lat_b = (value_J.numpy() for value_J in ends)
        ends_m = in_space_m(lon_a, lat_a), in_space_m(lon_b, lat_b)
        started_us_J = partial.started_us_B.numpy()
        local = calendar_of(started_us_J, partial.zone)
        hour_of_week_J = 24 * local["weekday"] + local["hour"]
        return cls(np.concatenate(ends_m, 1), started_us_J, hour_of_week_J, length_m_J.numpy())


@dataclass(frozen=True)
class Memory:
    """Journeys of train in a tree of both ends; `slowness_W` is of hours against the mean hour.

    The journey that is asked about, where it is in train, is left out: the one that began at the
    same instant at the same place and ended at the same place. `way_m` is added to both lengths
    before their ratio is raised to `power`.
    """

    ways: Ways
    log_s_J: Floats
    slowness_W: Floats
    way_m: float
    tree: cKDTree
    num_neighbours: int
    power: float
    sigma: float

    @classmethod
    def of(cls, ways: Ways, duration_s_J: Floats) -> Memory:
        slowness_W = slowness(ways, duration_s_J)
        log_s_J = (
            np.log(np.maximum(duration_s_J, LEAST_S)) - np.log(slowness_W)[ways.hour_of_week_J]
        )
        way_m = max(float(np.median(ways.length_m_J)) / 10, 1.0)
        return cls(ways, log_s_J, slowness_W, way_m, cKDTree(ways.ends_m_J6), 1, 1.0, 0.0)

    def with_spread(self) -> Memory:
        """With the spread of train around what its other journeys tell."""
        hour_J = self.ways.hour_of_week_J
        true_J = self.log_s_J + np.log(self.slowness_W)[hour_J]
        sigma = float(np.sqrt(np.mean((true_J - self.median_log_s(self.ways)) ** 2)))
        return replace(self, sigma=sigma)

    def median_log_s(self, asked: Ways) -> Floats:
        near_JK, is_other_JK = self._neighbours(asked)
        log_ratio_JK = np.log(asked.length_m_J + self.way_m)[:, None] - np.log(
            self.ways.length_m_J[near_JK] + self.way_m
        )
        log_s_JK = self.log_s_J[near_JK] + self.power * log_ratio_JK
        num_J = np.maximum(is_other_JK.sum(1), 1)
        mean_J = np.where(is_other_JK, log_s_JK, 0.0).sum(1) / num_J
        mean_J = np.where(is_other_JK.any(1), mean_J, self.log_s_J.mean())
        return mean_J + np.log(self.slowness_W)[asked.hour_of_week_J]

    def _neighbours(self, asked: Ways) -> tuple[Ints, Bools]:
        """The nearest journeys (J, K), one more than needed, and which of them count."""
        num = min(self.num_neighbours + 1, len(self.log_s_J))
        _, near_JK = self.tree.query(asked.ends_m_J6, k=np.arange(1, num + 1))
        is_other_JK = self.ways.started_us_J[near_JK] != asked.started_us_J[:, None]
        is_other_JK |= (self.ways.ends_m_J6[near_JK] != asked.ends_m_J6[:, None]).any(-1)
        return near_JK, is_other_JK & (is_other_JK.cumsum(1) <= self.num_neighbours)


@dataclass(frozen=True)
class PastJourneys:
    """An answerer with a memory of great circles, and one of given paths."""

    ends: Memory
    path: Memory
    name: ClassVar[str] = "past_trips"
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("travel_time",)

    def travel_time(self, partial: Partial) -> Durations:
        memory = self.ends if partial.path_m_B is None else self.path
        log_s_J = memory.median_log_s(Ways.of(partial))
        deciles = (
            torch.from_numpy(np.exp(log_s_J + side * memory.sigma)) for side in (0, -DECILE, DECILE)
        )
        return Durations(*deciles)


def slowness(ways: Ways, duration_s_J: Floats) -> Floats:
    """Seconds a metre at each hour of the week (W), as a share of those of all journeys.

    Some journeys of mean speed are added to every hour, so that few journeys say little.
    """
    hour_J = ways.hour_of_week_J
    mean_s, mean_m = float(duration_s_J.mean()), float(ways.length_m_J.mean())
    if mean_s <= 0 or mean_m <= 0:
        return np.ones(HOURS)
    seconds_W = np.bincount(hour_J, duration_s_J, HOURS) + PRIOR_JOURNEYS * mean_s
    metres_W = np.bincount(hour_J, ways.length_m_J, HOURS) + PRIOR_JOURNEYS * mean_m
    found: Floats = (seconds_W / mean_s) / (metres_W / mean_m)
    return found


def fitted_memory(
    train: Ways, train_s_J: Floats, validation: Ways, validation_s_J: Floats
) -> Memory:
    """The memory of train whose neighbours and power have the least mean error on validation."""
    memory = Memory.of(train, train_s_J)

    def error_s(one: Memory) -> float:
        return float(np.abs(np.exp(one.median_log_s(validation)) - validation_s_J).mean())

    candidates = [
        replace(memory, num_neighbours=num, power=power)
        for num, power in product(NEIGHBOURS, POWERS)
    ]
    chosen = min(candidates, key=error_s) if len(validation_s_J) else candidates[-1]
    return chosen.with_spread()
