"""Flat points of many trajectories, one behind the other: checked, in order, cut, and padded.

Where a piece is cut depends on its own trajectory alone, so that a trajectory is answered alike in
whatever company.

Shapes: N points, R trajectories, P pieces, T points of a piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import torch

from ..earth.arrays import Bools, Floats, Ints
from ..earth.columns import Columns
from .contexts import Context, Partial


@dataclass(frozen=True)
class FlatPoints(Columns):
    """Points of R trajectories, one behind the other; `trajectory_N` counts to R.

    They are in order of time, or, where a trajectory lacks one, in the order in which they came. A
    place that is missing is NaN; `has_time_N` says where a time is given. A velocity that is
    reported beside a place is NaN where it is not. `kind_N` are the numbers of what moves
    (`kinds.py`), the same at all points of a trajectory.
    """

    trajectory_N: Ints
    instant_us_N: Ints
    lon_deg_N: Floats
    lat_deg_N: Floats
    has_time_N: Bools
    reported_mps_NC: Floats | None = None
    kind_N: Ints | None = None

    @property
    def offset_R(self) -> Ints:
        """Trajectory r owns the points offset_R[r] up to offset_R[r + 1]."""
        return np.flatnonzero(np.diff(self.trajectory_N, prepend=-1, append=-1)).astype(np.int64)

    @property
    def has_place_N(self) -> Bools:
        return ~np.isnan(self.lon_deg_N)


# Order ------------------------------------------------------------------------------------------


def sorted_points(
    trajectory_N: Ints,
    instant_us_N: Ints,
    lon_deg_N: Floats,
    lat_deg_N: Floats,
    reported_mps_NC: Floats | None = None,
    kind_N: Ints | None = None,
) -> FlatPoints:
    """Checked points of which no place and no time is missing; a row given twice counts once."""
    every_N = np.ones(len(trajectory_N), bool)
    _check_ranges(lon_deg_N, lat_deg_N, every_N)
    points = trajectory_N, instant_us_N, lon_deg_N, lat_deg_N, every_N
    return sorted_sketch(*points, reported_mps_NC, kind_N)


def sorted_sketch(
    trajectory_N: Ints,
    instant_us_N: Ints,
    lon_deg_N: Floats,
    lat_deg_N: Floats,
    has_time_N: Bools,
    reported_mps_NC: Floats | None = None,
    kind_N: Ints | None = None,
) -> FlatPoints:
    """Checked points of which places and times may be missing.

    A trajectory with all its times is put in order of them, and a row given twice counts once, the
    one of them with a reported motion where only some have one. One that lacks a time keeps the
    order of its rows. No message names a coordinate: it may be somebody's home.
    """
    if not len(trajectory_N):
        raise ValueError("no points were given; each trajectory needs at least one")
    has_place_N = checked_places(lon_deg_N, lat_deg_N)
    is_timed_R = np.bincount(trajectory_N, ~has_time_N) == 0
    key_N = np.where(is_timed_R[trajectory_N], instant_us_N, np.arange(len(trajectory_N)))
    motion = () if reported_mps_NC is None else tuple(reported_mps_NC.T)
    order_N = np.lexsort((*motion, lat_deg_N, lon_deg_N, key_N, trajectory_N))
    points = FlatPoints(
        trajectory_N,
        np.where(has_time_N, instant_us_N, 0),
        np.where(has_place_N, lon_deg_N, np.nan),
        np.where(has_place_N, lat_deg_N, np.nan),
        has_time_N,
        reported_mps_NC,
        kind_N,
    ).at(order_N)
    _check_order(points.at(points.has_time_N & ~is_timed_R[points.trajectory_N]))
    return _without_repeats(points, is_timed_R[points.trajectory_N])


def _without_repeats(points: FlatPoints, is_timed_N: Bools) -> FlatPoints:
    """Points without rows given twice; two places at one instant are refused."""
    same_instant_N = is_timed_N[1:] & (np.diff(points.trajectory_N) == 0)
    same_instant_N &= np.diff(points.instant_us_N) == 0
    # A missing place is a place of its own here.
    lon_deg_N, lat_deg_N = (
        np.nan_to_num(v, nan=999.0) for v in (points.lon_deg_N, points.lat_deg_N)
    )
    is_tie_N = same_instant_N & ((np.diff(lon_deg_N) != 0) | (np.diff(lat_deg_N) != 0))
    if is_tie_N.any():
        raise ValueError(
            "points that share trajectory_id and tracked_at with another point at a different "
            f"place: {int(is_tie_N.sum())}; keep one of each"
        )
    return points.at(np.append(True, ~same_instant_N))


def checked_places(lon_deg_N: Floats, lat_deg_N: Floats) -> Bools:
    has_place_N = ~np.isnan(lon_deg_N)
    num_halves = int((has_place_N != ~np.isnan(lat_deg_N)).sum())
    if num_halves:
        raise ValueError(
            f"one of lon_deg and lat_deg is missing in {num_halves} of {len(lon_deg_N)} rows; "
            "give both or neither"
        )
    _check_ranges(lon_deg_N, lat_deg_N, has_place_N)
    return has_place_N


def _check_ranges(lon_deg_N: Floats, lat_deg_N: Floats, is_given_N: Bools) -> None:
    for name, value_N, limit_deg in (("lon_deg", lon_deg_N, 180), ("lat_deg", lat_deg_N, 90)):
        num_bad = int((is_given_N & ~(np.abs(value_N) <= limit_deg)).sum())  # NaN is not
        if num_bad:
            raise ValueError(
                f"{name} must be finite and from {-limit_deg} to {limit_deg}: "
                f"{num_bad} of {len(value_N)} rows are not"
            )


def _check_order(timed: FlatPoints) -> None:
    """Times that stand among missing ones must fit the order of the rows."""
    is_same_N = np.diff(timed.trajectory_N) == 0
    num_bad = int((is_same_N & (np.diff(timed.instant_us_N) <= 0)).sum())
    if num_bad:
        raise ValueError(
            "where a trajectory has a row without tracked_at its rows count in the order given; "
            f"rows that are not later than the one before: {num_bad}"
        )


# Pieces -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pieces(Columns):
    """What a model reads at once: the points first_P[p] up to end_P[p], all of one trajectory.

    Each point is answered by one piece, which keeps the answers kept_P[p] up to kept_end_P[p].
    """

    first_P: Ints
    end_P: Ints
    kept_P: Ints
    kept_end_P: Ints

    @classmethod
    def of(cls, pieces: list[tuple[int, int, int, int]]) -> Pieces:
        return cls(*np.array(pieces, np.int64).T)

    def parts(self, num_pieces: int) -> Iterator[Pieces]:
        """A few pieces at a time."""
        for first in range(0, len(self.first_P), num_pieces):
            yield self.at(slice(first, first + num_pieces))


def latest(points: FlatPoints, longest: int) -> Pieces:
    """The last points, at most `longest`, of each trajectory."""
    offset_R = points.offset_R
    first_R = np.maximum(offset_R[:-1], offset_R[1:] - longest)
    return Pieces(first_R, offset_R[1:], first_R, offset_R[1:])


def even_places(size_R: Ints, kept_R: Ints, num_columns: int) -> Ints:
    """Which points (R, K) of each path are kept: both ends, the others evenly; then the last."""
    slot_RK = np.minimum(np.arange(num_columns), kept_R[:, None] - 1)
    steps_R1 = np.maximum(kept_R - 1, 1)[:, None]
    # Rounded to the nearest point, in whole numbers.
    return (2 * slot_RK * (size_R - 1)[:, None] + steps_R1) // (2 * steps_R1)


def consecutive(points: FlatPoints, longest: int, num_shared: int = 0) -> Pieces:
    """Pieces of at most `longest` points, each beginning with the last `num_shared` before it."""
    stretches = [
        (first, min(first + longest, stop))
        for start, stop in pairwise(points.offset_R.tolist())
        for first in range(start, max(start + 1, stop - num_shared), longest - num_shared)
    ]
    return Pieces.of([(first, end, first, end) for first, end in stretches])


def between_known(points: FlatPoints, longest: int) -> Pieces:
    """Pieces of at most `longest` points that keep every hidden stretch whole.

    A longer trajectory is cut at points of which all is known, where half a piece is full. What is
    left of the piece is filled with points before and after it, which are read and not answered.
    """
    is_known_N = points.has_place_N & points.has_time_N
    return Pieces.of(
        [
            (start + first, start + end, start + kept, start + kept_end)
            for start, stop in pairwise(points.offset_R.tolist())
            for first, end, kept, kept_end in _cut_at_known(is_known_N[start:stop], longest)
        ]
    )


def _cut_at_known(is_known_T: Bools, longest: int) -> Iterator[tuple[int, int, int, int]]:
    num_points = len(is_known_T)
    if num_points <= longest:
        yield 0, num_points, 0, num_points
        return
    inner = np.flatnonzero(is_known_T[1:-1]) + 1
    border = [0, *inner.tolist(), num_points - 1]
    if np.diff(border).max() >= longest:
        raise ValueError(
            f"over {longest - 2} points of a trajectory are missing in a row; this model reads at "
            f"most {longest} at once, a known one at each end"
        )
    place = 0
    while place < len(border) - 1:
        start = border[place]
        place += 1
        while place + 1 < len(border) and border[place + 1] < start + longest // 2:
            place += 1
        stop = border[place]
        spare = longest - (stop - start + 1)
        first = min(max(0, start - spare // 2), num_points - longest)
        # The border belongs to the next piece, if there is one.
        yield first, first + longest, start, stop if place + 1 < len(border) else num_points


# Padding ----------------------------------------------------------------------------------------


def partial_of(points: FlatPoints, pieces: Pieces, zone: str) -> Partial:
    """The points of pieces under each other; times count from the first one given."""
    num_points_P1 = (pieces.end_P - pieces.first_P)[:, None]
    slot_T = np.arange(num_points_P1.max())
    is_pad_PT = slot_T >= num_points_P1
    index_PT = np.where(is_pad_PT, 0, pieces.first_P[:, None] + slot_T)
    shows_time_PT = points.has_time_N[index_PT] & ~is_pad_PT
    instant_us_PT = points.instant_us_N[index_PT]
    first_P1 = shows_time_PT.argmax(1)[:, None]
    started_us_P1 = np.take_along_axis(instant_us_PT, first_P1, axis=1)
    time_s_PT = np.where(shows_time_PT, (instant_us_PT - started_us_P1) / 1e6, 0.0)
    return Partial(
        torch.from_numpy(points.lon_deg_N[index_PT]),
        torch.from_numpy(points.lat_deg_N[index_PT]),
        torch.from_numpy(time_s_PT),
        torch.from_numpy(points.has_place_N[index_PT] & ~is_pad_PT),
        torch.from_numpy(shows_time_PT),
        torch.from_numpy(started_us_P1[:, 0]),
        zone,
        torch.from_numpy(is_pad_PT),
        reported_mps_BTC=_reported_at(points, index_PT, is_pad_PT),
        kind_B=None if points.kind_N is None else torch.from_numpy(points.kind_N[pieces.first_P]),
    )


def _reported_at(points: FlatPoints, index_PT: Ints, is_pad_PT: Bools) -> torch.Tensor | None:
    """The reported velocities (P, T, C) of points; pads report none."""
    if points.reported_mps_NC is None:
        return None
    return torch.from_numpy(
        np.where(is_pad_PT[..., None], np.nan, points.reported_mps_NC[index_PT])
    )


def context_of(points: FlatPoints, pieces: Pieces, zone: str) -> Context:
    """The points of pieces under each other, if nothing of them is missing."""
    partial = partial_of(points, pieces, zone)
    return Context(**{field.name: getattr(partial, field.name) for field in fields(Context)})
