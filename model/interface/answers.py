"""Answers of a model: forecasts, recovered points and durations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..earth.columns import Columns
from ..earth.geometry import haversine_m

RADII = (0.5, 0.8, 0.95)  # the share of samples within each radius of a forecast


@dataclass(frozen=True)
class Recovered:
    """All points (B, T) of a batch, those that were asked for as the model puts them."""

    lon_deg_BT: Tensor
    lat_deg_BT: Tensor
    time_s_BT: Tensor
    is_recovered_BT: Tensor


@dataclass(frozen=True)
class Durations(Columns):
    """Seconds from the first point of each row to its last: the median, and four fifths around.

    Whoever tells no spread leaves the deciles NaN.
    """

    median_s_B: Tensor
    p10_s_B: Tensor
    p90_s_B: Tensor

    @classmethod
    def of(cls, seconds_B: Tensor) -> Durations:
        """Of single numbers."""
        nothing_B = torch.full_like(seconds_B, torch.nan)
        return cls(seconds_B, nothing_B, nothing_B)


@dataclass(frozen=True)
class Forecast(Columns):
    """Forecast points; times count from the start of their context.

    The radii are quantiles of how far the samples lie from the point forecast: 50, 80 or 95 % of
    the samples lie within. Without samples they are NaN and the samples None.
    """

    lon_deg_BH: Tensor
    lat_deg_BH: Tensor
    time_s_BH: Tensor
    radius_p50_m_BH: Tensor
    radius_p80_m_BH: Tensor
    radius_p95_m_BH: Tensor
    sample_lon_deg_BSH: Tensor | None = None
    sample_lat_deg_BSH: Tensor | None = None
    sample_time_s_BSH: Tensor | None = None

    @classmethod
    def of(cls, paths: Sequence[Tensor]) -> Forecast:
        """From longitudes, latitudes and times (B, 1 + S, H): point forecasts, then samples."""
        lon_deg_BGH, lat_deg_BGH, time_s_BGH = paths
        shapes = [tuple(path.shape) for path in (lon_deg_BGH, lat_deg_BGH, time_s_BGH)]
        if len(set(shapes)) > 1 or len(shapes[0]) != 3:
            raise ValueError(
                f"Forecast.of was given longitudes, latitudes and times of shapes {shapes}: each "
                "must be (windows, 1 + samples, steps), so that a point forecast (windows, steps) "
                "without samples becomes one by .unsqueeze(1)"
            )
        points = lon_deg_BGH[:, 0], lat_deg_BGH[:, 0], time_s_BGH[:, 0]
        samples = lon_deg_BGH[:, 1:], lat_deg_BGH[:, 1:], time_s_BGH[:, 1:]
        if not samples[0].shape[1]:
            nothing_BH = torch.full_like(points[0], torch.nan)
            return cls(*points, nothing_BH, nothing_BH, nothing_BH)
        starts = points[0].unsqueeze(1), points[1].unsqueeze(1)
        away_m_BSH = haversine_m(*starts, samples[0], samples[1])
        p50_m_BH, p80_m_BH, p95_m_BH = (torch.quantile(away_m_BSH, share, dim=1) for share in RADII)
        return cls(*points, p50_m_BH, p80_m_BH, p95_m_BH, *samples)


def mean_hidden_state(hidden_BTD: Tensor, is_pad_BT: Tensor) -> Tensor:
    """The mean state (B, D) of the points that are no pads."""
    is_point_BT1 = ~is_pad_BT.unsqueeze(-1)
    return torch.where(is_point_BT1, hidden_BTD, 0.0).sum(1) / is_point_BT1.sum(1).clamp(min=1)
