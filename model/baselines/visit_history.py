"""Visit history: what baselines of the next visit read of it, and what they learn from those of
train.

Each visit of train that is a target counts once, with the visits before it in its window as its
history; whatever is neither a target nor before one counts for nothing. So windows may overlap, as
long as no visit is a target twice.

Shapes: B rows, V visits, N asked visits, A asked visits of a window, R ids of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..earth.arrays import Floats, Ints
from ..earth.columns import Columns, joined
from ..features.places import Places, Special
from ..interface.next_visit import AskedVisits
from ..interface.visit_batch import VisitBatch, hour_of_week
from ..layers.durations import MIN_DURATION_S

HOURS_OF_WEEK = 168
Context = Literal["hour", "region", "pair"]


@dataclass(frozen=True)
class Origins(Columns):
    """Ends of visits, from where one goes on: where, where before that, and when.

    The hour of the week is the local one at which the visit ended: half an hour after the beginning
    of the hour in which it began, since minutes are not told, and its duration later.
    """

    region_N: Tensor
    before_N: Tensor  # a pad where the window begins with the visit
    hour_N: Tensor
    east_m_N: Tensor
    north_m_N: Tensor

    @classmethod
    def of(cls, batch: VisitBatch, is_left_BV: Tensor) -> Origins:
        before_BV = torch.full_like(batch.region_BV, Special.PAD)
        before_BV[:, 1:] = batch.region_BV[:, :-1]
        stay_h_BV = torch.floor(batch.duration_s_BV / 3_600 + 0.5).long()
        hour_BV = (hour_of_week(batch.calendar_BVK) + stay_h_BV) % HOURS_OF_WEEK
        columns = (batch.region_BV, before_BV, hour_BV, batch.east_m_BV, batch.north_m_BV)
        return cls(*(column_BV[is_left_BV] for column_BV in columns))

    @classmethod
    def last(cls, history: VisitBatch) -> Origins:
        """The last visit of each row that is no pad."""
        index_BV = torch.arange(history.is_pad_BV.shape[1]).expand_as(history.is_pad_BV)
        num_B1 = (~history.is_pad_BV).sum(1, keepdim=True)
        return cls.of(history, index_BV == num_B1 - 1)

    def key_N(self, context: Context) -> Ints:
        """A number for what is known: the hour, the region, or the region and the one before."""
        keys = {
            "hour": self.hour_N,
            "region": self.region_N,
            "pair": (self.before_N << 32) + self.region_N,
        }
        key_N: Ints = keys[context].numpy()
        return key_N

    def distance_m(self, region_N: Tensor, places: Places) -> Tensor:
        """Metres to the centres of regions; to an unknown one it is a typical distance.

        The shapes of places and regions are broadcast.
        """
        east_m_R, north_m_R = places.centres_m()
        away_m = torch.hypot(
            east_m_R[region_N] - self.east_m_N, north_m_R[region_N] - self.north_m_N
        )
        return torch.where(region_N == Special.UNKNOWN, places.place_scale_m, away_m)

    def distances_m(self, places: Places) -> Tensor:
        """Metres to each id of the vocabulary (N, R)."""
        ids_R = torch.arange(places.num_ids)
        return self.at(slice(None), None).distance_m(ids_R, places)


@dataclass(frozen=True)
class Walk:
    """The regions of a window up to its last target, and which of them are targets."""

    region_V: Ints
    asked_A: Ints

    def own_counts(self, half_life: float) -> tuple[Floats, Floats]:
        """Of each target (A): visits of its region before it, and all visits before it.

        The last one counts as one, one a half-life before it, in visits, as one half.
        """
        age_AV = self.asked_A[:, None] - np.arange(len(self.region_V)) - 1
        weight_AV = np.where(age_AV >= 0, 0.5 ** (np.maximum(age_AV, 0) / half_life), 0.0)
        is_same_AV = self.region_V == self.region_V[self.asked_A, None]
        return (weight_AV * is_same_AV).sum(1), weight_AV.sum(1)

    def novelty(self) -> tuple[Ints, Ints]:
        """Of each target (A): different regions before it, and 1 if its own is none of them."""
        is_first_V = np.zeros(len(self.region_V), np.int64)
        is_first_V[np.unique(self.region_V, return_index=True)[1]] = 1
        before_V = np.cumsum(is_first_V) - is_first_V
        return before_V[self.asked_A], is_first_V[self.asked_A]


@dataclass(frozen=True)
class PastVisits:
    """Targets of train, from where each was reached, and the windows in which they stand."""

    places: Places
    asked: AskedVisits
    origins: Origins
    walks: tuple[Walk, ...]

    @classmethod
    def of(cls, windows: Iterable[VisitBatch], places: Places) -> PastVisits:
        asked: list[AskedVisits] = []
        origins: list[Origins] = []
        walks: list[Walk] = []
        for batch in windows:
            is_asked_BV = batch.is_target_BV & ~batch.is_pad_BV
            is_asked_BV[:, 0] = False  # it has no history
            is_left_BV = torch.zeros_like(is_asked_BV)
            is_left_BV[:, :-1] = is_asked_BV[:, 1:]
            asked.append(AskedVisits.of(batch, is_asked_BV))
            origins.append(Origins.of(batch, is_left_BV))
            walks += _walks(batch.region_BV, is_asked_BV)
        if not walks:
            raise ValueError("no visit of train has another one before it in its window")
        return cls(places, joined(asked), joined(origins), tuple(walks))

    @cached_property
    def region_N(self) -> Ints:
        region_N: Ints = self.asked.region_N.numpy()
        return region_N

    @cached_property
    def stay_s_N(self) -> Tensor:
        """How long stays lasted, or at least lasted: no less than the shortest stay."""
        least_s = max(self.places.min_stay_s, MIN_DURATION_S)
        return self.asked.duration_s_N.clamp(min=least_s)

    def thinned(self, most: int) -> PastVisits:
        """At most so many targets, evenly spread; windows are all there."""
        stride = slice(None, None, -(-len(self.region_N) // most) or 1)
        return replace(self, asked=self.asked.at(stride), origins=self.origins.at(stride))

    def own_counts(self, half_life: float) -> tuple[Floats, Floats]:
        """`Walk.own_counts` of all targets."""
        counts = [walk.own_counts(half_life) for walk in self.walks]
        count_N, total_N = (np.concatenate(parts) for parts in zip(*counts, strict=True))
        return count_N, total_N

    def novelty(self) -> tuple[Ints, Ints]:
        """`Walk.novelty` of all targets."""
        told = [walk.novelty() for walk in self.walks]
        num_before_N, is_new_N = (np.concatenate(parts) for parts in zip(*told, strict=True))
        return num_before_N, is_new_N


def _walks(region_BV: Tensor, is_asked_BV: Tensor) -> Iterator[Walk]:
    for region_V, is_asked_V in zip(region_BV.numpy(), is_asked_BV.numpy(), strict=True):
        (asked_A,) = np.nonzero(is_asked_V)
        if len(asked_A):
            yield Walk(region_V[: asked_A[-1] + 1], asked_A)
