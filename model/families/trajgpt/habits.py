"""Habits: how long one stayed before where one arrives, until which hour, and how fast one goes.

Of the visits of the history to a region those count most that began at the same hour, on the same
weekday, and not long ago; how much each of the three weighs is learnt. They tell how long one
stayed, and how long it is from now to the hour at which one left: who comes late to work leaves
when she always leaves. Likewise the ways of the history tell of the next one: those from here to
there how long they took, all of them how long a metre takes. All is told by differences of
instants, so that it is the same whenever a window begins.

Shapes: N asked visits, V tokens of the history, F clues, C coordinates (east, north).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...interface.next_visit import Arrivals
from .recall import Recalled, shifted

DAY_S, WEEK_S = 86_400.0, 604_800.0
CLUE_WEIGHTS = (3.0, 1.0, -0.3)  # untrained: of the hour, of the weekday, of days ago
NUM_STAY_HABITS, NUM_WAY_HABITS = 5, 6
NEAR_M, SOON_S = 100.0, 60.0  # added before logarithms
LEAST_SPREAD = 0.01


class StayHabit(nn.Module):
    """Numbers (N, 5) of stays where one arrives: whether there are any, how long, until when."""

    def __init__(self, scale_s: float) -> None:
        super().__init__()
        self.scale_s = scale_s
        self.weight_F = nn.Parameter(torch.tensor(CLUE_WEIGHTS))

    def forward(self, arrivals: Arrivals, recalled: Recalled) -> Tensor:
        now_s_N1 = arrivals.arrived_s_N.unsqueeze(1)
        is_there_NV = recalled.is_whole_NV & (recalled.region_NV == arrivals.region_N.unsqueeze(1))
        near_NV = clocks(now_s_N1 - recalled.arrived_s_NV) @ self.weight_F
        lasted_s_NV = recalled.left_s_NV - recalled.arrived_s_NV
        until_s_NV = (recalled.left_s_NV - now_s_N1).remainder(DAY_S)
        logs = [
            torch.log1p(seconds.clamp(min=0) / self.scale_s)
            for seconds in (lasted_s_NV, until_s_NV)
        ]
        return summary(near_NV, is_there_NV, logs)


class WayHabit(nn.Module):
    """Numbers (N, 6) of the ways before: from here to there how long, and all of them how slow."""

    def __init__(self, scale_s: float) -> None:
        super().__init__()
        self.scale_s = scale_s
        self.weight_F = nn.Parameter(torch.tensor(CLUE_WEIGHTS))

    def forward(self, region_N: Tensor, recalled: Recalled) -> Tensor:
        from_NV, ended_s_NV = shifted(recalled.region_NV, 1), shifted(recalled.left_s_NV, 1)
        is_way_NV = recalled.is_way_seen_NV & shifted(recalled.is_whole_NV, 1)
        is_same_NV = (recalled.region_NV == region_N.unsqueeze(1)) & (
            from_NV == recalled.here_N.unsqueeze(1)
        )
        near_NV = clocks(recalled.left_s_N.unsqueeze(1) - ended_s_NV) @ self.weight_F
        took_s_NV = (recalled.arrived_s_NV - ended_s_NV).clamp(min=0)
        before_m_NVC = shifted(recalled.place_m_NVC, 1)
        away_m_NV = (recalled.place_m_NVC - before_m_NVC).norm(dim=-1)
        log_NV = torch.log1p(took_s_NV / self.scale_s)
        slow_NV = torch.log(took_s_NV + SOON_S) - torch.log(away_m_NV + NEAR_M)
        told = [
            summary(near_NV, is_way_NV & is_same_NV, [log_NV]),
            summary(near_NV, is_way_NV, [slow_NV]),
        ]
        return torch.cat(told, dim=-1)


def clocks(since_s_NV: Tensor) -> Tensor:
    """How near instants are by their hour and weekday, and how long ago (N, V, F)."""
    found = [torch.cos(2 * math.pi / cycle_s * since_s_NV) for cycle_s in (DAY_S, WEEK_S)]
    return torch.stack([*found, torch.log1p(since_s_NV.clamp(min=0) / DAY_S)], dim=-1).float()


def summary(near_NV: Tensor, is_told_NV: Tensor, values: list[Tensor]) -> Tensor:
    """Whether there are any, and the weighted mean and spread of each value, (N, 1 + 2 each)."""
    has_any_N1 = is_told_NV.any(1, keepdim=True)
    near_NV = near_NV.masked_fill(~is_told_NV, -torch.inf)
    share_NV = torch.where(has_any_N1, near_NV, 0.0).softmax(-1) * has_any_N1
    told = [has_any_N1.float()]
    for value_NV in (torch.where(is_told_NV, value, 0.0).float() for value in values):
        mean_N1 = (share_NV * value_NV).sum(1, keepdim=True)
        square_N1 = (share_NV * (value_NV - mean_N1).square()).sum(1, keepdim=True)
        told += [mean_N1, (square_N1 + LEAST_SPREAD**2).sqrt() * has_any_N1]
    return torch.cat(told, dim=-1)
