"""Shards of visits: a row for all visits of an entity in a split, read like the trips of points.

The elements of a row are visits where those of a trip are points: crops, batches, ranks, cursors
and stored windows are those of `reading`, and only what stands in a batch is told here.

Shapes: B rows, V visits, R entities and N visits of a row group, Q crops, C coordinates (east,
north).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from ..earth.arrays import Bools, Floats, Ints
from ..earth.cells import cells_of, centres_of
from ..features.places import Places, Special
from ..interface.visit_batch import NUM_VISIT_CALENDAR, VisitBatch, calendar_of_visits
from .collate import CropPlacement
from .shards import Group, ShardError, ShardFolder, offsets, read_columns

PLACES_FILE = "places.json"
TASK = "next_visit"
Place = Literal["region", "exact"]
VISIT_SCHEMA = {
    "entity_id": pa.string(),
    "region_id": pa.list_(pa.int32()),
    "arrived_us": pa.list_(pa.int64()),
    **dict.fromkeys(
        ("duration_s", "lon_deg", "lat_deg", "exact_lon_deg", "exact_lat_deg"),
        pa.list_(pa.float64()),
    ),
    **dict.fromkeys(("is_censored", "is_way_seen"), pa.list_(pa.bool_())),
}
VISIT_WINDOW_SCHEMA = {
    "window_id": pa.int64(),
    **dict.fromkeys(("task", "entity_id", "split", "mask"), pa.string()),
    **dict.fromkeys(("start", "num_points", "num_context"), pa.int32()),
    "is_observed": pa.list_(pa.bool_()),
}


class VisitColumns(NamedTuple):
    """Flat visits of a row group; `history_m_NC` is their place wherever they are history."""

    offset_R: Ints
    region_N: Ints
    arrived_us_N: Ints
    left_us_N: Ints
    centre_m_NC: Floats
    history_m_NC: Floats
    is_censored_N: Bools
    is_way_seen_N: Bools

    @classmethod
    def empty(cls, offset_R: Ints) -> VisitColumns:
        """Memory for the visits of entities."""
        num_visits = int(offset_R[-1])
        columns: Any = [np.empty(num_visits, np.int64) for _ in range(3)]
        columns += [np.empty((num_visits, 2)) for _ in range(2)]
        columns += [np.empty(num_visits, bool) for _ in range(2)]
        return cls(offset_R, *columns)

    def of(self, offset_R: Ints) -> VisitColumns:
        """Room for other rows, with no more visits, in the same memory."""
        visits: Any = (column[: offset_R[-1]] for column in self[1:])
        return VisitColumns(offset_R, *visits)

    def part(self, first_row: int, end_row: int) -> VisitColumns:
        """Some of the rows, in the same memory."""
        first, end = self.offset_R[first_row], self.offset_R[end_row]
        visits: Any = (column[first:end] for column in self[1:])
        return VisitColumns(self.offset_R[first_row : end_row + 1] - first, *visits)

    def instant_us(self, row_Q: Ints, place_Q: Ints) -> Ints:
        """Microseconds since 1970 UTC of the arrivals of some visits."""
        return self.arrived_us_N[place_Q]


@dataclass(frozen=True)
class VisitShards(ShardFolder[VisitBatch]):
    """A folder of shards of visits, told by the places of the model that reads them.

    These are the folder's own where no others are given. With `place="exact"` the places of a
    window's history are the very ones of its visits; the last visit of a window, which is nobody's
    history, is always told by the centre of its region.
    """

    row_schema = VISIT_SCHEMA
    window_schema = VISIT_WINDOW_SCHEMA
    row_name = "entity_id"

    own_places: Places
    places: Places
    place: Place = "region"

    @classmethod
    def open(
        cls, folder: Path, zone: str = "UTC", places: Places | None = None, place: Place = "region"
    ) -> VisitShards:
        """Find the files of a folder and the places that were fitted on its train split."""
        files = cls.files_of(folder)
        try:
            own = Places.from_json(json.loads((folder / PLACES_FILE).read_bytes()))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ShardError(f"{folder.name}: {PLACES_FILE}: {error}") from error
        return cls(folder, files, zone, own, places or own, place)

    def room(self, offset_R: Ints) -> VisitColumns:
        return VisitColumns.empty(offset_R)

    def read(self, group: Group, room: VisitColumns | None = None) -> VisitColumns:
        lists = read_columns(group, self.list_columns)
        offset_R = offsets(group, lists, room)
        visits = room or VisitColumns.empty(offset_R)
        value = {name: lists[name].values.to_numpy(zero_copy_only=False) for name in lists}
        if not all(np.isfinite(value_N).all() for value_N in value.values()):
            raise ShardError(f"{group.path.name}, row group {group.number}: not finite")
        region_N, lon_deg_N, lat_deg_N = self._told(value)
        visits.region_N[:] = region_N
        visits.arrived_us_N[:] = value["arrived_us"]
        visits.left_us_N[:] = value["arrived_us"] + np.rint(value["duration_s"] * 1e6).astype(int)
        visits.is_censored_N[:] = value["is_censored"]
        visits.is_way_seen_N[:] = value["is_way_seen"]
        visits.centre_m_NC[:] = self._local_m(lon_deg_N, lat_deg_N)
        is_exact = self.place == "exact"
        exact = (value["exact_lon_deg"], value["exact_lat_deg"])
        visits.history_m_NC[:] = self._local_m(*exact) if is_exact else visits.centre_m_NC
        return visits

    def tracked(self, group: Group) -> tuple[Ints, Floats, Floats]:
        lists = read_columns(group, ["arrived_us", "exact_lon_deg", "exact_lat_deg"])
        arrived_us_N, lon_deg_N, lat_deg_N = (one.values.to_numpy() for one in lists.values())
        return arrived_us_N, lon_deg_N, lat_deg_N

    def _told(self, value: dict[str, np.ndarray]) -> tuple[Ints, Floats, Floats]:
        """The region of each visit and its centre, by the vocabulary of the model."""
        if self.places.cells == self.own_places.cells:
            return value["region_id"], value["lon_deg"], value["lat_deg"]
        exact = (value["exact_lon_deg"], value["exact_lat_deg"])
        centres = centres_of(cells_of(*exact, self.places.resolution))
        return self.places.region_ids(*exact), *centres

    def _local_m(self, lon_deg_N: Floats, lat_deg_N: Floats) -> Floats:
        # Of whole row groups, not of batches: vectors of other lengths may round otherwise.
        east_north_m = self.places.local_m(torch.tensor(lon_deg_N), torch.tensor(lat_deg_N))
        return torch.stack(east_north_m, dim=1).numpy()

    def draft(self, num_rows: int, num_points: int, num_sequences: int) -> VisitBuilder:
        if num_sequences > 1:
            raise ValueError("windows of visits are not packed: read them bucketed")
        return VisitBuilder(num_rows, num_points, self.zone)

    def asked(self, batch: VisitBatch, is_observed_BT: Bools) -> VisitBatch:
        is_target_BV = ~batch.is_pad_BV & ~torch.from_numpy(is_observed_BT)
        return replace(batch, is_target_BV=is_target_BV)


class VisitBuilder:
    """A batch of visits that is being filled; a row that no crop fills is one of pads."""

    def __init__(self, num_rows: int, num_visits: int, zone: str) -> None:
        shape = (num_rows, num_visits)
        self.zone = zone
        self.region_BV = np.full(shape, int(Special.PAD))
        self.place_m_BVC = np.zeros((*shape, 2))
        self.arrived_s_BV, self.left_s_BV = np.zeros(shape), np.zeros(shape)
        self.calendar_BVK = np.zeros((*shape, NUM_VISIT_CALENDAR), np.float32)
        self.is_pad_BV = np.ones(shape, bool)
        self.is_censored_BV = np.zeros(shape, bool)
        self.is_way_seen_BV = np.zeros(shape, bool)
        self.window_id_BS = np.full((num_rows, 1), -1)

    def fill(self, visits: VisitColumns, place: CropPlacement) -> None:
        """Write crops of a row group, one a row, and pads behind them."""
        row_Q, last_Q = place.row_Q, place.first_Q + place.num_points_Q - 1
        place_V = np.arange(self.region_BV.shape[1])
        # A pad repeats the last visit, at the instant of its end.
        visit_QV = np.minimum(place.first_Q[:, None] + place_V, last_Q[:, None])
        is_pad_QV = place_V >= place.num_points_Q[:, None]
        left_us_QV = visits.left_us_N[visit_QV]
        arrived_us_QV = np.where(is_pad_QV, left_us_QV, visits.arrived_us_N[visit_QV])
        start_us_Q1 = arrived_us_QV[:, :1]
        place_m_QVC = visits.history_m_NC[visit_QV]
        is_last_QV = visit_QV == last_Q[:, None]
        place_m_QVC[is_last_QV] = visits.centre_m_NC[visit_QV[is_last_QV]]
        self.region_BV[row_Q] = np.where(is_pad_QV, Special.PAD, visits.region_N[visit_QV])
        self.place_m_BVC[row_Q] = place_m_QVC
        self.arrived_s_BV[row_Q] = (arrived_us_QV - start_us_Q1) / 1e6
        self.left_s_BV[row_Q] = (left_us_QV - start_us_Q1) / 1e6
        self.calendar_BVK[row_Q] = calendar_of_visits(arrived_us_QV, self.zone)
        self.is_pad_BV[row_Q] = is_pad_QV
        self.is_censored_BV[row_Q] = visits.is_censored_N[visit_QV] & ~is_pad_QV
        self.is_way_seen_BV[row_Q] = visits.is_way_seen_N[visit_QV] & ~is_pad_QV

    def batch(self) -> VisitBatch:
        """The batch for training: every visit but the first of a window is a target."""
        is_target_BV = ~self.is_pad_BV
        is_target_BV[:, 0] = False
        arrays = {
            "region_BV": self.region_BV,
            "east_m_BV": self.place_m_BVC[..., 0],
            "north_m_BV": self.place_m_BVC[..., 1],
            "arrived_s_BV": self.arrived_s_BV,
            "left_s_BV": self.left_s_BV,
            "calendar_BVK": self.calendar_BVK,
            "is_pad_BV": self.is_pad_BV,
            "is_target_BV": is_target_BV,
            "is_censored_BV": self.is_censored_BV,
            "is_way_seen_BV": self.is_way_seen_BV,
            "window_id_B": self.window_id_BS[:, 0],
        }
        columns: dict[str, Any] = {name: torch.tensor(array) for name, array in arrays.items()}
        return VisitBatch(**columns)
