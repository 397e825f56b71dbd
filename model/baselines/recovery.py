"""Recovery baselines: what imputation has to beat, simple paths between known points on the sphere.

A baseline reads what a question shows and nothing else. Hidden points lie between the last known
point before them and the first one after; where one of these is missing, they stay at the other.
Where a time is hidden, points are spread evenly in time between their known neighbours.

Shapes: B windows, T points, C coordinates (east, north).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..earth.geometry import from_heading, heading_of, step_from, to_heading
from ..features.point_features import step_m_between
from ..interface.answers import Recovered
from ..interface.contexts import Partial
from ..interface.masked_input import neighbours


@dataclass(frozen=True)
class RecoveryBaseline:
    """An answerer that fills in hidden points by a path between their known neighbours.

    `moved_m` tells the metres (B, T, C) of each point from the known point before it.
    """

    name: str
    moved_m: Callable[[Bracket], Tensor]
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("recover",)

    def recover(self, partial: Partial) -> Recovered:
        """Known points stay where they are; NaN where a row shows no point at all."""
        around = Bracket.of(partial)
        given = partial.lon_deg_BT, partial.lat_deg_BT
        starts = (value_BT.gather(1, around.start_BT) for value_BT in given)
        found = step_from(*starts, *self.moved_m(around).unbind(-1))
        lon_deg_BT, lat_deg_BT = (
            torch.where(around.is_known_BT, given_BT, told_BT.where(around.has_any_BT, torch.nan))
            for given_BT, told_BT in zip(given, found, strict=True)
        )
        is_asked_BT = ~around.is_known_BT & ~partial.is_pad_BT
        return Recovered(lon_deg_BT, lat_deg_BT, around.time_s_BT(), is_asked_BT)


def linear_m(around: Bracket) -> Tensor:
    """Along the great circle between the known neighbours, at an even speed."""
    return around.chord_m_BTC * around.share_BT1


def hermite_m(around: Bracket) -> Tensor:
    """A cubic that arrives and leaves as the known points beyond the gap tell.

    Where there are none on a side, with the mean velocity over the gap: with none on either side
    it is `linear_m`.
    """
    u_BT1 = around.share_BT1
    return (
        (u_BT1**3 - 2 * u_BT1**2 + u_BT1) * around.arriving_m()
        + (3 * u_BT1**2 - 2 * u_BT1**3) * around.chord_m_BTC
        + (u_BT1**3 - u_BT1**2) * around.leaving_m()
    )


LINEAR = RecoveryBaseline("linear", linear_m)
HERMITE = RecoveryBaseline("hermite", hermite_m)


@dataclass(frozen=True)
class Bracket:
    """The known points around each point, and how far along between them it is.

    Indices stand for the neighbours: `start` and `end`, and `earlier` and `later` beyond these,
    -1 where there is none. The chord is seen from `start`.
    """

    partial: Partial
    is_known_BT: Tensor
    has_any_BT: Tensor
    start_BT: Tensor
    end_BT: Tensor
    earlier_BT: Tensor
    later_BT: Tensor
    chord_m_BTC: Tensor
    gap_s_BT: Tensor
    share_BT1: Tensor

    @classmethod
    def of(cls, partial: Partial) -> Bracket:
        is_known_BT = partial.shows_place_BT & partial.shows_time_BT & ~partial.is_pad_BT
        before_BT, after_BT = neighbours(
            is_known_BT, torch.zeros_like(is_known_BT, dtype=torch.int)
        )
        has_any_BT = (before_BT >= 0) | (after_BT >= 0)
        start_BT = torch.where(before_BT >= 0, before_BT, after_BT).clamp(min=0)
        end_BT = torch.where(after_BT >= 0, after_BT, before_BT).clamp(min=0)
        start_s_BT, end_s_BT = (partial.time_s_BT.gather(1, at) for at in (start_BT, end_BT))
        gap_s_BT = end_s_BT - start_s_BT
        index_BT = torch.arange(is_known_BT.shape[1]).expand_as(start_BT)
        by_count_BT = (index_BT - start_BT) / (end_BT - start_BT).clamp(min=1)
        since_s_BT = partial.time_s_BT - start_s_BT
        is_timed_BT = partial.shows_time_BT & (gap_s_BT > 0)
        share_BT = torch.where(is_timed_BT, since_s_BT / gap_s_BT, by_count_BT.double())
        return cls(
            partial,
            is_known_BT,
            has_any_BT,
            start_BT,
            end_BT,
            before_BT.gather(1, start_BT),
            after_BT.gather(1, end_BT),
            _step_m(partial, start_BT, end_BT),
            gap_s_BT,
            share_BT.clamp(0, 1).unsqueeze(-1),
        )

    def time_s_BT(self) -> Tensor:
        """Times, those that are hidden spread evenly between the neighbours."""
        start_s_BT = self.partial.time_s_BT.gather(1, self.start_BT)
        spread_s_BT = start_s_BT + self.share_BT1.squeeze(-1) * self.gap_s_BT
        return torch.where(self.partial.shows_time_BT, self.partial.time_s_BT, spread_s_BT)

    def arriving_m(self) -> Tensor:
        """How far the velocity on arrival at `start` leads in the time of the gap, (B, T, C)."""
        return self._led_m(self.start_BT, self.earlier_BT, self.chord_m_BTC)

    def leaving_m(self) -> Tensor:
        """The same of the velocity with which `end` is left, turned into the frame of `start`."""
        back_m_BTC = _step_m(self.partial, self.end_BT, self.start_BT)
        led_m_BTC = self._led_m(self.end_BT, self.later_BT, -back_m_BTC)
        # The great circle leaves one frame under another angle than it enters the other.
        along_m_BTC = to_heading(led_m_BTC, heading_of(-back_m_BTC))
        return from_heading(along_m_BTC, heading_of(self.chord_m_BTC))

    def _led_m(self, here_BT: Tensor, beyond_BT: Tensor, mean_m_BTC: Tensor) -> Tensor:
        other_BT = beyond_BT.clamp(min=0)
        time_s_BT = self.partial.time_s_BT
        # Negative where `beyond` is earlier: the step back then becomes the one of arrival.
        apart_s_BT = time_s_BT.gather(1, other_BT) - time_s_BT.gather(1, here_BT)
        led_m_BTC = _step_m(self.partial, here_BT, other_BT)
        led_m_BTC = led_m_BTC * (self.gap_s_BT / apart_s_BT).unsqueeze(-1)
        is_told_BT = (beyond_BT >= 0) & (apart_s_BT != 0)
        return torch.where(is_told_BT.unsqueeze(-1), led_m_BTC, mean_m_BTC)


def _step_m(partial: Partial, start_BT: Tensor, end_BT: Tensor) -> Tensor:
    return step_m_between(partial.lon_deg_BT, partial.lat_deg_BT, start_BT, end_BT)
