"""Published grid: the points of trips as sequences of cells, evenly in time, as TrajGDM reads them.

Shapes: N sequences, T points of a sequence, P points of a trip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from model.data.shards import Shards, read_entity_ids, row_groups
from model.earth.frame import Frame
from model.evaluation.generation.published_measures import Square

INTERVAL_S, NUM_POINTS = 300.0, 12  # one hour
CITY_M = {"2 km, 27 x 27": (2_000.0, 27), "500 m, 110 x 110": (500.0, 110)}


@dataclass(frozen=True)
class Trip:
    """The points of a trip of the shards."""

    entity: str
    time_s_P: np.ndarray
    lon_deg_P: np.ndarray
    lat_deg_P: np.ndarray


def whole_trips(shards: Shards, split: str) -> list[Trip]:
    """All of them, not cut into windows."""
    return [trip for group in row_groups(shards, split) for trip in _of_group(shards, group)]


def _of_group(shards: Shards, group) -> Iterator[Trip]:
    offset_R = shards.read(group).offset_R
    instant_us, lon_deg, lat_deg = shards.tracked(group)
    bounds = pairwise(offset_R)
    for entity, (first, end) in zip(read_entity_ids(group).to_pylist(), bounds, strict=True):
        yield Trip(entity, instant_us[first:end] / 1e6, lon_deg[first:end], lat_deg[first:end])


@dataclass(frozen=True)
class City:
    """A square of cells around the middle of the points of train."""

    frame: Frame
    cell_m: float
    square: Square

    @classmethod
    def around(cls, trips: list[Trip], cell_m: float, side: int) -> City:
        middle_deg = (
            float(np.median(np.concatenate([getattr(trip, name) for trip in trips])))
            for name in ("lon_deg_P", "lat_deg_P")
        )
        return cls(Frame(*middle_deg), cell_m, Square(side))

    def cells(self, trip: Trip) -> np.ndarray:
        """The cell every five minutes, on the straight way between two points; -1 outside."""
        east_m_P, north_m_P = self.frame.metres(trip.lon_deg_P, trip.lat_deg_P)
        time_s = np.arange(trip.time_s_P[0], trip.time_s_P[-1], INTERVAL_S)
        row, column = (
            np.floor(
                np.interp(time_s, trip.time_s_P, axis_m_P) / self.cell_m + self.square.side / 2
            )
            for axis_m_P in (north_m_P, east_m_P)
        )
        return self.square.cell(row, column).astype(np.int64)


@dataclass(frozen=True)
class Sequences:
    """Cells of N hours, each with its entity, its trip, and when it began."""

    cell_NT: np.ndarray
    entity_N: np.ndarray
    trip_N: np.ndarray
    started_s_N: np.ndarray

    @classmethod
    def of(cls, trips: list[Trip], city: City) -> Sequences:
        """Each hour of each trip that never leaves the city, begun every five minutes."""
        parts = [_hours(trip, number, city.cells(trip)) for number, trip in enumerate(trips)]
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def __len__(self) -> int:
        return len(self.cell_NT)

    def at(self, place) -> Sequences:
        return Sequences(*(getattr(self, field.name)[place] for field in fields(self)))

    def drawn(self, number: int, seed: int = 0) -> Sequences:
        """So many of them in their order, or all if they are fewer."""
        return self.at(np.sort(np.random.default_rng(seed).permutation(len(self))[:number]))

    def half_N(self, seed: int = 0) -> np.ndarray:
        """Whether each is in the first of two parts with about as many entities in each."""
        _, entity_N = np.unique(self.entity_N, return_inverse=True)
        return (np.random.default_rng(seed).permutation(entity_N.max() + 1) % 2 == 0)[entity_N]


def _hours(trip: Trip, number: int, cell: np.ndarray) -> tuple[np.ndarray, ...]:
    if len(cell) < NUM_POINTS:
        cell = np.full(NUM_POINTS, -1)
    hour_NT = np.lib.stride_tricks.sliding_window_view(cell, NUM_POINTS)
    (kept,) = np.nonzero((hour_NT >= 0).all(axis=1))
    of_trip = np.full(len(kept), trip.entity), np.full(len(kept), number)
    return hour_NT[kept], *of_trip, trip.time_s_P[0] + INTERVAL_S * kept


# Splits -----------------------------------------------------------------------------------------


def random_folds(every: Sequences) -> tuple[Sequences, Sequences]:
    """Hours at random, half to learn from: most of the others overlap with one of them."""
    is_first_N = np.random.default_rng(0).permutation(len(every)) % 2 == 0
    return every.at(is_first_N), every.at(~is_first_N)


def halves_in_time(every: Sequences) -> tuple[Sequences, Sequences]:
    """The trips of the earlier half of the hours to learn from; no trip is in both."""
    _, trip_N = np.unique(every.trip_N, return_inverse=True)
    started_s_R = np.full(trip_N.max() + 1, np.inf)
    np.minimum.at(started_s_R, trip_N, every.started_s_N)
    is_first_N = started_s_R[trip_N] <= np.median(started_s_R[trip_N])
    return every.at(is_first_N), every.at(~is_first_N)
