"""Places of a data set: the regions that a model of visits knows, and the scales of its inputs.

All of it is fitted on the train split and travels with the weights: the vocabulary of regions, the
middle of train with the centres of the regions in the local frame around it, typical sizes, and
the limits to which inputs are clipped. What a model is judged on is never clipped.

Ids of regions, and of what stands in their place, are numbers of one vocabulary: first the special
ones, then the regions, those with the most visits of train first.

Shapes: R ids of the vocabulary, N places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..earth.cells import cells_of
from ..earth.geometry import step_between, step_from
from .normaliser import Quantiles

MIN_PLACE_M, MIN_TIME_S = 1.0, 1.0
NEAR_M = 1_000.0  # where half of the visits are in one region, the median says nothing


class Special(IntEnum):
    """Ids that are no region: the regions of a vocabulary come behind them."""

    UNKNOWN = 0  # a region that train does not know, or too little
    BLANK = 1  # a run of visits that are hidden
    SEP = 2  # what follows are the answers
    ANSWER = 3  # the end of an answer
    PAD = 4


NUM_SPECIAL = len(Special)


@dataclass(frozen=True)
class Places:
    """Regions, the local frame in the middle of train, scales, and limits of inputs.

    `cells` are the H3 cells of the regions and `east_m`, `north_m` their centres in the local
    frame: great-circle distance and azimuth from the centroid, as components. The centroid is the
    median of the regions to the east and to the north, each weighed by its visits. Durations are of
    stays whose end was seen, travel times of ways that were seen. A stay shorter than
    `min_stay_s` is none. `distance_m` is from the centroid to the region of a visit; no visit of
    train is farther than `max_distance_m`, and none comes later than `max_elapsed_s` after the
    first one of its window.
    """

    resolution: int
    cells: tuple[int, ...]
    centroid_lon_deg: float
    centroid_lat_deg: float
    east_m: tuple[float, ...]
    north_m: tuple[float, ...]
    num_visits: int
    min_stay_s: float
    duration_s: Quantiles
    travel_s: Quantiles
    distance_m: Quantiles
    max_distance_m: float
    max_elapsed_s: float

    def __post_init__(self) -> None:
        if not len(self.cells) == len(self.east_m) == len(self.north_m) > 0:
            raise ValueError("places need a region or more, and the centre of each")

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Places:
        given = dict(stored)
        for name in ("duration_s", "travel_s", "distance_m"):
            given[name] = Quantiles(**given[name])
        given["cells"] = tuple(int(cell, 16) for cell in given["cells"])
        for name in ("east_m", "north_m"):
            given[name] = tuple(given[name])
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Plain values; a cell is written as H3 writes it, in hexadecimal digits."""
        return asdict(self) | {"cells": [f"{cell:x}" for cell in self.cells]}

    @property
    def num_ids(self) -> int:
        """The size of the vocabulary: special ids and regions."""
        return NUM_SPECIAL + len(self.cells)

    def centres_m(self) -> tuple[Tensor, Tensor]:
        """(east_m_R, north_m_R) of each id; what is no region stands at the centroid."""
        nowhere = (0.0,) * NUM_SPECIAL
        east_m_R, north_m_R = (
            torch.tensor(nowhere + metres, dtype=torch.float64)
            for metres in (self.east_m, self.north_m)
        )
        return east_m_R, north_m_R

    def local_m(self, lon_deg: Tensor, lat_deg: Tensor) -> tuple[Tensor, Tensor]:
        """(east_m, north_m) of places in the local frame."""
        return step_between(*self._centroid_deg, lon_deg, lat_deg)

    def degrees(self, east_m: Tensor, north_m: Tensor) -> tuple[Tensor, Tensor]:
        """(lon_deg, lat_deg) of places in the local frame: the inverse of `local_m`."""
        return step_from(*self._centroid_deg, east_m, north_m)

    def region_ids(self, lon_deg_N: np.ndarray, lat_deg_N: np.ndarray) -> np.ndarray:
        """The id of the region of each place, `Special.UNKNOWN` where train knows none."""
        found = cells_of(lon_deg_N, lat_deg_N, self.resolution).tolist()
        ids = (self._id_of_cell.get(cell, Special.UNKNOWN) for cell in found)
        return np.fromiter(ids, np.int64, len(found))

    @property
    def place_scale_m(self) -> float:
        """A typical distance from the centroid, whatever a few trips to the far reach."""
        return max(self.distance_m.p50, min(self.distance_m.p90, NEAR_M), MIN_PLACE_M)

    @property
    def time_scale_s(self) -> float:
        """A typical time from one arrival to the next."""
        return max(self.duration_s.p50 + self.travel_s.p50, MIN_TIME_S)

    def clipped_m(self, metres: Tensor) -> Tensor:
        """A coordinate of the local frame as an input: no farther than train has seen."""
        return metres.clamp(-self.max_distance_m, self.max_distance_m)

    def clipped_s(self, elapsed_s: Tensor) -> Tensor:
        """Seconds since a window's first arrival as an input: no more than train has seen."""
        return elapsed_s.clamp(0.0, self.max_elapsed_s)

    @cached_property
    def _id_of_cell(self) -> dict[int, int]:
        return {cell: number for number, cell in enumerate(self.cells, NUM_SPECIAL)}

    @property
    def _centroid_deg(self) -> tuple[Tensor, Tensor]:
        lon_deg, lat_deg = (
            torch.tensor(degrees, dtype=torch.float64)
            for degrees in (self.centroid_lon_deg, self.centroid_lat_deg)
        )
        return lon_deg, lat_deg
