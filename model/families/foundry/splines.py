"""Splines: smooth paths through a gap, told from the known points on both sides.

Shapes: B rows, T points, S noises, K known points around a gap.
"""

from __future__ import annotations

import torch
from torch import Tensor

NOISES = (1e-3, 0.03, 0.1, 0.3)  # of known places, against how far motion strays in one interval


def hermite(share_1: Tensor, arriving_m: Tensor, leaving_m: Tensor, chord_m: Tensor) -> Tensor:
    """A cubic through both ends of a gap that has these velocities there, in gaps."""
    return (
        (share_1**3 - 2 * share_1**2 + share_1) * arriving_m
        + (3 * share_1**2 - 2 * share_1**3) * chord_m
        + (share_1**3 - share_1**2) * leaving_m
    )


@torch.no_grad()
def spline_weights(
    share_BT: Tensor, side_s_BTK: Tensor, gap_s_BT: Tensor, num_hidden_BT: Tensor
) -> Tensor:
    """How much each known place around a gap weighs (B, T, S, K) in smooth cubic splines.

    A spline bends as little as it can and misses known places as their noise allows (Wahba 1990);
    it is what a Kalman smoother of velocities tells from these points. The unit of time is the gap.
    """
    far_BTK = side_s_BTK.double() / gap_s_BT.double().unsqueeze(-1).clamp(min=1e-9)
    apart_K = torch.arange(far_BTK.shape[-1], device=far_BTK.device).double()
    far_BTK = torch.where((gap_s_BT > 0).unsqueeze(-1), far_BTK, apart_K)
    first_BT1 = far_BTK.amin(-1, keepdim=True)
    known_BTK, asked_BT1 = far_BTK - first_BT1, share_BT.double().unsqueeze(-1) - first_BT1
    line_BTK2 = torch.stack([torch.ones_like(known_BTK), known_BTK], -1)
    bend_BTKK = _bend(known_BTK.unsqueeze(-1), known_BTK.unsqueeze(-2))
    noise_S = torch.tensor(NOISES, device=far_BTK.device).double()
    noise_BTS = noise_S / (num_hidden_BT + 1.0).pow(3).double().unsqueeze(-1)
    same_KK = torch.eye(far_BTK.shape[-1], device=far_BTK.device).double()
    top = bend_BTKK.unsqueeze(2) + noise_BTS[..., None, None] * same_KK
    line_BTSK2 = line_BTK2.unsqueeze(2).expand(*top.shape[:-1], 2)
    matrix = torch.cat(
        [
            torch.cat([top, line_BTSK2], -1),
            torch.nn.functional.pad(line_BTSK2.mT, (0, 2)),
        ],
        -2,
    )
    goal = torch.cat(
        [_bend(asked_BT1, known_BTK), torch.ones_like(asked_BT1), asked_BT1], -1
    ).unsqueeze(2)
    goal = goal.expand(*matrix.shape[:-1])
    return torch.linalg.solve(matrix, goal)[..., : far_BTK.shape[-1]]


def _bend(one: Tensor, other: Tensor) -> Tensor:
    """The covariance of a motion whose velocity strays evenly, from zero."""
    least = torch.minimum(one, other)
    return least**3 / 3 + least**2 * (one - other).abs() / 2
