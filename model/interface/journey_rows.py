"""Journey rows: how journeys are seen by who tells how long they take, and how long they took.

Of a path only places at even shares of its points are seen, and never how many points it has:
where these come at regular times, their number tells the duration.

Shapes: B rows, G journeys of a row, N journeys, T points, K places, U calendar features.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..earth.geometry import haversine_m, step_between, step_from
from .batch import Rows
from .contexts import Partial, calendar_at

NUM_PLACES = 13


@dataclass(frozen=True)
class JourneyRows(Rows):
    """Journeys: where they lead, when they begin, how long their paths are, how long they took.

    The calendar is that of the departure. A journey that is not whole is a part of one. Where no
    duration is known, it is NaN; where no path is known, only the two ends may be read.
    """

    lon_deg_BGK: Tensor
    lat_deg_BGK: Tensor
    path_m_BG: Tensor
    calendar_BGU: Tensor
    has_path_BG: Tensor
    is_whole_BG: Tensor
    duration_s_BG: Tensor

    @classmethod
    def asked(cls, partial: Partial) -> JourneyRows:
        """Whole journeys (B, 1) as a question tells them: the ends, or the path as well."""
        is_shown_BT = partial.shows_place_BT & ~partial.is_pad_BT
        shown_first_BT = torch.argsort((~is_shown_BT).byte(), dim=1, stable=True)
        num_B = is_shown_BT.sum(1)
        points = (
            value_BT.double().masked_fill(~is_shown_BT, 0).gather(1, shown_first_BT)
            for value_BT in (partial.lon_deg_BT, partial.lat_deg_BT)
        )
        place_BK = torch.linspace(0, 1, NUM_PLACES).double() * (num_B - 1).double().unsqueeze(-1)
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
        return cls(
            lon_deg_BK.unsqueeze(1),
            lat_deg_BK.unsqueeze(1),
            path_m_B.double().unsqueeze(1),
            calendar_at(partial.started_us_B, start_s_B1, partial.zone),
            has_path_B.unsqueeze(1),
            every_B1,
            torch.full_like(start_s_B1, torch.nan),
        )

    def flat(self) -> JourneyRows:
        """The same one behind the other: (N, 1)."""
        return JourneyRows(
            *(getattr(self, field.name).flatten(0, 1).unsqueeze(1) for field in fields(self))
        )

    def with_ends_alone(self) -> JourneyRows:
        """The same of which the paths are not known."""
        return replace(self, has_path_BG=torch.zeros_like(self.has_path_BG))


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
