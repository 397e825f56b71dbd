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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

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
        **dict.fromkeys(
            ("value", "low", "high", "floor", "floor_low", "floor_high", "ceiling"), pa.float64()
        ),
        "num_trips": pa.int64(),
    }
)
Measured = dict[str, Comparison]


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
    """What a model finds of each trip of train and of test; the lower, the better it knows it.

    NaN of a trip that it was not asked about.
    """

    train_R: Floats
    test_R: Floats


def generation_rows(
    sample: Trips,
    real: RealTrips,
    losses: Losses | None = None,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    discriminator_steps: int = 0,
) -> list[Row]:
    """The table of one sample, as its judge tells it."""
    return Judge(real, seed, num_resamples, discriminator_steps).rows(sample, losses)


@dataclass(frozen=True)
class Bounds:
    """What the same measures are of real trips, with an interval, and of train drawn again."""

    floor: Mapping[str, tuple[float, float, float]]
    ceiling: Mapping[str, float]

    @classmethod
    def of(cls, floor: Measured, ceiling: Measured, seed: int, num_resamples: int) -> Bounds:
        told = {
            name: (one.value(), *one.interval(seed, num_resamples)) for name, one in floor.items()
        }
        return cls(told, {name: one.value() for name, one in ceiling.items()})


@dataclass(frozen=True)
class Judge:
    """Judges samples of trips, all against the same real ones, whose bounds are told once.

    A Transformer judges beside the trees if it is given any steps to be fitted in.
    """

    real: RealTrips
    seed: int = 0
    num_resamples: int = NUM_RESAMPLES
    discriminator_steps: int = 0
    most_trips: int = MOST_TRIPS

    def rows(self, sample: Trips, losses: Losses | None = None) -> list[Row]:
        """The table of a sample, of the most trips or as many as all sets have, and of a fourth.

        Trips that leave the sphere or go back in time are counted, and left out of all the rest.
        """
        kept = sound(sample)
        told = list(self._rows(soundness(sample), self._bounds_of_all, len(sample)))
        if len(kept):
            days = day_distances(kept, self.real.test, self.real.zone)
            told += self._rows(days, self._bounds_of_days, len(kept))
        if losses:
            told += self._rows(self._by_loss(losses), self._bounds_by_loss(losses), None)
        for size in self.sizes(kept):
            told += self._rows(self.measured(kept, size), self.bounds(size), size)
        return told

    def rows_of(self, told: Measured, floor: Measured, ceiling: Measured, size: int) -> list[Row]:
        """Of what was measured elsewhere, and of so many trips."""
        return list(self._rows(told, self._bounds(floor, ceiling), size))

    def sizes(self, kept: Trips) -> tuple[int, ...]:
        """How many trips are judged, and a fourth of them, as far as that is enough."""
        number = min(self.most_trips, len(kept), len(self.real.train), len(self.real.test))
        return tuple(size for size in (number, number // SMALLER) if size >= LEAST_TRIPS)

    def measured(self, kept: Trips, size: int) -> Measured:
        """All that depends on the number of trips."""
        train, test = self._drawn(size)
        told = kept.drawn(size, self.seed)
        return self.likeness(told, test) | self.alone(told) | self.secrecy(told, train, test)

    def test(self, size: int) -> Trips:
        """The real trips beside so many."""
        return self.real.test.drawn(size, self.seed)

    def bounds(self, size: int) -> Bounds:
        """Of so many trips, told once."""
        if size not in self._known:
            self._known[size] = self._found(size)
        return self._known[size]

    # ------------------------------------------------------------------ measures

    def likeness(self, sample: Trips, test: Trips) -> Measured:
        """How far it is from real trips."""
        told = discriminated(sample, test, self.ruler, self.seed, self.discriminator_steps)
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

    def _by_loss(self, losses: Losses) -> Measured:
        """What the losses of a model tell of those trips that it was asked about."""
        columns = (losses.train_R, self.real.train), (losses.test_R, self.real.test)
        (train_A, train), (test_B, test) = (asked(*column) for column in columns)
        return membership(train_A, test_B, train, test)

    # ------------------------------------------------------------------ what is told once

    @cached_property
    def ruler(self) -> Ruler:
        return Ruler.fit(self.real.train, self.real.zone, self.real.cells_m)

    @cached_property
    def past(self) -> Outlines:
        return Outlines.of(self.real.train)

    @cached_property
    def _known(self) -> dict[int, Bounds]:
        return {}

    @cached_property
    def _again(self) -> Trips:
        """As many trips of train as there are, drawn again."""
        return ResampledTrain(self.real.train).generate(len(self.real.train), self.seed)

    def _drawn(self, size: int) -> tuple[Trips, Trips]:
        return self.real.train.drawn(size, self.seed), self.test(size)

    def _found(self, size: int) -> Bounds:
        train, test = self._drawn(size)
        again = ResampledTrain(self.real.train).generate(size, self.seed)
        ceiling = self.likeness(again, test) | self.alone(again) | self.secrecy(again, train, test)
        floor = self.likeness(train, test) | self.alone(test)
        one, other = parts(test, test.half_R(self.seed))
        if len(one) and len(other):
            floor |= self.secrecy(one, train, other)
        return self._bounds(floor, ceiling)

    @cached_property
    def _bounds_of_all(self) -> Bounds:
        """Whether trips are trips at all."""
        return self._bounds(soundness(self.real.test), soundness(self._again))

    @cached_property
    def _bounds_of_days(self) -> Bounds:
        """Trips a day of whole sets."""
        test, zone = self.real.test, self.real.zone
        measured = (day_distances(one, test, zone) for one in (self.real.train, self._again))
        return self._bounds(*measured)

    def _bounds_by_loss(self, losses: Losses) -> Bounds:
        """Among test trips alone losses can tell nothing."""
        loss_B, test = asked(losses.test_R, self.real.test)
        is_in_B = test.half_R(self.seed)
        if is_in_B.all() or not is_in_B.any():  # one entity has no halves
            return self._bounds({}, {})
        floor = membership(loss_B[is_in_B], loss_B[~is_in_B], *parts(test, is_in_B))
        return self._bounds(floor, {})

    def _bounds(self, floor: Measured, ceiling: Measured) -> Bounds:
        return Bounds.of(floor, ceiling, self.seed, self.num_resamples)

    def _rows(self, told: Measured, bounds: Bounds, size: int | None) -> Iterator[Row]:
        """One row a measure of the sample; what a floor or a ceiling lacks is NaN."""
        for name, compared in told.items():
            low, high = compared.interval(self.seed, self.num_resamples)
            floor = bounds.floor.get(name, (math.nan,) * 3)
            ceiling = bounds.ceiling.get(name, math.nan)
            number = len(compared.group_B) if size is None else size
            numbers = (name, compared.value(), low, high, *floor, ceiling, number)
            yield dict(zip(GENERATION_SCORES.names, numbers, strict=True))


def asked(loss_R: Floats, trips: Trips) -> tuple[Floats, Trips]:
    """The losses that are known, and their trips."""
    (known_A,) = np.nonzero(~np.isnan(loss_R))
    return loss_R[known_A], trips.chosen(known_A)


def parts(trips: Trips, is_in_R: Bools) -> tuple[Trips, Trips]:
    """The trips that are in, and those that are not."""
    return trips.chosen(np.flatnonzero(is_in_R)), trips.chosen(np.flatnonzero(~is_in_R))
