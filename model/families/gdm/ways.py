"""Ways: steps that known places suggest for the hidden ones, and the spans between known points.

A way goes on as the known points do over some of them: across the gap, in arriving at it or in
leaving it. It does so point by point, and by the time that the step takes: samples may come evenly
along the way or evenly in time.

Shapes: B windows, T points, C coordinates (east, north), W ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...earth.columns import Columns
from ...features.point_features import step_m_between
from ...interface.batch import index_of
from ...interface.masked_input import MaskedInput, neighbours

LAGS = (1, 2, 4)  # known points back from the one before, and on from the one after
NUM_WAYS = 2 * (1 + 2 * len(LAGS))


@dataclass(frozen=True)
class Span(Columns):
    """Between which known points the step arriving at each point lies: `end_BT` may be its own.

    `before_BT` and `after_BT` are the known points next to each point, -1 where there is none.
    """

    start_BT: Tensor  # 0 where there is none, as is the next
    end_BT: Tensor
    before_BT: Tensor
    after_BT: Tensor
    has_start_BT: Tensor
    has_both_BT: Tensor

    @classmethod
    def of(cls, shows_BT: Tensor, sequence_BT: Tensor) -> Span:
        before_BT, after_BT = neighbours(shows_BT, sequence_BT)
        end_BT = torch.where(shows_BT, index_of(shows_BT), after_BT)
        has_start_BT = before_BT >= 0
        has_both_BT = has_start_BT & (end_BT >= 0)
        start_BT, end_BT = before_BT.clamp(min=0), end_BT.clamp(min=0)
        return cls(start_BT, end_BT, before_BT, after_BT, has_start_BT, has_both_BT)

    @property
    def num_steps_BT(self) -> Tensor:
        """Steps between the two, 1 where the step is known or nothing is."""
        return torch.where(self.has_both_BT, self.end_BT - self.start_BT, 1)

    @property
    def is_known_BT(self) -> Tensor:
        return self.has_both_BT & (self.num_steps_BT == 1)

    @property
    def is_between_BT(self) -> Tensor:
        """Steps that are hidden while their sum is known."""
        return self.has_both_BT & ~self.is_known_BT

    def elapsed_s(self, shown: MaskedInput) -> Tensor:
        """Seconds (B, T) from one of them to the other."""
        return _elapsed_s(shown, self.start_BT, self.end_BT)

    def less_mean(self, value_BTC: Tensor) -> Tensor:
        """Numbers of steps less their mean over those between the same two points."""
        is_between_BT1 = self.is_between_BT.unsqueeze(-1)
        end_BTC = self.end_BT.unsqueeze(-1).expand_as(value_BTC)
        inner_BTC = value_BTC.masked_fill(~is_between_BT1, 0)
        sum_BTC = torch.zeros_like(inner_BTC).scatter_add(1, end_BTC, inner_BTC).gather(1, end_BTC)
        mean_BTC = sum_BTC / self.num_steps_BT.unsqueeze(-1)
        return value_BTC - mean_BTC.masked_fill(~is_between_BT1, 0)


def ways_m(shown: MaskedInput, place: Span, time: Span) -> Tensor:
    """Metres (B, T, W, C) of each step by each way; none where its known points are not there."""
    own_s_BT = time.elapsed_s(shown)
    ways = []
    for first_BT, last_BT, has_BT in _pairs(place):
        moved_m_BTC = step_m_between(shown.lon_deg_BT, shown.lat_deg_BT, last_BT, first_BT)
        moved_m_BTC = -moved_m_BTC.masked_fill(~has_BT.unsqueeze(-1), 0)
        took_s_BT = _elapsed_s(shown, first_BT, last_BT)
        is_timed_BT = time.is_known_BT & (took_s_BT > 0)
        for end_BT in (first_BT, last_BT):
            is_timed_BT = is_timed_BT & shown.shows_time_BT.gather(1, end_BT)
        by_points_BT = 1 / (last_BT - first_BT).clamp(min=1)
        by_time_BT = own_s_BT / torch.where(is_timed_BT, took_s_BT, 1.0)
        by_time_BT = torch.where(is_timed_BT, by_time_BT, by_points_BT)
        ways += [moved_m_BTC * share_BT[..., None] for share_BT in (by_points_BT, by_time_BT)]
    return torch.stack(ways, dim=-2)


def _pairs(place: Span) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Known points, the earlier and the later, and where they are two (B, T)."""
    yield place.start_BT, place.end_BT, place.has_both_BT
    for back_BT in _over_lags(place.start_BT, place.before_BT):
        yield back_BT, place.start_BT, place.has_start_BT & (back_BT < place.start_BT)
    for ahead_BT in _over_lags(place.end_BT, place.after_BT):
        yield place.end_BT, ahead_BT, place.has_both_BT & (ahead_BT > place.end_BT)


def _over_lags(from_BT: Tensor, next_BT: Tensor) -> list[Tensor]:
    """The points so many known points on from `from_BT`, or the furthest that is known."""
    reached_BT, found = from_BT, []
    for lag in range(1, max(LAGS) + 1):
        further_BT = next_BT.gather(1, reached_BT)
        reached_BT = torch.where(further_BT >= 0, further_BT, reached_BT)
        found += [reached_BT] if lag in LAGS else []
    return found


def _elapsed_s(shown: MaskedInput, first_BT: Tensor, last_BT: Tensor) -> Tensor:
    return shown.time_s_BT.gather(1, last_BT) - shown.time_s_BT.gather(1, first_BT)
