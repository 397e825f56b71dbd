"""Crops: the points of past paths at which they may be cut, and how each moved until there.

Shapes: N points, P crops, L lags, C coordinates (east, north), F numbers of a key.
"""

from __future__ import annotations

import numpy as np
import torch

from ...earth.arrays import Floats, Ints
from ...earth.geometry import step_between
from .paths import PastPaths, in_space_m

MAX_CROPS = 400_000
LAGS = (1, 3, 8)  # points back to the origin of each velocity
LEAST_S = 1e-3


def cut_points(paths: PastPaths) -> Ints:
    """Points of train that have one before and one after them, evenly spread if they are many."""
    is_inner_N = np.ones(len(paths.along_us_N), bool)
    is_inner_N[paths.offset_R[:-1]] = is_inner_N[paths.offset_R[1:] - 1] = False
    (inner,) = np.nonzero(is_inner_N)
    return inner[:: max(1, -(-len(inner) // MAX_CROPS))]


def velocities_mps(paths: PastPaths, now_P: Ints) -> tuple[Floats, Floats]:
    """Mean velocities (P, L, C) on arrival since some points before, and the mean interval (P).

    A lag that reaches behind the first point begins there; as `Motion` of a window has it, less
    than a tenth of the usual interval says little about a speed.
    """
    start_P = paths.offset_R[paths.points.trajectory_N[now_P]]
    now_P1 = now_P[:, None]
    origin_PL = np.maximum(now_P1 - np.array(LAGS), start_P[:, None])
    back_m = step_between(*paths.place(now_P1), *paths.place(origin_PL))
    back_m_PLC = torch.stack(back_m, dim=-1).numpy()
    took_s_PL = (paths.along_us_N[now_P1] - paths.along_us_N[origin_PL]) / 1e6
    pace_s_P = took_s_PL[:, -1] / np.maximum(now_P - origin_PL[:, -1], 1)
    pace_s_P = np.maximum(pace_s_P, LEAST_S)
    took_s_PL = np.maximum(took_s_PL, 0.1 * pace_s_P[:, None])
    return -back_m_PLC / took_s_PL[..., None], pace_s_P


def keys(lon_deg_P: Floats, lat_deg_P: Floats, velocity_PLC: Floats, motion_s: float) -> Floats:
    """Places in space, the mean of the first two velocities, and half of the third, in metres."""
    early_m_PC = motion_s * velocity_PLC[:, :2].mean(axis=1)
    late_m_PC = motion_s * velocity_PLC[:, 2] / 2
    return np.concatenate([in_space_m(lon_deg_P, lat_deg_P), early_m_PC, late_m_PC], axis=1)
