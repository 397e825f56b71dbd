"""Memories: what trips of train did, read from shards to be searched.

Shapes: R trips of train, E entities.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..interface.memory.crops import cut_points
from ..interface.memory.fitting import Simple, fitted_memory, nothing_simple
from ..interface.memory.memory import TRAIN, Memory
from ..interface.memory.paths import NOBODY, PastPaths
from .paths import read_entities, read_paths
from .shards import Shards

MAX_POINTS = 1_000_000  # that are remembered


def memory_of(
    shards: Shards,
    max_points: int = MAX_POINTS,
    is_personal: bool = True,
    simple: Simple = nothing_simple,
) -> Memory | None:
    """The memory of the trips of train, which knows of every row of its shards whose it is.

    There is none where no trip has three points. Nobody's is a row of an entity none of whose trips
    are remembered.
    """
    points, entity_R = read_paths(shards, TRAIN, max_points)
    paths = PastPaths.of(points, entity_R)
    if not len(cut_points(paths)):
        return None
    entity_of_row = read_entities(shards, TRAIN)
    kin_E = np.full(entity_of_row.max() + 1, NOBODY)
    kin_E[entity_R] = paths.kin_R
    fitted = fitted_memory(paths, kin_E[entity_of_row], simple)
    return replace(fitted, is_personal=is_personal)
