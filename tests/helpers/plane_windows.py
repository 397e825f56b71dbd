"""Windows drawn in the plane that touches at the last known point: an oracle there needs no sphere.

Shapes: B windows, T points, C coordinates (east and north).
"""

from __future__ import annotations

import numpy as np
import torch

from model.baselines.windows import Windows
from model.earth.geometry import step_from
from model.interface.contexts import Context


def plane_windows(path_m_BTC, time_s_BT, num_context, lon_deg=10.0, lat_deg=50.0):
    """Paths in metres, laid so that the last known point lies at a longitude and a latitude."""
    path_m_BTC, time_s_BT = (torch.as_tensor(value).double() for value in (path_m_BTC, time_s_BT))
    away_m_BTC = path_m_BTC - path_m_BTC[:, [num_context - 1]]
    start_deg = [
        torch.as_tensor(value, dtype=torch.float64).reshape(-1, 1) for value in (lon_deg, lat_deg)
    ]
    places = step_from(*start_deg, *away_m_BTC.unbind(-1))
    known, asked = slice(None, num_context), slice(num_context, None)
    columns = (*places, time_s_BT)
    started_us_B = torch.zeros(len(time_s_BT), dtype=torch.int64)
    is_pad_BT = torch.zeros(len(time_s_BT), num_context, dtype=torch.bool)
    context = Context(*(one[:, known] for one in columns), started_us_B, "UTC", is_pad_BT)
    is_target_BH = torch.ones_like(time_s_BT[:, asked], dtype=torch.bool)
    return Windows(context, *(one[:, asked] for one in columns), is_target_BH)


def walks(seed, num_windows=60, num_context=6, num_horizon=5, step_s=60.0, turn_deg=0.0):
    """Walks in metres (B, T, C) and their times (B, T): a course kept or turned, and some noise."""
    generator = np.random.default_rng(seed)
    shape = (num_windows, num_context + num_horizon)
    course = generator.uniform(0, 2 * np.pi, (num_windows, 1))
    course = course + np.deg2rad(turn_deg) * np.arange(shape[1])
    speed_mps = generator.uniform(2, 10, (num_windows, 1))
    step_m = speed_mps * step_s + generator.normal(0, 30, shape)
    step_m_BTC = np.stack([step_m * np.sin(course), step_m * np.cos(course)], axis=-1)
    step_m_BTC += generator.normal(0, 20, step_m_BTC.shape)
    return np.cumsum(step_m_BTC, axis=1), np.tile(step_s * np.arange(shape[1]), (num_windows, 1))


def lags_mps(path_m_BTC, time_s_BT, num_context, lags):
    """Velocities over the last so many steps (B, lags, C), worked out in the plane."""
    last = num_context - 1
    return np.stack(
        [
            (path_m_BTC[:, last] - path_m_BTC[:, max(last - lag, 0)])
            / (time_s_BT[:, last] - time_s_BT[:, max(last - lag, 0)])[:, None]
            for lag in lags
        ],
        axis=1,
    )
