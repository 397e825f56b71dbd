"""Next visit: what is asked behind a history of visits, and what whoever is asked tells of it.

It is told in three steps, each given the one before: P(region), p(travel | region) and
p(stay | region, travel). So whatever is asked later can be answered from what is known by then.

Shapes: N asked visits, R ids of the vocabulary, V visits, K calendar features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ..earth.columns import Columns
from .answerer import Answerer
from .visit_batch import VisitBatch


@dataclass(frozen=True)
class Arrivals(Columns):
    """Beginnings of visits: where, after how many seconds on the way, when and at which clocks.

    `arrived_s_N` counts from the first arrival of the history, as `VisitBatch` does, and so does
    `until_s_N`, by when the stay must be over: of a visit that fills a gap, infinite of others.
    """

    region_N: Tensor
    travel_s_N: Tensor
    arrived_s_N: Tensor
    calendar_NK: Tensor
    until_s_N: Tensor


@dataclass(frozen=True)
class AskedVisits(Arrivals):
    """Visits as they came: how long each lasted, or at least lasted where it is censored."""

    duration_s_N: Tensor
    is_travel_known_N: Tensor
    is_censored_N: Tensor

    @classmethod
    def of(cls, batch: VisitBatch, is_asked_BV: Tensor) -> AskedVisits:
        return cls(
            batch.region_BV[is_asked_BV],
            batch.travel_s_BV[is_asked_BV],
            batch.arrived_s_BV[is_asked_BV],
            batch.calendar_BVK[is_asked_BV],
            batch.until_s_BV[is_asked_BV],
            batch.duration_s_BV[is_asked_BV],
            batch.is_travel_known_BV[is_asked_BV],
            batch.is_open_BV[is_asked_BV],
        )


class DurationLaw(Protocol):
    """A density of seconds (N); at zero there may be a share of its own."""

    def log_density(self, seconds: Tensor) -> Tensor:
        """In nats of seconds; at zero the logarithm of the share that lies there."""
        ...

    def log_survival(self, seconds: Tensor) -> Tensor:
        """Of lasting longer."""
        ...

    def cumulative(self, seconds: Tensor) -> Tensor: ...

    def within(self, seconds: Tensor, margin_s: float) -> Tensor:
        """P(nearer to these than the margin)."""
        ...

    def quantile(self, share: Tensor | float) -> Tensor: ...


class NextVisit(Protocol):
    """What is told behind each of N histories."""

    @property
    def log_region_NR(self) -> Tensor:
        """Log P(region) of every id of the vocabulary."""
        ...

    def travel(self, region_N: Tensor) -> DurationLaw:
        """p(seconds on the way to a region)."""
        ...

    def stay(self, arrivals: Arrivals) -> DurationLaw:
        """p(seconds of the stay) of those who arrive so."""
        ...


class VisitTeller(Answerer, Protocol):
    def next_visit(self, history: VisitBatch) -> NextVisit:
        """What comes after the last visit of each row that is no pad."""
        ...


def parted(batch: VisitBatch) -> tuple[VisitBatch, AskedVisits]:
    """Windows without their last visit, and that visit, one of each row."""
    num_B1 = (~batch.is_pad_BV).sum(1, keepdim=True)
    index_BV = torch.arange(batch.is_pad_BV.shape[1], device=num_B1.device).expand_as(
        batch.is_pad_BV
    )
    asked = AskedVisits.of(batch, index_BV == num_B1 - 1)
    nothing = torch.zeros_like(batch.is_pad_BV)
    history = replace(batch, is_pad_BV=index_BV >= num_B1 - 1, is_target_BV=nothing)
    return history.part(0, None, int(num_B1.max()) - 1), asked
