"""Place: where on Earth a point lies, as waves that a network reads, with its heading by compass.

Fitted on train: the middle and the extent. The waves tell places of one region apart; of several
regions, as of a corpus, there is no such frame, and latitude and longitude alone are told. It is an
input that may be absent, and is left out now and then in training, so that the weights also answer
where a place says nothing.

Shapes: R rows, T points, C coordinates (east, north), O octaves.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...earth.geometry import middle_of, step_between

NUM_OCTAVES = 5
NUM_SEEN = 3 + 2 + 2 * 2 * NUM_OCTAVES + 2
LEAST_EXTENT_M = 1.0
FAR = 4.0  # extents from the middle at which places are no longer told apart


class PlaceCode(nn.Module):
    """Numbers of a place: latitude, longitude on a circle, and waves in the frame of train."""

    middle_deg_C: Tensor
    extent_m: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("middle_deg_C", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("extent_m", torch.ones((), dtype=torch.float64))

    def fit(self, lon_deg_N: Tensor, lat_deg_N: Tensor) -> None:
        """Middle and extent of the places of train: nine tenths lie within it."""
        middle = middle_of(lon_deg_N, lat_deg_N, torch.ones_like(lon_deg_N))
        self.middle_deg_C.copy_(torch.stack(middle))
        east_m_N, north_m_N = step_between(*middle, lon_deg_N, lat_deg_N)
        away_m_N = torch.maximum(east_m_N.abs(), north_m_N.abs())
        self.extent_m.copy_(away_m_N.sort().values[int(0.9 * len(away_m_N))].clamp(LEAST_EXTENT_M))

    def fit_globe(self) -> None:
        """No region: everything lies in its middle, so that no wave tells anything."""
        self.middle_deg_C.zero_()
        self.extent_m.fill_(torch.inf)

    def forward(self, lon_deg_RT: Tensor, lat_deg_RT: Tensor, heading_RTC: Tensor) -> Tensor:
        """(R, T, NUM_SEEN)."""
        lon_deg, lat_deg = self.middle_deg_C
        moved = step_between(lon_deg, lat_deg, lon_deg_RT, lat_deg_RT)
        own_RTC = (torch.stack(moved, dim=-1) / self.extent_m).clamp(-FAR, FAR)
        rate_O = torch.pi / 2 * 2.0 ** torch.arange(NUM_OCTAVES, device=own_RTC.device)
        angle_RTK = (own_RTC.unsqueeze(-1) * rate_O).flatten(-2)
        lon_RT1, lat_RT1 = (
            torch.deg2rad(value).unsqueeze(-1) for value in (lon_deg_RT, lat_deg_RT)
        )
        parts = [lat_RT1, lon_RT1.sin(), lon_RT1.cos(), own_RTC]
        return torch.cat([*parts, angle_RTK.sin(), angle_RTK.cos(), heading_RTC], dim=-1).float()
