"""World of made-up trajectories with their truth: a stream that is the same however it is drawn.

Trajectory `index` of a world is drawn by a generator of its own, seeded by (kind, seed, index):
it depends neither on how many others are drawn, nor on the order or the process. Four kinds:

- `vehicles` drive on a grid of streets: speed limits, turns, lights, bounded acceleration;
- `people` have a home, a work place and haunts, a week, and a way to travel (`people.py`);
- `ar1` and `markov` follow the laws of `processes.py`, whose floor is known. Nothing is added to
  them but the noise that belongs to `ar1`.

Vehicles and people are seen by a receiver with noise, silences and outliers, and some of them do
something unusual. All of it is told: by columns of the points, and by events.

Shapes: T points, C coordinates (east, north), L legs of a route.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..earth.arrays import Bools, Floats, Ints
from .path import Event, Path
from .people import STAY_SLOWER, routine
from .processes import Ar1, Interval, RegionChain, moved, walked
from .vehicles import drive

MONDAY_US = 1_704_067_200_000_000  # 2024-01-01T00:00:00Z, when every world begins
DAY_S = 86_400
NUM_DAYS = 28  # trajectories begin within four weeks
MAX_NOISE_SIGMA = 3.0  # noise of vehicles and people ends here, so that it never looks impossible
OUTLIER_LOG_M = math.log(500.0), math.log(20_000.0)
MAX_GAP_FACTOR = 3.0
CHAIN = RegionChain()
LONGEST_SIGMA = 6.0  # a log-normal interval longer than this many deviations comes once in 10^9


@dataclass(frozen=True)
class World:
    """All that decides the trajectories of a kind: their number is no part of it."""

    kind: str = "vehicles"
    seed: int = 0
    num_points: int = 500
    interval_s: float = 10.0
    interval_spread: float = 0.3
    noise_m: float = 3.0
    gap_share: float = 0.002
    gap_s: float = 900.0
    outlier_share: float = 0.01
    anomaly_share: float = 0.1
    lon_deg: float = 13.4
    lat_deg: float = 52.5

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; one of: {', '.join(KINDS)}")
        if self.num_points < 2 or self.seed < 0:
            raise ValueError("a trajectory has at least 2 points, and a seed is not negative")
        if not (abs(self.lon_deg) <= 180 and abs(self.lat_deg) <= 90):
            raise ValueError("a world is centred on Earth: -180 to 180 and -90 to 90 degrees")
        if self.gap_share and self.gap_s <= self.longest_interval_s:
            raise ValueError(
                f"gap_s = {self.gap_s:g} is no gap: intervals reach {self.longest_interval_s:.0f} s"
            )

    @property
    def interval(self) -> Interval:
        return Interval(self.interval_s, self.interval_spread)

    @property
    def longest_interval_s(self) -> float:
        """The longest silence that is no gap: of a person who stays somewhere."""
        return STAY_SLOWER * self.interval_s * math.exp(LONGEST_SIGMA * self.interval_spread)

    @property
    def ar1(self) -> Ar1:
        """The law of `ar1`: speeds do not depend on how often one looks."""
        return Ar1(innovation_m=0.5 * self.interval_s, noise_m=self.noise_m)

    @property
    def region_m(self) -> float:
        """Edge of a cell of `markov`."""
        return 5.0 * self.interval_s


@dataclass(frozen=True)
class Trajectory:
    """One entity: what a receiver reports, and what is true.

    `modes` names the codes of `mode_T`; the seconds of events count from `started_us`.
    """

    entity_id: str
    started_us: int
    tracked_us_T: Ints
    lon_deg_T: Floats
    lat_deg_T: Floats
    true_lon_deg_T: Floats
    true_lat_deg_T: Floats
    mode_T: Ints
    modes: Sequence[str]
    is_after_gap_T: Bools
    is_outlier_T: Bools
    is_anomaly_T: Bools
    region_T: Ints
    events: Sequence[Event] = ()


def trajectories(world: World, start: int, stop: int) -> Iterator[Trajectory]:
    """The trajectories of a world from index `start` up to `stop`, one at a time."""
    return (trajectory(world, index) for index in range(start, stop))


def trajectory(world: World, index: int) -> Trajectory:
    """One trajectory of a world, the same wherever and whenever it is drawn."""
    generator = np.random.default_rng([list(KINDS).index(world.kind), world.seed, index])
    return KINDS[world.kind](world, generator, f"{world.kind}-{index:07d}")


def vehicle(world: World, generator: np.random.Generator, entity_id: str) -> Trajectory:
    started_us = MONDAY_US + int(generator.integers(NUM_DAYS * DAY_S)) * 1_000_000
    elapsed_T, is_after_gap_T = clock(world, generator)
    path = drive(generator, elapsed_T, generator.random() < world.anomaly_share)
    return seen(world, generator, entity_id, started_us, is_after_gap_T, path)


def person(world: World, generator: np.random.Generator, entity_id: str) -> Trajectory:
    """People look up less often while they stay; the silence of a gap goes on in their day."""
    first_day = int(generator.integers(NUM_DAYS))
    tick_T, is_after_gap_T = clock(world, generator)
    path = routine(generator, first_day, tick_T, generator.random() < world.anomaly_share)
    started_us = MONDAY_US + first_day * DAY_S * 1_000_000
    return seen(world, generator, entity_id, started_us, is_after_gap_T, path)


def clock(world: World, generator: np.random.Generator) -> tuple[Floats, Bools]:
    """Seconds since the first point, at least one apart, and which points end a silence."""
    interval_T = np.maximum(world.interval.draw_s(generator, world.num_points), 1.0)
    is_after_gap_T = generator.random(world.num_points) < world.gap_share
    is_after_gap_T[0] = False
    silence_T = world.gap_s * generator.uniform(1.0, MAX_GAP_FACTOR, world.num_points)
    interval_T = np.where(is_after_gap_T, interval_T + silence_T, interval_T)
    interval_T[0] = 0.0
    return np.cumsum(interval_T), is_after_gap_T


def seen(
    world: World,
    generator: np.random.Generator,
    entity_id: str,
    started_us: int,
    is_after_gap_T: Bools,
    path: Path,
) -> Trajectory:
    """What a receiver makes of a path: noise on each point, and some points far away."""
    num, elapsed_T = world.num_points, path.elapsed_T
    noise_TC = generator.standard_normal((num, 2))
    length_T = np.maximum(np.hypot(noise_TC[:, 0], noise_TC[:, 1]), 1e-300)
    noise_TC *= world.noise_m * np.minimum(1.0, MAX_NOISE_SIGMA / length_T)[:, None]
    is_outlier_T = generator.random(num) < world.outlier_share
    jump_T = np.exp(generator.uniform(*OUTLIER_LOG_M, num)) * is_outlier_T
    angle_T = generator.uniform(0, 2 * math.pi, num)
    jump_TC = jump_T[:, None] * np.stack([np.cos(angle_T), np.sin(angle_T)], axis=1)
    lon_T, lat_T = on_earth(world, path.place_TC + noise_TC + jump_TC)
    true_lon_T, true_lat_T = on_earth(world, path.place_TC)
    events = [event for event in path.events if event.started_s <= elapsed_T[-1]]
    is_anomaly_T = np.zeros(num, dtype=bool)
    for event in events:
        if event.event == "anomaly":
            is_anomaly_T |= (elapsed_T >= event.started_s) & (elapsed_T <= event.finished_s)
    silences = [
        Event("gap", "silence", float(elapsed_T[t - 1]), float(elapsed_T[t]))
        for t in np.flatnonzero(is_after_gap_T).tolist()
    ]
    return Trajectory(
        entity_id,
        started_us,
        started_us + np.rint(elapsed_T * 1e6).astype(np.int64),
        lon_T,
        lat_T,
        true_lon_T,
        true_lat_T,
        path.mode_T,
        path.modes,
        is_after_gap_T,
        is_outlier_T,
        is_anomaly_T,
        np.full(num, -1),
        [*events, *silences],
    )


def on_earth(world: World, place_TC: Floats) -> tuple[Floats, Floats]:
    """Degrees of places around the centre: by azimuth and distance, so anywhere on Earth."""
    return moved(np.array(world.lon_deg), np.array(world.lat_deg), *place_TC.T.copy())


def autoregression(world: World, generator: np.random.Generator, entity_id: str) -> Trajectory:
    """Steps of an AR(1) law on the sphere, seen with noise. The first point starts at rest."""
    law, num = world.ar1, world.num_points
    step_TC = law.draw_steps_m(generator, num)
    step_TC[0] = generator.uniform(-5_000.0, 5_000.0, 2)
    true_lon_T, true_lat_T = walked(float(world.lon_deg), float(world.lat_deg), step_TC)
    noise_TC = law.noise_m * generator.standard_normal((num, 2))
    lon_T, lat_T = moved(true_lon_T, true_lat_T, *noise_TC.T.copy())
    return lawful(world, generator, entity_id, (lon_T, lat_T), (true_lon_T, true_lat_T))


def region_walk(world: World, generator: np.random.Generator, entity_id: str) -> Trajectory:
    """A Markov chain over cells; each point lies in the inner half of its cell."""
    region_T = CHAIN.draw(generator, world.num_points)
    place_TC = np.stack(CHAIN.places(region_T), axis=1)
    place_TC += generator.uniform(-0.25, 0.25, place_TC.shape)
    places = on_earth(world, place_TC * world.region_m)
    return lawful(world, generator, entity_id, places, places, region_T)


def lawful(
    world: World,
    generator: np.random.Generator,
    entity_id: str,
    seen_at: tuple[Floats, Floats],
    true_at: tuple[Floats, Floats],
    region_T: Ints | None = None,
) -> Trajectory:
    """A trajectory of a law: log-normal intervals, and nothing that the law does not know."""
    num = world.num_points
    interval_T = world.interval.draw_s(generator, num)
    started_us = MONDAY_US + int(generator.integers(NUM_DAYS * DAY_S)) * 1_000_000
    nothing_T = np.zeros(num, dtype=bool)
    return Trajectory(
        entity_id,
        started_us,
        started_us + np.rint(np.cumsum(interval_T) * 1e6).astype(np.int64),
        *seen_at,
        *true_at,
        np.zeros(num, dtype=np.int64),
        (world.kind,),
        nothing_T,
        nothing_T,
        nothing_T,
        np.full(num, -1) if region_T is None else region_T,
    )


Draw = Callable[[World, np.random.Generator, str], Trajectory]
KINDS: dict[str, Draw] = {
    "vehicles": vehicle,
    "people": person,
    "ar1": autoregression,
    "markov": region_walk,
}
