"""Strides: how densely a context is read for an instant that is asked.

Within twenty intervals every point is read, as in training. What lies farther ahead is told from
every second, third, fourth point and so on, as a sequence that is sampled so much more rarely is:
that shows more of the past, and asks no more intervals ahead than training does. So the same
motion has the same forecast however densely it is sampled.

Shapes: B rows, S samples, H points of the horizon, K strides, C coordinates
(east, north).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ...interface.contexts import Context

Read = TypeVar("Read")
STRIDES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
NEAR = 20.0  # intervals ahead that are told from every point
LIMITS = ((8.0, 20), (NEAR, 12))  # intervals ahead, as long as so many points are left


def stride_number(elapsed_s_BSH: Tensor, pace_s_B: Tensor, num_points_B: Tensor) -> Tensor:
    """Which stride each instant (B, S, H) needs.

    What is near needs none. Else it is the least one with which the instant is 8 intervals ahead
    and 20 points are left, or, with a shorter past, 20 intervals and 12 points, or what is left.
    """
    stride_K = torch.tensor(STRIDES, device=elapsed_s_BSH.device)
    steps_BSH = (elapsed_s_BSH / pace_s_B[:, None, None]).contiguous()
    kept_BK = (num_points_B.unsqueeze(-1) - 1) // stride_K + 1
    number_BSH = torch.zeros_like(steps_BSH, dtype=torch.long)
    for most_steps, least_points in LIMITS:
        wanted_BSH = torch.searchsorted(stride_K.float(), steps_BSH / most_steps)
        most_B = (kept_BK >= least_points).sum(-1).clamp(min=1) - 1
        number_BSH = torch.maximum(number_BSH, torch.minimum(wanted_BSH, most_B[:, None, None]))
    return number_BSH.where(steps_BSH > NEAR, 0)


class Readings(Generic[Read]):
    """A context as it is read with each stride, from its end, as soon as one is asked for."""

    def __init__(self, read: Callable[[Context], Read], context: Context, max_points: int) -> None:
        self.read, self.context, self.max_points = read, context, max_points
        self.found: dict[int, Read] = {}

    def at(self, number: int) -> Read:
        """The last points, read with the stride of a number."""
        if number not in self.found:
            self.found[number] = self.read(self.context.latest(self.max_points, STRIDES[number]))
        return self.found[number]

    def told(
        self, elapsed_s_BSH: Tensor, pace_s_B: Tensor, ask: Callable[[Read], Tensor]
    ) -> Tensor:
        """What is asked of each instant (B, S, H, C), from the reading that it needs."""
        number_BSH = stride_number(elapsed_s_BSH, pace_s_B, self.context.num_points_B)
        first, *others = number_BSH.unique().tolist()
        told_BSHC = ask(self.at(first))
        for number in others:
            is_own_BSH1 = (number_BSH == number).unsqueeze(-1)
            told_BSHC = torch.where(is_own_BSH1, ask(self.at(number)), told_BSHC)
        return told_BSHC
