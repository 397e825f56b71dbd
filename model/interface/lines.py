"""Lines: places on a path by the way along it, whatever points it was recorded at.

Where points come at regular times, their number and where they crowd tell how long a way took. The
line through them does not.

Shapes: N points one behind the other, J paths, T points of a path, K places.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..earth.geometry import haversine_m, step_between, step_from

PATH_PLACES = 64  # of a path that is given, for everyone


def so_far_m(lon_deg_T: Tensor, lat_deg_T: Tensor) -> Tensor:
    """The way (..., T) from the first point to each."""
    step_m = haversine_m(
        lon_deg_T[..., :-1], lat_deg_T[..., :-1], lon_deg_T[..., 1:], lat_deg_T[..., 1:]
    )
    return torch.nn.functional.pad(step_m.cumsum(-1), (1, 0))


def even_places(so_far_m_N: Tensor, first_J: Tensor, last_J: Tensor, num_places: int) -> Tensor:
    """Where paths have gone even shares of their way: (J, K), counted in points from their first.

    `so_far_m_N` ascends over all points, or is (J, T) with a path a row. The last place is the last
    point, also of a path that went nowhere.
    """
    is_flat = so_far_m_N.ndim == 1
    first_J1, last_J1 = first_J.unsqueeze(1), last_J.unsqueeze(1)

    def at(index_JK: Tensor) -> Tensor:
        return so_far_m_N[index_JK] if is_flat else so_far_m_N.gather(1, index_JK)

    share_K = torch.linspace(0, 1, num_places, dtype=torch.float64, device=so_far_m_N.device)
    goal_m_JK = at(first_J1) + share_K * (at(last_J1) - at(first_J1))
    before_JK = torch.searchsorted(so_far_m_N.contiguous(), goal_m_JK, right=True) - 1
    before_JK = torch.minimum(before_JK, last_J1 - 1).maximum(first_J1)
    step_m_JK = at(torch.minimum(before_JK + 1, last_J1)) - at(before_JK)
    since_m_JK = (goal_m_JK - at(before_JK)).clamp(min=0)
    share_JK = (since_m_JK / step_m_JK.clamp(min=1e-9)).clamp(max=1)
    place_JK = (before_JK - first_J1) + share_JK
    place_JK[:, -1] = last_J - first_J
    return place_JK


def placed(
    lon_deg_N: Tensor, lat_deg_N: Tensor, place_JK: Tensor, first_J: Tensor, last_J: Tensor
) -> tuple[Tensor, Tensor]:
    """Longitude and latitude (J, K) of places that count points, between two of them on a line."""
    last_J1 = last_J.unsqueeze(1)
    counted_JK = place_JK.floor().long()
    share_JK = place_JK - counted_JK
    before_JK = torch.minimum(first_J.unsqueeze(1) + counted_JK, last_J1)
    after_JK = torch.minimum(before_JK + 1, last_J1)
    starts = lon_deg_N[before_JK], lat_deg_N[before_JK]
    step_m = step_between(*starts, lon_deg_N[after_JK], lat_deg_N[after_JK])
    found = step_from(*starts, *(share_JK * axis_m_JK for axis_m_JK in step_m))
    # A point itself is told to the bit.
    lon_deg_JK, lat_deg_JK = (
        torch.where(share_JK == 0, *pair) for pair in zip(starts, found, strict=True)
    )
    return lon_deg_JK, lat_deg_JK


def line_of(
    lon_deg_N: Tensor, lat_deg_N: Tensor, first_J: Tensor, last_J: Tensor, num_places: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Longitude and latitude (J, K) at even shares of paths, and the length of each (J)."""
    way_m_N = so_far_m(lon_deg_N, lat_deg_N)
    place_JK = even_places(way_m_N, first_J, last_J, num_places)
    places = placed(lon_deg_N, lat_deg_N, place_JK, first_J, last_J)
    return *places, way_m_N[last_J] - way_m_N[first_J]
