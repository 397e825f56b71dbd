"""Recall of visits: how likely one goes back to each visit of the history, by what it has learnt
and by what history itself tells.

A person goes back more often than not, and which regions are hers no weight can know. So a head
that points at visits of the history stands beside the one that knows all regions (a pointer
network, See et al. 2017). It reads states, and for each visit some clues that need no learning:
whether it followed the region where one is now, whether the two before it agree too, whether it is
that region, how many visits ago it was, and how far apart the clocks are of now and of what it
followed. How much each clue weighs is told from the state.

Shapes: B rows, V tokens, Q asked tokens of a row, N asked ones of all, D model width, F clues,
K calendar features.
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
class Past(Columns):
    """Tokens that rows have read: keys, regions, places, clocks, and whether each is a visit."""

    key_BVD: Tensor
    region_BV: Tensor
    place_m_BVC: Tensor
    calendar_BVK: Tensor
    is_visit_BV: Tensor
    arrived_s_BV: Tensor
    left_s_BV: Tensor
    is_whole_BV: Tensor  # visits whose end was seen
    is_way_seen_BV: Tensor


@dataclass(frozen=True)
class Recalled(Columns):
    """The visits that each of N states can go back to, how near it is to each, and where it is."""

    share_NV: Tensor  # adds up to one, or to zero where there is no visit yet
    region_NV: Tensor
    place_m_NC: Tensor
    is_visit_N: Tensor  # whether it is anywhere
    here_N: Tensor  # its region
    left_s_N: Tensor  # its end
    place_m_NVC: Tensor
    arrived_s_NV: Tensor
    left_s_NV: Tensor
    is_whole_NV: Tensor  # of these, visits whose end was seen
    is_way_seen_NV: Tensor

    @classmethod
    def of(cls, share_NV: Tensor, past: Past, row_N: Tensor, place_N: Tensor) -> Recalled:
        """By the tokens of some rows, at some places there."""
        is_read_NV = index_of(past.region_BV[:1]) <= place_N.unsqueeze(1)
        is_visit_NV = past.is_visit_BV[row_N] & is_read_NV
        return cls(
            share_NV=share_NV,
            region_NV=past.region_BV[row_N],
            place_m_NC=past.place_m_BVC[row_N, place_N],
            is_visit_N=past.is_visit_BV[row_N, place_N],
            here_N=past.region_BV[row_N, place_N],
            left_s_N=past.left_s_BV[row_N, place_N],
            place_m_NVC=past.place_m_BVC[row_N],
            arrived_s_NV=past.arrived_s_BV[row_N],
            left_s_NV=past.left_s_BV[row_N],
            is_whole_NV=past.is_whole_BV[row_N] & is_read_NV,
            is_way_seen_NV=past.is_way_seen_BV[row_N] & is_visit_NV,
        )

    def chance_of(self, region_N: Tensor) -> Tensor:
        """The share (N) of the visits in a region."""
        return (self.share_NV * (self.region_NV == region_N.unsqueeze(1))).sum(1)

    def chance_NR(self, num_ids: int) -> Tensor:
        """The share of the visits in every region."""
        chance_NR = self.share_NV.new_zeros(len(self.share_NV), num_ids)
        return chance_NR.scatter_add(1, self.region_NV, self.share_NV)


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

    def shares(self, hidden_BQD: Tensor, past: Past, place_BQ: Tensor) -> Tensor:
        """How near the states of some tokens are to all tokens up to each of them, (B, Q, V)."""
        index_1V = index_of(past.region_BV[:1])
        can_go_back_BQV = past.is_visit_BV.unsqueeze(1) & (index_1V <= place_BQ.unsqueeze(-1))
        near_BQV = self.query(hidden_BQD) @ past.key_BVD.mT / hidden_BQD.shape[-1] ** 0.5
        clue_BQVF = clues(past, place_BQ)
        near_BQV = near_BQV + (clue_BQVF @ self.clue(hidden_BQD).unsqueeze(-1)).squeeze(-1)
        share_BQV = near_BQV.masked_fill(~can_go_back_BQV, -torch.inf).softmax(-1)
        return torch.where(can_go_back_BQV, share_BQV, 0.0)

    def log_gates(self, hidden_ND: Tensor, recalled: Recalled) -> tuple[Tensor, Tensor]:
        """Log shares (N, 1) of going back and of the rest; nobody goes back to nothing."""
        gate_N1 = self.gate(hidden_ND)
        has_past_N1 = recalled.share_NV.sum(1, keepdim=True) > 0
        log_back_N1 = torch.where(has_past_N1, functional.logsigmoid(gate_N1), -torch.inf)
        return log_back_N1, torch.where(has_past_N1, functional.logsigmoid(-gate_N1), 0.0)


def clues(past: Past, place_BQ: Tensor) -> Tensor:
    """What all tokens tell of what comes behind some of them, (B, Q, V, F)."""
    region_BV = past.region_BV
    before_BV, earlier_BV = (shifted(region_BV, steps) for steps in (1, 2))
    here_BQ1, was_BQ1 = (
        value_BV.gather(1, place_BQ).unsqueeze(-1) for value_BV in (region_BV, before_BV)
    )
    is_region_BQ1 = here_BQ1 >= NUM_SPECIAL
    followed_BQV = (before_BV.unsqueeze(1) == here_BQ1) & is_region_BQ1
    row_B1 = torch.arange(len(place_BQ), device=place_BQ.device).unsqueeze(1)
    clock_BQK = past.calendar_BVK[row_B1, place_BQ]
    clock_BVK = shifted(past.calendar_BVK, 1)
    # Cosines of the angles between the waves of weekday, and of hour.
    weekday_BQV, hour_BQV = (
        clock_BQK[..., wave] @ clock_BVK[..., wave].mT for wave in (slice(0, 2), slice(2, 4))
    )
    since_BQV = (place_BQ.unsqueeze(-1) - index_of(region_BV[:1])).clamp(min=0)
    found = [
        followed_BQV,
        followed_BQV & (earlier_BV.unsqueeze(1) == was_BQ1) & (was_BQ1 >= NUM_SPECIAL),
        (region_BV.unsqueeze(1) == here_BQ1) & is_region_BQ1,
        torch.log1p(since_BQV),
        hour_BQV,
        weekday_BQV,
    ]
    return torch.stack([value_BQV.float() for value_BQV in found], dim=-1)


def shifted(value_BV: Tensor, steps: int) -> Tensor:
    """What stands some tokens before each; zero where nothing does."""
    found = torch.zeros_like(value_BV)
    found[:, steps:] = value_BV[:, : value_BV.shape[1] - steps]
    return found
