"""Named places: what lies around each point, as a vector that is added to its state.

It begins at nothing, so that a table that is never there in training says nothing, and in some rows
of training it is not looked up, so that the weights answer without it too.

Shapes: R rows, T points, U numbers told of a point, D model width, C coordinates (east, north).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...earth.geometry import to_heading
from ...interface.named_places import NUM_NEARNESS, NamedPlaces
from .config import FoundryConfig

WAY = slice(NUM_NEARNESS - 2, NUM_NEARNESS)  # of what is told, the way to the nearest place
REACH_STEPS = 20  # of the usual motion of train, within which places are looked up


class NamedCode(nn.Module):
    """Looks places up around points, and turns the way to the nearest one to the heading."""

    def __init__(self, config: FoundryConfig) -> None:
        super().__init__()
        self.share_nameless = config.share_nameless
        num_told = NUM_NEARNESS + config.num_text
        self.weight_DU = nn.Parameter(torch.zeros(config.width, num_told))

    def forward(
        self, places: NamedPlaces, usual_m: float, lon_deg_RT: Tensor, lat_deg_RT: Tensor
    ) -> Tensor:
        """What is told of each point (R, T, U); `usual_m` is how far train goes in a step."""
        lon_deg_N, lat_deg_N = (
            value_RT.detach().cpu().double().flatten().numpy()
            for value_RT in (lon_deg_RT, lat_deg_RT)
        )
        reach_m = places.reach_m or REACH_STEPS * usual_m
        told_NU = places.around(lon_deg_N, lat_deg_N, reach_m)
        told_RTU = told_NU.to(lon_deg_RT.device).view(*lon_deg_RT.shape, -1)
        if not self.training:
            return told_RTU
        return told_RTU * (torch.rand_like(told_RTU[:, :1, :1]) >= self.share_nameless)

    def added(self, told_RTU: Tensor, heading_RTC: Tensor) -> Tensor:
        """The same seen along the heading, as vectors (R, T, D)."""
        way_RTC = to_heading(told_RTU[..., WAY], heading_RTC)
        parts = [told_RTU[..., : WAY.start], way_RTC, told_RTU[..., WAY.stop :]]
        told_RTU = torch.cat(parts, dim=-1).to(self.weight_DU.dtype)
        return functional.linear(told_RTU, self.weight_DU)
