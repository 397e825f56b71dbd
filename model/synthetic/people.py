"""People with a routine: home, work on weekdays, haunts after it and at weekends.

A day is a list of stays; between two of them a person travels along the streets, first east or
west, then north or south, at the speed of a mode that fits the distance and the person. Days begin
at four in the morning, at home.

Shapes: T points, K knots of a path, C coordinates (east, north).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..earth.arrays import Floats
from .path import Event, Path

DAY_S = 86_400.0
HOUR_S = 3_600.0
WAKES_S = 4 * HOUR_S
STAY_SLOWER = 12.0  # somebody who stays is looked at so many times less often
MODES = ("stay", "walk", "bike", "bus", "car")
SPEED_MPS = {"walk": 1.4, "bike": 4.5, "bus": 7.0, "car": 9.0}
PACE = (0.7, 1.3)  # slowest and fastest trip, as a share of the mode's speed
MAX_SPEED_MPS = SPEED_MPS["car"] * PACE[1]
WALKABLE_M = 1_000.0
ANOMALIES = ("unusual_place", "unusual_hour")


@dataclass
class Diary:
    """A path as it is written down: knots in time, what happens after each, and the events."""

    now_s: float
    place: tuple[float, float]
    knots: list[tuple[float, float, float, int]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    ticks: float = 0.0

    def knot(self, mode: str) -> None:
        """From now on, in this mode."""
        self.knots.append((self.now_s, *self.place, MODES.index(mode)))

    def stay(self, name: str, until_s: float, anomaly: str = "") -> None:
        """Stay where one is; somebody who comes late stays ten minutes."""
        until_s = max(until_s, self.now_s + 600.0)
        self.knot("stay")
        self.events.append(Event("visit", name, self.now_s, until_s, *self.place))
        if anomaly:
            self.events.append(Event("anomaly", anomaly, self.now_s, until_s, *self.place))
        self.ticks += (until_s - self.now_s) / STAY_SLOWER
        self.now_s = until_s

    def travel(self, place: tuple[float, float], mode: str, pace: float) -> None:
        """Along one street, then along another."""
        for corner in ((place[0], self.place[1]), place):
            distance_m = abs(corner[0] - self.place[0]) + abs(corner[1] - self.place[1])
            self.knot(mode)
            lasting_s = distance_m / (SPEED_MPS[mode] * pace)
            self.ticks += lasting_s
            self.now_s += lasting_s
            self.place = corner


class Person:
    """Where somebody lives, works and goes, how, and when."""

    def __init__(self, generator: np.random.Generator) -> None:
        home = 2_000.0 * np.clip(generator.standard_normal(2), -3, 3)
        self.home = pair(home)
        self.work = pair(home + offset(generator, 800.0, 8_000.0))
        self.haunts = [pair(home + offset(generator, 300.0, 3_000.0)) for _ in range(3)]
        self.far = pair(home + offset(generator, 9_000.0, 12_000.0))
        self.mode = ("bike", "bus", "car")[int(generator.integers(3))]
        self.leaves_s = HOUR_S * bounded(generator, 8.0, 0.5)
        self.works_s = HOUR_S * bounded(generator, 8.5, 0.5)

    def go(
        self,
        diary: Diary,
        generator: np.random.Generator,
        name: str,
        place: tuple[float, float],
        until_s: float,
        anomaly: str = "",
    ) -> None:
        """Travel to a place, which takes what it takes, and stay until then."""
        distance_m = abs(place[0] - diary.place[0]) + abs(place[1] - diary.place[1])
        mode = "walk" if distance_m < WALKABLE_M else self.mode
        pace = float(np.clip(np.exp(0.15 * generator.standard_normal()), *PACE))
        diary.travel(place, mode, pace)
        diary.stay(name, until_s, anomaly)

    def live(
        self, diary: Diary, generator: np.random.Generator, midnight_s: float, weekday: int
    ) -> None:
        """One day, until four in the morning of the next."""
        late_s = bounded(generator, 0.0, 900.0)
        goes_out = generator.random() < (0.35 if weekday < 5 else 0.75)
        haunt = self.haunts[int(generator.integers(len(self.haunts)))]
        lasts_s = HOUR_S * float(generator.uniform(0.75, 2.5))
        if weekday < 5:
            diary.stay("home", midnight_s + self.leaves_s + late_s)
            self.go(diary, generator, "work", self.work, diary.now_s + self.works_s)
        else:
            diary.stay("home", midnight_s + HOUR_S * 11 + 4 * late_s)
        if goes_out:
            self.go(diary, generator, "haunt", haunt, diary.now_s + lasts_s)
        if diary.place != self.home:
            self.go(diary, generator, "home", self.home, midnight_s + DAY_S + WAKES_S)

    def surprise(
        self, diary: Diary, generator: np.random.Generator, midnight_s: float, kind: str
    ) -> None:
        """A day like no other: far away, or out in the middle of the night."""
        end_s = midnight_s + DAY_S + WAKES_S
        if kind == "unusual_place":
            diary.stay("home", midnight_s + self.leaves_s)
            self.go(diary, generator, "far", self.far, midnight_s + 17 * HOUR_S, kind)
        else:
            self.go(diary, generator, "haunt", self.haunts[0], midnight_s + 6.5 * HOUR_S, kind)
        self.go(diary, generator, "home", self.home, end_s)


def routine(
    generator: np.random.Generator, first_day: int, tick_T: Floats, is_unusual: bool
) -> Path:
    """The days of a person from the first midnight on, looked at after so many ticks.

    A tick is a second of travelling or `STAY_SLOWER` seconds of staying.
    """
    person = Person(generator)
    kind = ANOMALIES[int(generator.integers(len(ANOMALIES)))]
    diary = Diary(WAKES_S, person.home)
    day = 0
    while diary.ticks <= tick_T[-1]:
        midnight_s, weekday = day * DAY_S, (first_day + day) % 7
        if is_unusual and day == 0:
            person.surprise(diary, generator, midnight_s, kind)
        else:
            person.live(diary, generator, midnight_s, weekday)
        day += 1
    diary.knot("stay")
    time_K, east_K, north_K, mode_K = np.array(diary.knots).T
    rate_K = np.where(mode_K[:-1] == 0, 1 / STAY_SLOWER, 1.0)
    tick_K = np.append(0.0, np.cumsum(np.diff(time_K) * rate_K))
    elapsed_T = np.interp(tick_T, tick_K, time_K)
    knot_T = np.searchsorted(time_K, elapsed_T, side="right") - 1
    place_TC = np.stack(
        [np.interp(elapsed_T, time_K, side_K) for side_K in (east_K, north_K)], axis=1
    )
    return Path(elapsed_T, place_TC, mode_K[knot_T].astype(np.int64), MODES, diary.events)


def offset(generator: np.random.Generator, nearest_m: float, farthest_m: float) -> Floats:
    """A step in any direction, nearer ones more often."""
    angle = generator.uniform(0, 2 * np.pi)
    distance_m = nearest_m * (farthest_m / nearest_m) ** generator.random()
    return distance_m * np.array([np.cos(angle), np.sin(angle)])


def bounded(generator: np.random.Generator, mean: float, sigma: float) -> float:
    """A normal number within three deviations."""
    return mean + sigma * min(max(float(generator.standard_normal()), -3.0), 3.0)


def pair(place: Floats) -> tuple[float, float]:
    return float(place[0]), float(place[1])
