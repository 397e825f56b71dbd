"""Forgetting: a memory without whoever was at some points, as if it had never known of him.

Shapes: N points, R paths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...earth.arrays import Bools, Ints
from ..flat_points import FlatPoints
from .crops import cut_points
from .joint import JointMemory
from .memory import Memory
from .paths import NOBODY, PastPaths

Fitting = Callable[[FlatPoints, Ints], Memory]  # of trips, and whose each is


def forgotten(
    memory: Memory | JointMemory | None, points: FlatPoints, fitted: Fitting
) -> Memory | JointMemory | None:
    """The memory of all others, fitted anew; None where nothing is left.

    A memory holds no names: who was at one of these places at just that instant is meant, with all
    trips of the same entity, and with its copies, in whichever member they stand. Points that
    nobody was at are refused, for then nothing would be forgotten.
    """
    members = memory.members if isinstance(memory, JointMemory) else (memory,)
    at = points.instant_us_N, points.lon_deg_N, points.lat_deg_N
    told = [np.unique(one.kin_at(*at)) for one in members if one is not None]
    gone_K = np.setdiff1d(np.concatenate([np.zeros(0, np.int64), *told]), NOBODY)
    if not len(gone_K):
        raise ValueError("nobody in the memory was at these places at these instants")
    kept = tuple(one and _without(one, gone_K, fitted) for one in members)
    if not any(one is not None for one in kept):
        return None
    return JointMemory(kept) if isinstance(memory, JointMemory) else kept[0]


def _without(memory: Memory, gone_K: Ints, fitted: Fitting) -> Memory | None:
    """The same memory, if it knows none of these kin."""
    is_kept_R = ~np.isin(memory.paths.kin_R, gone_K)
    if is_kept_R.all():
        return memory
    kin_R, rest = memory.paths.kin_R[is_kept_R], _paths_at(memory.paths.points, is_kept_R)
    if not len(kin_R) or not len(cut_points(PastPaths.of(rest, kin_R))):
        return None
    return replace(fitted(rest, kin_R), is_personal=memory.is_personal)


def _paths_at(points: FlatPoints, is_kept_R: Bools) -> FlatPoints:
    """Some of the paths, numbered from 0."""
    number_R = np.cumsum(is_kept_R) - 1
    kept = points.at(is_kept_R[points.trajectory_N])
    return replace(kept, trajectory_N=number_R[kept.trajectory_N])
