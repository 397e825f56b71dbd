"""Generators that learn nothing or little: trips of train again, and a Markov walk on cells.

`resampled_train` is the ceiling of every distance between distributions, and leaks all of train.

Shapes: S samples, N points, T points of the longest trip, E transitions, C cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ..earth.arrays import Floats, Ints, places_within
from ..earth.frame import Frame, Grid
from ..earth.geometry import step_from
from ..interface.trips import Trips

CELL_M = 500.0


@dataclass(frozen=True)
class ResampledTrain:
    """Trips of train drawn with replacement, each point moved by Gaussian noise if there is any."""

    train: Trips
    noise_m: float = 0.0
    is_baseline: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"resampled_train_{self.noise_m:g}m" if self.noise_m else "resampled_train"

    def generate(self, num_trips: int, seed: int) -> Trips:
        """Each trip keeps its instants and its entity."""
        generator = np.random.default_rng(seed)
        trips = self.train.chosen(generator.integers(len(self.train), size=num_trips))
        return moved(trips, self.noise_m, generator) if self.noise_m else trips


def moved(trips: Trips, noise_m: float, generator: np.random.Generator) -> Trips:
    """The trips with Gaussian noise on each axis of each place."""
    points = trips.points
    noise_m_2N = noise_m * generator.standard_normal((2, len(points.lon_deg_N)))
    place = torch.from_numpy(points.lon_deg_N), torch.from_numpy(points.lat_deg_N)
    lon_deg_N, lat_deg_N = (
        axis.numpy() for axis in step_from(*place, *torch.from_numpy(noise_m_2N))
    )
    size_R = np.diff(trips.offset_R)
    return Trips.of(size_R, points.instant_us_N, lon_deg_N, lat_deg_N, trips.entity_R)


@dataclass(frozen=True)
class MarkovWalk:
    """A walk from cell to cell as the points of train went, by a first-order Markov chain.

    A walk begins in the cell of a trip of train, drawn at random, and has the instants of another
    one; its points lie evenly in their cells. Transitions are ordered by the cell that they leave:
    those of cell c are `start_C[c]` up to `start_C[c + 1]`. A cell that nobody left leads to
    itself.
    """

    grid: Grid
    cell_C: Ints
    start_C: Ints
    next_E: Ints
    train: Trips
    first_R: Ints
    name: ClassVar[str] = "markov_walk"
    is_baseline: ClassVar[bool] = True

    @classmethod
    def fit(cls, train: Trips, cell_m: float = CELL_M) -> MarkovWalk:
        """Every step of train is a transition, kept as often as it was made."""
        points = train.points
        grid = Grid(Frame.around(points.lon_deg_N, points.lat_deg_N), cell_m)
        cell_C, at_N = np.unique(
            grid.cells(points.lon_deg_N, points.lat_deg_N), return_inverse=True
        )
        is_step_N = np.diff(points.trajectory_N) == 0
        from_E, next_E = at_N[:-1][is_step_N], at_N[1:][is_step_N]
        never_left = np.setdiff1d(np.arange(len(cell_C)), from_E)
        from_E, next_E = np.append(from_E, never_left), np.append(next_E, never_left)
        order_E = np.argsort(from_E, kind="stable")
        start_C = np.searchsorted(from_E[order_E], np.arange(len(cell_C) + 1))
        return cls(grid, cell_C, start_C, next_E[order_E], train, at_N[train.offset_R[:-1]])

    def generate(self, num_trips: int, seed: int) -> Trips:
        """Trips of nobody."""
        generator = np.random.default_rng(seed)
        first_S, clock_S = generator.integers(len(self.train), size=(2, num_trips))
        clocks = self.train.chosen(clock_S)
        size_S = np.diff(clocks.offset_R)
        at_TS = self._walks(self.first_R[first_S], int(size_S.max(initial=1)), generator)
        cell_N = self.cell_C[at_TS[places_within(size_S), clocks.points.trajectory_N]]
        share_2N: Floats = generator.random((2, len(cell_N)))
        places = self.grid.places_in(cell_N, *share_2N)
        return Trips.of(size_S, clocks.points.instant_us_N, *places)

    def _walks(self, first_S: Ints, num_points: int, generator: np.random.Generator) -> Ints:
        """All walks side by side, as long as the longest."""
        at_TS = np.empty((num_points, len(first_S)), np.int64)
        at_TS[0] = first_S
        for t in range(1, num_points):
            here_S = at_TS[t - 1]
            chosen_S = generator.integers(self.start_C[here_S], self.start_C[here_S + 1])
            at_TS[t] = self.next_E[chosen_S]
        return at_TS
