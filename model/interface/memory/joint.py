"""Joint memory: the memories of several members of a corpus, each asked where it is nearest.

Shapes: N presents, M members.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...earth.arrays import Floats, Ints
from ...earth.columns import joined
from ..batch import Batch
from ..contexts import Context
from ..recalled import Recalled
from ..sequence_rows import SequenceRows
from ..weights import load_tensors, save_tensors
from .lanes import Detours, Gaps
from .memory import MEMORY_FILE, Memory, nobody
from .paths import NOBODY, common_kin

STRANGE = 1e12  # spreads by which a member of other intervals is farther away than any other


@dataclass(frozen=True)
class JointMemory:
    """Memories by the number of their member; None, where a member is not remembered.

    A present is told by the one whose trips are nearest to it, as a multiple of how far neighbours
    usually are there, of those whose intervals are like its own, if there are any. Kin have numbers
    that all members share: one that stands in two of them is told nothing of himself by either.
    """

    members: tuple[Memory | None, ...]

    def __post_init__(self) -> None:
        kept = [memory for memory in self.members if memory is not None]
        kin = iter(common_kin([memory.paths for memory in kept]))
        members = tuple(memory and memory.with_kin(next(kin)) for memory in self.members)
        object.__setattr__(self, "members", members)

    def __deepcopy__(self, memo: dict[int, Any]) -> JointMemory:
        return self

    @property
    def is_personal(self) -> bool:
        return any(memory.is_personal for memory in self.members if memory is not None)

    def recall(
        self,
        lon_deg_N: Tensor,
        lat_deg_N: Tensor,
        velocity_mps_NLC: Tensor,
        pace_s_N: Tensor,
        simple_mps_NJC: Tensor,
        kin_N: Ints,
    ) -> Recalled:
        """What the neighbours of presents did next, each of the member that is nearest."""
        nearest_N = self.nearest_member(lon_deg_N, lat_deg_N, pace_s_N)
        parts, rows = [], []
        for number in np.unique(nearest_N) if len(nearest_N) else [self._first]:
            (own,) = np.nonzero(nearest_N == number)
            places_deg = lon_deg_N[own], lat_deg_N[own]
            moved = velocity_mps_NLC[own], pace_s_N[own], simple_mps_NJC[own]
            parts.append(self._of(number).recall(*places_deg, *moved, kin_N[own]))
            rows.append(own)
        return joined(parts).at(np.argsort(np.concatenate(rows)))

    def detours(self, gaps: Gaps, gap_N: Ints, share_N: Floats) -> Detours:
        """How past trips went between the ends of gaps, each of the member nearest to its start."""
        starts = gaps.lon_deg_G2[:, 0], gaps.lat_deg_G2[:, 0], gaps.pace_s_G
        nearest_G = self.nearest_member(*map(torch.from_numpy, starts))
        parts, rows = [], []
        for number in np.unique(nearest_G) if len(nearest_G) else [self._first]:
            (own_G,) = np.nonzero(nearest_G == number)
            (own_N,) = np.nonzero(nearest_G[gap_N] == number)
            place_N = np.searchsorted(own_G, gap_N[own_N])
            parts.append(self._of(number).detours(gaps.at(own_G), place_N, share_N[own_N]))
            rows.append(own_N)
        return joined(parts).at(np.argsort(np.concatenate(rows)))

    def nearest_member(self, lon_deg_N: Tensor, lat_deg_N: Tensor, pace_s_N: Tensor) -> Ints:
        """The number of the member whose trips are nearest, in its own measure."""
        lon_deg, lat_deg, pace_s = (
            value.detach().cpu().numpy() for value in (lon_deg_N, lat_deg_N, pace_s_N)
        )
        away_MN = np.full((len(self.members), len(lon_deg)), np.inf)
        for away_N, memory in zip(away_MN, self.members, strict=True):
            if memory is not None:
                is_strange_N = ~memory.knows_pace(pace_s)
                away_N[:] = memory.spreads_away(lon_deg, lat_deg) + STRANGE * is_strange_N
        nearest_N: Ints = np.argmin(away_MN, axis=0)
        return nearest_N

    def _of(self, number: int) -> Memory:
        memory = self.members[number]
        assert memory is not None, "a member that is not remembered lies nowhere"
        return memory

    @property
    def _first(self) -> int:
        return next(place for place, one in enumerate(self.members) if one is not None)

    # Kin ----------------------------------------------------------------------------------------

    def kin_of(self, batch: Batch, rows: SequenceRows) -> Ints:
        """Whose the sequences of a batch are, which is of one member."""
        memory = self.members[batch.cursor.last]
        return nobody(len(rows.window_R)) if memory is None else memory.kin_of(batch, rows)

    def kin_at(self, instant_us_N: Ints, lon_deg_N: Floats, lat_deg_N: Floats) -> Ints:
        """Whose path was just there just then, of the first member that knows it."""
        return self._first_kin(
            len(instant_us_N), lambda one: one.kin_at(instant_us_N, lon_deg_N, lat_deg_N)
        )

    def kin_of_context(self, context: Context) -> Ints:
        """Whose the last points of contexts are, of the first member that knows them."""
        return self._first_kin(len(context.started_us_B), lambda one: one.kin_of_context(context))

    def _first_kin(self, num: int, told: Callable[[Memory], Ints]) -> Ints:
        kin_N = nobody(num)
        for memory in self.members:
            if memory is not None:
                kin_N = np.where(kin_N == NOBODY, told(memory), kin_N)
        return kin_N


def joint(members: Sequence[Memory | None]) -> Memory | JointMemory | None:
    """What remembers the members of a corpus: the memory of one, if there is one alone."""
    if not any(memory is not None for memory in members):
        return None
    return members[0] if len(members) == 1 else JointMemory(tuple(members))


def write_memory(folder: Path, memory: Memory | JointMemory) -> None:
    """Leave a memory in a folder, in one file; members that are not remembered are not counted."""
    members = memory.members if isinstance(memory, JointMemory) else (memory,)
    kept = [member for member in members if member is not None]
    named = {
        f"{number}.{name}": value
        for number, member in enumerate(kept)
        for name, value in member.tensors().items()
    }
    save_tensors(named, folder / MEMORY_FILE)


def read_memory(folder: Path) -> Memory | JointMemory | None:
    """The memory that a folder holds; what is damaged or no memory is refused."""
    stored: dict[str, dict[str, Tensor]] = {}
    for named, value in load_tensors(folder / MEMORY_FILE).items():
        number, _, name = named.partition(".")
        stored.setdefault(number, {})[name] = value
    return joint([Memory.of_tensors(stored[number]) for number in sorted(stored, key=int)])
