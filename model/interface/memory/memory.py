"""Memory: trips of train, searched for those that were near in place and in motion.

It holds raw positions. Nothing of it is a weight: a network that asks it can be given another
one, of another city or sea, and answers from that without any training.

Shapes: N presents, P crops, R paths, K neighbours, F found, J knots, L lags, V velocities,
C coordinates (east, north).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...earth.arrays import Bools, Floats, Ints
from ...earth.geometry import step_between
from ..batch import ROW_BITS, Batch
from ..contexts import Context
from ..flat_points import FlatPoints
from ..recalled import KNOTS, NUM_LINEAR, Recalled, linear_parts
from ..sequence_rows import SequenceRows
from .crops import cut_points, keys, velocities_mps
from .lanes import Detours, Gaps, Lanes
from .paths import NOBODY, PastPaths, in_space_m

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

TRAIN = "train"
MEMORY_FILE = "memory.safetensors"
NUM_NEIGHBOURS = 12
NUM_FOUND = (36, 288)  # of which those of the asked entity itself are left out: more where needed
NO_FORECAST = torch.full((len(KNOTS), NUM_LINEAR), torch.nan, dtype=torch.float64)
OUTER, WIDER = 0.02, 2.0  # tails of its intervals, and how far beyond them it still tells
FAR_SPREADS = 10.0  # from where on a linear forecast would be asked of what it never saw
SLACK = 0.5  # a neighbour may be so much farther away than the nearest one
ROUGH_M, FAR_M = 50e3, 1_000e3  # the diagonal of a cube is a tenth of what is far


@dataclass(frozen=True)
class Memory:
    """Past paths, and the time for which a difference of velocities is as much as one of places.

    `spread_m` is how far from each other trips usually are that are neighbours. A memory is that of
    people, if nothing else is said. `weight_JP` are those of its own linear forecast, NaN of knots
    without one.
    `kin_of_row` says whose the trips of the split are that it was made of, in the order of their
    shards; who reads these has to leave out what is his own.
    """

    paths: PastPaths
    motion_s: float
    spread_m: float = 1.0
    is_personal: bool = True
    weight_JP: Tensor = field(default_factory=lambda: NO_FORECAST)
    kin_of_row: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def __deepcopy__(self, memo: dict[int, Any]) -> Memory:
        """A memory does not change: copies of a network share it."""
        return self

    # Search -------------------------------------------------------------------------------------

    @cached_property
    def now_P(self) -> Ints:
        return cut_points(self.paths)

    @cached_property
    def kin_P(self) -> Ints:
        return self.paths.kin_R[self.paths.points.trajectory_N[self.now_P]]

    @cached_property
    def motion_P(self) -> tuple[Floats, Floats]:
        """Velocities (P, L, C) and mean intervals (P) of the crops."""
        return velocities_mps(self.paths, self.now_P)

    @property
    def velocity_mps_PLC(self) -> Floats:
        return self.motion_P[0]

    @cached_property
    def pace_s_2(self) -> Floats:
        """The shortest and the longest interval at which its own trips tell how one goes on."""
        low_s, high_s = np.quantile(self.motion_P[1], [OUTER, 1 - OUTER])
        return np.array([low_s / WIDER, high_s * WIDER])

    @cached_property
    def tree(self) -> cKDTree:
        from scipy.spatial import cKDTree

        points = self.paths.points
        places_deg = points.lon_deg_N[self.now_P], points.lat_deg_N[self.now_P]
        return cKDTree(keys(*places_deg, self.velocity_mps_PLC, self.motion_s))

    def knows_pace(self, pace_s_N: Floats) -> Bools:
        """Which intervals are at least half of its shortest, and at most twice its longest ones."""
        low_s, high_s = self.pace_s_2
        return (pace_s_N >= low_s) & (pace_s_N <= high_s)

    def spreads_away(self, lon_deg_N: Floats, lat_deg_N: Floats) -> Floats:
        """How far the nearest crop is from places, as a multiple of how far neighbours are.

        To a tenth of what is far: from there all crops are about equally far, and a tree would look
        at nearly all of them.
        """
        place_m_NC = in_space_m(lon_deg_N, lat_deg_N)
        away_m_N, _ = self.rough_tree.query(place_m_NC)
        is_near_N = away_m_N < FAR_M
        if is_near_N.any():
            away_m_N[is_near_N], _ = self.place_tree.query(place_m_NC[is_near_N])
        return np.asarray(away_m_N) / self.spread_m

    @cached_property
    def rough_tree(self) -> cKDTree:
        """One crop of each cube of `ROUGH_M` that has any."""
        from scipy.spatial import cKDTree

        place_m_PC = self.place_tree.data
        _, first_Q = np.unique((place_m_PC // ROUGH_M).astype(int), axis=0, return_index=True)
        return cKDTree(place_m_PC[first_Q])

    @cached_property
    def place_tree(self) -> cKDTree:
        from scipy.spatial import cKDTree

        places_deg = (place.numpy() for place in self.paths.place(self.now_P))
        return cKDTree(in_space_m(*places_deg))

    def nearest(
        self, lon_deg_N: Floats, lat_deg_N: Floats, velocity_mps_NLC: Floats, kin_N: Ints
    ) -> tuple[Ints, Bools]:
        """Crops (N, K), the nearest first, and which of them there are: none of one's own kin.

        A question whose neighbours are mostly its own kin is asked once more for eight times as
        many; no question depends on another.
        """
        key_NF = keys(lon_deg_N, lat_deg_N, velocity_mps_NLC, self.motion_s)
        crop_NK = np.zeros((len(key_NF), NUM_NEIGHBOURS), np.int64)
        is_known_NK = np.zeros(crop_NK.shape, bool)
        rows = np.arange(len(key_NF))
        for most in NUM_FOUND:
            asked = {"k": np.arange(1, min(most, len(self.now_P)) + 1), "eps": SLACK}
            _away, crop_QF = self.tree.query(key_NF[rows], **asked)
            is_own_QF = self.kin_P[crop_QF] == kin_N[rows, None]
            order_QK = np.argsort(is_own_QF, axis=1, kind="stable")[:, :NUM_NEIGHBOURS]
            width = order_QK.shape[1]
            crop_NK[rows, :width] = np.take_along_axis(crop_QF, order_QK, 1)
            is_known_NK[rows, :width] = ~np.take_along_axis(is_own_QF, order_QK, 1)
            rows = rows[~is_known_NK[rows].all(axis=1)]
        return crop_NK, is_known_NK

    def recall(
        self,
        lon_deg_N: Tensor,
        lat_deg_N: Tensor,
        velocity_mps_NLC: Tensor,
        pace_s_N: Tensor,
        simple_mps_NJC: Tensor,
        kin_N: Ints,
    ) -> Recalled:
        """What the neighbours of presents did next, knots of `pace_s` ahead.

        `simple_mps` are the mean velocities until these by a simple forecast, which the linear one
        of the memory is told.
        """
        told = lon_deg_N, lat_deg_N, velocity_mps_NLC, pace_s_N, simple_mps_NJC
        lon_deg, lat_deg, velocity_mps, pace_s, simple_mps = (
            value.detach().cpu().double() for value in told
        )
        asked = lon_deg.numpy(), lat_deg.numpy(), velocity_mps.numpy(), kin_N
        crop_NK, is_known_NK = self.nearest(*asked)
        now_NK = self.now_P[crop_NK]
        here = self.paths.place(now_NK)
        faster_mps_NKLC = velocity_mps.unsqueeze(1) - torch.from_numpy(
            self.velocity_mps_PLC[crop_NK]
        )
        faster = [faster_mps_NKLC[:, :, :2].mean(2), faster_mps_NKLC[:, :, 2] / 2]
        way_mps_NKJC, lasts_NKJ = self.ways(now_NK, pace_s)
        offset_m = step_between(lon_deg.unsqueeze(1), lat_deg.unsqueeze(1), *here)
        offset_m_NKC, faster_mps_NKVC = torch.stack(offset_m, dim=-1), torch.stack(faster, dim=2)
        is_told_NKJ = torch.from_numpy(is_known_NK).unsqueeze(-1) & lasts_NKJ
        parts = way_mps_NKJC, offset_m_NKC, faster_mps_NKVC, is_told_NKJ
        linear_mps_NJC, is_linear_NJ = self.linear_mps(velocity_mps, pace_s, simple_mps, *parts)
        device = pace_s_N.device
        return Recalled(
            way_mps_NKJC.float().to(device),
            lasts_NKJ.to(device),
            offset_m_NKC.float().to(device),
            faster_mps_NKVC.float().to(device),
            torch.from_numpy(is_known_NK).to(device),
            torch.full_like(pace_s_N, self.motion_s),
            torch.full_like(pace_s_N, self.spread_m),
            linear_mps_NJC.float().to(device),
            is_linear_NJ.to(device),
        )

    def linear_mps(
        self, velocity_mps_NLC: Tensor, pace_s_N: Tensor, *told: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean velocities (N, J, C) until knots by the own linear forecast, and where there is one.

        There is none at intervals unlike those of the own trips, nor far away from all of them.
        """
        *_, offset_m_NKC, _, is_told_NKJ = told
        is_near_N = offset_m_NKC[:, 0].norm(dim=-1) < FAR_SPREADS * self.spread_m
        is_linear_NJ = is_told_NKJ.any(1) & self.weight_JP.isfinite().all(-1)
        is_asked_N = torch.from_numpy(self.knows_pace(pace_s_N.numpy())) & is_near_N
        is_linear_NJ &= is_asked_N.unsqueeze(-1)
        design_NJPC = linear_parts(velocity_mps_NLC, pace_s_N, *told)
        found_NJC = torch.einsum("jp,njpc->njc", self.weight_JP.nan_to_num(), design_NJPC)
        return found_NJC.where(is_linear_NJ.unsqueeze(-1), 0.0), is_linear_NJ

    def ways(self, now_NK: Ints, pace_s_N: Tensor) -> tuple[Tensor, Tensor]:
        """Mean velocities (N, K, J, C) from points until knots, and which paths go on so long."""
        ahead_s_N1J = pace_s_N[:, None, None] * torch.tensor(KNOTS)
        ahead_us_N1J = (ahead_s_N1J * 1e6).round().long().numpy()
        now_NK1 = now_NK[..., None]
        start_NKJ = np.broadcast_to(now_NK1, (*now_NK.shape, len(KNOTS)))
        ends = self.paths.place_after(start_NKJ, ahead_us_N1J)
        moved_m = step_between(*self.paths.place(now_NK1), *ends)
        lasts_NKJ = torch.from_numpy(self.paths.left_us(now_NK1) >= ahead_us_N1J)
        return torch.stack(moved_m, dim=-1) / ahead_s_N1J.unsqueeze(-1), lasts_NKJ

    # Lanes --------------------------------------------------------------------------------------

    @cached_property
    def lanes(self) -> Lanes:
        return Lanes.of(self.paths)

    def detours(self, gaps: Gaps, gap_N: Ints, share_N: Floats) -> Detours:
        """How past trips went between the ends of gaps, none of one's own kin."""
        return self.lanes.detours(gaps, gap_N, share_N)

    # Kin ----------------------------------------------------------------------------------------

    def with_kin(self, number_K: Ints) -> Memory:
        """The same memory, whose kin have other numbers."""
        is_known_R = self.kin_of_row != NOBODY
        kin_of_row = np.where(is_known_R, number_K[self.kin_of_row], NOBODY)
        paths = replace(self.paths, kin_R=number_K[self.paths.kin_R])
        return replace(self, paths=paths, kin_of_row=kin_of_row)

    def kin_at(self, instant_us_N: Ints, lon_deg_N: Floats, lat_deg_N: Floats) -> Ints:
        """Whose path was just there just then; nobody's is `NOBODY`."""
        return self.paths.kin_at(instant_us_N, lon_deg_N, lat_deg_N)

    def kin_of_context(self, context: Context) -> Ints:
        """Whose the last points of contexts are."""
        lon_deg_B, lat_deg_B, time_s_B = (value_B1[:, 0].numpy() for value_B1 in context.last_B1())
        instant_us_B = context.started_us_B.numpy() + np.rint(time_s_B * 1e6).astype(np.int64)
        return self.kin_at(instant_us_B, lon_deg_B, lat_deg_B)

    def kin_of(self, batch: Batch, rows: SequenceRows) -> Ints:
        """Whose the sequences of a batch are: of train they are told by the row of their trip.

        Splits share no point, so that what is read of another one is nobody's.
        """
        if batch.split != TRAIN:
            return nobody(len(rows.window_R))
        return self.kin_of_row[rows.window_R.cpu().numpy() >> ROW_BITS]

    # File ---------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Positions and instants of the paths, who is one, and the scales."""
        points = self.paths.points
        columns = {
            "instant_us_N": points.instant_us_N,
            "lon_deg_N": points.lon_deg_N,
            "lat_deg_N": points.lat_deg_N,
            "num_points_R": np.diff(self.paths.offset_R),
            "kin_R": self.paths.kin_R.astype(np.int64),
            "scales": np.array([self.motion_s, self.spread_m]),
            "weight_JP": self.weight_JP.numpy(),
            "is_personal": np.array([self.is_personal]),
        }
        return {
            name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in columns.items()
        }

    @classmethod
    def of_tensors(cls, stored: Mapping[str, Tensor]) -> Memory:
        """The inverse of `tensors`."""
        told = {name: value.numpy() for name, value in stored.items()}
        path_N = np.repeat(np.arange(len(told["num_points_R"])), told["num_points_R"])
        columns = told["instant_us_N"], told["lon_deg_N"], told["lat_deg_N"]
        points = FlatPoints(path_N, *columns, np.ones(len(path_N), bool))
        motion_s, spread_m = told["scales"].tolist()
        paths = PastPaths.of(points, told["kin_R"])
        is_personal = bool(told["is_personal"][0])
        return cls(paths, motion_s, spread_m, is_personal, stored["weight_JP"].clone())


def nobody(num: int) -> Ints:
    """Kin of questions that no trip of a memory belongs to."""
    return np.full(num, NOBODY, np.int64)
