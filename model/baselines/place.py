"""Place regression: what place, motion and season say beside damped velocity, as CLIPER does.

The linear regression that storm forecasts are judged against (Neumann 1972, CLIPER; Aberson 1998),
on motion now and over 12 and 18 hours of six-hourly fixes, for any data.

Shapes: B windows, F features, P weights, C coordinates (east and north).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..earth.calendar import calendar_of
from ..interface.contexts import Context
from .linear import LinearResidual
from .residual import velocities_mps

PLACE_LAGS = (1, 2, 3)
YEAR_DAYS = 365.25


@dataclass(frozen=True, kw_only=True)
class PlaceRegression(LinearResidual):
    """East and north each have weights of their own: a place knows what is north of it."""

    name: ClassVar[str] = "place_regression"

    @classmethod
    def design_mps(cls, context: Context) -> Tensor:
        """The features, for east and then for north."""
        feature_BF = place_features(context)
        return torch.einsum(
            "bf,ce->bcfe", feature_BF, torch.eye(2, dtype=feature_BF.dtype)
        ).flatten(1, 2)


def place_features(context: Context) -> Tensor:
    """Velocities, one, latitude and its square, waves of longitude and season, both by motion.

    Angles are radians; the features are (B, F).
    """
    velocity_mps_BKC = velocities_mps(context, PLACE_LAGS)
    lon_deg_B1, lat_deg_B1, last_s_B1 = context.last_B1()
    lat_B1 = torch.deg2rad(lat_deg_B1)
    last_us_B = context.started_us_B + (last_s_B1[:, 0] * 1e6).round().long()
    day_B = calendar_of(last_us_B.numpy(), context.zone)["day_of_year"]
    season_B1 = torch.from_numpy(2 * math.pi * day_B / YEAR_DAYS)[:, None]
    waves = [
        wave(turn)
        for turn in (torch.deg2rad(lon_deg_B1), season_B1)
        for wave in (torch.sin, torch.cos)
    ]
    own = (torch.ones_like(lat_B1), lat_B1, lat_B1.square())
    by_latitude_B2 = velocity_mps_BKC[:, 0] * lat_B1
    return torch.cat([velocity_mps_BKC.flatten(1), *own, *waves, by_latitude_B2], dim=1)
