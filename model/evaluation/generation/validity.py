"""Validity: whether trips could have happened at all, whatever they look like.

Shapes: N points, R trips.
"""

from __future__ import annotations

import numpy as np

from ...earth.arrays import Bools
from ...earth.calendar import calendar_of
from ...earth.frame import Grid
from ...interface.trips import NOBODY, Trips
from .comparison import Comparison, Values, share_of
from .distances import Ruler
from .trip_values import Steps

NIGHT_HOURS = 5  # from midnight on


def is_on_sphere(trips: Trips) -> Bools:
    """Whether (R) all points of a trip are places of the Earth."""
    lon_deg_N, lat_deg_N = trips.points.lon_deg_N, trips.points.lat_deg_N
    is_place_N = (np.abs(lon_deg_N) <= 180) & (np.abs(lat_deg_N) <= 90)  # NaN is none
    return np.logical_and.reduceat(is_place_N, trips.offset_R[:-1])


def is_ordered(trips: Trips) -> Bools:
    """Whether (R) each point of a trip is later than the one before."""
    is_later_N = np.append(True, np.diff(trips.points.instant_us_N) > 0)
    is_later_N[trips.offset_R[:-1]] = True
    return np.logical_and.reduceat(is_later_N, trips.offset_R[:-1])


def soundness(trips: Trips) -> dict[str, Comparison]:
    """The share of trips that leave the sphere, and of those that go back in time."""
    found = {"off_sphere": ~is_on_sphere(trips), "unordered": ~is_ordered(trips)}
    return {
        name: Comparison.of_one(share_of(Values.of_trips(is_so_R)), trips.group_R)
        for name, is_so_R in found.items()
    }


def rejected(trips: Trips) -> dict[str, int]:
    """How many trips are none, each told by its first fault."""
    is_place_R, is_order_R = is_on_sphere(trips), is_ordered(trips)
    return {
        "off_sphere": int((~is_place_R).sum()),
        "unordered": int((is_place_R & ~is_order_R).sum()),
    }


def sound(trips: Trips) -> Trips:
    """The trips that nothing speaks against; what else is told of trips is told of these."""
    return trips.chosen(np.flatnonzero(is_on_sphere(trips) & is_ordered(trips)))


def too_fast(trips: Trips, max_speed_mps: float) -> dict[str, Comparison]:
    """The share of steps that are faster than anybody of the data set."""
    steps = Steps.of(trips)
    is_so_S = steps.speed_mps_S > max_speed_mps
    share = share_of(Values(is_so_S, steps.trip_S))
    return {"too_fast": Comparison.of_one(share, trips.group_R)}


def nights_at_home(trips: Trips, ruler: Ruler) -> dict[str, Comparison]:
    """The share of points of the night that lie in the cell of most nightly points of an entity.

    Nobody has a home.
    """
    points = trips.points
    is_night_N = calendar_of(points.instant_us_N, ruler.zone)["hour"] < NIGHT_HOURS
    (night,) = np.nonzero(is_night_N & (trips.entity_R != NOBODY)[points.trajectory_N])
    trip_N = points.trajectory_N[night]
    grid = Grid(ruler.frame, min(ruler.cells_m))
    cell_N = grid.cells(points.lon_deg_N[night], points.lat_deg_N[night])
    pairs = np.stack([trips.group_R[trip_N], cell_N], axis=1)
    pair, at_N, number = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    # The last of the pairs of an entity, in the order of their numbers, is its home.
    order = np.lexsort((number, pair[:, 0]))
    home = order[np.flatnonzero(np.diff(pair[order, 0], append=-1) != 0)]
    is_home_N = np.isin(at_N.ravel(), home)
    share = share_of(Values(is_home_N, trip_N))
    return {"nights_at_home": Comparison.of_one(share, trips.group_R)}
