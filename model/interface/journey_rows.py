"""Journey rows: how journeys are seen by who tells how long they take, and how long they took.

Of a path only places at even shares of its way are seen, and never the points that it was recorded
at: where these come at regular times, they tell the duration.

Shapes: B rows, G journeys of a row, N journeys, T points, K places, U calendar features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .rows import Rows

NUM_PLACES = 13
NUM_ENOUGH = 20  # whole journeys that tell how duration goes with length


@dataclass(frozen=True)
class JourneyRows(Rows):
    """Journeys: where they lead, when they begin, how long their paths are, how long they took.

    The calendar is that of the departure. A journey that is not whole is a part of one. Where no
    duration is known, it is NaN; where no path is known, only the two ends may be read.
    """

    lon_deg_BGK: Tensor
    lat_deg_BGK: Tensor
    path_m_BG: Tensor
    calendar_BGU: Tensor
    has_path_BG: Tensor
    is_whole_BG: Tensor
    duration_s_BG: Tensor

    def flat(self) -> JourneyRows:
        """The same one behind the other: (N, 1)."""
        return JourneyRows(
            *(getattr(self, field.name).flatten(0, 1).unsqueeze(1) for field in fields(self))
        )

    def with_ends_alone(self) -> JourneyRows:
        """The same of which the paths are not known."""
        return replace(self, has_path_BG=torch.zeros_like(self.has_path_BG))


def whole_journeys(batches: Iterable[JourneyRows]) -> list[JourneyRows]:
    """The whole ones, flat; none where they are too few to tell how duration goes with length."""
    flat = [one.flat() for one in batches]
    whole = [one.at(one.is_whole_BG[:, 0]) for one in flat]
    return whole if sum(len(one.duration_s_BG) for one in whole) >= NUM_ENOUGH else []
