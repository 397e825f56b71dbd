"""Fitting of a memory: how much a difference of velocities counts beside one of places.

Beside that the memory learns a linear forecast, from its own trips alone and without any network.

Shapes: N crops, K neighbours, J knots, C coordinates (east, north), P numbers of a forecast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...earth.arrays import Ints
from ...features.least_absolute import least_absolute
from ..recalled import KNOTS, NUM_LINEAR, Recalled, linear_parts
from .crops import cut_points, velocities_mps
from .memory import Memory
from .paths import PastPaths

MOTION_STEPS = (1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 160.0)  # median steps, of which one is chosen
FITTED_CROPS = 2_000
LEAST_ROWS = 10 * NUM_LINEAR  # crops without which nothing can be said of a linear forecast
LEAST_M = 1.0
NO_ROWS: Ints = np.zeros(0, np.int64)
# How the few numbers are drawn to zero. They weigh velocities, so large ones are of parts that
# hardly differ, such as those of parallel trips, and then the next strength is taken.
STRENGTHS = tuple(1e-3 * 10**power for power in range(7))
LARGEST = 4.0

# Of points of paths the mean velocities (N, J, C) until each knot that a simple forecast tells.
Simple = Callable[[PastPaths, Ints], Tensor]


def nothing_simple(paths: PastPaths, now_N: Ints) -> Tensor:
    """Velocities of a forecast that tells nothing."""
    return torch.zeros(len(now_N), len(KNOTS), 2)


def fitted_memory(
    paths: PastPaths, kin_of_row: Ints = NO_ROWS, simple: Simple = nothing_simple
) -> Memory:
    """The memory of paths that best helps to tell them: each from the trips of others.

    Beside these it is told a simple forecast, which whoever asks the memory tells it as well.
    Paths of which none has three points or more are refused: none of them goes on from anywhere.
    """
    if not len(cut_points(paths)):
        raise ValueError("a memory needs a past trip of three points or more, and there is none")
    step_s = paths.median_step_s
    tried = [Memory(paths, steps * step_s) for steps in MOTION_STEPS]
    questions = [OwnQuestions.of(memory, simple) for memory in tried]
    fits = [asked.fit() for asked in questions]
    best = min(range(len(tried)), key=lambda place: float(fits[place][1].nanmean()))
    spread_m, weight_JP = questions[best].spread_m(), fits[best][0]
    return replace(tried[best], spread_m=spread_m, weight_JP=weight_JP, kin_of_row=kin_of_row)


@dataclass(frozen=True)
class OwnQuestions:
    """Crops of a memory, evenly spread, each asked as if its own kin were not there."""

    velocity_mps_NLC: Tensor
    pace_s_N: Tensor
    simple_mps_NJC: Tensor
    true_mps_NJC: Tensor
    lasts_NJ: Tensor
    recalled: Recalled

    @classmethod
    def of(cls, memory: Memory, simple: Simple = nothing_simple) -> OwnQuestions:
        now_N = memory.now_P[:: max(1, len(memory.now_P) // FITTED_CROPS)]
        velocity_mps, pace_s = map(torch.from_numpy, velocities_mps(memory.paths, now_N))
        kin_N = memory.paths.kin_R[memory.paths.points.trajectory_N[now_N]]
        own = velocity_mps, pace_s, simple(memory.paths, now_N)
        recalled = memory.recall(*memory.paths.place(now_N), *own, kin_N)
        true_mps_N1JC, lasts_N1J = memory.ways(now_N[:, None], pace_s)
        return cls(*own, true_mps_N1JC[:, 0], lasts_N1J[:, 0], recalled)

    def fit(self) -> tuple[Tensor, Tensor]:
        """Weights (J, P) of a linear forecast that is told one's own motion and what is recalled.

        Beside them how far it is off (J), as a share of how far one went. It is told its own motion
        because a network is: what counts is what a memory adds to that. Of a knot that too few
        crops reach there is no forecast: its weights are NaN.
        """
        recalled = self.recalled
        is_told_NKJ = recalled.is_known_NK.unsqueeze(-1) & recalled.lasts_NKJ
        beside = recalled.way_mps_NKJC, recalled.offset_m_NKC, recalled.faster_mps_NKVC
        own = self.velocity_mps_NLC, self.pace_s_N, self.simple_mps_NJC
        design_NJPC = linear_parts(*own, *beside, is_told_NKJ)
        is_judged_NJ = self.lasts_NJ & is_told_NKJ.any(1)
        weights, shares = [], []
        for knot in range(len(KNOTS)):
            rows = is_judged_NJ[:, knot]
            design_NPC, true_mps_NC = design_NJPC[rows, knot], self.true_mps_NJC[rows, knot]
            weight_P = _steady(design_NPC, true_mps_NC)
            miss_NC = true_mps_NC - torch.einsum("p,npc->nc", weight_P, design_NPC)
            went_mps = true_mps_NC.norm(dim=-1).sum()
            shares.append(miss_NC.norm(dim=-1).sum() / went_mps)  # NaN where no crop reaches it
            weights.append(weight_P if int(rows.sum()) >= LEAST_ROWS else weight_P * torch.nan)
        return torch.stack(weights), torch.stack(shares)

    def spread_m(self) -> float:
        """How far away a neighbour is in the middle."""
        away_m_NK = self.recalled.offset_m_NKC.norm(dim=-1)[self.recalled.is_known_NK]
        return max(LEAST_M, float(away_m_NK.median())) if len(away_m_NK) else LEAST_M


def _steady(design_NPC: Tensor, wanted_NC: Tensor) -> Tensor:
    """Weights (P) of the least absolute distance, none of which is large."""
    fits = least_absolute(design_NPC, wanted_NC, STRENGTHS)
    nothing_P = design_NPC.new_zeros(design_NPC.shape[1])
    return next((one for one in fits if float(one.abs().max()) <= LARGEST), nothing_P)
