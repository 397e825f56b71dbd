"""Travel time baselines: mean speed, the mean of like journeys, and boosted trees.

All are fitted on journeys of train, and read what is known before a journey is made.

Shapes: J journeys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from ..earth.arrays import Floats, Ints
from ..earth.calendar import calendar_of
from ..earth.cells import cells_of
from ..earth.geometry import haversine_m
from ..interface.answers import Durations
from ..interface.contexts import Partial

LEAST_S = 1.0  # of a logarithm: a journey within one second is as good as none


@dataclass(frozen=True)
class Departures:
    """What is known of journeys: how far, when on local clocks, and from where to where.

    The distance is that of the path where it is given, or else of the great circle, `straight_m_J`.
    """

    distance_m_J: Floats
    straight_m_J: Floats
    hour_J: Ints
    weekday_J: Ints
    origin_cell_J: Ints
    destination_cell_J: Ints
    ends_deg: tuple[Floats, Floats, Floats, Floats]

    @classmethod
    def of(cls, partial: Partial, resolution: int) -> Departures:
        """Of a question about travel times; cells are told at an H3 resolution."""
        last_J1 = (~partial.is_pad_BT).sum(1, keepdim=True) - 1
        ends = [
            value_JT.gather(1, place_J1)[:, 0]
            for place_J1 in (torch.zeros_like(last_J1), last_J1)
            for value_JT in (partial.lon_deg_BT, partial.lat_deg_BT)
        ]
        straight_m_J = haversine_m(*ends)
        distance_m_J = straight_m_J if partial.path_m_B is None else partial.path_m_B
        local = calendar_of(partial.started_us_B.numpy(), partial.zone)
        lon_a, lat_a, lon_b, lat_b = (value_J.numpy() for value_J in ends)
        return cls(
            distance_m_J.numpy(),
            straight_m_J.numpy(),
            local["hour"],
            local["weekday"],
            cells_of(lon_a, lat_a, resolution),
            cells_of(lon_b, lat_b, resolution),
            (lon_a, lat_a, lon_b, lat_b),
        )

    @property
    def features_JF(self) -> Floats:
        """Both distances, hour, weekday, and longitude and latitude of both ends."""
        columns = (self.distance_m_J, self.straight_m_J, self.hour_J, self.weekday_J)
        return np.stack([*columns, *self.ends_deg], axis=1)


class Estimator(Protocol):
    """Seconds that journeys will take, fitted on journeys of train."""

    name: ClassVar[str]

    def seconds(self, departures: Departures) -> Floats: ...


@dataclass(frozen=True)
class TravelTimeBaseline:
    """An answerer with two estimators of one kind: of the ends alone, and of a given path."""

    ends: Estimator
    path: Estimator
    resolution: int
    max_points: int  # of a path that is given
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("travel_time",)

    @property
    def name(self) -> str:
        return self.ends.name

    def travel_time(self, partial: Partial) -> Durations:
        estimator = self.ends if partial.path_m_B is None else self.path
        seconds_J = estimator.seconds(Departures.of(partial, self.resolution))
        return Durations.of(torch.from_numpy(seconds_J))


@dataclass(frozen=True)
class MeanSpeed:
    """The distance at the mean speed of train; the mean duration if train never got anywhere."""

    speed_mps: float
    mean_s: float
    name: ClassVar[str] = "mean_speed"

    @classmethod
    def fit(cls, departures: Departures, duration_s_J: Floats) -> MeanSpeed:
        total_s = float(duration_s_J.sum())
        speed_mps = float(departures.distance_m_J.sum()) / total_s if total_s > 0 else 0.0
        return cls(speed_mps, float(duration_s_J.mean()))

    def seconds(self, departures: Departures) -> Floats:
        if self.speed_mps == 0:
            return np.full(len(departures.distance_m_J), self.mean_s)
        return departures.distance_m_J / self.speed_mps


@dataclass(frozen=True)
class OdHour:
    """The mean of train between the same two cells at the same hour, or at any; else mean speed."""

    by_hour: Mapping[Hashable, float]
    by_pair: Mapping[Hashable, float]
    otherwise: MeanSpeed
    name: ClassVar[str] = "od_hour"

    @classmethod
    def fit(cls, departures: Departures, duration_s_J: Floats) -> OdHour:
        keys = list(_keys(departures))
        seconds = duration_s_J.tolist()
        return cls(
            _means(zip(keys, seconds, strict=True)),
            _means((key[:2], value_s) for key, value_s in zip(keys, seconds, strict=True)),
            MeanSpeed.fit(departures, duration_s_J),
        )

    def seconds(self, departures: Departures) -> Floats:
        otherwise_s = self.otherwise.seconds(departures).tolist()
        told = (
            self.by_hour.get(key, self.by_pair.get(key[:2], value_s))
            for key, value_s in zip(_keys(departures), otherwise_s, strict=True)
        )
        return np.fromiter(told, np.float64, len(otherwise_s))


@dataclass(frozen=True)
class Boosting:
    """Boosted trees on the logarithm of seconds."""

    trees: Any
    name: ClassVar[str] = "boosting"

    @classmethod
    def fit(cls, departures: Departures, duration_s_J: Floats, seed: int) -> Boosting:
        from sklearn.ensemble import HistGradientBoostingRegressor

        trees = HistGradientBoostingRegressor(early_stopping=False, random_state=seed)
        log_s_J = np.log(np.maximum(duration_s_J, LEAST_S))
        return cls(trees.fit(departures.features_JF, log_s_J))

    def seconds(self, departures: Departures) -> Floats:
        log_s_J: Floats = self.trees.predict(departures.features_JF)
        return np.exp(log_s_J)


def fitted_on(departures: Departures, duration_s_J: Floats, seed: int) -> tuple[Estimator, ...]:
    """The estimators of every table of travel times."""
    return (
        MeanSpeed.fit(departures, duration_s_J),
        OdHour.fit(departures, duration_s_J),
        Boosting.fit(departures, duration_s_J, seed),
    )


def _keys(departures: Departures) -> Iterable[tuple[int, int, int]]:
    columns = (departures.origin_cell_J, departures.destination_cell_J, departures.hour_J)
    return zip(*(column.tolist() for column in columns), strict=True)


def _means(pairs: Iterable[tuple[Hashable, float]]) -> dict[Hashable, float]:
    found: dict[Hashable, list[float]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return {key: sum(values) / len(values) for key, values in found.items()}
