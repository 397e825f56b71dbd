"""Splines: smooth paths through a gap, told from the known points on both sides.

Shapes: N points, G gaps, S noises, K known points around a gap, I intervals between them, J points
that have one on each side, C coordinates (east, north).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Of known places, against how far motion strays in one interval.
NOISES = (1e-3, 0.03, 0.3, 3.0, 20.0, 100.0)
NOWHERE = 1e9  # the noise of what says nothing
LEAST_STEP = 1e-3  # of a gap, between two known points


def hermite(share_1: Tensor, arriving_m: Tensor, leaving_m: Tensor, chord_m: Tensor) -> Tensor:
    """A cubic through both ends of a gap that has these velocities there, in gaps."""
    return (
        (share_1**3 - 2 * share_1**2 + share_1) * arriving_m
        + (3 * share_1**2 - 2 * share_1**3) * chord_m
        + (share_1**3 - share_1**2) * leaving_m
    )


@dataclass(frozen=True)
class Sides:
    """The known points around gaps, in the order of time; the gap is between the two in the middle.

    `step_GI` is the time between one and the next, in lengths of the gap, so that the middle one is
    1. What is no point, as no farther one is known, is nowhere: `is_point` tells.
    """

    step_GI: Tensor
    at_m_GKC: Tensor
    is_point_GK: Tensor
    num_hidden_G: Tensor


@torch.no_grad()
def spline_paths(sides: Sides, share_N: Tensor, gap_N: Tensor) -> Tensor:
    """Where points are on smooth cubic splines through their gaps, (N, S, C) metres.

    `gap_N` numbers the gap of each point. A spline bends as little as it can and misses known
    places as their noise allows (Wahba 1990); it is what a Kalman smoother of velocities tells from
    these points. How it bends at each follows from a system of five diagonals (Reinsch 1967).
    """
    step_GI, at_m_GKC = sides.step_GI.double().clamp(min=LEAST_STEP), sides.at_m_GKC.double()
    noise_S = torch.tensor(NOISES, device=step_GI.device).double()
    noise_GS1 = (noise_S / (sides.num_hidden_G + 1.0).pow(3).double().unsqueeze(-1)).unsqueeze(-1)
    loose_GSK = noise_GS1 + torch.where(sides.is_point_GK, 0.0, NOWHERE).double().unsqueeze(1)
    per_GI = 1 / step_GI
    before_GJ, after_GJ = per_GI[:, :-1], per_GI[:, 1:]
    at_GJ = -(before_GJ + after_GJ)
    left_GSJ, here_GSJ, right_GSJ = loose_GSK[..., :-2], loose_GSK[..., 1:-1], loose_GSK[..., 2:]
    wide_GJ = (step_GI[:, :-1] + step_GI[:, 1:]) / 3
    squares = (value.square().unsqueeze(1) for value in (before_GJ, at_GJ, after_GJ))
    own_GSJ = sum(
        (one * loose for one, loose in zip(squares, (left_GSJ, here_GSJ, right_GSJ), strict=True)),
        wide_GJ.unsqueeze(1),
    )
    near_GSJ = (
        step_GI[:, 1:-1].unsqueeze(1) / 6
        + here_GSJ[..., :-1] * (at_GJ[:, :-1] * before_GJ[:, 1:]).unsqueeze(1)
        + here_GSJ[..., 1:] * (after_GJ[:, :-1] * at_GJ[:, 1:]).unsqueeze(1)
    )
    far_GSJ = right_GSJ[..., :-2] * (after_GJ[:, :-2] * before_GJ[:, 2:]).unsqueeze(1)
    bent_GJC = (at_m_GKC.diff(dim=1) * per_GI.unsqueeze(-1)).diff(dim=1)
    bend_GSJC = _solved(own_GSJ, near_GSJ, far_GSJ, bent_GJC.unsqueeze(1))
    bend_GSKC = functional.pad(bend_GSJC, (0, 0, 1, 1))
    return _between(bend_GSKC, per_GI, loose_GSK, at_m_GKC, share_N, gap_N)


def _between(
    bend_GSKC: Tensor,
    per_GI: Tensor,
    loose_GSK: Tensor,
    at_m_GKC: Tensor,
    share_N: Tensor,
    gap_N: Tensor,
) -> Tensor:
    """Places (N, S, C) of the cubic in the middle of splines that bend so at known points."""
    turn_GSIC = bend_GSKC.diff(dim=2) * per_GI[:, None, :, None]
    middle = at_m_GKC.shape[1] // 2
    ends = [
        at_m_GKC[:, None, end]
        - loose_GSK[..., end, None] * (turn_GSIC[:, :, end] - turn_GSIC[:, :, end - 1])
        for end in (middle - 1, middle)
    ]
    bends = bend_GSKC[:, :, middle - 1], bend_GSKC[:, :, middle]
    (start, end), (first, last) = ([value[gap_N] for value in pair] for pair in (ends, bends))
    share = share_N.double()[:, None, None]
    bulge = share * (1 - share) / 6 * ((2 - share) * first + (1 + share) * last)
    return (1 - share) * start + share * end - bulge


def _solved(own_GSJ: Tensor, near_GSJ: Tensor, far_GSJ: Tensor, right_GSJC: Tensor) -> Tensor:
    """Solutions (G, S, J, C) of symmetric systems of five diagonals, without any pivot."""
    size, none = own_GSJ.shape[-1], torch.zeros_like(own_GSJ[..., 0])
    own = [none, none]  # of the two before the first
    near, far = [none, none], [none, none]
    ahead = [torch.zeros_like(none.unsqueeze(-1) * right_GSJC[:, :, 0])] * 2
    for place in range(size):
        is_near, is_far = place + 1 < size, place + 2 < size
        drawn = own[-1] * near[-1]
        own.append(own_GSJ[..., place] - drawn * near[-1] - own[-2] * far[-2].square())
        ahead.append(
            right_GSJC[:, :, place]
            - near[-1].unsqueeze(-1) * ahead[-1]
            - far[-2].unsqueeze(-1) * ahead[-2]
        )
        near.append((near_GSJ[..., place] - drawn * far[-1]) / own[-1] if is_near else none)
        far.append(far_GSJ[..., place] / own[-1] if is_far else none)
    found = [torch.zeros_like(ahead[0])] * 2
    for place in range(size + 1, 1, -1):
        found.append(
            ahead[place] / own[place].unsqueeze(-1)
            - near[place].unsqueeze(-1) * found[-1]
            - far[place].unsqueeze(-1) * found[-2]
        )
    return torch.stack(found[:1:-1], dim=2)
