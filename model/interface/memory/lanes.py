"""Lanes: how past trips went between two places, where something hid how another one did.

A lane begins where a past trip was near the start of a gap, and ends where it was near the end of
it, half to twice as late as the gap allows. Of each trip the lane that fits best is one.

Shapes: G gaps, F points found, S rates, K lanes, N points of gaps, C coordinates (east, north).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...earth.arrays import Floats, Ints
from ...earth.columns import Columns
from ...earth.geometry import step_between
from .paths import PastPaths, in_space_m

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

NUM_LANES = 12
NUM_FOUND = 128
MAX_STARTS = 400_000
RATES = (0.5, 0.65, 0.8, 1.0, 1.2, 1.5, 2.0)  # of how long a lane may take, to the time of the gap
GAPS_AT_ONCE = 256


@dataclass(frozen=True)
class Gaps(Columns):
    """Where gaps begin and end, how long they and their intervals are, and whose they are."""

    lon_deg_G2: Floats
    lat_deg_G2: Floats
    lasts_us_G: Ints
    pace_s_G: Floats
    kin_G: Ints


@dataclass(frozen=True)
class Detours(Columns):
    """By how much lanes leave the straight line of their gap, as they go, at points of gaps.

    `misfit_m` is how far a lane misses both ends of the gap, infinite where there is no lane.
    """

    off_m_NKC: Tensor
    misfit_m_NK: Tensor


@dataclass(frozen=True)
class Lanes:
    """Past paths, and a tree of the points at which their lanes may begin."""

    paths: PastPaths
    point_P: Ints
    tree: cKDTree

    @classmethod
    def of(cls, paths: PastPaths) -> Lanes:
        """Of paths, with lanes that begin at any of their points but the last."""
        from scipy.spatial import cKDTree

        is_start_N = np.ones(len(paths.along_us_N), bool)
        is_start_N[paths.offset_R[1:] - 1] = False
        (start,) = np.nonzero(is_start_N)
        point_P = start[:: max(1, -(-len(start) // MAX_STARTS))]
        places_deg = paths.points.lon_deg_N[point_P], paths.points.lat_deg_N[point_P]
        return cls(paths, point_P, cKDTree(in_space_m(*places_deg)))

    @cached_property
    def space_m_N3(self) -> Floats:
        return in_space_m(self.paths.points.lon_deg_N, self.paths.points.lat_deg_N)

    def detours(self, gaps: Gaps, gap_N: Ints, share_N: Floats) -> Detours:
        """Of points of gaps, each a share of the time after the start of its gap."""
        parts = range(0, len(gaps.lasts_us_G), GAPS_AT_ONCE)
        found = [self._nearest(gaps.at(slice(first, first + GAPS_AT_ONCE))) for first in parts]
        if not found:
            none = torch.zeros(0, NUM_LANES)
            return Detours(none.unsqueeze(-1).expand(-1, -1, 2), none)
        point_GK, lasts_us_GK, misfit_m_GK = (
            np.concatenate(columns) for columns in zip(*found, strict=True)
        )
        point_NK, lasts_us_NK = point_GK[gap_N], lasts_us_GK[gap_N]
        so_far_us_NK = np.rint(share_N[:, None] * lasts_us_NK).astype(np.int64)
        went_m, whole_m = (
            torch.stack(
                step_between(*self.paths.place(point), *self.paths.place_after(point, lasts_us)), -1
            )
            for point, lasts_us in ((point_NK, so_far_us_NK), (point_GK, lasts_us_GK))
        )
        share_N11 = torch.from_numpy(share_N)[:, None, None]
        off_m_NKC = went_m - share_N11 * whole_m[gap_N]
        return Detours(off_m_NKC.float(), torch.from_numpy(misfit_m_GK[gap_N]).float())

    def _nearest(self, gaps: Gaps) -> tuple[Ints, Ints, Floats]:
        """Where lanes begin, how long they take and how far they miss (G, K), the best first."""
        start_m_G3, end_m_G3 = (
            in_space_m(gaps.lon_deg_G2[:, side], gaps.lat_deg_G2[:, side]) for side in (0, 1)
        )
        num_found = min(NUM_FOUND, len(self.point_P))
        away_m_GF, near_GF = self.tree.query(start_m_G3, k=np.arange(1, num_found + 1))
        point_GF = self.point_P[near_GF]
        path_GF = self.paths.points.trajectory_N[point_GF]
        lasts_us_GS = np.rint(gaps.lasts_us_G[:, None] * np.array(RATES)).astype(np.int64)
        came_m_GFS3 = self._after_m(point_GF[..., None], lasts_us_GS[:, None])
        miss_m_GFS = np.linalg.norm(came_m_GFS3 - end_m_G3[:, None, None], axis=-1)
        rate_GF = miss_m_GFS.argmin(axis=-1)
        misfit_m_GF = np.hypot(away_m_GF, miss_m_GFS.min(axis=-1))
        misfit_m_GF[self.paths.kin_R[path_GF] == gaps.kin_G[:, None]] = np.inf
        order_GF = np.argsort(misfit_m_GF, axis=1, kind="stable")
        misfit_m_GF, path_GF, point_GF, rate_GF = (
            np.take_along_axis(value_GF, order_GF, 1)
            for value_GF in (misfit_m_GF, path_GF, point_GF, rate_GF)
        )
        misfit_m_GF[_is_repeated(path_GF)] = np.inf
        kept_GK = np.argsort(misfit_m_GF, axis=1, kind="stable")[:, :NUM_LANES]
        kept_GK = np.pad(kept_GK, ((0, 0), (0, NUM_LANES - kept_GK.shape[1])), mode="edge")
        point_GK, rate_GK, misfit_m_GK = (
            np.take_along_axis(value_GF, kept_GK, 1)
            for value_GF in (point_GF, rate_GF, misfit_m_GF)
        )
        misfit_m_GK[:, num_found:] = np.inf
        lasts_us_GK = np.take_along_axis(lasts_us_GS, rate_GK, 1)
        return point_GK, np.minimum(lasts_us_GK, self.paths.left_us(point_GK)), misfit_m_GK

    def _after_m(self, point_Q: Ints, elapsed_us_Q: Ints) -> Floats:
        """Where paths are some time after some of their points, in space, on the chord."""
        paths = self.paths
        last_Q = paths.offset_R[paths.points.trajectory_N[point_Q] + 1] - 1
        along_us_Q = np.minimum(paths.along_us_N[point_Q] + elapsed_us_Q, paths.along_us_N[last_Q])
        before_Q = np.searchsorted(paths.along_us_N, along_us_Q, side="right") - 1
        after_Q = np.minimum(before_Q + 1, last_Q)
        step_us_Q = np.maximum(paths.along_us_N[after_Q] - paths.along_us_N[before_Q], 1)
        share_Q1 = ((along_us_Q - paths.along_us_N[before_Q]) / step_us_Q)[..., None]
        before_m_Q3 = self.space_m_N3[before_Q]
        found: Floats = before_m_Q3 + share_Q1 * (self.space_m_N3[after_Q] - before_m_Q3)
        return found


def _is_repeated(path_GF: Ints) -> np.ndarray:
    """Which places of each row hold a path that stood there before."""
    order_GF = np.argsort(path_GF, axis=1, kind="stable")
    sorted_GF = np.take_along_axis(path_GF, order_GF, 1)
    is_same_GF = np.zeros(path_GF.shape, bool)
    is_same_GF[:, 1:] = sorted_GF[:, 1:] == sorted_GF[:, :-1]
    is_repeated_GF = np.zeros(path_GF.shape, bool)
    np.put_along_axis(is_repeated_GF, order_GF, is_same_GF, 1)
    return is_repeated_GF
