"""Named places: a table of places and of what is written of them, that is looked up around points.

It lies beside the weights, as a memory does, and holds nobody's trips: a place of it is one that a
published table lists. What it tells of a point follows from where the point is, so that no batch
has to carry it, and another table serves another city without any training.

Shapes: P places, N points, K nearest places, V numbers of a text, U numbers told of a point,
C coordinates (east, north).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..earth.arrays import Floats
from ..earth.geometry import step_between
from .memory.paths import in_space_m
from .weights import CorruptCheckpoint, load_tensors, save_tensors

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

PLACES_FILE = "named_places.safetensors"
NUM_NEAREST = 4
NUM_NEARNESS = 4  # how near the nearest is, twice, and which way it lies
LETTERS = "letters"  # `features/letters.py`
NEAREST_SHARE = 1e-3  # of the reach: what is nearer is told alike


@dataclass(frozen=True)
class NamedPlaces:
    """Places, the vectors of their texts, and where both are from.

    A place farther than `reach_m` from a point tells nothing there; with 0 the reach is that of the
    motion of train. `way` is how texts became vectors.
    """

    lon_deg_P: Floats
    lat_deg_P: Floats
    vector_PV: NDArray[np.float32]
    way: str = LETTERS
    reach_m: float = 0.0
    source: str = ""
    licence: str = ""

    def __deepcopy__(self, memo: dict[int, Any]) -> NamedPlaces:
        """A table does not change: copies of a network share it."""
        return self

    @property
    def num_numbers(self) -> int:
        return int(self.vector_PV.shape[1])

    @property
    def is_sound(self) -> bool:
        """Whether each place has a position and a vector, all of them finite numbers."""
        columns: tuple[NDArray[Any], ...] = (self.lon_deg_P, self.lat_deg_P, self.vector_PV)
        has_shape = [one.ndim for one in columns] == [1, 1, 2] and len({*map(len, columns)}) == 1
        has_reach = 0 <= self.reach_m < np.inf
        return has_shape and has_reach and all(bool(np.isfinite(one).all()) for one in columns)

    def emptied(self) -> NamedPlaces:
        """A table of no place, which another one may replace."""
        return replace(
            self,
            lon_deg_P=self.lon_deg_P[:0],
            lat_deg_P=self.lat_deg_P[:0],
            vector_PV=self.vector_PV[:0],
        )

    @cached_property
    def tree(self) -> cKDTree:
        from scipy.spatial import cKDTree

        return cKDTree(in_space_m(self.lon_deg_P, self.lat_deg_P))

    def around(self, lon_deg_N: Floats, lat_deg_N: Floats, reach_m: float) -> Tensor:
        """What is told of points, (N, NUM_NEARNESS + V); beyond the reach all of it is zero.

        How near the nearest place is, from 0 at the reach to 1, and in tenfolds of the reach; which
        way it lies, (east, north); and the mean vector of the nearest few, by how near each is. All
        of it fades towards the reach.
        """
        if not len(self.lon_deg_P):
            return torch.zeros(len(lon_deg_N), NUM_NEARNESS + self.num_numbers)
        num_asked = np.arange(1, min(NUM_NEAREST, len(self.lon_deg_P)) + 1)
        place_m_NC = in_space_m(lon_deg_N, lat_deg_N)
        away_m_NK, place_NK = self.tree.query(place_m_NC, num_asked, distance_upper_bound=reach_m)
        is_near_NK = np.isfinite(away_m_NK)
        place_NK = np.where(is_near_NK, place_NK, 0)
        share_NK = np.where(is_near_NK, away_m_NK / reach_m, 1.0)
        weight_NK = (1 - share_NK) ** 2
        vector_NV = np.einsum("nk,nkv->nv", weight_NK, self.vector_PV[place_NK])
        vector_NV /= np.maximum(weight_NK.sum(1, keepdims=True), 1e-9)
        near_N1, nearest_N = 1 - share_NK[:, :1], place_NK[:, 0]
        tenfolds_N1 = np.log10(np.maximum(share_NK[:, :1], NEAREST_SHARE)) / np.log10(NEAREST_SHARE)
        ends = lon_deg_N, lat_deg_N, self.lon_deg_P[nearest_N], self.lat_deg_P[nearest_N]
        way_m_NC = np.stack(step_between(*map(torch.from_numpy, ends)), axis=-1)
        way_NC = way_m_NC / np.maximum(np.linalg.norm(way_m_NC, axis=1, keepdims=True), 1.0)
        told_NU = np.concatenate([near_N1, tenfolds_N1, near_N1 * way_NC, near_N1 * vector_NV], 1)
        return torch.from_numpy(told_NU.astype(np.float32))


# Files ------------------------------------------------------------------------------------------


def write_named_places(folder: Path, places: NamedPlaces) -> None:
    """Leave a table in a folder, in one file."""
    facts = {name: getattr(places, name) for name in ("way", "reach_m", "source", "licence")}
    told = json.dumps(facts, sort_keys=True).encode()
    tensors = {
        "lon_deg": torch.tensor(places.lon_deg_P),
        "lat_deg": torch.tensor(places.lat_deg_P),
        "vector": torch.tensor(places.vector_PV),
        "facts": torch.frombuffer(bytearray(told), dtype=torch.uint8),
    }
    save_tensors(tensors, folder / PLACES_FILE)


def read_named_places(folder: Path) -> NamedPlaces:
    """The table that a folder holds; what is damaged or no table is refused."""
    tensors = load_tensors(folder / PLACES_FILE)
    try:
        facts = json.loads(tensors["facts"].numpy().tobytes())
        lon_deg_P, lat_deg_P, vector_PV = (
            tensors[name].numpy() for name in ("lon_deg", "lat_deg", "vector")
        )
        places = NamedPlaces(lon_deg_P, lat_deg_P, vector_PV, **facts)
        is_sound = places.is_sound
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptCheckpoint(f"{PLACES_FILE}: it is no table of places") from error
    if not is_sound:
        raise CorruptCheckpoint(f"{PLACES_FILE}: some of its places have no position or no vector")
    return places
