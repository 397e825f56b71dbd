"""Infilling of visits: runs of them are taken out of a window, and told behind it in turn.

    A B C D E   with B and C hidden is   A [blank] D E [sep] B C [answer]
    A B C D E   with nothing hidden is   [sep] A B C D E

A run of hidden visits is one blank, its times hidden too; behind the separator stands what is to be
told, each answer ended by a token of its own, so that the number of visits is the model's to tell.
So is a window laid out in which a causal model fills a gap and knows what lies behind it (infilling
by language modelling, Donahue et al. 2020). Where nothing is hidden the whole window is to be told;
in training so are the shown visits of a window with a blank that follow a visit.

Tokens that are no visits tell what is known there: a blank lasts from the end of the visit before
it to the arrival behind it, and what comes before an answer stands at the end of the visit before
its blank, from where the way to the first hidden visit begins. A separator before a whole window
stands at its first arrival, to which no way is known.

Shapes: B rows, V visits, T tokens, K calendar features.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..earth.arrays import Bools
from ..features.places import Special
from .answerer import Answerer
from .batch import index_of
from .visit_batch import VisitBatch

HIDDEN_SHARE = 0.2  # of the inner visits, as TrajGPT hides them
INFILLED_SHARE = 0.5  # of the windows in training: the others are told from left to right
NO_VISIT = (Special.BLANK, Special.SEP, Special.ANSWER, Special.PAD)


@dataclass(frozen=True)
class TokenBatch(VisitBatch):
    """Windows of tokens: visits, and what stands between them.

    `gap_ends_s_BV` is when the gap ends that a visit of an answer fills.
    `room_s_BV` is how much the gap that the next token fills leaves behind this one. Both are
    infinite elsewhere.
    """

    gap_ends_s_BV: Tensor = field(default_factory=lambda: torch.empty(0))
    room_s_BV: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def of_one(
        cls,
        region_B: Tensor,
        place_m_BC: Tensor,
        arrived_s_B: Tensor,
        left_s_B: Tensor,
        calendar_BK: Tensor,
        room_s_B: Tensor,
    ) -> TokenBatch:
        """The next token of each row, of one that is told step by step."""
        none_B1 = torch.zeros(len(region_B), 1, dtype=torch.bool)
        return cls(
            region_BV=region_B.unsqueeze(1),
            east_m_BV=place_m_BC[:, :1],
            north_m_BV=place_m_BC[:, 1:],
            arrived_s_BV=arrived_s_B.unsqueeze(1),
            left_s_BV=left_s_B.unsqueeze(1),
            calendar_BVK=calendar_BK.unsqueeze(1),
            is_pad_BV=none_B1,
            is_target_BV=none_B1,
            is_censored_BV=none_B1,
            is_way_seen_BV=~none_B1,
            window_id_B=torch.zeros(len(region_B), dtype=torch.long),
            gap_ends_s_BV=torch.full_like(left_s_B.unsqueeze(1), torch.inf),
            room_s_BV=room_s_B.unsqueeze(1),
        )

    @property
    def until_s_BV(self) -> Tensor:
        return self.gap_ends_s_BV

    @property
    def is_visit_BV(self) -> Tensor:
        no_visit = torch.tensor(NO_VISIT, device=self.region_BV.device)
        return torch.isin(self.region_BV, no_visit, invert=True)

    @property
    def is_open_BV(self) -> Tensor:
        """What is no visit lasts no time or longer: that is certain, and costs nothing."""
        return self.is_censored_BV | ~self.is_visit_BV

    @property
    def is_travel_known_BV(self) -> Tensor:
        """No way leads to what is no visit."""
        return super().is_travel_known_BV & self.is_visit_BV


@dataclass(frozen=True)
class FilledVisit:
    """A visit that was drawn; seconds count from the first arrival of its window."""

    region: int
    arrived_s: float
    left_s: float


@dataclass
class FilledGap:
    """What was drawn for one gap: a list of visits for each sample."""

    after: int  # the shown visit that the gap lies behind
    visits: list[list[FilledVisit]] = field(default_factory=list)


class VisitFiller(Answerer, Protocol):
    def infill(
        self,
        shown: VisitBatch,
        is_gap_BV: Tensor,
        started_us_B: Tensor,
        num_samples: int,
        seed: int,
        zone: str,
    ) -> list[list[FilledGap]]:
        """The gaps of each row, filled; a gap lies behind each visit that `is_gap_BV` names."""
        ...


def with_gaps(batch: VisitBatch) -> tuple[VisitBatch, Tensor]:
    """Windows without their targets, and behind which of the visits left a gap lies (B, V).

    Of a gap nothing is told but when it begins and ends.
    """
    is_shown_BV = ~batch.is_pad_BV & ~batch.is_target_BV
    num_B1 = is_shown_BV.sum(1, keepdim=True)
    shown_first_BV = torch.argsort((~is_shown_BV).byte(), dim=1, stable=True)
    index_BV = index_of(batch.region_BV)[:, : int(num_B1.max())]
    is_pad_BV = index_BV >= num_B1
    # A pad repeats the last visit, at the instant of its end.
    visit_BV = shown_first_BV.gather(1, torch.minimum(index_BV, num_B1 - 1))
    visit_BVK = visit_BV.unsqueeze(-1).expand(*visit_BV.shape, batch.calendar_BVK.shape[-1])
    taken = {
        name: column.gather(1, visit_BVK if column.ndim == 3 else visit_BV)
        for name, column in batch.columns().items()
        if "_BV" in name
    }
    is_gap_BV = torch.zeros_like(is_pad_BV)
    is_gap_BV[:, :-1] = visit_BV.diff(dim=1) > 1
    left_s_BV = taken["left_s_BV"]
    told = {
        "region_BV": taken["region_BV"].masked_fill(is_pad_BV, Special.PAD),
        "arrived_s_BV": torch.where(is_pad_BV, left_s_BV, taken["arrived_s_BV"]),
        "is_pad_BV": is_pad_BV,
        "is_target_BV": torch.zeros_like(is_pad_BV),
        "is_censored_BV": taken["is_censored_BV"] & ~is_pad_BV,
        # Whether the way from a hidden visit was seen tells of that visit.
        "is_way_seen_BV": taken["is_way_seen_BV"] & ~is_pad_BV & ~is_gap_BV.roll(1, dims=1),
    }
    return replace(batch, **(taken | told)), is_gap_BV


def hidden_runs(generator: np.random.Generator, num_visits: int) -> Bools:
    """Which visits of a window are taken out (V): never the first or the last."""
    is_hidden_V = generator.random(num_visits) < HIDDEN_SHARE
    is_hidden_V[[0, -1]] = False
    return is_hidden_V


def infilled(batch: VisitBatch, seed: int) -> VisitBatch:
    """The batch with visits of half its windows taken out, drawn by seed, epoch and window."""
    num_visits_B = (~batch.is_pad_BV).sum(1).tolist()
    batch = replace(batch, is_target_BV=~batch.is_pad_BV)
    is_hidden_BV = np.zeros(batch.region_BV.shape, bool)
    for row, num_visits in enumerate(num_visits_B):
        key = (seed, batch.cursor.epoch_before, *batch.window_ids(row))
        generator = np.random.default_rng(key)
        if num_visits > 2 and generator.random() < INFILLED_SHARE:
            is_hidden_BV[row, :num_visits] = hidden_runs(generator, num_visits)
    tokens = laid_out(batch, torch.from_numpy(is_hidden_BV))
    return replace(tokens, is_target_BV=tokens.is_target_BV | follows_visit(tokens))


def follows_visit(tokens: TokenBatch) -> Tensor:
    """Which shown visits of a window with a blank come straight behind another (B, T).

    They follow it as in a whole window, for what is hidden is drawn without regard to the visits.
    """
    is_shown_BT = tokens.is_visit_BV & (tokens.region_BV == Special.SEP).cumsum(1).eq(0)
    follows_BT = torch.zeros_like(is_shown_BT)
    follows_BT[:, 1:] = is_shown_BT[:, 1:] & is_shown_BT[:, :-1]
    return follows_BT


def begun(batch: VisitBatch) -> TokenBatch:
    """The tokens of windows of which nothing is hidden."""
    if isinstance(batch, TokenBatch):
        return batch
    return laid_out(batch, torch.zeros_like(batch.is_pad_BV))


def laid_out(batch: VisitBatch, is_hidden_BV: Tensor) -> TokenBatch:
    """Windows whose hidden visits stand behind them, or all of whose visits are to be told.

    In a window with a blank the answers alone are targets.
    """
    rows = [
        tokens_of(hidden_V.tolist(), int(num_visits))
        for hidden_V, num_visits in zip(is_hidden_BV, (~batch.is_pad_BV).sum(1), strict=True)
    ]
    longest = max(len(kinds) for kinds, _ in rows)
    shape = (len(rows), longest)
    kind_BT, visit_BT = torch.full(shape, int(Special.PAD)), torch.zeros(shape, dtype=torch.long)
    for row, (kinds, visits) in enumerate(rows):
        kind_BT[row, : len(kinds)] = torch.tensor(kinds)
        visit_BT[row, : len(visits)] = torch.tensor(visits)
        visit_BT[row, len(visits) :] = visits[-1]
    return tokens_told(batch, kind_BT, visit_BT)


VISIT = -1  # the kind of a token that is a visit


def tokens_of(is_hidden_V: list[bool], num_visits: int) -> tuple[list[int], list[int]]:
    """The kinds of the tokens of a window, and for each the visit that it is, or stands behind."""
    if not any(is_hidden_V):
        return [Special.SEP, *num_visits * [VISIT]], [0, *range(num_visits)]
    kinds: list[int] = []
    visits: list[int] = []
    runs: list[list[int]] = []
    for visit in range(num_visits):
        if not is_hidden_V[visit]:
            kinds.append(VISIT)
            visits.append(visit)
        elif is_hidden_V[visit - 1]:
            runs[-1].append(visit)
        else:
            runs.append([visit])
            kinds.append(Special.BLANK)
            visits.append(visit - 1)
    for number, run in enumerate(runs):
        # Each answer begins behind the visit before its blank, and ends with a token there.
        kinds += [*([Special.SEP] if number == 0 else []), *(VISIT for _ in run), Special.ANSWER]
        after = runs[number + 1][0] - 1 if number + 1 < len(runs) else run[-1]
        visits += [*([run[0] - 1] if number == 0 else []), *run, after]
    return kinds, visits


def tokens_told(batch: VisitBatch, kind_BT: Tensor, visit_BT: Tensor) -> TokenBatch:
    """The columns of tokens: those of their visits, and what the others tell of times."""

    def taken(column_BV: Tensor) -> Tensor:
        return column_BV.gather(1, visit_BT)

    is_visit_BT, is_blank_BT = kind_BT == VISIT, kind_BT == Special.BLANK
    # What begins a whole window stands at the first arrival, not at the end of a visit.
    is_begin_BT = (kind_BT == Special.SEP) & (index_of(kind_BT) == 0)
    left_s_BT = torch.where(is_begin_BT, taken(batch.arrived_s_BV), taken(batch.left_s_BV))
    # A blank ends with the arrival of the visit that is shown behind it.
    behind_s_BT = left_s_BT.clone()
    arrived_s_BT = taken(batch.arrived_s_BV)
    behind_s_BT[:, :-1] = torch.where(is_visit_BT, arrived_s_BT, left_s_BT)[:, 1:]
    nowhere = torch.zeros_like(left_s_BT)
    visit_BTK = visit_BT.unsqueeze(-1).expand(*visit_BT.shape, batch.calendar_BVK.shape[-1])
    has_blank_B1 = is_blank_BT.any(1, keepdim=True)
    is_answer_BT = (kind_BT == Special.SEP).cumsum(1) > 0
    is_answer_BT &= (kind_BT != Special.SEP) & (kind_BT != Special.PAD)
    columns = {
        "region_BV": torch.where(is_visit_BT, taken(batch.region_BV), kind_BT),
        "east_m_BV": torch.where(is_visit_BT, taken(batch.east_m_BV), nowhere),
        "north_m_BV": torch.where(is_visit_BT, taken(batch.north_m_BV), nowhere),
        "arrived_s_BV": torch.where(is_visit_BT, arrived_s_BT, left_s_BT),
        "left_s_BV": torch.where(is_blank_BT, behind_s_BT, left_s_BT),
        "calendar_BVK": batch.calendar_BVK.gather(1, visit_BTK),
        "is_pad_BV": kind_BT == Special.PAD,
        "is_target_BV": torch.where(
            has_blank_B1, is_answer_BT, taken(batch.is_target_BV) & is_visit_BT
        ),
        "is_censored_BV": taken(batch.is_censored_BV) | is_begin_BT,
        "is_way_seen_BV": taken(batch.is_way_seen_BV) & is_visit_BT,
    }
    columns["gap_ends_s_BV"], next_ends_s_BT = gap_ends_s(kind_BT, columns["left_s_BV"])
    columns["room_s_BV"] = next_ends_s_BT - columns["left_s_BV"]
    given = {entry.name: getattr(batch, entry.name) for entry in fields(batch)}
    return TokenBatch(**(given | columns))


def gap_ends_s(kind_BT: Tensor, left_s_BT: Tensor) -> tuple[Tensor, Tensor]:
    """When the gap ends that a visit behind the separator fills, and the one that the next fills.

    Infinite of all other tokens, and where no gap is left.
    """
    is_blank_BT, is_answer_BT = kind_BT == Special.BLANK, kind_BT == Special.ANSWER
    # The n-th answer, with what stands before it, fills the n-th blank.
    blank_BT = is_blank_BT.cumsum(1) - 1
    most = int(is_blank_BT.sum(1).max())
    ends_s_BG = torch.full((len(kind_BT), most + 1), torch.inf, dtype=left_s_BT.dtype)
    row_N, token_N = torch.nonzero(is_blank_BT, as_tuple=True)
    ends_s_BG[row_N, blank_BT[row_N, token_N]] = left_s_BT[row_N, token_N]
    is_behind_BT = (kind_BT == Special.SEP).cumsum(1) > 0
    next_BT = is_answer_BT.cumsum(1)
    next_ends_s_BT = torch.where(is_behind_BT, ends_s_BG.gather(1, next_BT), torch.inf)
    return torch.where(kind_BT == VISIT, next_ends_s_BT, torch.inf), next_ends_s_BT
