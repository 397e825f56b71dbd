"""Trips: flat points of whole trips, and the number of the entity of each.

Shapes: N points, R trips, S chosen trips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..earth.arrays import Bools, Floats, Ints, places_within
from .flat_points import FlatPoints

NOBODY = -1  # whoever makes up a trip need not say whose it is


@dataclass(frozen=True)
class Trips:
    """R trips, one behind the other; `entity_R` may be `NOBODY`. Nothing is checked of a point."""

    points: FlatPoints
    entity_R: Ints

    def __post_init__(self) -> None:
        number_R = self.points.trajectory_N[self.offset_R[:-1]]
        if not np.array_equal(number_R, np.arange(len(self.entity_R))):
            raise ValueError(
                f"trips must be numbered from 0 on, one behind the other, each with points: "
                f"{len(number_R)} of them for {len(self.entity_R)} entities"
            )

    @classmethod
    def of(
        cls,
        size_R: Ints,
        instant_us_N: Ints,
        lon_deg_N: Floats,
        lat_deg_N: Floats,
        entity_R: Ints | None = None,
    ) -> Trips:
        """Trips of so many points each, of nobody if no entities are given."""
        trip_N = np.repeat(np.arange(len(size_R)), size_R)
        has_time_N = np.ones(len(trip_N), bool)
        points = FlatPoints(trip_N, instant_us_N, lon_deg_N, lat_deg_N, has_time_N)
        return cls(points, np.full(len(size_R), NOBODY) if entity_R is None else entity_R)

    def __len__(self) -> int:
        return len(self.entity_R)

    @cached_property
    def offset_R(self) -> Ints:
        """Trip r owns the points offset_R[r] up to offset_R[r + 1]."""
        (first_R,) = np.nonzero(np.diff(self.points.trajectory_N, prepend=-1))
        return np.append(first_R, len(self.points.trajectory_N))

    @cached_property
    def group_R(self) -> Ints:
        """A number from 0 for the entity of each trip; a trip of nobody is alone."""
        alone_R = self.entity_R.max(initial=0) + 1 + np.arange(len(self))
        own_R = np.where(self.entity_R == NOBODY, alone_R, self.entity_R)
        group_R: Ints = np.unique(own_R, return_inverse=True)[1]
        return group_R

    def chosen(self, trip_S: Ints) -> Trips:
        """Some of the trips in the order in which they are named; one may be named twice."""
        size_S = np.diff(self.offset_R)[trip_S]
        place = np.repeat(self.offset_R[trip_S], size_S) + places_within(size_S)
        trip_N = np.repeat(np.arange(len(trip_S)), size_S)
        return Trips(replace(self.points.at(place), trajectory_N=trip_N), self.entity_R[trip_S])

    def followed_by(self, other: Trips) -> Trips:
        """Both, one behind the other; an entity keeps its number."""
        instant_us_N, lon_deg_N, lat_deg_N = (
            np.concatenate([getattr(one.points, name) for one in (self, other)])
            for name in ("instant_us_N", "lon_deg_N", "lat_deg_N")
        )
        size_R = np.concatenate([np.diff(one.offset_R) for one in (self, other)])
        entity_R = np.concatenate([self.entity_R, other.entity_R])
        return Trips.of(size_R, instant_us_N, lon_deg_N, lat_deg_N, entity_R)

    def drawn(self, number: int, seed: int) -> Trips:
        """So many of the trips, or all of them if they are fewer, without replacement."""
        order_R = np.random.default_rng(seed).permutation(len(self))
        return self.chosen(np.sort(order_R[:number]))

    def half_R(self, seed: int) -> Bools:
        """Whether each trip is in the first of two parts with about as many entities in each."""
        num_groups = int(self.group_R.max(initial=-1)) + 1
        is_first_G = np.random.default_rng(seed).permutation(num_groups) % 2 == 0
        return is_first_G[self.group_R]
