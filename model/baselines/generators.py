"""Generators that learn nothing or little: trips of train again, and walks of drawn steps.

`resampled_train` is the ceiling of every distance between distributions, and leaks all of train. It
reads no starts, as the others do (`generate` of `model/interface/answerer.py`).

Shapes: S samples, N points, T points of a sample, F numbers of a step, E transitions, C cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional

from ..earth.arrays import Floats, Ints
from ..earth.frame import Frame, Grid
from ..earth.geometry import step_from
from ..features.point_features import steps_of
from ..interface.answers import Generated
from ..interface.contexts import Context
from ..interface.memory.paths import in_space_m
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
class IndependentSteps:
    """An answerer whose steps are those of train, each drawn whatever came before it."""

    step_NF: Tensor  # metres east and north, and seconds
    name: ClassVar[str] = "independent_steps"
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("generate",)

    @classmethod
    def fit(cls, train: Trips) -> IndependentSteps:
        points = train.points
        columns = points.lon_deg_N, points.lat_deg_N, points.instant_us_N / 1e6
        step_NF = steps_of(*(torch.from_numpy(column_N) for column_N in columns))
        return cls(step_NF[1:][np.diff(points.trajectory_N) == 0])

    def generate(self, starts: Context, num_points: int, seed: int) -> Generated:
        draw = np.random.default_rng(seed)
        shape = num_points - 1, len(starts.lon_deg_BT)
        step_TSF = self.step_NF[torch.from_numpy(draw.integers(len(self.step_NF), size=shape))]
        places = [(starts.lon_deg_BT[:, 0], starts.lat_deg_BT[:, 0])]
        for east_m_S, north_m_S, _ in (step_SF.unbind(-1) for step_SF in step_TSF):
            places.append(step_from(*places[-1], east_m_S, north_m_S))
        lon_deg_ST, lat_deg_ST = (torch.stack(axis, dim=1) for axis in zip(*places, strict=True))
        time_s_ST = functional.pad(step_TSF[..., 2].cumsum(0).T, (1, 0))
        return Generated(lon_deg_ST, lat_deg_ST, time_s_ST)


@dataclass(frozen=True)
class MarkovWalk:
    """An answerer that walks from cell to cell as train went, by a first-order Markov chain.

    A walk begins in the cell of train that is nearest to its start, and has the times of a trip of
    train, drawn at random; its points lie evenly in their cells. Transitions are ordered by the
    cell that they leave: those of cell c are `start_C[c]` up to `start_C[c + 1]`. A cell that
    nobody left leads to itself.
    """

    grid: Grid
    cell_C: Ints
    start_C: Ints
    next_E: Ints
    train: Trips
    name: ClassVar[str] = "markov_walk"
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("generate",)

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
        return cls(grid, cell_C, start_C, next_E[order_E], train)

    def generate(self, starts: Context, num_points: int, seed: int) -> Generated:
        draw = np.random.default_rng(seed)
        lon_deg_S, lat_deg_S = (
            axis_ST[:, 0].double().numpy() for axis_ST in (starts.lon_deg_BT, starts.lat_deg_BT)
        )
        at_TS = self._walks(self._nearest(lon_deg_S, lat_deg_S), num_points, draw)
        cell_N = self.cell_C[at_TS.T.ravel()]
        share_2N: Floats = draw.random((2, len(cell_N)))
        lon_deg_ST, lat_deg_ST = (
            axis_N.reshape(-1, num_points) for axis_N in self.grid.places_in(cell_N, *share_2N)
        )
        lon_deg_ST[:, 0], lat_deg_ST[:, 0] = lon_deg_S, lat_deg_S
        time_s_ST = drawn_times_s(self.train, len(lon_deg_S), num_points, draw)
        return Generated(*map(torch.from_numpy, (lon_deg_ST, lat_deg_ST, time_s_ST)))

    def _nearest(self, lon_deg_S: Floats, lat_deg_S: Floats) -> Ints:
        """The cell of train whose middle is nearest to each place."""
        half_C = np.full(len(self.cell_C), 0.5)
        middle_deg = self.grid.places_in(self.cell_C, half_C, half_C)
        tree = cKDTree(in_space_m(*middle_deg))
        return np.asarray(tree.query(in_space_m(lon_deg_S, lat_deg_S))[1])

    def _walks(self, first_S: Ints, num_points: int, draw: np.random.Generator) -> Ints:
        """All walks side by side."""
        at_TS = np.empty((num_points, len(first_S)), np.int64)
        at_TS[0] = first_S
        for t in range(1, num_points):
            here_S = at_TS[t - 1]
            chosen_S = draw.integers(self.start_C[here_S], self.start_C[here_S + 1])
            at_TS[t] = self.next_E[chosen_S]
        return at_TS


def drawn_times_s(
    train: Trips, num_trips: int, num_points: int, draw: np.random.Generator
) -> Floats:
    """Seconds (S, T) since the start, each row those of a trip of train that is long enough."""
    (long_R,) = np.nonzero(np.diff(train.offset_R) >= num_points)
    if not len(long_R):
        raise ValueError(f"no trip of train has {num_points} points, whose times could be drawn")
    first_S = train.offset_R[draw.choice(long_R, num_trips)]
    instant_us_ST = train.points.instant_us_N[first_S[:, None] + np.arange(num_points)]
    time_s_ST: Floats = (instant_us_ST - instant_us_ST[:, :1]) / 1e6
    return time_s_ST
