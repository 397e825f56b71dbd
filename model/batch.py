"""What a model is fed: one frozen batch of windows, and where the reader stands.

Shapes: B windows, T points, F step features (east_m, north_m, s), K calendar features.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cursor:
    """Where a reader stands: everything before this place has been yielded."""

    epoch: int = 0
    batch: int = 0

    def to_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class Batch:
    """Windows of points, padded on the right.

    Coordinates and times are float64 (the truth); `time_s_BT` counts seconds since the window's
    first point. `step_BTF` (float32) is the step arriving at each point and is zero at the first.
    The three masks are different things: observed points may be read, target points are scored,
    pads are neither. `sequence_BT` numbers the independent sequences of a packed row.
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
    cursor: Cursor = Cursor()

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if field.name != "cursor"
        }
        return replace(self, **moved)

    @property
    def num_points(self) -> int:
        """Points that are not pads."""
        return int((~self.is_pad_BT).sum())
