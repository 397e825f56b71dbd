"""Asked journeys: how a question about travel times is seen.

Shapes: B rows, T points, N points one behind the other, K places.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..earth.geometry import haversine_m, step_between, step_from
from .contexts import Partial, calendar_at
from .journey_rows import NUM_PLACES, JourneyRows


def asked_journeys(partial: Partial) -> JourneyRows:
    """Whole journeys (B, 1) as a question tells them: the ends, or the path as well."""
    is_shown_BT = partial.shows_place_BT & ~partial.is_pad_BT
    shown_first_BT = torch.argsort((~is_shown_BT).byte(), dim=1, stable=True)
    num_B = is_shown_BT.sum(1)
    points = (
        value_BT.double().masked_fill(~is_shown_BT, 0).gather(1, shown_first_BT)
        for value_BT in (partial.lon_deg_BT, partial.lat_deg_BT)
    )
    place_BK = torch.linspace(0, 1, NUM_PLACES, dtype=torch.float64) * (num_B - 1).unsqueeze(-1)
    lon_deg_BT, lat_deg_BT = points
    lon_deg_BK, lat_deg_BK = placed(
        lon_deg_BT.flatten(),
        lat_deg_BT.flatten(),
        place_BK,
        torch.arange(len(num_B)) * lon_deg_BT.shape[1],
        num_B,
    )
    path_m_B = partial.path_m_B
    if path_m_B is None:
        path_m_B = way_m(lon_deg_BT, lat_deg_BT, num_B)
        has_path_B = num_B > 2
    else:
        has_path_B = torch.ones_like(num_B, dtype=torch.bool)
    start_s_B1 = partial.time_s_BT[:, :1].double()
    every_B1 = torch.ones_like(has_path_B).unsqueeze(1)
    return JourneyRows(
        lon_deg_BK.unsqueeze(1),
        lat_deg_BK.unsqueeze(1),
        path_m_B.double().unsqueeze(1),
        calendar_at(partial.started_us_B, start_s_B1, partial.zone),
        has_path_B.unsqueeze(1),
        every_B1,
        torch.full_like(start_s_B1, torch.nan),
    )


def placed(
    lon_deg_N: Tensor, lat_deg_N: Tensor, place_BK: Tensor, first_B: Tensor, num_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Longitude and latitude (B, K) of places that count points, between two of them on a line.

    Row b owns the points from first_B[b] on, num_B[b] of them.
    """
    last_B1 = (first_B + num_B - 1).unsqueeze(1)
    before_BK = place_BK.floor().long()
    share_BK = place_BK - before_BK
    before_BK = torch.minimum(first_B.unsqueeze(1) + before_BK, last_B1)
    after_BK = torch.minimum(before_BK + 1, last_B1)
    starts = lon_deg_N[before_BK], lat_deg_N[before_BK]
    east_m_BK, north_m_BK = step_between(*starts, lon_deg_N[after_BK], lat_deg_N[after_BK])
    return step_from(*starts, share_BK * east_m_BK, share_BK * north_m_BK)


def way_m(lon_deg_BT: Tensor, lat_deg_BT: Tensor, num_B: Tensor) -> Tensor:
    """The length (B) of the way along the first points of each row."""
    step_m_BT = haversine_m(
        lon_deg_BT[:, :-1], lat_deg_BT[:, :-1], lon_deg_BT[:, 1:], lat_deg_BT[:, 1:]
    )
    is_step_BT = torch.arange(step_m_BT.shape[1]) < num_B.unsqueeze(1) - 1
    return step_m_BT.where(is_step_BT, 0.0).sum(1)
