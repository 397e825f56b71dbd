"""Masked input: what a model may see of a batch, and the known points around each hidden one.

A hidden point is told by where it lies between the two: how far along in time, and how far from the
great circle that joins them. All is seen in the frame of the known point before.

Shapes: B windows, T points, N chosen points, D model width, M mixture components, V velocities,
C coordinates (east, north), S spatial and U temporal features, K calendar features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..earth.columns import Columns
from .batch import Batch, index_of
from .masking import MaskedBatch


@dataclass(frozen=True)
class MaskedInput(Columns):
    """What a model may see of a batch: zero wherever something is hidden, and at pads.

    `is_asked_BT` are the points to recover.
    """

    lon_deg_BT: Tensor
    lat_deg_BT: Tensor
    time_s_BT: Tensor
    calendar_BTK: Tensor
    shows_place_BT: Tensor
    shows_time_BT: Tensor
    is_asked_BT: Tensor
    is_pad_BT: Tensor
    sequence_BT: Tensor


def masked_input_of(batch: Batch) -> MaskedInput:
    """What the masks of a batch show; without masks of their own hidden points show their time."""
    is_point_BT = ~batch.is_pad_BT
    if isinstance(batch, MaskedBatch):
        shows_place_BT, shows_time_BT = batch.shows_place_BT, batch.shows_time_BT
        shown_BT, is_asked_BT = batch.shown_BT, batch.is_target_BT
    else:
        shows_place_BT, shows_time_BT = batch.is_observed_BT, is_point_BT
        shown_BT = index_of(is_point_BT)
        is_asked_BT = batch.is_target_BT & ~batch.is_observed_BT
    shows_place_BT, shows_time_BT = shows_place_BT & is_point_BT, shows_time_BT & is_point_BT
    return MaskedInput(
        lon_deg_BT=batch.lon_deg_BT.gather(1, shown_BT).masked_fill(~shows_place_BT, 0),
        lat_deg_BT=batch.lat_deg_BT.gather(1, shown_BT).masked_fill(~shows_place_BT, 0),
        time_s_BT=batch.time_s_BT.masked_fill(~shows_time_BT, 0),
        calendar_BTK=batch.calendar_BTK.masked_fill(~shows_time_BT.unsqueeze(-1), 0),
        shows_place_BT=shows_place_BT,
        shows_time_BT=shows_time_BT,
        is_asked_BT=is_asked_BT & is_point_BT,
        is_pad_BT=batch.is_pad_BT,
        sequence_BT=batch.sequence_BT,
    )


def neighbours(is_known_BT: Tensor, sequence_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the known point before and after each point in its sequence; -1 where is none."""
    before_BT = _known_before(is_known_BT, sequence_BT)
    after_BT = _known_before(is_known_BT.flip(1), sequence_BT.flip(1)).flip(1)
    last = is_known_BT.shape[1] - 1
    return before_BT, torch.where(after_BT >= 0, last - after_BT, -1)


def _known_before(is_known_BT: Tensor, sequence_BT: Tensor) -> Tensor:
    index_BT = torch.arange(is_known_BT.shape[1], device=is_known_BT.device)
    latest_BT = torch.where(is_known_BT, index_BT, -1).cummax(dim=1).values
    before_BT = functional.pad(latest_BT[:, :-1], (1, 0), value=-1)
    is_same_BT = sequence_BT.gather(1, before_BT.clamp(min=0)) == sequence_BT
    return torch.where(is_same_BT, before_BT, -1)
