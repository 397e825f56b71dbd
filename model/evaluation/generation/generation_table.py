"""Generation table: every measure of a sample of made-up trips, beside its floor and its ceiling.

The floor is what real trips that nobody made up score, the ceiling what trips of train score that
are drawn again. Both are told by the same functions, with the same number of trips, as most
measures depend on it. What is best:

- `w1`, `jsd`: the less the better, and below the floor there is nothing to gain;
- `discriminator_auc`: 0.5 is best, and 1 where it tells every trip;
- `unseen_moves`, `duplicates`, `nights_at_home`: as the floor has it, for real trips make new moves
  and repeat themselves too;
- `copied_share`, `membership_auc`: no more than the floor; far above it a sample gives train away;
- `off_sphere`, `unordered`, `too_fast`: zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ...baselines.generators import ResampledTrain
from ...earth.arrays import Bools, Floats
from ...interface.trips import Trips
from ..score_table import Row
from .comparison import NUM_RESAMPLES, Comparison
from .copying import Outlines, copied, duplicates, membership, told_members
from .discriminator import discriminated
from .distances import CELLS_M, Ruler, day_distances, distances, unseen_moves
from .validity import nights_at_home, sound, soundness, too_fast

MOST_TRIPS, SMALLER = 10_000, 4  # how many are judged, and once more a fourth of them
LEAST_TRIPS = 20
GENERATION_SCORES = pa.schema(
    {
        "measure": pa.string(),
        **dict.fromkeys(("value", "low", "high", "floor", "ceiling"), pa.float64()),
        "num_trips": pa.int64(),
    }
)
Measured = dict[str, Comparison]
Triple = tuple[Measured, Measured, Measured]  # of the sample, its floor and its ceiling


@dataclass(frozen=True)
class RealTrips:
    """What a sample is judged against: trips of train and test, and what their data set is like."""

    train: Trips
    test: Trips
    zone: str
    max_speed_mps: float
    cells_m: tuple[float, ...] = CELLS_M


@dataclass(frozen=True)
class Losses:
    """What a model finds of each trip of train and of test; the lower, the better it knows it."""

    train_R: Floats
    test_R: Floats


def generation_rows(
    sample: Trips,
    real: RealTrips,
    losses: Losses | None = None,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    reads_points: bool = False,
) -> list[Row]:
    """The table of a sample, of `MOST_TRIPS` or as many as all sets have, and of a fourth of them.

    Trips that leave the sphere or go back in time are counted, and left out of all the rest. If
    points are to be read, a Transformer judges beside the trees: a minute more.
    """
    ruler = Ruler.fit(real.train, real.zone, real.cells_m)
    judge = Judge(real, ruler, Outlines.of(real.train), seed, reads_points)
    kept = sound(sample)
    number = min(MOST_TRIPS, len(kept), len(real.train), len(real.test))
    again = ResampledTrain(real.train).generate(len(real.train), seed)
    measured = [(len(sample), judge.of_all(sample, again))]
    if len(kept):
        measured.append((len(kept), judge.of_days(kept, again)))
    if losses:
        measured.append((len(real.test), judge.of_losses(losses)))
    for size in (number, number // SMALLER):
        if size >= LEAST_TRIPS:
            measured.append((size, judge.of_draws(kept, size)))
    return [
        row
        for size, (value, floor, ceiling) in measured
        for row in rows_of(value, floor, ceiling, size, seed, num_resamples)
    ]


def rows_of(
    value: Measured, floor: Measured, ceiling: Measured, size: int, seed: int, num_resamples: int
) -> Iterator[Row]:
    """One row a measure of the sample; what a floor or a ceiling lacks is NaN."""
    for name, compared in value.items():
        low, high = compared.interval(seed, num_resamples)
        other = (one[name].value() if name in one else math.nan for one in (floor, ceiling))
        yield dict(
            zip(
                GENERATION_SCORES.names,
                (name, compared.value(), low, high, *other, size),
                strict=True,
            )
        )


@dataclass(frozen=True)
class Judge:
    """What measures of a sample need; each method tells value, floor and ceiling."""

    real: RealTrips
    ruler: Ruler
    past: Outlines
    seed: int
    reads_points: bool = False

    def of_draws(self, sample: Trips, size: int) -> Triple:
        """All that depends on the number of trips."""
        train, test = (one.drawn(size, self.seed) for one in (self.real.train, self.real.test))
        again = ResampledTrain(self.real.train).generate(size, self.seed)
        told = sample.drawn(size, self.seed)
        value, ceiling = (
            self.likeness(one, test) | self.alone(one) | self.secrecy(one, train, test)
            for one in (told, again)
        )
        floor = self.likeness(train, test) | self.alone(test)
        one, other = parts(test, test.half_R(self.seed))
        if len(one) and len(other):
            floor |= self.secrecy(one, train, other)
        return value, floor, ceiling

    def likeness(self, sample: Trips, test: Trips) -> Measured:
        """How far it is from real trips."""
        told = discriminated(sample, test, self.ruler, self.seed, self.reads_points)
        return distances(sample, test, self.ruler) | told

    def alone(self, sample: Trips) -> Measured:
        """What it is by itself, or beside all of train."""
        return {
            **unseen_moves(sample, self.real.train, self.ruler),
            **duplicates(sample, self.ruler),
            **too_fast(sample, self.real.max_speed_mps),
            **nights_at_home(sample, self.ruler),
        }

    def secrecy(self, sample: Trips, train: Trips, test: Trips) -> Measured:
        """What it tells of train."""
        return copied(sample, test, self.past) | told_members(sample, train, test)

    def of_all(self, sample: Trips, again: Trips) -> Triple:
        """Whether trips are trips at all."""
        return soundness(sample), soundness(self.real.test), soundness(again)

    def of_days(self, sample: Trips, again: Trips) -> Triple:
        """Trips a day of whole sets."""
        value, floor, ceiling = (
            day_distances(one, self.real.test, self.ruler.zone)
            for one in (sample, self.real.train, again)
        )
        return value, floor, ceiling

    def of_losses(self, losses: Losses) -> Triple:
        """What the losses of a model tell; among test trips alone, they can tell nothing."""
        train, test = self.real.train, self.real.test
        value = membership(losses.train_R, losses.test_R, train, test)
        is_in_R = test.half_R(self.seed)
        loss = losses.test_R[is_in_R], losses.test_R[~is_in_R]
        return value, membership(*loss, *parts(test, is_in_R)), {}


def parts(trips: Trips, is_in_R: Bools) -> tuple[Trips, Trips]:
    """The trips that are in, and those that are not."""
    return trips.chosen(np.flatnonzero(is_in_R)), trips.chosen(np.flatnonzero(~is_in_R))
