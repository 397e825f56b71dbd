"""Guards of families that tell any point ahead at once: alone as in a batch, one as among many."""

from __future__ import annotations

import torch

from helpers.walks import context_of, walk
from model.earth.geometry import haversine_m
from model.inference.api import forecast

NUM_TOLD = 6


def check_rows_are_independent(model):
    """Contexts of every length: in a batch, alone, and padded longer."""
    counts = [12, 3, 1, 9]
    points = walk(len(counts), 12)
    together = forecast(model, context_of(*points, counts), NUM_TOLD, num_samples=3)
    for row, count in enumerate(counts):
        own = [value[row : row + 1] for value in points]
        bare = context_of(*(value[:, :count] for value in own))
        for context in (bare, context_of(*own, [count], nonsense=1e12)):
            found = forecast(model, context, NUM_TOLD, num_samples=3)
            away_m_SH = haversine_m(
                found.sample_lon_deg_BSH[0],
                found.sample_lat_deg_BSH[0],
                together.sample_lon_deg_BSH[row],
                together.sample_lat_deg_BSH[row],
            )
            assert float(away_m_SH.max()) < 0.05
            torch.testing.assert_close(
                found.time_s_BH[0], together.time_s_BH[row], rtol=1e-5, atol=1e-3
            )


def check_a_point_is_told_alike_whatever_else_is_asked(model):
    points = walk(3, 9)
    target_s_BH = points[2][:, -1:] + 10.0 * torch.arange(1, NUM_TOLD + 1)
    many = forecast(model, context_of(*points), NUM_TOLD, target_s_BH, num_samples=3)
    one = forecast(model, context_of(*points), 1, target_s_BH[:, -1:], num_samples=3)
    for name in ("lon_deg_BH", "lat_deg_BH", "sample_lon_deg_BSH", "sample_lat_deg_BSH"):
        last, only = (getattr(found, name)[..., -1:] for found in (many, one))
        torch.testing.assert_close(last, only, rtol=0, atol=1e-7)
