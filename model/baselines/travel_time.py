"""What travel times have to beat: mean speed, the mean of like journeys, and boosted trees.

All are fitted on journeys of train, and read what is known before a journey is made.

Shapes: J journeys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ..earth.arrays import Floats, Ints

LEAST_S = 1.0  # of a logarithm: a journey within one second is as good as none


@dataclass(frozen=True)
class Departures:
    """What is known of journeys: how far, when on local clocks, and from where to where.

    The distance is that of the great circle, or of the path where it is given; the number of
    points is 2, or that of the path, which says much of how long it took where points come evenly.
    """

    distance_m_J: Floats
    num_points_J: Ints
    hour_J: Ints
    weekday_J: Ints
    origin_cell_J: Ints
    destination_cell_J: Ints
    ends_deg: tuple[Floats, Floats, Floats, Floats]

    @property
    def features_JF(self) -> Floats:
        """Distance, points, hour, weekday, and longitude and latitude of both ends."""
        columns = (self.distance_m_J, self.num_points_J, self.hour_J, self.weekday_J)
        return np.stack([*columns, *self.ends_deg], axis=1)


class DurationBaseline(Protocol):
    """Seconds that journeys will take."""

    @property
    def name(self) -> str: ...

    def seconds(self, departures: Departures) -> Floats: ...


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


def fitted_on(
    departures: Departures, duration_s_J: Floats, seed: int
) -> tuple[DurationBaseline, ...]:
    """The baselines of every table of travel times."""
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
