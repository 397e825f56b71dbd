"""Between: where hidden points are, told at once from the known ones on both sides.

Simple paths through the gap, straight ones, cubics and splines, are blended by what each misses on
train in gaps of that size, and at the known points of the window when these are left out in turn. A
small network changes the weights and adds to their sum, by the places of four known points on each
side; before training it adds nothing. Wide gaps follow past
trips that went between both of their ends (`lanes.py`), where a memory has any. Hidden times are
spread evenly between the known ones.

Shapes: B rows, T points, N asked points, K known points on a side, P paths, C coordinates (east,
north), V numbers that are seen, G sizes of gaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...earth.geometry import from_heading, step_between, step_from, to_heading
from ...features.normaliser import Normaliser
from ...interface.answers import Recovered
from ...interface.batch import Batch
from ...interface.masked_input import MaskedInput, masked_input_of
from ...interface.masking import Loss, MaskedBatch, shares_of
from ...interface.memory.joint import JointMemory
from ...interface.memory.lanes import Detours
from ...interface.memory.memory import Memory
from . import lanes, place
from .around import NUM_PATHS, NUM_SIDE, Around
from .base import hats
from .blocks import Residual
from .config import FoundryConfig
from .lanes import Follow, detours_of
from .motion import LEAST_M
from .place import PlaceCode, tells_place

SHARPNESS = 1.0  # weights fall with this power of what a path misses in the window
TRAIN_SHARPNESS = 8.0  # and with this one of what it misses on train in gaps of a size
GAPS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # hidden points in a row that have units of their own
NUM_SEEN = 8 + 2 * NUM_SIDE * 3 + 3 * 2 + 2 * NUM_PATHS + NUM_PATHS + 1
DROPOUT = 0.2
NUM_LED = 8  # batches of a member that tell how far past trips are followed


@dataclass(frozen=True)
class Asked:
    """Points of a batch whose places are asked and can be told, (N), and what is known there."""

    shown: MaskedInput
    is_asked_BT: Tensor
    around: Around  # of all points
    at_N: Around  # of those that are asked
    missed_NP: Tensor
    detours: Detours | None = None

    @classmethod
    def of(
        cls,
        batch: Batch,
        memory: Memory | JointMemory | None = None,
        share_forgetful: float = 0.0,
    ) -> Asked:
        """Of a batch; with a memory also what past trips say, but for some of the gaps."""
        shown = masked_input_of(batch)
        around = Around.of(shown)
        is_asked_BT = shown.is_asked_BT & ~shown.shows_place_BT & around.has_both_BT
        missed_NP = around.missed(shown)[is_asked_BT]
        at_N, detours = around.at(is_asked_BT), None
        if memory is not None:
            row_N, _ = is_asked_BT.nonzero(as_tuple=True)
            detours = detours_of(memory, batch, shown, row_N, at_N, share_forgetful)
        return cls(shown, is_asked_BT, around, at_N, missed_NP, detours)

    def true_m(self, batch: Batch) -> Tensor:
        """Metres (N, C) from the known point before each to where it truly is."""
        ends = batch.lon_deg_BT[self.is_asked_BT], batch.lat_deg_BT[self.is_asked_BT]
        starts = self.at_N.lon_deg_BT, self.at_N.lat_deg_BT
        return torch.stack(step_between(*starts, *ends), dim=-1).float()

    def recovered(self, moved_m_NC: Tensor) -> Recovered:
        """What is shown, and asked places as told; asked times lie evenly in their gap.

        A gap in which motion leads nowhere is crossed straight, whatever is told. A point counts as
        recovered whose place and time are both known then.
        """
        shown, around = self.shown, self.around
        is_timed_BT = around.has_clocks_BT & ~shown.shows_time_BT & ~shown.is_pad_BT
        lon_deg_BT, lat_deg_BT = shown.lon_deg_BT.clone(), shown.lat_deg_BT.clone()
        starts = self.at_N.lon_deg_BT, self.at_N.lat_deg_BT
        straight_m_NC = self.at_N.path_m_BTPC[:, 0]
        moved_m_NC = straight_m_NC.where(self.at_N.is_lost_BT.unsqueeze(-1), moved_m_NC)
        ends = step_from(*starts, *moved_m_NC.double().unbind(-1))
        lon_deg_BT[self.is_asked_BT], lat_deg_BT[self.is_asked_BT] = ends
        time_s_BT = torch.where(is_timed_BT, around.told_s_BT, shown.time_s_BT)
        has_place_BT, has_time_BT = shown.shows_place_BT | self.is_asked_BT, shown.shows_time_BT
        is_whole_BT = has_place_BT & (has_time_BT | is_timed_BT)
        is_recovered_BT = (self.is_asked_BT | is_timed_BT) & is_whole_BT
        return Recovered(lon_deg_BT, lat_deg_BT, time_s_BT, is_recovered_BT)


class GapHead(nn.Module):
    """Where asked points are; `unit_m_MG` tells how far the blend is off in gaps of each size."""

    unit_m_MG: Tensor
    log_gap_G: Tensor

    def __init__(self, config: FoundryConfig, usual: Normaliser) -> None:
        super().__init__()
        width, has_place = config.width, config.has_place
        self.share_placeless = config.share_placeless
        self.least_m = max(LEAST_M, usual.extent_scale_m / 100)
        self.follow = Follow(len(GAPS)) if config.has_memory else None
        self.share_forgetful = config.share_forgetful
        num_seen = NUM_SEEN + (3 * place.NUM_SEEN + 1) * has_place
        num_seen += lanes.NUM_SEEN * config.has_memory
        self.embed = nn.Linear(num_seen, width)
        self.layers = nn.ModuleList(Residual(width, DROPOUT) for _ in range(config.num_layers))
        self.correct = nn.Linear(width, NUM_PATHS + 3)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)
        self.bias_GP = nn.Parameter(torch.zeros(len(GAPS), NUM_PATHS))
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.register_buffer("unit_m_MG", torch.ones(1, len(GAPS)), persistent=False)
        self.register_buffer("log_gap_G", torch.tensor(GAPS).log(), persistent=False)

    @torch.no_grad()
    def fit_paths(
        self, members: Sequence[Sequence[Batch]], memory: Memory | JointMemory | None
    ) -> None:
        """The first weights of paths, from batches of train of which something is hidden.

        By how much each misses less than their mean does, on average over the members; then how
        far past trips are followed.
        """
        told = [self._share_GP(batches).log() for batches in members]
        self.bias_GP.copy_(-TRAIN_SHARPNESS * torch.stack(told).mean(0))
        if self.follow is not None and memory is not None:
            few = (batch for batches in members for batch in batches[:NUM_LED])
            self.follow.fit([self._led(batch, memory) for batch in few])

    def _led(self, batch: Batch, memory: Memory | JointMemory) -> tuple[Tensor, Tensor, Tensor]:
        """How far the blend is off, what leads to the lanes by trust, and sizes of the gaps."""
        asked = Asked.of(batch, memory)
        blend_m_NC = self._blend(self._logits(asked), asked.at_N.path_m_BTPC)
        led_m_NC = self._led_m(asked, blend_m_NC)
        return blend_m_NC - asked.true_m(batch), led_m_NC, self._near(asked.at_N)

    def _led_m(self, asked: Asked, blend_m_NC: Tensor) -> Tensor:
        """Metres (N, C) from the blend to the lanes, as far as these are trusted."""
        if self.follow is None:
            return torch.zeros_like(blend_m_NC)
        off_m_NC, trust_N1 = self.follow.lead(asked.at_N, asked.detours)
        return trust_N1 * (asked.at_N.path_m_BTPC[:, 0] + off_m_NC - blend_m_NC)

    def _share_GP(self, batches: Iterable[Batch]) -> Tensor:
        """How far each path is off in gaps of each size, over the mean of all paths."""
        miss_GP, count_G = torch.zeros(len(GAPS), NUM_PATHS), torch.zeros(len(GAPS))
        for asked, away_m_NPC in self._missed(batches):
            near_NG = self._near(asked.at_N)
            miss_GP += near_NG.T @ away_m_NPC.norm(dim=-1)
            count_G += near_NG.sum(0)
        miss_GP = (miss_GP / count_G.clamp(min=1e-6).unsqueeze(-1)).clamp(min=self.least_m)
        return miss_GP / miss_GP.mean(-1, keepdim=True)

    def _missed(self, batches: Iterable[Batch]) -> Iterator[tuple[Asked, Tensor]]:
        """What is asked, and how far off each path is there (N, P, C)."""
        for batch in batches:
            asked = Asked.of(batch)
            yield asked, asked.at_N.path_m_BTPC - asked.true_m(batch).unsqueeze(-2)

    @torch.no_grad()
    def fit(self, members: Iterable[Iterable[Batch]]) -> None:
        """The units of each member, from batches of train of which something is hidden."""
        units = torch.stack([self._unit_m_G(batches) for batches in members])
        self.unit_m_MG = units.to(self.unit_m_MG.device)

    def _unit_m_G(self, batches: Iterable[Batch]) -> Tensor:
        total_G, count_G = torch.zeros(len(GAPS)), torch.zeros(len(GAPS))
        for asked, away_m_NPC in self._missed(batches):
            near_NG = self._near(asked.at_N)
            total_G += self._blend(self._logits(asked), away_m_NPC).norm(dim=-1) @ near_NG
            count_G += near_NG.sum(0)
        mean_m_G = (total_G / count_G.clamp(min=1e-6)).cummax(0).values
        return mean_m_G.clamp(min=self.least_m)

    def loss(
        self,
        batch: Batch,
        where: PlaceCode | None,
        memory: Memory | JointMemory | None = None,
    ) -> Loss:
        """Mean distance of hidden places from where they are told, each in the unit of its gap.

        Windows count alike, however many of their points are hidden, as they do where it is judged.
        """
        if not isinstance(batch, MaskedBatch):
            nothing = self.unit_m_MG.new_zeros(())
            return Loss.of(nothing.long(), {"gap_miss": nothing})
        asked = Asked.of(batch, memory, self.share_forgetful * self.training)
        away_m_NC = self(asked, where) - asked.true_m(batch)
        away_m_N = torch.sqrt(away_m_NC.square().sum(-1) + LEAST_M**2) - LEAST_M
        miss_N = away_m_N / (self._near(asked.at_N) @ self.unit_m_MG[batch.cursor.last])
        share_BT = shares_of(asked.is_asked_BT, asked.shown.sequence_BT)
        total = (miss_N * share_BT[asked.is_asked_BT]).sum()
        return Loss.of(share_BT.sum().round().long(), {"gap_miss": total})

    def _near(self, around: Around) -> Tensor:
        return hats(around.num_hidden_BT.float().log(), self.log_gap_G)

    def _logits(self, asked: Asked) -> Tensor:
        return self._near(asked.at_N) @ self.bias_GP - self.sharpness * asked.missed_NP

    def _blend(self, logit_NP: Tensor, path_m_NPC: Tensor) -> Tensor:
        return (logit_NP.softmax(-1).unsqueeze(-1) * path_m_NPC).sum(-2)

    def forward(self, asked: Asked, where: PlaceCode | None) -> Tensor:
        """Metres (N, C) from the known point before each to where it is."""
        around, logit_NP = asked.at_N, self._logits(asked)
        seen = [*self._seen(around), asked.missed_NP]
        if self.follow is not None:
            seen.append(self.follow.seen(around, asked.detours))
        if where is not None:
            share = self.training * self.share_placeless
            is_told_N1 = tells_place(around.share_BT.unsqueeze(-1), share)
            base_m_NC = self._blend(logit_NP.detach(), around.path_m_BTPC)
            seen += [is_told_N1 * code_NV for code_NV in _codes(around, base_m_NC, where)]
            seen.append(is_told_N1)
        x_ND = self.embed(torch.cat(seen, dim=-1))
        for layer in self.layers:
            x_ND = layer(x_ND)
        more_NP, off_NC, more_N1 = self.correct(x_ND).split([NUM_PATHS, 2, 1], dim=-1)
        inner_N1 = (4 * around.share_BT * (1 - around.share_BT) * around.reach_m_BT).unsqueeze(-1)
        turned_NC = from_heading(off_NC, around.heading_BTC)
        blend_m_NC = self._blend(logit_NP + more_NP, around.path_m_BTPC)
        if self.follow is not None:
            share_N1 = more_N1 + (self._near(around) @ self.follow.share_S).unsqueeze(-1)
            blend_m_NC = blend_m_NC + share_N1 * self._led_m(asked, blend_m_NC)
        return blend_m_NC + inner_N1 * turned_NC

    def _seen(self, around: Around) -> list[Tensor]:
        """The points on both sides and the paths, along the heading and in reaches."""
        reach_m_N11 = around.reach_m_BT[:, None, None]
        heading_N1C = around.heading_BTC.unsqueeze(1)
        side_NKC = to_heading(around.side_m_BTKC / reach_m_N11, heading_N1C)
        straight_NPC = around.path_m_BTPC - around.path_m_BTPC[:, :1]
        bent_NPC = to_heading(straight_NPC / reach_m_N11, heading_N1C)
        gap_s_N1 = around.gap_s_BT.float().unsqueeze(-1).clamp(min=1e-3)
        since_NK = around.side_s_BTK / gap_s_N1
        share_N1 = around.share_BT.unsqueeze(-1)
        inner_N1 = 4 * share_N1 * (1 - share_N1)
        return [
            share_N1,
            inner_N1,
            share_N1 * inner_N1,
            inner_N1.sqrt(),
            around.num_hidden_BT.float().log().unsqueeze(-1) / 2,
            1 / around.num_hidden_BT.float().unsqueeze(-1),
            (LEAST_M / around.reach_m_BT).unsqueeze(-1),
            (side_NKC[:, NUM_SIDE]).norm(dim=-1, keepdim=True),
            torch.asinh(side_NKC).flatten(1),
            torch.asinh(since_NK),
            (
                inner_N1.unsqueeze(-1) * torch.asinh(side_NKC[:, [1, NUM_SIDE, NUM_SIDE + 1]])
            ).flatten(1),
            bent_NPC.flatten(1),
            torch.log(self.least_m / around.reach_m_BT).unsqueeze(-1) / 4,
        ]


def _codes(around: Around, base_m_NC: Tensor, where: PlaceCode) -> list[Tensor]:
    """Of the places of both ends of the gap, and of that which the blend tells."""
    starts = around.lon_deg_BT, around.lat_deg_BT
    moved_m_NC = (0 * base_m_NC, around.side_m_BTKC[:, NUM_SIDE], base_m_NC)
    return [
        where(*step_from(*starts, *one_m_NC.double().unbind(-1)), around.heading_BTC)
        for one_m_NC in moved_m_NC
    ]
