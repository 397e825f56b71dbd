"""Vehicles on a grid of streets: speed limits, turns, lights, and bounded acceleration.

Every street has a number; each fourth one is a main street with a higher limit. A vehicle speeds
up, cruises and brakes between two crossings (a trapezoid of speed), slows down to turn, and waits
at some lights. Its place at any instant is exact, in closed form.

Shapes: L blocks of a route, T instants, C coordinates (east, north).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..earth.arrays import Bools, Floats, Ints
from .path import Event, Path

BLOCK_M = 120.0
NUM_STREETS = 80  # a vehicle starts at one of so many crossings each way
LIMIT_MPS = 30 / 3.6
MAIN_LIMIT_MPS = 50 / 3.6
MAIN_EVERY = 4
TURN_MPS = 5.0
ACCELERATION_MPS2 = 2.0
HASTE = (0.85, 1.10)  # slowest and fastest driver, as a share of the limit
SPEEDING = 1.4
MAX_SPEED_MPS = MAIN_LIMIT_MPS * HASTE[1] * SPEEDING
TURN_SHARE = 0.2  # to each side
LIGHT_SHARE = 0.25
WAIT_S = (3.0, 25.0, 120.0)  # shortest, mean before it is bounded, longest
LONG_STOP_S = (1_200.0, 2_400.0)
UNUSUAL_BLOCKS = 12
ANOMALIES = ("speeding", "circling", "long_stop")


def drive(generator: np.random.Generator, elapsed_T: Floats, is_unusual: bool) -> Path:
    """Where a vehicle is at these seconds, whether it stands, and what it does when."""
    route = Route.drawn(generator, int(elapsed_T[-1] * MAX_SPEED_MPS / BLOCK_M) + 4)
    chosen = elapsed_T[generator.integers(len(elapsed_T), size=1)]
    kind, long_stop_s = int(generator.integers(len(ANOMALIES))), generator.uniform(*LONG_STOP_S)
    motion = route.motion()
    first = int(motion.at(chosen)[1][0]) + 1  # the block after the one where it is then
    if is_unusual:
        route.disturb(ANOMALIES[kind], first, long_stop_s)
        motion = route.motion()
    along_T, block_T, is_stop_T = motion.at(elapsed_T)
    start_LC, direction_LC = route.blocks()
    place_TC = start_LC[block_T] * BLOCK_M + direction_LC[block_T] * along_T[:, None]
    end_LC = (start_LC + direction_LC).astype(np.float64) * BLOCK_M
    events = motion.stops(end_LC, float(elapsed_T[-1]))
    if is_unusual:
        events.append(motion.anomaly(ANOMALIES[kind], first))
    return Path(elapsed_T, place_TC, is_stop_T.astype(np.int64), ("drive", "stop"), events)


@dataclass
class Route:
    """Blocks in a row: how one turns into each, at what share of the limit, and waits after it."""

    crossing_C: Ints
    heading: int
    haste: float
    turn_L: Ints
    wait_L: Floats
    hurry_L: Floats

    @classmethod
    def drawn(cls, generator: np.random.Generator, num: int) -> Route:
        chance_L, stops_L = generator.random(num), generator.random(num) < LIGHT_SHARE
        waiting_L = np.clip(generator.exponential(WAIT_S[1], num), WAIT_S[0], WAIT_S[2])
        return cls(
            generator.integers(-(NUM_STREETS // 2), NUM_STREETS // 2, 2),
            int(generator.integers(4)),
            float(np.clip(np.exp(0.05 * generator.standard_normal()), *HASTE)),
            (chance_L < TURN_SHARE).astype(np.int64) - (chance_L > 1 - TURN_SHARE),
            np.where(stops_L, waiting_L, 0.0),
            np.ones(num),
        )

    def disturb(self, anomaly: str, first: int, long_stop_s: float) -> None:
        """Do something unusual from a block on."""
        stretch = slice(first, first + UNUSUAL_BLOCKS)
        if anomaly == "speeding":
            self.hurry_L[stretch] = SPEEDING
            self.wait_L[stretch] = 0.0
        elif anomaly == "circling":
            self.turn_L[stretch] = 1
        else:
            self.wait_L[first] = long_stop_s

    def blocks(self) -> tuple[Ints, Ints]:
        """Crossing `start_LC` where each block begins, and its direction."""
        heading_L = (self.heading + np.cumsum(self.turn_L)) % 4
        direction_LC = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])[heading_L]
        return self.crossing_C + np.cumsum(direction_LC, axis=0) - direction_LC, direction_LC

    def motion(self) -> Motion:
        start_LC, direction_LC = self.blocks()
        street_L = np.where(direction_LC[:, 0] != 0, start_LC[:, 1], start_LC[:, 0])
        limit_L = np.where(street_L % MAIN_EVERY == 0, MAIN_LIMIT_MPS, LIMIT_MPS)
        cruise_L = limit_L * self.haste * self.hurry_L
        exit_L = exit_speeds(cruise_L, self.turn_L, self.wait_L)
        return Motion(cruise_L, np.append(0.0, exit_L[:-1]), exit_L, self.wait_L)


def exit_speeds(cruise_L: Floats, turn_L: Ints, wait_L: Floats) -> Floats:
    """Speed at the crossing that ends each block: none at a light, little before a turn."""
    following_L = np.append(cruise_L[1:], cruise_L[-1])
    is_turn_L = np.append(turn_L[1:], 0) != 0
    through_L = np.minimum(cruise_L, following_L)
    through_L = np.where(is_turn_L, np.minimum(through_L, TURN_MPS), through_L)
    return np.where(wait_L > 0, 0.0, through_L)


class Motion:
    """Seconds and metres along each block, from its speeds at both ends and in between."""

    def __init__(self, cruise_L: Floats, entry_L: Floats, exit_L: Floats, wait_L: Floats) -> None:
        a = ACCELERATION_MPS2
        # Where a block is too short to reach the cruising speed, braking starts at this one.
        highest_L = np.sqrt(a * BLOCK_M + (entry_L**2 + exit_L**2) / 2)
        self.entry_L, self.peak_L = entry_L, np.minimum(cruise_L, highest_L)
        self.rise_L = (self.peak_L - entry_L) / a
        self.fall_L = (self.peak_L - exit_L) / a
        changing_L = (2 * self.peak_L**2 - entry_L**2 - exit_L**2) / (2 * a)
        self.cruise_L = np.maximum(BLOCK_M - changing_L, 0.0) / self.peak_L
        self.driven_L = self.rise_L + self.cruise_L + self.fall_L
        self.wait_L = wait_L
        self.finished_L = np.cumsum(self.driven_L + wait_L)
        self.started_L = self.finished_L - self.driven_L - wait_L
        self.stopped_L = self.finished_L - wait_L

    def at(self, elapsed_T: Floats) -> tuple[Floats, Ints, Bools]:
        """Metres along the block, number of the block, and whether the vehicle stands."""
        block_T = np.searchsorted(self.finished_L, elapsed_T, side="right")
        block_T = np.minimum(block_T, len(self.finished_L) - 1)
        since_T = elapsed_T - self.started_L[block_T]
        rise_T, cruise_T = self.rise_L[block_T], self.cruise_L[block_T]
        peak_T, fall_T = self.peak_L[block_T], self.fall_L[block_T]
        rising_T = np.clip(since_T, 0.0, rise_T)
        cruising_T = np.clip(since_T - rise_T, 0.0, cruise_T)
        falling_T = np.clip(since_T - rise_T - cruise_T, 0.0, fall_T)
        half = ACCELERATION_MPS2 / 2
        along_T = self.entry_L[block_T] * rising_T + half * rising_T**2
        along_T += peak_T * (cruising_T + falling_T) - half * falling_T**2
        is_stop_T = since_T > self.driven_L[block_T]
        return np.minimum(along_T, BLOCK_M), block_T, is_stop_T

    def stops(self, end_LC: Floats, until_s: float) -> list[Event]:
        """The waits at lights that begin before `until_s`."""
        waits = np.flatnonzero((self.wait_L > 0) & (self.stopped_L < until_s))
        times = self.stopped_L[waits].tolist(), self.finished_L[waits].tolist()
        return [
            Event(
                "stop", "light" if to_s - from_s <= WAIT_S[2] + 1 else "long", from_s, to_s, *end_C
            )
            for from_s, to_s, end_C in zip(*times, end_LC[waits].tolist(), strict=True)
        ]

    def anomaly(self, name: str, first: int) -> Event:
        """From when to when a vehicle does something unusual, which it does along its way."""
        if name == "long_stop":
            times = self.stopped_L[first], self.finished_L[first]
        else:
            last = min(first + UNUSUAL_BLOCKS, len(self.wait_L)) - 1
            times = self.started_L[first], self.finished_L[last]
        return Event("anomaly", name, float(times[0]), float(times[1]))
