"""Copying: how near made-up trips are to those of train, what they tell of who was in it.

The distance of two trips is that of Hausdorff, in metres, of at most `NUM_PLACES` points of each,
both ends and between them evenly. The nearest trip is found exactly: along any direction, the
farthest points of two trips are apart by no more than their distance.

Shapes: R trips, Q asked trips, K candidates, P pairs, T places of a trip, C coordinates of space,
D directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ...earth.arrays import Bools, Floats, Ints
from ...earth.constants import EARTH_RADIUS_M
from ...earth.frame import Frame
from ...interface.flat_points import even_places
from ...interface.memory.paths import in_space_m
from ...interface.trips import Trips
from .comparison import Comparison, OfWeights, Values, area_under_roc, share_of
from .distances import Ruler

NUM_PLACES = 32
NUM_DIRECTIONS = 8  # of the map, of which a tree of keys is made
FIRST_CANDIDATES, MORE_CANDIDATES = 2, 6
PAIRS_AT_ONCE = 128  # what a processor's cache holds
NEAR_SHARE = 0.01  # of real test trips that are nearer to train than what counts as near
ROUNDED_DEG = 1e5  # places of duplicates: to about a metre


@dataclass(frozen=True)
class Outlines:
    """Trips by few places of each, to be found by a tree of how far they reach."""

    place_m_RTC: Floats
    direction_DC: Floats
    tree: cKDTree

    @classmethod
    def of(cls, trips: Trips) -> Outlines:
        place_m_RTC = outline_m(trips)
        frame = Frame.around(trips.points.lon_deg_N, trips.points.lat_deg_N)
        direction_DC = directions(frame)
        return cls(place_m_RTC, direction_DC, cKDTree(_reach_m(place_m_RTC, direction_DC)))

    def nearest_m(self, trips: Trips) -> Floats:
        """The distance (Q) of each of some trips from the nearest of these."""
        asked_m_QTC = outline_m(trips)
        reach_m_QD = _reach_m(asked_m_QTC, self.direction_DC)
        nearest_m_Q = np.full(len(trips), np.inf)
        rows, num_found = np.arange(len(trips)), FIRST_CANDIDATES
        while len(rows):
            num_found = min(num_found, self.tree.n)
            least_m_QK, trip_QK = self.tree.query(
                reach_m_QD[rows], np.arange(1, num_found + 1), p=np.inf
            )
            # Whatever is not among the candidates is at least as far away as the last of them.
            asked, rank = np.nonzero(least_m_QK < nearest_m_Q[rows, None])
            pairs = rows[asked], trip_QK[asked, rank]
            found_m_P = _hausdorff_m(asked_m_QTC, self.place_m_RTC, *pairs)
            np.minimum.at(nearest_m_Q, pairs[0], found_m_P)
            if num_found == self.tree.n:
                break
            rows = rows[least_m_QK[:, -1] < nearest_m_Q[rows]]
            num_found *= MORE_CANDIDATES
        return _along_the_ground_m(nearest_m_Q)


def outline_m(trips: Trips) -> Floats:
    """Places (R, T, C) in space; a trip of fewer points ends with its last one again and again."""
    size_R = np.diff(trips.offset_R)
    kept_R = np.minimum(size_R, NUM_PLACES)
    place_RT = trips.offset_R[:-1, None] + even_places(size_R, kept_R, NUM_PLACES)
    return in_space_m(trips.points.lon_deg_N[place_RT], trips.points.lat_deg_N[place_RT])


def directions(frame: Frame) -> Floats:
    """Unit vectors (D, C) evenly around the centre of a map."""
    lon, lat = math.radians(frame.lon_deg), math.radians(frame.lat_deg)
    east_C = np.array([-math.sin(lon), math.cos(lon), 0.0])
    up_C = np.array([math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)])
    north_C = np.cross(up_C, east_C)
    turn_D1 = 2 * np.pi * np.arange(NUM_DIRECTIONS)[:, None] / NUM_DIRECTIONS
    direction_DC: Floats = np.cos(turn_D1) * east_C + np.sin(turn_D1) * north_C
    return direction_DC


def _reach_m(place_m_RTC: Floats, direction_DC: Floats) -> Floats:
    """How far (R, D) each trip reaches in each direction."""
    return np.stack([(place_m_RTC @ direction_C).max(1) for direction_C in direction_DC], axis=1)


def _hausdorff_m(one_m_QTC: Floats, other_m_RTC: Floats, one_P: Ints, other_P: Ints) -> Floats:
    """The distances (P) of pairs of trips, some pairs at a time."""
    parts = [
        _hausdorff_of_pairs(one_m_QTC[one_P[part]], other_m_RTC[other_P[part]])
        for part in _parts(len(one_P))
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _hausdorff_of_pairs(one_m_PTC: Floats, other_m_PTC: Floats) -> Floats:
    square_PTT = np.zeros((len(one_m_PTC), NUM_PLACES, NUM_PLACES))
    for axis in range(one_m_PTC.shape[-1]):
        square_PTT += (one_m_PTC[:, :, None, axis] - other_m_PTC[:, None, :, axis]) ** 2
    farthest_P = np.maximum(square_PTT.min(2).max(1), square_PTT.min(1).max(1))
    away_m_P: Floats = np.sqrt(farthest_P)
    return away_m_P


def _parts(number: int) -> Iterator[slice]:
    return (slice(first, first + PAIRS_AT_ONCE) for first in range(0, number, PAIRS_AT_ONCE))


def _along_the_ground_m(chord_m_Q: Floats) -> Floats:
    half_Q = np.minimum(chord_m_Q / (2 * EARTH_RADIUS_M), 1.0)
    away_m_Q: Floats = 2 * EARTH_RADIUS_M * np.arcsin(half_Q)
    return away_m_Q


# Measures ---------------------------------------------------------------------------------------


def copied(sample: Trips, test: Trips, past: Outlines) -> dict[str, Comparison]:
    """The share of trips nearer to one of train than all but 1 % of the real test trips are."""
    near = copied_share(past.nearest_m(sample), past.nearest_m(test))
    return {"copied_share": Comparison(near, sample.group_R, test.group_R)}


def copied_share(sample_m_A: Floats, test_m_B: Floats) -> OfWeights:
    """Of distances from train."""
    order_B = np.argsort(test_m_B)

    def of_weights(weight_A: Floats, weight_B: Floats) -> float:
        so_far_B = np.cumsum(weight_B[order_B])
        near_m = test_m_B[order_B[np.searchsorted(so_far_B, NEAR_SHARE * so_far_B[-1])]]
        return float(weight_A @ (sample_m_A < near_m) / weight_A.sum())

    return of_weights


def told_members(sample: Trips, train: Trips, test: Trips) -> dict[str, Comparison]:
    """How well a sample alone tells whether a trip was in train: those near to it were.

    It is an area under the ROC curve: 0.5 tells nothing.
    """
    made_up = Outlines.of(sample)
    return membership(made_up.nearest_m(train), made_up.nearest_m(test), train, test, "sample")


def membership(
    loss_A: Floats, loss_B: Floats, train: Trips, test: Trips, told_by: str = "loss"
) -> dict[str, Comparison]:
    """How well the losses of a model tell its train trips, whose loss is lower, from test trips."""
    parts = np.zeros(len(train), np.int64), np.zeros(len(test), np.int64)
    area = area_under_roc(-loss_A, -loss_B, *parts)
    return {f"membership_auc_by_{told_by}": Comparison(area, train.group_R, test.group_R)}


def duplicates(sample: Trips, ruler: Ruler) -> dict[str, Comparison]:
    """The share of trips that were there before in the same sample, to a metre and in cells."""
    points = sample.points
    places = np.stack([points.lon_deg_N, points.lat_deg_N], axis=1) * ROUNDED_DEG
    told = {"1m": np.rint(places).astype(np.int64)}
    for size, grid in ruler.grids().items():
        told[size] = grid.cells(points.lon_deg_N, points.lat_deg_N)
    return {
        f"duplicates_{size}": Comparison.of_one(
            share_of(Values.of_trips(_is_again(told_N, sample.offset_R))), sample.group_R
        )
        for size, told_N in told.items()
    }


def _is_again(told_N: Ints, offset_R: Ints) -> Bools:
    """Whether an earlier trip tells the same as each, point by point."""
    texts = [part.tobytes() for part in np.split(told_N, offset_R[1:-1])]
    is_again_R = np.ones(len(texts), bool)
    is_again_R[np.unique(np.array(texts, dtype=object), return_index=True)[1]] = False
    return is_again_R
