"""Lanes: what a gap is told of past trips that went between both of its ends.

Shapes: N asked points, Q those of gaps that are asked about, G gaps, K lanes, B rows, T points,
C coordinates (east, north), S sizes of gaps.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ...earth.arrays import Ints
from ...earth.geometry import to_heading
from ...interface.batch import Batch
from ...interface.masked_input import MaskedInput
from ...interface.masking import MaskedBatch
from ...interface.memory.joint import JointMemory
from ...interface.memory.lanes import NUM_LANES, Detours, Gaps
from ...interface.memory.memory import TRAIN, Memory, nobody
from ...interface.sequence_rows import rows_of_batch
from .around import Around
from .motion import LEAST_M

LEAST_HIDDEN = 5  # points of a gap that past trips are asked about
NEAR = 0.05  # of the length of a gap: a lane that misses both ends by so much is half trusted
NUM_SEEN = 6
SHARES = tuple(place / 10 for place in range(11))  # of the way to lanes: the fit chooses one


def detours_of(
    memory: Memory | JointMemory,
    batch: Batch,
    shown: MaskedInput,
    row_N: Tensor,
    around: Around,
    share_forgetful: float,
) -> Detours:
    """What past trips say of asked points: of short gaps nothing, nor of some that are drawn."""
    is_wide_N = (around.num_hidden_BT >= LEAST_HIDDEN) & (around.gap_s_BT > 0)
    name_N = row_N * shown.is_pad_BT.shape[1] + around.start_BT
    name_G, gap_N = name_N.unique(return_inverse=True)
    is_kept_G = torch.rand(len(name_G), device=gap_N.device) >= share_forgetful
    is_told_N = is_wide_N & is_kept_G[gap_N]
    (told_Q,) = is_told_N.nonzero(as_tuple=True)
    _, first_G, gap_Q = np.unique(
        name_N[told_Q].cpu().numpy(), return_index=True, return_inverse=True
    )
    first = told_Q[torch.from_numpy(first_G).to(told_Q.device)]
    row_G, at_G2 = row_N[first], torch.stack([around.start_BT[first], around.end_BT[first]], 1)
    columns = (shown.lon_deg_BT, shown.lat_deg_BT)
    lon_deg_G2, lat_deg_G2 = (value_BT[row_G[:, None], at_G2].cpu().numpy() for value_BT in columns)
    lasts_s_G = around.gap_s_BT[first].double().cpu().numpy()
    pace_s_G = lasts_s_G / (at_G2[:, 1] - at_G2[:, 0]).cpu().numpy()
    kin_G = _kin(memory, batch, row_G, at_G2[:, 0])
    lasts_us_G = np.rint(lasts_s_G * 1e6).astype(np.int64)
    gaps = Gaps(lon_deg_G2, lat_deg_G2, lasts_us_G, pace_s_G, kin_G)
    found = memory.detours(gaps, gap_Q, around.share_BT[told_Q].double().cpu().numpy())
    off_m_NKC = around.reach_m_BT.new_zeros(len(row_N), NUM_LANES, 2)
    misfit_m_NK = torch.full_like(off_m_NKC[..., 0], math.inf)
    off_m_NKC[told_Q] = found.off_m_NKC.to(off_m_NKC)
    misfit_m_NK[told_Q] = found.misfit_m_NK.to(misfit_m_NK)
    return Detours(off_m_NKC, misfit_m_NK)


def _kin(memory: Memory | JointMemory, batch: Batch, row_G: Tensor, start_G: Tensor) -> Ints:
    """Whose gaps are: of train by the row of the trip, of a question by where it was when."""
    row, start = row_G.cpu().numpy(), start_G.cpu().numpy()
    if batch.split == TRAIN:
        is_new_BT = (~batch.is_pad_BT).cpu().numpy()
        sequence_BT = batch.sequence_BT.cpu().numpy()
        is_new_BT[:, 1:] &= sequence_BT[:, 1:] != sequence_BT[:, :-1]
        number_BT = is_new_BT.ravel().cumsum().reshape(is_new_BT.shape) - 1
        return memory.kin_of(batch, rows_of_batch(batch))[number_BT[row, start]]
    if not isinstance(batch, MaskedBatch) or batch.started_us_B is None:
        return nobody(len(row))
    time_s_BT, started_us_B = batch.time_s_BT.cpu().numpy(), batch.started_us_B.cpu().numpy()
    instant_us_G = started_us_B[row] + np.rint(time_s_BT[row, start] * 1e6).astype(np.int64)
    places = (value.cpu().numpy()[row, start] for value in (batch.lon_deg_BT, batch.lat_deg_BT))
    return memory.kin_at(instant_us_G, *places)


class Follow(nn.Module):
    """How far a gap follows its lanes: the less, the more they miss its ends.

    Where no trip came near both, nothing is followed.
    """

    def __init__(self, num_sizes: int) -> None:
        super().__init__()
        self.log_near = nn.Parameter(torch.tensor(NEAR).log())
        self.share_S = nn.Parameter(torch.zeros(num_sizes))

    def lead(self, around: Around, told: Detours | None) -> tuple[Tensor, Tensor]:
        """Metres (N, C) from the straight line to where lanes are, and their trust (N, 1)."""
        if told is None:
            nothing_N1 = around.reach_m_BT.new_zeros(len(around.reach_m_BT), 1)
            return nothing_N1.expand(-1, 2), nothing_N1
        weight_NK = self._weights(around, told)
        mean_m_NC = torch.einsum("nk,nkc->nc", weight_NK, told.off_m_NKC)
        total_N1 = weight_NK.sum(-1, keepdim=True).clamp(min=1e-9)
        return mean_m_NC / total_N1, weight_NK.amax(-1, keepdim=True)

    def _weights(self, around: Around, told: Detours) -> Tensor:
        length_m_N1 = around.chord_m().norm(dim=-1, keepdim=True) + LEAST_M
        is_lane_NK = told.misfit_m_NK.isfinite()
        # What is infinite must not reach a gradient.
        miss_NK = told.misfit_m_NK.where(is_lane_NK, 0.0) / length_m_N1 / self.log_near.exp()
        return is_lane_NK / (1 + miss_NK.clamp(max=1e6).square())

    def seen(self, around: Around, told: Detours | None) -> Tensor:
        """What a network is told of lanes (N, NUM_SEEN): where they lead, and how sure it is."""
        off_m_NC, trust_N1 = self.lead(around, told)
        reach_m_N1 = around.reach_m_BT.unsqueeze(-1)
        beside_NC = torch.asinh(to_heading(off_m_NC / reach_m_N1, around.heading_BTC))
        if told is None:
            return torch.cat([beside_NC, trust_N1.expand(-1, NUM_SEEN - 2)], dim=-1)
        weight_NK = self._weights(around, told)
        away_m_NK = (told.off_m_NKC - off_m_NC.unsqueeze(1)).norm(dim=-1)
        total_N1 = weight_NK.sum(-1, keepdim=True)
        spread_N1 = (weight_NK * away_m_NK).sum(-1, keepdim=True) / total_N1.clamp(min=1e-9)
        is_told_N1 = (total_N1 > 0).float()
        numbers = torch.asinh(spread_N1 / reach_m_N1), total_N1 / NUM_LANES
        return torch.cat([trust_N1 * beside_NC, trust_N1, *numbers, is_told_N1], dim=-1)

    @torch.no_grad()
    def fit(self, missed: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """The shares by which gaps of each size are off least, on train.

        Of each batch: where the blend is seen from the truth (N, C), what leads from the blend to
        the lanes (N, C), by trust, and which sizes the gap is of (N, S).
        """
        miss_AS = torch.stack(
            [
                sum(
                    near_NS.T @ (away_m_NC + share * led_m_NC).norm(dim=-1)
                    for away_m_NC, led_m_NC, near_NS in missed
                )
                for share in SHARES
            ]
        )
        self.share_S.copy_(torch.tensor(SHARES)[miss_AS.argmin(0).cpu()])
