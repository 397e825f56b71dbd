"""Past paths: where the trips of train were at any time, and whose they are.

Shapes: N points, R paths, E entities, Q places of a path, C coordinates of space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ...earth.arrays import Floats, Ints
from ...earth.constants import EARTH_RADIUS_M
from ...earth.geometry import step_between, step_from
from ..flat_points import FlatPoints

NOBODY = -1


@dataclass(frozen=True)
class PastPaths:
    """Whole paths of train, one behind the other.

    `along_us_N` are their instants, moved so that they ascend over all paths. `kin_R` numbers the
    entities, of which those that share a point are one: copies of each other.
    """

    points: FlatPoints
    offset_R: Ints
    along_us_N: Ints
    kin_R: Ints
    seen: SeenPoints

    @classmethod
    def of(cls, points: FlatPoints, entity_R: Ints) -> PastPaths:
        offset_R = points.offset_R
        first_us_R = points.instant_us_N[offset_R[:-1]]
        room_us_R = points.instant_us_N[offset_R[1:] - 1] - first_us_R + 1
        ahead_us_R = np.cumsum(room_us_R) - room_us_R - first_us_R
        along_us_N = points.instant_us_N + ahead_us_R[points.trajectory_N]
        seen = SeenPoints.of(points)
        kin_R = kin_of(seen.number_N, entity_R[points.trajectory_N][seen.point_N])[entity_R]
        return cls(points, offset_R, along_us_N, kin_R, seen)

    @property
    def median_step_s(self) -> float:
        is_same_N = np.diff(self.points.trajectory_N) == 0
        return float(np.median(np.diff(self.points.instant_us_N)[is_same_N])) / 1e6

    def place_after(self, point_Q: Ints, elapsed_us_Q: Ints) -> tuple[Tensor, Tensor]:
        """Longitude and latitude of paths some time after some of their points.

        On the great circle between the points around that time; at its end where a path is over.
        """
        last_Q = self.offset_R[self.points.trajectory_N[point_Q] + 1] - 1
        along_us_Q = np.minimum(self.along_us_N[point_Q] + elapsed_us_Q, self.along_us_N[last_Q])
        before_Q = np.searchsorted(self.along_us_N, along_us_Q, side="right") - 1
        after_Q = np.minimum(before_Q + 1, last_Q)
        since_us_Q = along_us_Q - self.along_us_N[before_Q]
        step_us_Q = np.maximum(self.along_us_N[after_Q] - self.along_us_N[before_Q], 1)
        share_Q = torch.from_numpy(since_us_Q / step_us_Q)
        before, after = self.place(before_Q), self.place(after_Q)
        return step_from(*before, *(axis_m * share_Q for axis_m in step_between(*before, *after)))

    def place(self, point_Q: Ints) -> tuple[Tensor, Tensor]:
        """Longitude and latitude of some of the points."""
        lon_deg_N, lat_deg_N = self.points.lon_deg_N, self.points.lat_deg_N
        return torch.from_numpy(lon_deg_N[point_Q]), torch.from_numpy(lat_deg_N[point_Q])

    def left_us(self, point_Q: Ints) -> Ints:
        """How long the paths of some points go on after them."""
        last_Q = self.offset_R[self.points.trajectory_N[point_Q] + 1] - 1
        return self.along_us_N[last_Q] - self.along_us_N[point_Q]

    def kin_at(self, instant_us_B: Ints, lon_deg_B: Floats, lat_deg_B: Floats) -> Ints:
        """Whose path of train was just there just then; nobody's is `NOBODY`."""
        point_B = self.seen.find(self.points, instant_us_B, lon_deg_B, lat_deg_B)
        return np.where(point_B < 0, NOBODY, self.kin_R[self.points.trajectory_N[point_B]])


@dataclass(frozen=True)
class SeenPoints:
    """Points in the order of a number that place and instant make, to be found by both."""

    point_N: Ints
    number_N: np.ndarray

    @classmethod
    def of(cls, points: FlatPoints) -> SeenPoints:
        number_N = _number(points.instant_us_N, points.lon_deg_N, points.lat_deg_N)
        point_N = np.argsort(number_N, kind="stable")
        return cls(point_N, number_N[point_N])

    def find(
        self, points: FlatPoints, instant_us_B: Ints, lon_deg_B: Floats, lat_deg_B: Floats
    ) -> Ints:
        """The point of just this place and instant, -1 where there is none."""
        at_B = np.searchsorted(self.number_N, _number(instant_us_B, lon_deg_B, lat_deg_B))
        point_B = self.point_N[np.minimum(at_B, len(self.point_N) - 1)]
        is_same_B = points.instant_us_N[point_B] == instant_us_B
        is_same_B &= points.lon_deg_N[point_B] == lon_deg_B
        is_same_B &= points.lat_deg_N[point_B] == lat_deg_B
        return np.where(is_same_B, point_B, -1)


def kin_of(number_N: np.ndarray, entity_N: Ints) -> Ints:
    """A number for each entity, the same for those that share a point; points by their number."""
    (same,) = np.nonzero(number_N[1:] == number_N[:-1])
    pair = entity_N[same], entity_N[same + 1]
    num_entities = int(entity_N.max()) + 1
    shared = coo_array((np.ones(len(same)), pair), shape=(num_entities, num_entities))
    kin_E: Ints = connected_components(shared, directed=False)[1]
    return kin_E


def common_kin(several: Sequence[PastPaths]) -> list[Ints]:
    """A number for each kin of several sets of paths, the same for those that share a point.

    One data set may hold what another does: then the trips of one entity stand in both.
    """
    ends_M = np.cumsum([int(paths.kin_R.max()) + 1 for paths in several])
    number_N = np.concatenate([paths.seen.number_N for paths in several])
    kin_N = np.concatenate(
        [
            paths.kin_R[paths.points.trajectory_N[paths.seen.point_N]] + first
            for paths, first in zip(several, [0, *ends_M], strict=False)
        ]
    )
    order_N = np.argsort(number_N, kind="stable")
    return np.split(kin_of(number_N[order_N], kin_N[order_N]), ends_M[:-1])


def _number(instant_us_N: Ints, lon_deg_N: Floats, lat_deg_N: Floats) -> np.ndarray:
    """Bits of the three mixed; sums and products of unsigned numbers wrap around."""
    number_N = instant_us_N.astype(np.uint64)
    for value_N in (lon_deg_N, lat_deg_N):
        # A zero has two signs, which are one place.
        bits_N = np.ascontiguousarray(value_N + 0.0).view(np.uint64)
        number_N = (number_N ^ (number_N >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + bits_N
    return number_N


def in_space_m(lon_deg_Q: Floats, lat_deg_Q: Floats) -> Floats:
    """Places (Q, C) in metres from the centre of the Earth, where near is near at the poles too."""
    lon_Q, lat_Q = np.deg2rad(lon_deg_Q), np.deg2rad(lat_deg_Q)
    around = np.cos(lat_Q) * np.cos(lon_Q), np.cos(lat_Q) * np.sin(lon_Q), np.sin(lat_Q)
    return EARTH_RADIUS_M * np.stack(around, axis=-1)
