"""Recall: what a network makes of the past trips that were near in place and in motion.

Neighbours are weighed by how near they are, by scales that are learnt for each knot; their mean is
told to the network, which also decides how far its forecast follows them.

Shapes: N presents, K neighbours, J knots, C coordinates (east, north), F parts of a distance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...earth.columns import Columns
from ...earth.geometry import to_heading
from ...interface.recalled import KNOTS, Recalled
from .base import hats
from .blocks import Residual
from .config import FoundryConfig
from .density import KNOTS as TOLD
from .motion import LEAST_M, Motion

NUM_SEEN = 9 * len(KNOTS) + 4
FOLLOWED = 4  # numbers that say how far a forecast follows
STEEP = 5.0  # ways beyond so many of one's own speed are told alike
NEAR_STEPS = 8  # intervals of which the own way tells what is near
FIRST_LOG_NEAR = 1.0
WIDE = 30.0  # own reaches: what is sparse beside them, as storms are beside walkers, is not near


@dataclass(frozen=True)
class Followed(Columns):
    """The mean of neighbours until each knot: velocity, where they were, how much slower they were.

    Beside it the mean velocity of the memory's own linear forecast, zero where it has none.
    `trust` falls with the distance of the nearest neighbours, and is 0 where none goes on so long
    and where no memory is asked.
    """

    way_mps_NJC: Tensor
    offset_m_NJC: Tensor
    faster_mps_NJC: Tensor
    linear_mps_NJC: Tensor
    is_linear_NJ: Tensor
    trust_NJ: Tensor


class Recall(nn.Module):
    """Weighs neighbours, tells the network of them, and follows them as far as it says."""

    log_knot_J: Tensor

    def __init__(self, config: FoundryConfig) -> None:
        super().__init__()
        self.share_forgetful = config.share_forgetful
        self.log_scale_FJ = nn.Parameter(torch.zeros(3, len(KNOTS)))
        self.log_sharpness_J = nn.Parameter(torch.zeros(len(KNOTS)))
        self.log_near = nn.Parameter(torch.tensor(FIRST_LOG_NEAR))
        self.embed = nn.Linear(NUM_SEEN + 1, config.width)
        self.reflect = Residual(config.width, config.dropout)
        self.follow = nn.Linear(config.width, FOLLOWED * len(TOLD))
        # What is never told in training must say nothing in an answer.
        for silent in (self.embed, self.follow):
            nn.init.zeros_(silent.weight)
            nn.init.zeros_(silent.bias)
        log_knot_J = torch.tensor(KNOTS, dtype=torch.float32).log()
        self.register_buffer("log_knot_J", log_knot_J, persistent=False)

    def forward(
        self, hidden_ND: Tensor, motion: Motion, recalled: Recalled | None
    ) -> tuple[Tensor, Followed | None]:
        """States that know of neighbours, and their mean; where none are asked, that none are.

        Of the presents of training some are told nothing, so that the weights answer without too.
        """
        told_NU, followed = hidden_ND.new_zeros(len(hidden_ND), NUM_SEEN), None
        is_told_N1 = told_NU[:, :1]
        if recalled is not None:
            told_NU, followed = self.seen(recalled, motion)
            # Of what lies far away as little is told as it is trusted.
            is_told_N1 = followed.trust_NJ.amax(dim=-1, keepdim=True)
            if self.training:
                is_told_N1 = is_told_N1 * (torch.rand_like(is_told_N1) >= self.share_forgetful)
            followed = replace(followed, trust_NJ=followed.trust_NJ * (is_told_N1 > 0))
        told_NU = torch.cat([told_NU * is_told_N1, is_told_N1], dim=-1)
        x_ND = hidden_ND + self.embed(told_NU.to(hidden_ND.dtype))
        return self.reflect(x_ND), followed

    def seen(self, recalled: Recalled, motion: Motion) -> tuple[Tensor, Followed]:
        """What a network is told of presents (N, NUM_SEEN), and their mean neighbours."""
        square_NKF, weight_NKJ = self._weights(recalled)
        way_mps_NJC = torch.einsum("nkj,nkjc->njc", weight_NKJ, recalled.way_mps_NKJC)
        away_mps_NKJC = recalled.way_mps_NKJC - way_mps_NJC.unsqueeze(1)
        square_NJ = (weight_NKJ * away_mps_NKJC.square().sum(-1)).sum(1)
        offset_m_NJC = torch.einsum("nkj,nkc->njc", weight_NKJ, recalled.offset_m_NKC)
        early_mps_NKC = recalled.faster_mps_NKVC[:, :, 0]
        faster_mps_NJC = torch.einsum("nkj,nkc->njc", weight_NKJ, early_mps_NKC)
        speed_N1, heading_N1C = motion.speed_mps_RT.unsqueeze(-1), motion.heading_RTC.unsqueeze(-2)
        reach_m_N1 = NEAR_STEPS * speed_N1 * motion.pace_s_RT.unsqueeze(-1) + LEAST_M
        away_m2_NJ = torch.einsum("nkj,nk->nj", weight_NKJ, square_NKF[..., 0])
        spread_m_N1 = torch.minimum(recalled.spread_m_N.unsqueeze(-1), WIDE * reach_m_N1)
        near_m_N1 = self.log_near.exp() * (reach_m_N1 + spread_m_N1)
        trust_NJ = (weight_NKJ.sum(1) > 0) / (1 + away_m2_NJ / near_m_N1.square())
        # An offset is as large as trust is small: none is made up that is wider than what is near.
        away_m_NJ1 = offset_m_NJC.norm(dim=-1, keepdim=True).clamp(min=LEAST_M)
        offset_m_NJC = offset_m_NJC * (near_m_N1.unsqueeze(-1) / away_m_NJ1).clamp(max=1)
        linear_mps_NJC, is_linear_NJ = recalled.linear_mps_NJC, recalled.is_linear_NJ.float()
        means = way_mps_NJC, offset_m_NJC, faster_mps_NJC
        followed = Followed(*means, linear_mps_NJC, is_linear_NJ, trust_NJ)
        share_NJ = (recalled.is_known_NK.unsqueeze(-1) & recalled.lasts_NKJ).float().mean(1)
        near_NF = torch.sqrt(square_NKF.mean(1)) / reach_m_N1
        nearest_N1 = torch.sqrt(square_NKF[:, 0, :1]) / reach_m_N1
        along_NJC = to_heading(way_mps_NJC / speed_N1.unsqueeze(-1), heading_N1C)
        beside_NJC = to_heading(offset_m_NJC / reach_m_N1.unsqueeze(-1), heading_N1C)
        parts = [
            along_NJC.clamp(-STEEP, STEEP).flatten(-2),
            torch.asinh(torch.sqrt(square_NJ + 1e-8) / speed_N1),
            torch.asinh(beside_NJC).flatten(-2),
            to_heading(linear_mps_NJC / speed_N1.unsqueeze(-1), heading_N1C)
            .clamp(-STEEP, STEEP)
            .flatten(-2),
            share_NJ,
            trust_NJ,
            torch.log(torch.cat([near_NF, nearest_N1], dim=-1).clamp(1e-4, 1e4)) / 3,
        ]
        return torch.cat(parts, dim=-1), followed

    def _weights(self, recalled: Recalled) -> tuple[Tensor, Tensor]:
        """Squared distances (N, K, F) in metres, and weights (N, K, J) that sum to 1 or to 0.

        A Gaussian kernel as wide as the root mean square distance of those that are told.
        """
        place_m2_NK1 = recalled.offset_m_NKC.square().sum(-1, keepdim=True)
        motion_m2_NKV = (
            (recalled.faster_mps_NKVC * recalled.motion_s_N[:, None, None, None]).square().sum(-1)
        )
        square_NKF = torch.cat([place_m2_NK1, motion_m2_NKV], dim=-1) + LEAST_M**2
        square_NKJ = square_NKF @ self.log_scale_FJ.exp()
        is_told_NKJ = recalled.is_known_NK.unsqueeze(-1) & recalled.lasts_NKJ
        num_N1J = is_told_NKJ.sum(1, keepdim=True).clamp(min=1)
        mean_N1J = (square_NKJ * is_told_NKJ).sum(1, keepdim=True) / num_N1J
        nearness_NKJ = (
            -0.5 * self.log_sharpness_J.exp() * square_NKJ / mean_N1J.clamp(min=LEAST_M**2)
        )
        weight_NKJ = torch.exp(nearness_NKJ) * is_told_NKJ
        return square_NKF, weight_NKJ / weight_NKJ.sum(1, keepdim=True).clamp(min=1e-12)

    def led_m(
        self,
        base_m_NJC: Tensor,
        hidden_ND: Tensor,
        followed: Followed,
        motion: Motion,
        elapsed_s_NJ: Tensor,
        led_NJK: Tensor,
        strange_NJ: Tensor | float,
    ) -> Tensor:
        """The base, moved towards where neighbours lead.

        Of four numbers the first says how far, the second how much of the offset to the
        neighbours is made up, the third how many intervals one stays faster than they were, the
        fourth how far the base goes to the linear forecast of the memory before. Where the network
        itself is not trusted, as it may be by a part, that is followed as far as the memory is.
        """
        pace_s_N1 = motion.pace_s_RT.unsqueeze(-1)
        steps_NJ = elapsed_s_NJ / pace_s_N1
        near_NJk = hats(torch.log(steps_NJ.clamp(min=1e-6)), self.log_knot_J)
        number_NKU = self.follow(hidden_ND).unflatten(-1, (len(TOLD), FOLLOWED))
        share_NJ1, closer_NJ1, faster_NJ1, linear_NJ1 = (led_NJK @ number_NKU).split(1, dim=-1)
        trust_NJ1 = near_NJk @ followed.trust_NJ.unsqueeze(-1)
        linear_NJ1 = linear_NJ1 + torch.as_tensor(strange_NJ).unsqueeze(-1)
        linear_NJ1 = linear_NJ1 * (
            near_NJk @ (followed.trust_NJ * followed.is_linear_NJ).unsqueeze(-1)
        )
        linear_m_NJC = elapsed_s_NJ.unsqueeze(-1) * (near_NJk @ followed.linear_mps_NJC)
        base_m_NJC = base_m_NJC + linear_NJ1 * (linear_m_NJC - base_m_NJC)
        led_m_NJC = elapsed_s_NJ.unsqueeze(-1) * (near_NJk @ followed.way_mps_NJC)
        led_m_NJC = led_m_NJC + closer_NJ1 * (near_NJk @ followed.offset_m_NJC)
        lead_s_NJ1 = faster_NJ1 * pace_s_N1.unsqueeze(-1)
        led_m_NJC = led_m_NJC + lead_s_NJ1 * (near_NJk @ followed.faster_mps_NJC)
        share_NJ1 = share_NJ1 * trust_NJ1
        return base_m_NJC + share_NJ1 * (led_m_NJC - base_m_NJC)
