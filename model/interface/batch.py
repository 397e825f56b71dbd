"""Batch: one frozen set of windows as a model is fed, and the cursor of its reader.

Shapes: B rows, T points, S sequences of a row, F step features (east_m, north_m, s),
K calendar features, C components of a velocity (east, north).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .journey_rows import JourneyRows
from .rows import Rows

ROW_BITS = 32  # a crop's window_id is its trip's row in the split, then the index of its start


@dataclass(frozen=True)
class Cursor:
    """Where a reader stands: everything before this place has been yielded.

    `batch` counts the batches of the epoch over all ranks. A reader of several datasets stands at
    a place in each of them: `parts`, after `taken` batches of each, the last one from `last`; its
    own epoch stays 0.
    """

    epoch: int = 0
    batch: int = 0
    parts: tuple[Cursor, ...] = ()
    taken: tuple[int, ...] = ()
    last: int = 0

    @property
    def is_between_epochs(self) -> bool:
        """Whether an epoch ends here; a mixture has none."""
        return self.epoch > 0 and self.batch == 0

    @property
    def epoch_before(self) -> int:
        """The epoch of the batch before this place: of its own dataset, where there are several."""
        if self.parts:
            return self.parts[self.last].epoch_before
        return self.epoch - self.is_between_epochs

    def to_json(self) -> dict[str, Any]:
        place: dict[str, Any] = {"epoch": self.epoch, "batch": self.batch}
        if self.parts:
            place["parts"] = [part.to_json() for part in self.parts]
            place |= {"taken": list(self.taken), "last": self.last}
        return place

    @classmethod
    def from_json(cls, place: Mapping[str, Any]) -> Cursor:
        """The inverse of `to_json`; a name that it does not write is refused."""
        given = dict(place)
        parts = tuple(cls.from_json(part) for part in given.pop("parts", ()))
        return cls(parts=parts, taken=tuple(given.pop("taken", ())), **given)


@dataclass(frozen=True, kw_only=True)
class Windows(Rows):
    """The base of what a reader yields: rows that are windows, and the place behind them.

    Where they are crops, `split` names that whose trips they are of; it is empty of stored windows.
    """

    cursor: Cursor = Cursor()
    split: str = ""


@dataclass(frozen=True)
class Batch(Windows):
    """Windows of points, padded on the right; a packed row holds several, one after the other.

    Coordinates and times are float64 (the truth); `time_s_BT` counts seconds since the first point
    of the window. `step_BTF` (float32) is the step arriving at each point and is zero at the first.
    The three masks are different things: observed points may be read, target points are scored,
    pads are neither. `sequence_BT` numbers the windows of a packed row from 0; `window_id_BS` names
    them, -1 where a row has fewer, and `window_id_B` is the first of each row.
    """

    lon_deg_BT: Tensor
    lat_deg_BT: Tensor
    time_s_BT: Tensor
    step_BTF: Tensor
    calendar_BTK: Tensor
    is_observed_BT: Tensor
    is_target_BT: Tensor
    is_pad_BT: Tensor
    sequence_BT: Tensor
    window_id_B: Tensor
    window_id_BS: Tensor | None = None  # of packed batches
    journeys: JourneyRows | None = None  # drawn beside each row, for who learns how long they take
    reported_mps_BTC: Tensor | None = None  # velocity over ground as reported, NaN where none
    stands_for_BT: Tensor | None = None  # points of the data to a step, where it is not 1 for all
    kind_B: Tensor | None = None  # numbers of what moves (`kinds.py`), 0 where it is not told

    def window_ids(self, row: int) -> list[int]:
        """The windows that stand in a row."""
        if self.window_id_BS is None:
            return [int(self.window_id_B[row])]
        return [number for number in self.window_id_BS[row].tolist() if number >= 0]

    @property
    def num_points(self) -> int:
        """Points that are not pads."""
        return int((~self.is_pad_BT).sum())


def scored_targets(batch: Batch) -> Tensor:
    """Targets (B, T) whose whole past in their sequence may be read.

    The model reads every earlier point of a sequence, so one point that may not be read ends the
    part of the sequence that can be scored.
    """
    is_readable_BT = batch.is_observed_BT & ~batch.is_pad_BT
    is_target_BT = batch.is_target_BT & ~batch.is_pad_BT
    index_BT = index_of(is_target_BT)
    first_BT = first_of_sequence(index_BT, batch.sequence_BT)
    hidden_before_BT = (~is_readable_BT).long().cumsum(1) - (~is_readable_BT).long()
    is_past_readable_BT = hidden_before_BT == hidden_before_BT.gather(1, first_BT)
    return is_target_BT & is_past_readable_BT & (index_BT > first_BT)


def index_of(value_BT: Tensor) -> Tensor:
    """The index (B, T) of each point in its row."""
    return torch.arange(value_BT.shape[1], device=value_BT.device).expand_as(value_BT)


def first_of_sequence(index_BQ: Tensor, sequence_BT: Tensor | None) -> Tensor:
    """Index of the first point of each point's sequence; sequences lie one after the other."""
    if sequence_BT is None:
        return torch.zeros_like(index_BQ)
    is_new_BT = torch.ones_like(sequence_BT, dtype=torch.bool)
    is_new_BT[:, 1:] = sequence_BT[:, 1:] != sequence_BT[:, :-1]
    return torch.where(is_new_BT, index_BQ, 0).cummax(dim=1).values
