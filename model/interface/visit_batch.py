"""Batch of visits: one frozen set of windows of visits, as a model of visits is fed.

Shapes: B rows, V visits, K calendar features (sine and cosine of weekday and hour).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..earth.arrays import Ints
from ..earth.calendar import CYCLES, calendar_features
from .batch import Windows

CYCLES_OF_VISITS = ("weekday", "hour")
NUM_VISIT_CALENDAR = 2 * len(CYCLES_OF_VISITS)


@dataclass(frozen=True)
class VisitBatch(Windows):
    """Windows of visits in the order of time, padded on the right.

    `region_BV` (int64) are ids of the vocabulary of `Places`; its special ones are `Special`, 0 for
    a region that train does not know. `east_m_BV` and `north_m_BV` (float64) are the centre of the
    visit's own cell, known or not, in the local frame of `Places`. `arrived_s_BV` and `left_s_BV`
    (float64) count seconds since the first arrival of the window. `calendar_BVK` (float32) is of
    the local clocks at the arrival.

    A stay ends with the last point inside. It is censored where the record ends with it: where no
    later point of its entity and split comes within the longest silence of a stay. Such a stay
    lasted until `left_s_BV` at least. The way to a visit was seen where it lies within one trip and
    the stay before it ended: elsewhere the time between the two holds a silence, in which anything
    may have happened, and is no travel. Travel is not given: it is the arrival less the end before.

    Targets are scored. In training these are all visits but the first of a window, in a window of
    the task `next_visit` the last one. Pads have the region `Special.PAD`, the place of the last
    visit of their row, and the instant of its end.
    """

    region_BV: Tensor
    east_m_BV: Tensor
    north_m_BV: Tensor
    arrived_s_BV: Tensor
    left_s_BV: Tensor
    calendar_BVK: Tensor
    is_pad_BV: Tensor
    is_target_BV: Tensor
    is_censored_BV: Tensor
    is_way_seen_BV: Tensor
    window_id_B: Tensor

    def window_ids(self, row: int) -> list[int]:
        """The windows that stand in a row: one."""
        return [int(self.window_id_B[row])]

    @property
    def num_points(self) -> int:
        """Visits that are not pads."""
        return int((~self.is_pad_BV).sum())

    @property
    def duration_s_BV(self) -> Tensor:
        """How long each stay lasted, or at least lasted where it is censored."""
        return self.left_s_BV - self.arrived_s_BV

    @property
    def travel_s_BV(self) -> Tensor:
        """Seconds from the end of the visit before to each arrival; 0 for the first one."""
        travel_s_BV = torch.zeros_like(self.arrived_s_BV)
        travel_s_BV[:, 1:] = self.arrived_s_BV[:, 1:] - self.left_s_BV[:, :-1]
        return travel_s_BV

    @property
    def until_s_BV(self) -> Tensor:
        """By when each stay must be over, on the clock of arrivals; infinite where nothing says."""
        return torch.full_like(self.left_s_BV, torch.inf)

    @property
    def is_open_BV(self) -> Tensor:
        """Whether a stay lasted for `duration_s_BV` or longer, and not for as long."""
        return self.is_censored_BV

    @property
    def is_travel_known_BV(self) -> Tensor:
        """Whether `travel_s_BV` was observed: its way was seen, from the visit before it here."""
        is_known_BV = self.is_way_seen_BV & ~self.is_pad_BV
        is_known_BV[:, 0] = False
        is_known_BV[:, 1:] &= ~self.is_censored_BV[:, :-1]
        return is_known_BV


def hour_of_week(calendar_BVK: Tensor) -> Tensor:
    """The local hour since Monday's midnight (0 to 167), read off the waves of the calendar."""
    weekday_BV, hour_BV = (
        _place_on(calendar_BVK[..., 2 * number : 2 * number + 2], CYCLES[name])
        for number, name in enumerate(CYCLES_OF_VISITS)
    )
    return weekday_BV * CYCLES["hour"] + hour_BV


def _place_on(wave: Tensor, cycle: int) -> Tensor:
    turn = torch.atan2(wave[..., 0], wave[..., 1]) / (2 * torch.pi)
    return torch.round(turn * cycle).long() % cycle


def calendar_of_visits(instant_us: Ints, zone: str) -> NDArray[np.float32]:
    """Sine and cosine of weekday and hour on local clocks: the first waves of the calendar."""
    return calendar_features(instant_us, zone)[..., :NUM_VISIT_CALENDAR]
