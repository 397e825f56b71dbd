"""Past gaps: recovery by the path of train that comes nearest to both ends of a gap.

The path is laid with its start on the point before the gap, and the miss at the other end is spread
evenly over the way. It may have been faster or slower than the gap allows, by a few rates.

Shapes: B windows, T points, G gaps, K candidates, S rates, C coordinates (east, north).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..earth.arrays import Ints
from ..earth.geometry import haversine_m, step_between
from ..interface.memory.paths import PastPaths, in_space_m
from .recovery import Bracket, RecoveryBaseline, hermite_m

MAX_STARTS = 1_000_000
NUM_CANDIDATES = 64
RATES = (0.5, 0.7, 1.0, 1.4, 2.0)
MISFITS = (0.0, 0.05, 0.1, 0.2, 0.5, math.inf)  # of which the fit chooses
GAPS_AT_ONCE = 1_024


@dataclass(frozen=True)
class Gaps:
    """Hidden stretches between two known points, told once each; -1 where a point is in none."""

    number_BT: Ints
    start_us_G: Ints
    gap_us_G: Ints
    starts: tuple[Tensor, Tensor]
    ends: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, around: Bracket) -> Gaps:
        """Those of the points that are asked."""
        partial = around.partial
        is_asked_BT = ~around.is_known_BT & ~partial.is_pad_BT & (around.gap_s_BT > 0)
        row_Q, column_Q = is_asked_BT.numpy().nonzero()
        # Gaps of a row do not overlap: each is told by where it begins.
        name_Q = np.stack([row_Q, around.start_BT.numpy()[row_Q, column_Q]])
        _, first_G, number_Q = np.unique(name_Q, axis=1, return_index=True, return_inverse=True)
        number_BT = np.full(is_asked_BT.shape, -1, np.int64)
        number_BT[row_Q, column_Q] = number_Q.ravel()
        row_G, column_G = row_Q[first_G], column_Q[first_G]
        start_G, end_G = (at[row_G, column_G] for at in (around.start_BT, around.end_BT))
        columns = partial.lon_deg_BT, partial.lat_deg_BT
        starts, ends = (
            (columns[0][row_G, place_G], columns[1][row_G, place_G]) for place_G in (start_G, end_G)
        )
        start_us_G = _us(partial.time_s_BT[row_G, start_G]) + partial.started_us_B.numpy()[row_G]
        return cls(number_BT, start_us_G, _us(around.gap_s_BT[row_G, column_G]), starts, ends)


@dataclass(frozen=True)
class PastGaps:
    """Paths of train that begin near the start of a gap and later come near its end.

    A gap that no path fits to within `most_misfit` of its length is crossed by the cubic of
    `hermite_m`: at 0 all of them are. Paths of the asked entity itself are left out.
    """

    paths: PastPaths
    point_P: Ints
    tree: cKDTree
    most_misfit: float = math.inf

    @classmethod
    def of(cls, paths: PastPaths) -> PastGaps:
        point_P = np.arange(len(paths.along_us_N))[:: -(-len(paths.along_us_N) // MAX_STARTS)]
        places = paths.points.lon_deg_N[point_P], paths.points.lat_deg_N[point_P]
        return cls(paths, point_P, cKDTree(in_space_m(*places)))

    def moved_m(self, around: Bracket) -> Tensor:
        """Metres (B, T, C) from the known point before each point."""
        moved_m_BTC = hermite_m(around)
        gaps = Gaps.of(around)
        if not len(gaps.gap_us_G):
            return moved_m_BTC
        point_G, lasts_us_G, is_near_G = self._nearest(gaps)
        (row_Q, column_Q) = np.nonzero((gaps.number_BT >= 0) & is_near_G[gaps.number_BT])
        gap_Q = gaps.number_BT[row_Q, column_Q]
        share_Q1 = around.share_BT1[row_Q, column_Q]
        so_far_us_Q = np.rint(share_Q1[:, 0].numpy() * lasts_us_G[gap_Q]).astype(np.int64)
        went_m_QC = self._went_m(point_G[gap_Q], so_far_us_Q)
        miss_m_QC = around.chord_m_BTC[row_Q, column_Q] - self._went_m(point_G, lasts_us_G)[gap_Q]
        moved_m_BTC[row_Q, column_Q] = went_m_QC + share_Q1 * miss_m_QC
        return moved_m_BTC

    def _went_m(self, point_Q: Ints, elapsed_us_Q: Ints) -> Tensor:
        ends = self.paths.place_after(point_Q, elapsed_us_Q)
        return torch.stack(step_between(*self.paths.place(point_Q), *ends), dim=-1)

    def _nearest(self, gaps: Gaps) -> tuple[Ints, Ints, np.ndarray]:
        """Where the nearest path begins (G), how long it takes (G), and whether it is near (G)."""
        found = [
            self._nearest_of(gaps, slice(first, first + GAPS_AT_ONCE))
            for first in range(0, len(gaps.gap_us_G), GAPS_AT_ONCE)
        ]
        point_G, lasts_us_G, is_near_G = (np.concatenate(part) for part in zip(*found, strict=True))
        return point_G, lasts_us_G, is_near_G

    def _nearest_of(self, gaps: Gaps, part: slice) -> tuple[Ints, Ints, np.ndarray]:
        starts, ends = ([axis_G[part] for axis_G in places] for places in (gaps.starts, gaps.ends))
        start_deg = [axis_G.numpy() for axis_G in starts]
        kin_G = self.paths.kin_at(gaps.start_us_G[part], *start_deg)
        num_candidates = min(NUM_CANDIDATES, len(self.point_P))
        _, near_GK = self.tree.query(in_space_m(*start_deg), k=np.arange(1, num_candidates + 1))
        point_GK = self.point_P[near_GK]
        lasts_us_GS = np.rint(gaps.gap_us_G[part][:, None] * np.array(RATES)).astype(np.int64)
        point_GKS = np.repeat(point_GK[..., None], len(RATES), axis=2)
        came = self.paths.place_after(point_GKS, lasts_us_GS[:, None])
        at_start_m_GK1 = _away_m(starts, self.paths.place(point_GK[..., None]))
        at_end_m_GKS = _away_m(ends, came)
        misfit_m_GKS = torch.hypot(at_start_m_GK1, at_end_m_GKS).numpy()
        kin_GK = self.paths.kin_R[self.paths.points.trajectory_N[point_GK]]
        misfit_m_GKS[kin_GK == kin_G[:, None]] = np.inf
        best_G = misfit_m_GKS.reshape(len(kin_G), -1).argmin(axis=1)
        candidate_G, rate_G = np.divmod(best_G, len(RATES))
        row_G = np.arange(len(kin_G))
        least_m_G = misfit_m_GKS[row_G, candidate_G, rate_G]
        share_G = least_m_G / np.maximum(haversine_m(*starts, *ends).numpy(), 1e-3)
        is_near_G = (share_G <= self.most_misfit) & (self.most_misfit > 0) & np.isfinite(share_G)
        return point_GK[row_G, candidate_G], lasts_us_GS[row_G, rate_G], is_near_G


def past_trip_recovery(gaps: PastGaps) -> RecoveryBaseline:
    """The answerer of a memory of paths."""
    return RecoveryBaseline("past_trips", gaps.moved_m)


def fitted_past_gaps(
    paths: PastPaths, error_m: Callable[[RecoveryBaseline], float]
) -> RecoveryBaseline:
    """The memory of train whose `most_misfit` has the least error on validation windows."""
    memory = PastGaps.of(paths)
    found = (past_trip_recovery(replace(memory, most_misfit=share)) for share in MISFITS)
    return min(found, key=error_m)


def _away_m(place_G: Sequence[Tensor], others_GKS: tuple[Tensor, Tensor]) -> Tensor:
    lon_deg_G, lat_deg_G = (axis_G[:, None, None] for axis_G in place_G)
    return haversine_m(lon_deg_G, lat_deg_G, *others_GKS)


def _us(seconds_Q: Tensor) -> Ints:
    return np.rint(seconds_Q.numpy() * 1e6).astype(np.int64)
