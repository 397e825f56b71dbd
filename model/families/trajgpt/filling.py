"""Filling of gaps: visits that nobody saw, drawn between those that are known.

    found = fill(model, shown, is_gap_BV, started_us_B, num_samples=20, seed=0)

A gap lies behind a visit that is shown and before the next one. What is drawn into it is told from
left to right and knows what lies behind the gap; how many visits there are is drawn as well, one at
least, and all are over when the next known one begins.

Shapes: B windows, V shown visits, S samples of a window, D model width, R ids of the vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...features.places import NUM_SPECIAL, Special
from ...interface.evaluating import evaluating
from ...interface.infilling import VISIT, FilledGap, FilledVisit, TokenBatch, tokens_told
from ...interface.next_visit import Arrivals
from ...interface.visit_batch import VisitBatch, calendar_of_visits
from .generation import Memory, drawn_between, drawn_of
from .network import Told, TrajGpt

MAX_FILLED = 32  # visits of one gap


class GapError(ValueError):
    """A gap that no visit fits in, or that lies at no place of a window."""


def fill(
    model: TrajGpt,
    shown: VisitBatch,
    is_gap_BV: Tensor,
    started_us_B: Tensor,
    num_samples: int,
    seed: int,
    zone: str = "UTC",
) -> list[list[FilledGap]]:
    """The gaps of each window, filled; a gap lies behind each visit that `is_gap_BV` names.

    Raises `GapError` where a gap lies behind the last visit, or is shorter than the least stay.
    """
    check_gaps(shown, is_gap_BV, model.places.min_stay_s)
    with torch.inference_mode(), evaluating(model):
        return [
            Filling(model, shown.part(row, row + 1), is_gap_BV[row], num_samples).run(
                int(started_us_B[row]), seed, zone
            )
            for row in range(len(is_gap_BV))
        ]


def check_gaps(shown: VisitBatch, is_gap_BV: Tensor, min_stay_s: float) -> None:
    """Refuse gaps that nothing can fill."""
    is_inner_BV = torch.zeros_like(is_gap_BV)
    is_inner_BV[:, :-1] = ~shown.is_pad_BV[:, 1:]
    if bool((is_gap_BV & ~is_inner_BV).any()):
        raise GapError("a gap lies behind a last visit: ask for the next visit there")
    length_s_BV = torch.zeros_like(shown.left_s_BV)
    length_s_BV[:, :-1] = shown.arrived_s_BV[:, 1:] - shown.left_s_BV[:, :-1]
    is_short_BV = is_gap_BV & (length_s_BV < min_stay_s)
    if bool(is_short_BV.any()):
        shortest_s = float(length_s_BV[is_short_BV].min())
        raise GapError(f"a gap of {shortest_s:g} s is shorter than any stay ({min_stay_s:g} s)")


class Filling:
    """The samples of one window, side by side: each goes on from the same shown visits."""

    def __init__(
        self, model: TrajGpt, shown: VisitBatch, is_gap_V: Tensor, num_samples: int
    ) -> None:
        self.model, self.places, self.shown = model, model.places, shown
        self.gaps = torch.nonzero(is_gap_V)[:, 0].tolist()
        kinds: list[int] = []
        visits: list[int] = []
        for visit in range(int((~shown.is_pad_BV).sum())):
            kinds += [VISIT, *([int(Special.BLANK)] if visit in self.gaps else [])]
            visits += [visit] * (1 + (visit in self.gaps))
        self.prefix_kinds, self.prefix_visits = kinds, visits
        self.num = num_samples

    def run(self, started_us: int, seed: int, zone: str) -> list[FilledGap]:
        if not self.gaps:
            return []
        self.begin(started_us, seed, zone)
        return [self._filled(number, after) for number, after in enumerate(self.gaps)]

    def begin(self, started_us: int, seed: int, zone: str) -> None:
        """Read what is shown once, for all samples."""
        self.started_us, self.zone = started_us, zone
        window_id = int(self.shown.window_id_B[0])
        self.draws = [np.random.default_rng((seed, window_id, s)) for s in range(self.num)]
        kinds = [*self.prefix_kinds, int(Special.SEP)]
        visits = [*self.prefix_visits, self.gaps[0]]
        prefix = tokens_told(self.shown, torch.tensor([kinds]), torch.tensor([visits]))
        most = len(kinds) + len(self.gaps) * (MAX_FILLED + 1)
        caches = self.model.transformer.empty_caches(1, len(kinds))
        states_1TD = self.model.encode(prefix, 0, caches)
        state_1D = states_1TD[:, -1]
        self.memory = Memory(self.model, self.num, most)
        self.memory.begin(states_1TD, prefix)
        self.caches = self.model.transformer.empty_caches(self.num, most)
        for own, one in zip(self.caches, caches, strict=True):
            own.key_BHTK[:, :, : len(kinds)] = one.key_BHTK
            own.value_BHTK[:, :, : len(kinds)] = one.value_BHTK
        self.next_S1 = torch.full((self.num, 1), len(kinds))
        self.state_SD = state_1D.expand(self.num, -1).clone()

    def _filled(self, number: int, after: int) -> FilledGap:
        """Draw the visits of one gap for every sample, until each says that there are no more."""
        shown = self.shown
        ends_s, began_s = (
            float(shown.arrived_s_BV[0, after + 1]),
            float(shown.left_s_BV[0, after]),
        )
        found = FilledGap(after, [[] for _ in range(self.num)])
        left_s_S = torch.full((self.num,), began_s, dtype=torch.float64)
        is_open_S = torch.ones(self.num, dtype=torch.bool)
        for place in range(MAX_FILLED + 1):
            told = self.memory.told(self.state_SD)
            has_room_S = (ends_s - left_s_S >= self.places.min_stay_s) & (place < MAX_FILLED)
            region_S = self._region(told, has_room_S, place > 0)
            is_last_S = is_open_S & (region_S == Special.ANSWER)
            arrived_s_S, stayed_s_S = self._times(told, region_S, left_s_S, ends_s)
            is_visit_S = is_open_S & ~is_last_S
            for row in torch.nonzero(is_visit_S)[:, 0].tolist():
                visit = (int(region_S[row]), float(arrived_s_S[row]), float(stayed_s_S[row]))
                found.visits[row].append(FilledVisit(*visit))
            left_s_S = torch.where(is_visit_S, stayed_s_S, left_s_S)
            # An answer ends where the next gap begins.
            following = self.gaps[min(number + 1, len(self.gaps) - 1)]
            behind_s_S = torch.full_like(left_s_S, float(shown.left_s_BV[0, following]))
            at_s_S = torch.where(is_last_S, behind_s_S, arrived_s_S)
            until_s_S = torch.where(is_last_S, behind_s_S, left_s_S)
            next_ends_s = float(shown.arrived_s_BV[0, following + 1])
            room_s_S = torch.where(is_last_S, next_ends_s, ends_s) - until_s_S
            self._read(region_S, at_s_S, until_s_S, is_open_S, following, is_last_S, room_s_S)
            is_open_S &= ~is_last_S
            if not bool(is_open_S.any()):
                break
        return found

    def _region(self, told: Told, has_room_S: Tensor, may_end: bool) -> Tensor:
        """A region of each sample, or the end of the answer."""
        chance_SR = told.log_region_NR.double().softmax(-1)
        ends_S = chance_SR[:, int(Special.ANSWER)].clone()
        chance_SR[:, :NUM_SPECIAL] = 0.0
        chance_SR[~has_room_S] = 0.0
        chance_SR[:, int(Special.ANSWER)] = torch.where(
            has_room_S, ends_S if may_end else torch.zeros_like(ends_S), 1.0
        )
        return drawn_of(chance_SR, self._uniform())

    def _times(
        self, told: Told, region_S: Tensor, left_s_S: Tensor, ends_s: float
    ) -> tuple[Tensor, Tensor]:
        """When each sample arrives, and when it leaves again: before the gap ends."""
        nothing_S = torch.zeros_like(left_s_S)
        room_s_S = (ends_s - left_s_S - self.places.min_stay_s).clamp(min=0)
        travel_s_S, _ = drawn_between(told.travel(region_S), self._uniform(), nothing_S, room_s_S)
        arrived_s_S = left_s_S + travel_s_S
        calendar_SK = self.calendar(arrived_s_S)
        ends_s_S = torch.full_like(left_s_S, ends_s)
        law = told.stay(Arrivals(region_S, travel_s_S, arrived_s_S, calendar_SK, ends_s_S))
        stay_s_S, _ = drawn_between(law, self._uniform(), nothing_S, ends_s - arrived_s_S)
        return arrived_s_S, arrived_s_S + stay_s_S

    def _read(
        self,
        region_S: Tensor,
        arrived_s_S: Tensor,
        left_s_S: Tensor,
        is_open_S: Tensor,
        following: int,
        is_last_S: Tensor,
        room_s_S: Tensor,
    ) -> None:
        """Go on by a token in the samples that are open; the others wait where they are."""
        is_special_S1 = is_last_S.unsqueeze(1)
        centre_m_SC = self.model.centre_m_RC[region_S].masked_fill(is_special_S1, 0.0)
        shown_K = self.shown.calendar_BVK[0, following]
        calendar_SK = torch.where(is_special_S1, shown_K, self.calendar(arrived_s_S))
        token = TokenBatch.of_one(
            region_S, centre_m_SC, arrived_s_S, left_s_S, calendar_SK, room_s_S
        )
        state_SD = self.model.encode(token, self.next_S1, self.caches)[:, 0]
        self.state_SD = torch.where(is_open_S.unsqueeze(1), state_SD, self.state_SD)
        # A sample that waits writes where its next token will stand.
        self.memory.keep(self.next_S1, state_SD, token, is_open_S)
        self.next_S1 += is_open_S.unsqueeze(1).long()

    def calendar(self, arrived_s_S: Tensor) -> Tensor:
        shift_us_S = np.rint(arrived_s_S.numpy() * 1e6).astype(np.int64)
        return torch.from_numpy(calendar_of_visits(self.started_us + shift_us_S, self.zone))

    def _uniform(self) -> Tensor:
        return torch.tensor([draw.random() for draw in self.draws], dtype=torch.float64)
