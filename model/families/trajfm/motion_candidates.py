"""Motion candidates: displacements that known motion suggests for a point, and two heads on them.

Shapes: B windows, T points, N chosen points, D model width, M mixture components, L lags, W ways to
move on, F codes, C coordinates (east, north).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...earth.geometry import heading_of
from ...features.normaliser import MIN_STEP_S, Normaliser
from ...interface.masked_input import MaskedInput
from ...layers.distributions import GaussianMixture, StepMixture
from ...layers.heads import NumberHead, SteeringHead, ladder, steps_around
from .surroundings import KNOWN_LAGS, NUM_TIME_CODES, Surroundings, is_between, time_codes

NUM_WAY_CODES = 6


@dataclass(frozen=True)
class Ways:
    """Steps from the anchor that known motion suggests for a time, and how far it may stray."""

    way_m_NWC: Tensor
    reach_m_N: Tensor
    codes_NF: Tensor


def ways_of(near: Surroundings, time_s_N: Tensor, normaliser: Normaliser) -> Ways:
    """Ways to the place of a point whose time is given, counted from the first shown time.

    The first goes along the chord evenly in time, the second evenly by points. The others bend it
    by motion before and after, as a cubic does, and where one side is missing they go straight on.
    """
    before, after = near.before, near.after
    num_before_N, num_after_N = before.num_BT, after.num_BT
    is_first_N, is_last_N = num_before_N == 0, num_after_N == 0
    elapsed_s_N = (time_s_N - before.time_s_BT).clamp(min=0).masked_fill(is_first_N, 0)
    until_s_N = (after.time_s_BT - time_s_N).clamp(min=0).masked_fill(is_last_N, 0)
    gap_num_N = (num_before_N + num_after_N).clamp(min=1)
    gap_s_N = elapsed_s_N + until_s_N
    share_s_N, share_num_N = (
        torch.where(is_first_N, 1.0, torch.where(is_last_N, 0.0, share_N))
        for share_N in (elapsed_s_N / gap_s_N.clamp(min=MIN_STEP_S), num_before_N / gap_num_N)
    )
    chord_N1C = near.chord_m_BTC.unsqueeze(-2)
    ways = [share_s_N[:, None, None] * chord_N1C, share_num_N[:, None, None] * chord_N1C]
    shortest_gap_s_N = gap_s_N.clamp(min=normaliser.shortest_step_s)
    strays = []
    for share_N, before_N, after_N, size_N, back_over_NL, lead_over_NL in (
        (share_s_N, elapsed_s_N, until_s_N, shortest_gap_s_N, before.way_s_BTL, after.way_s_BTL),
        (
            share_num_N,
            num_before_N,
            num_after_N,
            gap_num_N,
            before.num_way_BTL,
            after.num_way_BTL,
        ),
    ):
        mean_N1C = chord_N1C / size_N[:, None, None]
        back_NLC = before.way_m_BTLC / back_over_NL.unsqueeze(-1)
        lead_NLC = after.way_m_BTLC / lead_over_NL.unsqueeze(-1)
        has_back_NL1, has_lead_NL1 = (
            (side.way_m_BTLC != 0).any(-1, keepdim=True) for side in (before, after)
        )
        arriving_N = before_N * (1 - share_N).square()
        leaving_N = after_N * share_N.square()
        ways += [
            arriving_N[:, None, None] * torch.where(has_back_NL1, back_NLC - mean_N1C, 0.0),
            leaving_N[:, None, None] * torch.where(has_lead_NL1, mean_N1C - lead_NLC, 0.0),
        ]
        both_NLC = torch.cat([back_NLC, lead_NLC, mean_N1C], dim=-2)
        mean_square_N = both_NLC.square().sum(-1).mean(-1)
        # Between two known places as far as a Brownian bridge, outside as far as one would go.
        within_N = torch.where(
            is_first_N | is_last_N, before_N + after_N, (before_N * after_N).sqrt()
        )
        strays.append(mean_square_N.sqrt() * within_N)
    extent_m = normaliser.extent_scale_m
    reach_m_N = (strays[0] + strays[1]) / 2 + 0.1 * extent_m * gap_num_N**0.5
    count_s_N = gap_num_N * normaliser.typical_step_s
    codes = [
        torch.log1p(num_before_N),
        torch.log1p(num_after_N),
        share_num_N,
        share_s_N - share_num_N,
        torch.asinh(torch.log((gap_s_N + MIN_STEP_S) / count_s_N)),
        torch.log(reach_m_N / extent_m),
    ]
    return Ways(
        torch.cat(ways, dim=-2).float(), reach_m_N.float(), torch.stack(codes, dim=-1).float()
    )


# ---------------------------------------------------------------------------------- times


def code_of_time(time_s_N: Tensor, near: Surroundings) -> Tensor:
    """A time as a number without bounds: its log-odds between two known times, else log seconds."""
    since_s_N = (time_s_N - near.before.clock_s_BT).clamp(min=0) + MIN_STEP_S
    until_s_N = (near.after.clock_s_BT - time_s_N).clamp(min=0) + MIN_STEP_S
    return since_s_N.log() - torch.where(is_between(near), until_s_N.log(), 0.0)


def time_of_code(code_N: Tensor, near: Surroundings) -> Tensor:
    """The inverse of `code_of_time`: never before the known time before, nor after the next."""
    gap_s_N = near.after.clock_s_BT - near.before.clock_s_BT
    within_s_N = torch.sigmoid(code_N) * (gap_s_N + 2 * MIN_STEP_S) - MIN_STEP_S
    within_s_N = torch.minimum(within_s_N.clamp(min=0), gap_s_N)
    beyond_s_N = (code_N.exp() - MIN_STEP_S).clamp(min=0)
    return near.before.clock_s_BT + torch.where(is_between(near), within_s_N, beyond_s_N)


def ascending(time_s_BT: Tensor, is_told_BT: Tensor, shown: MaskedInput) -> Tensor:
    """Told times that never lie before an earlier one of their sequence."""
    has_time_BT = is_told_BT | shown.shows_time_BT
    kept_s_BT = time_s_BT.masked_fill(~has_time_BT, -torch.inf)
    for sequence in shown.sequence_BT.unique().tolist():
        is_own_BT = shown.sequence_BT == sequence
        highest_BT = kept_s_BT.masked_fill(~is_own_BT, -torch.inf).cummax(dim=1).values
        time_s_BT = torch.where(is_own_BT & is_told_BT, highest_BT, time_s_BT)
    return time_s_BT


# ---------------------------------------------------------------------------------- heads


class TimeHead(NumberHead):
    """p(code of a time): a mixture around typical steps, or even ones between two known times."""

    def __init__(self, width: int, num_components: int, normaliser: Normaliser) -> None:
        super().__init__(width, num_components, 1.5, NUM_TIME_CODES)
        self.normaliser = normaliser

    def forward(
        self, hidden_ND: Tensor, near: Surroundings, usual_N: Tensor | None = None
    ) -> GaussianMixture:
        """Around the usual code, where one is known."""
        codes = time_codes(near, self.normaliser).to(hidden_ND)
        if usual_N is not None:
            return self.around(usual_N.to(hidden_ND).unsqueeze(-1), 1.0, hidden_ND, codes)
        after_N = near.after.num_clock_BT.clamp(min=1)
        center_N = near.before.num_clock_BT.clamp(min=1).log() + torch.where(
            is_between(near), -after_N.log(), self.normaliser.log_step_center
        )
        return self.around(center_N.to(hidden_ND).unsqueeze(-1), 1.0, hidden_ND, codes)


class PlaceHead(SteeringHead):
    """p(east, north | time): a mixture around a sum of ways that the network weighs and turns.

    Untrained, it keeps the velocities on both sides as a cubic does, and goes straight on outside.
    """

    def __init__(self, width: int, num_components: int, has_tails: bool) -> None:
        num_lags = len(KNOWN_LAGS)
        # Evenly in time along the chord, bent by time on both sides; nothing by points.
        damp_W = [1.0, 0.0] + 2 * num_lags * [1 / num_lags] + 2 * num_lags * [0.0]
        scales = ladder(num_components, 0.1, 1.5)
        super().__init__(width, NUM_WAY_CODES, damp_W, scales, has_tails)

    def forward(self, hidden_ND: Tensor, ways: Ways) -> StepMixture:
        """Metres from the anchor."""
        codes = ways.codes_NF.to(hidden_ND)
        center_m_NC, numbers = self.steered(ways.way_m_NWC, hidden_ND, codes)
        heading_NC = heading_of(ways.way_m_NWC[:, 0] + ways.way_m_NWC[:, 2])
        return steps_around(center_m_NC, ways.reach_m_N, heading_NC, numbers)
