"""Journey draws: whole trips of a split, and parts of them, drawn beside the windows of a batch.

A crop is far shorter than most journeys, so that who is asked how long these take must be shown
them whole. What is drawn depends on seed, epoch and window alone, as masks do.

Shapes: B rows, G journeys of a row, K places, N points, R trips, U calendar features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..earth.arrays import Bools, Floats, Ints
from ..earth.calendar import calendar_features
from ..interface.batch import Batch
from ..interface.flat_points import even_places
from ..interface.journey_rows import NUM_PLACES, JourneyRows
from ..interface.lines import even_places as even_shares
from ..interface.lines import placed, so_far_m
from .paths import read_entities
from .shards import Shards, read_group, row_groups

LEAST_POINTS = 3  # of a trip that is a journey, as of those that are judged
MOST_POINTS = 128  # that are kept of a trip
MAX_TRIPS = 20_000
WHOLE, PARTS = 4, 4  # journeys that are drawn for a window


@dataclass(frozen=True)
class JourneyPool:
    """Trips thinned to few points each, and the number of the entity of each.

    `so_far_m_N` is the way along all points that there were; it ascends over all trips.
    """

    zone: str
    entity_R: Ints
    offset_R: Ints
    started_us_R: Ints
    t_s_N: Floats
    lon_deg_N: Floats
    lat_deg_N: Floats
    so_far_m_N: Floats

    @classmethod
    def of(cls, shards: Shards, split: str) -> JourneyPool | None:
        """Of a split's trips, spread evenly over it where they are many; None where are none."""
        groups = row_groups(shards, split)
        stride = max(1, math.ceil(sum(group.num_rows for group in groups) / MAX_TRIPS))
        entity_of_row = read_entities(shards, split)
        sizes, columns = [], []
        for group in groups:
            points = read_group(group)
            size_R = np.diff(points.offset_R)
            row_R = np.flatnonzero(
                (size_R >= LEAST_POINTS)
                & ((group.first_row + np.arange(group.num_rows)) % stride == 0)
            )
            kept_R = np.minimum(size_R[row_R], MOST_POINTS)
            place_RK = points.offset_R[row_R, None] + even_places(
                size_R[row_R], kept_R, MOST_POINTS
            )
            place_N = place_RK[np.arange(MOST_POINTS) < kept_R[:, None]]
            places = points.lon_deg_N, points.lat_deg_N
            kept = (points.t_s_N, *places, so_far_m(*map(torch.tensor, places)).numpy())
            of_trips = entity_of_row[group.first_row + row_R], points.started_us_R[row_R]
            columns.append([*of_trips, *(value[place_N] for value in kept)])
            sizes.append(kept_R)
        size_R = np.concatenate([np.empty(0, np.int64), *sizes])
        if not len(size_R):
            return None
        joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
        entity_R, started_us_R, t_s_N, lon_deg_N, lat_deg_N, so_far_m_N = joined
        offset_R = np.append(0, size_R.cumsum())
        step_m_N = np.diff(so_far_m_N, prepend=0.0)
        step_m_N[offset_R[:-1]] = 0.0
        so_far_m_N = step_m_N.cumsum()
        whose, way = (entity_R, offset_R, started_us_R), (t_s_N, lon_deg_N, lat_deg_N)
        return cls(shards.zone, *whose, *way, so_far_m_N)

    def of_trips(self, is_kept_R: Bools) -> JourneyPool:
        """Some of the trips."""
        size_R = np.diff(self.offset_R)
        is_kept_N = np.repeat(is_kept_R, size_R)
        points = self.t_s_N, self.lon_deg_N, self.lat_deg_N, self.so_far_m_N
        return JourneyPool(
            self.zone,
            self.entity_R[is_kept_R],
            np.append(0, size_R[is_kept_R].cumsum()),
            self.started_us_R[is_kept_R],
            *(value[is_kept_N] for value in points),
        )

    def beside(self, batch: Batch, seed: int) -> Batch:
        """The batch with journeys: for each of its windows some whole ones and some parts."""
        draw_BGE = np.stack(
            [
                np.random.default_rng((seed, batch.cursor.epoch_before, window, 1)).random(
                    (WHOLE + PARTS, 3)
                )
                for window in batch.window_id_B.clamp(min=0).tolist()
            ]
        )
        return replace(batch, journeys=self.drawn(draw_BGE))

    def drawn(self, draw_BGE: Floats) -> JourneyRows:
        """The journeys that draws from U(0, 1) stand for: which trip, and from where to where."""
        shape, is_whole_BG = draw_BGE.shape[:2], np.arange(draw_BGE.shape[1]) < WHOLE
        drawn_D, one_D, other_D = draw_BGE.reshape(-1, 3).T
        is_whole_D = np.broadcast_to(is_whole_BG, shape).reshape(-1)
        trip_D: Ints = (drawn_D * (len(self.offset_R) - 1)).astype(np.int64)
        size_D = np.diff(self.offset_R)[trip_D]
        one_D = (one_D * size_D).astype(np.int64)
        other_D = (other_D * (size_D - 1)).astype(np.int64)
        other_D += other_D >= one_D
        start_D = np.where(is_whole_D, 0, np.minimum(one_D, other_D))
        end_D = np.where(is_whole_D, size_D - 1, np.maximum(one_D, other_D))
        told = vars(self._journeys(trip_D, start_D, end_D, is_whole_D.copy()))
        return JourneyRows(*(value[:, 0].unflatten(0, shape) for value in told.values()))

    def whole(self) -> JourneyRows:
        """Each trip as it is: (R, 1)."""
        size_R = np.diff(self.offset_R)
        every_R = np.arange(len(size_R))
        return self._journeys(every_R, 0 * size_R, size_R - 1, np.ones(len(size_R), bool))

    def _journeys(self, trip_D: Ints, start_D: Ints, end_D: Ints, is_whole_D: Bools) -> JourneyRows:
        """Flat journeys (D, 1): of trips, from one of their points to a later one."""
        first_D, last_D = self.offset_R[trip_D] + start_D, self.offset_R[trip_D] + end_D
        started_us_D = self.started_us_R[trip_D] + np.rint(self.t_s_N[first_D] * 1e6).astype(int)
        first, last = torch.from_numpy(first_D), torch.from_numpy(last_D)
        way_m_N = torch.from_numpy(self.so_far_m_N)
        place_DK = even_shares(way_m_N, first, last, NUM_PLACES)
        places = torch.from_numpy(self.lon_deg_N), torch.from_numpy(self.lat_deg_N)
        lon_deg_DK, lat_deg_DK = placed(*places, place_DK, first, last)
        calendar_DU = calendar_features(started_us_D, self.zone)
        told = (
            lon_deg_DK,
            lat_deg_DK,
            way_m_N[last] - way_m_N[first],
            torch.from_numpy(calendar_DU),
            torch.ones(len(trip_D), dtype=torch.bool),
            torch.from_numpy(is_whole_D),
            torch.from_numpy(self.t_s_N[last_D] - self.t_s_N[first_D]),
        )
        return JourneyRows(*(value.unsqueeze(1) for value in told))
