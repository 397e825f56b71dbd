"""Place: where on Earth a point lies, as waves that a network reads, with its heading by compass.

Fitted on train: the middle and the extent, and in which cells of a coarse grid anything was. The
waves tell places of one region apart; of several regions, as of a corpus, there is no such frame,
and latitude and longitude alone are told. It is an input that may be absent: it is left out now and
then in training, so that the weights also answer where a place says nothing, and wherever train saw
nothing near.

Shapes: R rows, T points, C coordinates (east, north), O octaves, X and Y cells to the east and to
the north.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...earth.geometry import middle_of, step_between

NUM_OCTAVES = 5
NUM_SEEN = 3 + 2 + 2 * 2 * NUM_OCTAVES + 2
LEAST_EXTENT_M = 1.0
FAR = 4.0  # extents from the middle at which places are no longer told apart
CELLS = 128  # of the grid, each way: a sixteenth of the extent wide


class PlaceCode(nn.Module):
    """Numbers of a place: latitude, longitude on a circle, and waves in the frame of train."""

    middle_deg_C: Tensor
    extent_m: Tensor
    is_known_XY: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("is_known_XY", torch.ones(CELLS, CELLS, dtype=torch.uint8))
        self.register_buffer("middle_deg_C", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("extent_m", torch.ones((), dtype=torch.float64))

    def fit(self, lon_deg_N: Tensor, lat_deg_N: Tensor) -> None:
        """Middle and extent of the places of train: nine tenths lie within it."""
        middle = middle_of(lon_deg_N, lat_deg_N, torch.ones_like(lon_deg_N))
        self.middle_deg_C.copy_(torch.stack(middle))
        east_m_N, north_m_N = step_between(*middle, lon_deg_N, lat_deg_N)
        away_m_N = torch.maximum(east_m_N.abs(), north_m_N.abs())
        self.extent_m.copy_(away_m_N.sort().values[int(0.9 * len(away_m_N))].clamp(LEAST_EXTENT_M))
        cell_NC, is_inside_N = cells_of(self.own(lon_deg_N, lat_deg_N))
        seen_XY = torch.zeros(CELLS, CELLS)
        seen_XY[cell_NC[is_inside_N].unbind(-1)] = 1.0
        near_XY = functional.max_pool2d(seen_XY[None, None], 3, stride=1, padding=1)[0, 0]
        self.is_known_XY.copy_(near_XY > 0)

    def own(self, lon_deg_RT: Tensor, lat_deg_RT: Tensor) -> Tensor:
        """Places (R, T, C) in extents from the middle, as far as they are told apart."""
        lon_deg, lat_deg = self.middle_deg_C
        moved = step_between(lon_deg, lat_deg, lon_deg_RT, lat_deg_RT)
        return (torch.stack(moved, dim=-1) / self.extent_m).clamp(-FAR, FAR)

    def knows(self, lon_deg_RT: Tensor, lat_deg_RT: Tensor) -> Tensor:
        """Whether train was in the cell of a place, or in one beside it; never beyond the grid."""
        cell_RTC, is_inside_RT = cells_of(self.own(lon_deg_RT, lat_deg_RT))
        return is_inside_RT & (self.is_known_XY[cell_RTC.unbind(-1)] > 0)

    def fit_members(self, lon_deg_N: Tensor, lat_deg_N: Tensor, num_members: int) -> None:
        """Of several members no region is kept."""
        if num_members > 1:
            self.fit_globe()
        else:
            self.fit(lon_deg_N, lat_deg_N)

    def fit_globe(self) -> None:
        """No region: everything lies in its middle, so that no wave tells anything."""
        self.middle_deg_C.zero_()
        self.extent_m.fill_(torch.inf)
        self.is_known_XY.fill_(1)

    def forward(self, lon_deg_RT: Tensor, lat_deg_RT: Tensor, heading_RTC: Tensor) -> Tensor:
        """(R, T, NUM_SEEN)."""
        own_RTC = self.own(lon_deg_RT, lat_deg_RT)
        rate_O = torch.pi / 2 * 2.0 ** torch.arange(NUM_OCTAVES, device=own_RTC.device)
        angle_RTK = (own_RTC.unsqueeze(-1) * rate_O).flatten(-2)
        lon_RT1, lat_RT1 = (
            torch.deg2rad(value).unsqueeze(-1) for value in (lon_deg_RT, lat_deg_RT)
        )
        parts = [lat_RT1, lon_RT1.sin(), lon_RT1.cos(), own_RTC]
        return torch.cat([*parts, angle_RTK.sin(), angle_RTK.cos(), heading_RTC], dim=-1).float()


def tells_place(like_N1: Tensor, share_placeless: float) -> Tensor:
    """1 or 0 (N, 1): of which questions the places are told; none is drawn where all are."""
    if not share_placeless:
        return torch.ones_like(like_N1)
    return (torch.rand_like(like_N1) >= share_placeless).to(like_N1)


def cells_of(own_C: Tensor) -> tuple[Tensor, Tensor]:
    """The cell, east and north, of places in extents from the middle, and whether it is on grid."""
    is_inside = (own_C.abs() < FAR).all(-1)
    return ((own_C / FAR + 1) / 2 * CELLS).long().clamp(0, CELLS - 1), is_inside
