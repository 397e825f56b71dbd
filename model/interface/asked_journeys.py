"""Asked journeys: how a question about travel times is seen.

Shapes: N points, B rows, T points of a row, K places.
"""

from __future__ import annotations

import torch

from .batch import index_of
from .contexts import Partial, calendar_at
from .flat_points import FlatPoints
from .journey_rows import NUM_PLACES, JourneyRows
from .lines import even_places, line_of, placed, so_far_m


def asked_journeys(partial: Partial) -> JourneyRows:
    """Whole journeys (B, 1) as a question tells them: the ends, or the path as well."""
    is_shown_BT = partial.shows_place_BT & ~partial.is_pad_BT
    shown_first_BT = torch.argsort((~is_shown_BT).byte(), dim=1, stable=True)
    last_B = is_shown_BT.sum(1) - 1
    # What stands behind the last place that is shown is taken to be there as well.
    order_BT = shown_first_BT.gather(1, index_of(shown_first_BT).minimum(last_B.unsqueeze(1)))
    lon_deg_BT, lat_deg_BT = (
        value_BT.double().gather(1, order_BT)
        for value_BT in (partial.lon_deg_BT, partial.lat_deg_BT)
    )
    way_m_BT = so_far_m(lon_deg_BT, lat_deg_BT)
    place_BK = even_places(way_m_BT, torch.zeros_like(last_B), last_B, NUM_PLACES)
    first_B = torch.arange(len(last_B)) * lon_deg_BT.shape[1]
    places = lon_deg_BT.flatten(), lat_deg_BT.flatten()
    lon_deg_BK, lat_deg_BK = placed(*places, place_BK, first_B, first_B + last_B)
    has_path_B, path_m_B = last_B > 1, way_m_BT[:, -1]
    if partial.path_m_B is not None:
        is_told_B = ~partial.path_m_B.isnan()
        has_path_B, path_m_B = is_told_B, partial.path_m_B.double().where(is_told_B, path_m_B)
    start_s_B1 = partial.time_s_BT[:, :1].double()
    every_B1 = torch.ones_like(has_path_B).unsqueeze(1)
    return JourneyRows(
        lon_deg_BK.unsqueeze(1),
        lat_deg_BK.unsqueeze(1),
        path_m_B.unsqueeze(1),
        calendar_at(partial.started_us_B, start_s_B1, partial.zone),
        has_path_B.unsqueeze(1),
        every_B1,
        torch.full_like(start_s_B1, torch.nan),
    )


def asked_along(points: FlatPoints, num_places: int, zone: str) -> Partial:
    """How long trajectories take along the lines through their points, all of which have places.

    Of two points the ends alone are asked.
    """
    offset_B = torch.from_numpy(points.offset_R)
    first_B, last_B = offset_B[:-1], offset_B[1:] - 1
    places = torch.from_numpy(points.lon_deg_N), torch.from_numpy(points.lat_deg_N)
    lon_deg_BT, lat_deg_BT, path_m_B = line_of(*places, first_B, last_B, num_places)
    has_path_B = last_B - first_B > 1
    slot_T = torch.arange(num_places)
    is_pad_BT = (slot_T > 1) & ~has_path_B.unsqueeze(1)
    is_end_BT = (slot_T == 1) & ~has_path_B.unsqueeze(1)
    return Partial(
        torch.where(is_end_BT, lon_deg_BT[:, -1:], lon_deg_BT),
        torch.where(is_end_BT, lat_deg_BT[:, -1:], lat_deg_BT),
        torch.zeros_like(lon_deg_BT),
        ~is_pad_BT,
        (slot_T == 0).expand_as(is_pad_BT),
        torch.from_numpy(points.instant_us_N)[first_B],
        zone,
        is_pad_BT,
        path_m_B.where(has_path_B, torch.nan),
    )
