"""Recall of visits: how likely one goes back to each visit of the history, by what it has learnt
and by what history itself tells.

A person goes back more often than not, and which regions are hers no weight can know. So a head
that points at visits of the history stands beside the one that knows all regions (a pointer
network, See et al. 2017). It reads states, and for each visit some clues that need no learning:
whether it followed the region where one is now, whether the two before it agree too, whether it is
that region, how many visits ago it was, and how far apart the clocks are of now and of what it
followed. How much each clue weighs is told from the state.

Shapes: B rows, V tokens, N asked tokens, D model width, F clues, K calendar features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...earth.columns import Columns
from ...features.places import NUM_SPECIAL
from ...interface.batch import index_of

# Untrained, one goes where one went from here before, sooner to where it was last.
CLUE_WEIGHTS = (1.0, 1.0, 0.0, -0.5, 0.5, 0.0)


@dataclass(frozen=True)
class Recalled(Columns):
    """The visits that each of N states can go back to, how near it is to each, and where it is."""

    share_NV: Tensor  # adds up to one, or to zero where there is no visit yet
    region_NV: Tensor
    place_m_NC: Tensor
    is_visit_N: Tensor  # whether it is anywhere

    def chance_of(self, region_N: Tensor) -> Tensor:
        """The share (N) of the visits in a region."""
        return (self.share_NV * (self.region_NV == region_N.unsqueeze(1))).sum(1)

    def chance_NR(self, num_ids: int) -> Tensor:
        """The share of the visits in every region."""
        chance_NR = self.share_NV.new_zeros(len(self.share_NV), num_ids)
        return chance_NR.scatter_add(1, self.region_NV, self.share_NV)


@dataclass(frozen=True)
class Past(Columns):
    """Tokens that rows have read: keys, regions, places, clocks, and whether each is a visit."""

    key_BVD: Tensor
    region_BV: Tensor
    place_m_BVC: Tensor
    calendar_BVK: Tensor
    is_visit_BV: Tensor


class Recall(nn.Module):
    """The visits that states can go back to, and the chance that one goes back at all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.clue = nn.Linear(width, len(CLUE_WEIGHTS))
        self.gate = nn.Linear(width, 1)
        with torch.no_grad():
            self.clue.weight.mul_(0.1)
            self.clue.bias.copy_(torch.tensor(CLUE_WEIGHTS))

    def forward(self, hidden_ND: Tensor, past: Past, row_N: Tensor, place_N: Tensor) -> Recalled:
        """What each state, of the token at a place of a row, recalls of the tokens up to there."""
        own = past.at(row_N)
        index_NV = index_of(own.region_BV)
        can_go_back_NV = own.is_visit_BV & (index_NV <= place_N.unsqueeze(1))
        query_ND1 = self.query(hidden_ND).unsqueeze(-1)
        near_NV = (own.key_BVD @ query_ND1).squeeze(-1) / hidden_ND.shape[-1] ** 0.5
        clue_NVF = clues(own, place_N)
        near_NV = near_NV + (clue_NVF @ self.clue(hidden_ND).unsqueeze(-1)).squeeze(-1)
        share_NV = near_NV.masked_fill(~can_go_back_NV, -torch.inf).softmax(-1)
        asked_N = torch.arange(len(place_N), device=place_N.device)
        return Recalled(
            torch.where(can_go_back_NV, share_NV, 0.0),
            own.region_BV,
            own.place_m_BVC[asked_N, place_N],
            own.is_visit_BV[asked_N, place_N],
        )

    def log_gates(self, hidden_ND: Tensor, recalled: Recalled) -> tuple[Tensor, Tensor]:
        """Log shares (N, 1) of going back and of the rest; nobody goes back to nothing."""
        gate_N1 = self.gate(hidden_ND)
        has_past_N1 = recalled.share_NV.sum(1, keepdim=True) > 0
        log_back_N1 = torch.where(has_past_N1, functional.logsigmoid(gate_N1), -torch.inf)
        return log_back_N1, torch.where(has_past_N1, functional.logsigmoid(-gate_N1), 0.0)


def clues(own: Past, place_N: Tensor) -> Tensor:
    """What the tokens (N, V) up to each place tell of the next one, (N, V, F)."""
    region_NV = own.region_BV
    before_NV, earlier_NV = (shifted(region_NV, steps) for steps in (1, 2))
    now_N1 = place_N.unsqueeze(1)
    here_N1, was_N1 = region_NV.gather(1, now_N1), before_NV.gather(1, now_N1)
    is_region_N1 = here_N1 >= NUM_SPECIAL
    followed_NV = (before_NV == here_N1) & is_region_N1
    clock_NVK = shifted(own.calendar_BVK, 1)
    clock_N1K = own.calendar_BVK.gather(1, now_N1.unsqueeze(-1).expand(-1, -1, clock_NVK.shape[-1]))
    # Cosines of the angles between the waves of weekday, and of hour.
    weekday_NV, hour_NV = (clock_NVK * clock_N1K).unflatten(-1, (2, 2)).sum(-1).unbind(-1)
    since_NV = (now_N1 - index_of(region_NV)).clamp(min=0)
    found = [
        followed_NV,
        followed_NV & (earlier_NV == was_N1) & (was_N1 >= NUM_SPECIAL),
        (region_NV == here_N1) & is_region_N1,
        torch.log1p(since_NV),
        hour_NV,
        weekday_NV,
    ]
    return torch.stack([value_NV.float() for value_NV in found], dim=-1)


def shifted(value_NV: Tensor, steps: int) -> Tensor:
    """What stands some tokens before each; zero where nothing does."""
    found = torch.zeros_like(value_NV)
    found[:, steps:] = value_NV[:, : value_NV.shape[1] - steps]
    return found
