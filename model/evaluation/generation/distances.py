"""Distances between the trips of two sets: of their numbers, of their places, of their order.

`w1` is a Wasserstein-1 distance in the unit of the number, `jsd` a Jensen-Shannon divergence in
bits. Bins of numbers are fiftieths of train; places lie in the cells of a map around train. Of real
trips against real ones no distance is zero: that is the floor, which the same functions tell.

Shapes: N points, R trips, M moves from cell to cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...earth.arrays import Bools, Floats, Ints
from ...earth.frame import Frame, Grid
from ...interface.trips import Trips
from .comparison import (
    Comparison,
    OfWeights,
    Values,
    jensen_shannon_bits,
    rank_divergence_bits,
    share_of,
    wasserstein_1,
)
from .trip_values import (
    Steps,
    duration_s,
    gyration_m,
    path_m,
    rest_share,
    rests,
    start_hour,
    trips_a_day,
)

NUM_BINS, HOURS = 50, 24
CELLS_M = (500.0, 2_000.0)  # for people and vehicles; storms are told to a tenth of a degree
START_HOUR = "start_hour"


@dataclass(frozen=True)
class Ruler:
    """What distances are measured with: bins and a map, fitted on train, and the zone of clocks."""

    frame: Frame
    edges: Mapping[str, Floats]
    zone: str
    cells_m: tuple[float, ...] = CELLS_M

    @classmethod
    def fit(cls, train: Trips, zone: str, cells_m: tuple[float, ...] = CELLS_M) -> Ruler:
        frame = Frame.around(train.points.lon_deg_N, train.points.lat_deg_N)
        shares = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
        told = numbers(train, zone)
        edges = {
            name: np.unique(np.quantile(held.value_N, shares))
            for name, held in told.items()
            if held.value_N.any()  # nobody need ever rest
        }
        edges[START_HOUR] = np.arange(1.0, HOURS)
        return cls(frame, edges, zone, cells_m)

    def grids(self) -> dict[str, Grid]:
        """The cells of each size, by the name of the size."""
        return {
            f"{cell_m / 1_000:g}km" if cell_m >= 1_000 else f"{cell_m:g}m": Grid(self.frame, cell_m)
            for cell_m in self.cells_m
        }

    def bins(self, name: str, values: Values) -> Values:
        """The bin of each number; the first and the last are open."""
        return Values(
            np.searchsorted(self.edges[name], values.value_N, side="right"), values.trip_N
        )


def numbers(trips: Trips, zone: str) -> dict[str, Values]:
    """What trips are told apart by, one number at a time."""
    steps, rest = Steps.of(trips), rests(trips)
    return {
        "trip_m": Values.of_trips(path_m(trips, steps)),
        "step_m": Values(steps.way_m_S, steps.trip_S),
        "gyration_m": Values.of_trips(gyration_m(trips)),
        "duration_s": Values.of_trips(duration_s(trips)),
        "rest_share": Values.of_trips(rest_share(trips, rest)),
        "dwell_s": rest,
        START_HOUR: Values.of_trips(start_hour(trips, zone)),
    }


def distances(sample: Trips, real: Trips, ruler: Ruler) -> dict[str, Comparison]:
    """Every distance between two sets, by its name."""
    told, true = numbers(sample, ruler.zone), numbers(real, ruler.zone)
    ways, found = {}, {}
    for name in ruler.edges:
        period = float(HOURS) if name == START_HOUR else None
        ways[f"w1_{name}"] = wasserstein_1(told[name], true[name], period)
        binned = ruler.bins(name, told[name]), ruler.bins(name, true[name])
        found[f"jsd_{name}"] = jensen_shannon_bits(*binned)
    for size, grid in ruler.grids().items():
        pair = [Walk.of(trips, grid) for trips in (sample, real)]
        for name, measured in cell_distances(*pair).items():
            found[f"{name}_{size}"] = measured
    return _compared(ways, sample, real, math.inf) | _compared(found, sample, real)


def day_distances(sample: Trips, real: Trips, zone: str) -> dict[str, Comparison]:
    """Those of the trips a day, of whole sets: a draw of trips would thin the days."""
    told, true = trips_a_day(sample, zone), trips_a_day(real, zone)
    way, found = wasserstein_1(told, true), jensen_shannon_bits(told, true)
    return {
        **_compared({"w1_trips_a_day": way}, sample, real, math.inf),
        **_compared({"jsd_trips_a_day": found}, sample, real),
    }


def _compared(
    found: Mapping[str, OfWeights], sample: Trips, real: Trips, most: float = 1.0
) -> dict[str, Comparison]:
    return {
        name: Comparison(one, sample.group_R, real.group_R, most) for name, one in found.items()
    }


# Cells ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Walk:
    """The cells of the points of trips, any numbers that tell cells apart."""

    cell_N: Ints
    trip_N: Ints

    @classmethod
    def of(cls, trips: Trips, grid: Grid) -> Walk:
        return cls(
            grid.cells(trips.points.lon_deg_N, trips.points.lat_deg_N), trips.points.trajectory_N
        )

    def renamed(self, cell_N: Ints) -> Walk:
        return Walk(cell_N, self.trip_N)

    @property
    def is_arrival_N(self) -> Bools:
        """Where a trip begins or comes into another cell: a visit."""
        is_new_N = np.ones(len(self.cell_N), bool)
        is_new_N[1:] = (np.diff(self.cell_N) != 0) | (np.diff(self.trip_N) != 0)
        return is_new_N

    def points(self) -> Values:
        return Values(self.cell_N, self.trip_N)

    def visits(self) -> Values:
        return Values(self.cell_N[self.is_arrival_N], self.trip_N[self.is_arrival_N])

    def ends(self) -> Values:
        """Origin and destination of each trip as one number, of cells that count from zero."""
        is_first_N = np.diff(self.trip_N, prepend=-1) != 0
        is_last_N = np.diff(self.trip_N, append=-1) != 0
        pair_R = _paired(self.cell_N[is_first_N], self.cell_N[is_last_N])
        return Values(pair_R, self.trip_N[is_first_N])

    def moves(self) -> Values:
        """Moves from one cell to another as one number, of cells that count from zero."""
        visits = self.visits()
        is_move_M = np.diff(visits.trip_N) == 0
        pair_M = _paired(visits.value_N[:-1][is_move_M], visits.value_N[1:][is_move_M])
        return Values(pair_M, visits.trip_N[:-1][is_move_M])


def cell_distances(sample: Walk, real: Walk) -> dict[str, OfWeights]:
    """Of density, of origin with destination, and of how visits spread over cells."""
    sample, real = counted_from_zero(sample, real)
    return {
        "jsd_density": jensen_shannon_bits(sample.points(), real.points()),
        "jsd_ends": jensen_shannon_bits(sample.ends(), real.ends()),
        "jsd_visit_ranks": rank_divergence_bits(sample.visits(), real.visits()),
    }


def unseen_moves(sample: Trips, train: Trips, ruler: Ruler) -> dict[str, Comparison]:
    """The share of moves from cell to cell that train never made; real trips make some too."""
    found = {}
    for size, grid in ruler.grids().items():
        share = unseen_share(Walk.of(sample, grid), Walk.of(train, grid))
        found[f"unseen_moves_{size}"] = Comparison.of_one(share, sample.group_R)
    return found


def unseen_share(sample: Walk, train: Walk) -> OfWeights:
    """The share of the moves of one that the other never made."""
    told, known = (walk.moves() for walk in counted_from_zero(sample, train))
    return share_of(Values(~np.isin(told.value_N, known.value_N), told.trip_N))


def counted_from_zero(sample: Walk, other: Walk) -> tuple[Walk, Walk]:
    """The cells of both by their places among all of them."""
    cells = np.unique(np.concatenate([sample.cell_N, other.cell_N]), return_inverse=True)[1]
    first = len(sample.cell_N)
    return sample.renamed(cells[:first]), other.renamed(cells[first:])


def _paired(from_M: Ints, to_M: Ints) -> Ints:
    return from_M * 2**31 + to_M
