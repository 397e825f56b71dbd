"""Rules that compare a point with the last one kept: sequential, exact, compiled.

A window function sees raw neighbours only, so that a run of spikes would be judged against itself.

Shapes: N points in the order of their tracks.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

EARTH_RADIUS_M = 6_371_008.8  # as in geometry.py, which would bring torch along


@numba.njit(nogil=True)
def distance_m(lon_a_deg: float, lat_a_deg: float, lon_b_deg: float, lat_b_deg: float) -> float:
    """Great-circle distance from a to b: the formula of `geometry.haversine_m`, on scalars."""
    turn_deg = lon_b_deg - lon_a_deg
    turn = math.radians(turn_deg - 360.0 * round(turn_deg / 360.0))
    climb = math.radians(lat_b_deg - lat_a_deg)
    lat_a, cos_b = math.radians(lat_a_deg), math.cos(math.radians(lat_b_deg))
    sin_half_squared = math.sin(turn / 2) ** 2
    east = math.sin(turn) * cos_b
    north = math.sin(climb) + 2 * math.sin(lat_a) * cos_b * sin_half_squared
    outward = math.cos(climb) - 2 * math.cos(lat_a) * cos_b * sin_half_squared
    return EARTH_RADIUS_M * math.atan2(math.hypot(east, north), outward)


@numba.njit(nogil=True)
def is_speed_possible(
    is_track_start_N: NDArray[np.bool_],
    tracked_us_N: NDArray[np.int64],
    lon_deg_N: NDArray[np.float64],
    lat_deg_N: NDArray[np.float64],
    max_speed_mps: float,
    max_gap_s: float,
) -> NDArray[np.bool_]:
    """Whether each point can be kept: reached from the last kept one at `max_speed_mps`.

    Tracks follow each other; within one, points ascend in time. A run begins with a track, and
    after a silence longer than `max_gap_s` since the last kept point; its first point is kept.
    Consecutive points that cannot be reached from the last kept one, but each from the one before,
    are rivals of the run. Once they outnumber what the run has kept, they take its place: of a
    spike at the start of a run only the spike goes, and not all that follows it.
    """
    is_kept_N = np.zeros(tracked_us_N.size, np.bool_)
    first = last = rival = 0  # first and last kept point of the run, first of its rivals
    num_kept = 0
    for n in range(tracked_us_N.size):
        if is_track_start_N[n] or tracked_us_N[n] - tracked_us_N[last] > max_gap_s * 1e6:
            first, num_kept, is_reached = n, 0, True
        else:
            is_reached = _is_reached(tracked_us_N, lon_deg_N, lat_deg_N, last, n, max_speed_mps)
        if is_reached:
            is_kept_N[n] = True
            last, rival, num_kept = n, n + 1, num_kept + 1
            continue
        if rival < n and not _is_reached(
            tracked_us_N, lon_deg_N, lat_deg_N, n - 1, n, max_speed_mps
        ):
            rival = n
        if n + 1 - rival > num_kept:
            is_kept_N[first:rival] = False
            is_kept_N[rival : n + 1] = True
            first, last, num_kept = rival, n, n + 1 - rival
            rival = n + 1
    return is_kept_N


@numba.njit(nogil=True)
def _is_reached(
    tracked_us_N: NDArray[np.int64],
    lon_deg_N: NDArray[np.float64],
    lat_deg_N: NDArray[np.float64],
    a: int,
    b: int,
    max_speed_mps: float,
) -> bool:
    """Whether point b, later than a, is within reach of a."""
    elapsed_s = (tracked_us_N[b] - tracked_us_N[a]) / 1e6
    travelled_m = distance_m(lon_deg_N[a], lat_deg_N[a], lon_deg_N[b], lat_deg_N[b])
    return travelled_m <= max_speed_mps * elapsed_s
