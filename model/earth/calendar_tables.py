"""The calendar of many instants by table, for kernels: the numbers of `calendar_features`, faster.

A zone changes its offset twice a year at most times, so a kernel needs the instants of those
changes and the waves of each second of a day.

Shapes: Z stretches of constant offset, W weekdays, S seconds of a day, C (sine, cosine) of each
cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .arrays import Ints
from .calendar import CYCLES, DAY_S, waves, zone_offsets


@dataclass(frozen=True)
class Clock:
    """Offsets of a zone: stretch z ends before end_us_Z[z]; and the waves of days and seconds."""

    end_us_Z: Ints
    offset_us_Z: Ints
    day_wave_WC: NDArray[np.float32]
    second_wave_SC: NDArray[np.float32]


@lru_cache(maxsize=16)
def clock_of(zone: str) -> Clock:
    """The clock of a zone; before the first change and after the last its offset stays the same."""
    from_us, offset_us = zone_offsets(zone)
    return Clock(
        end_us_Z=np.append(from_us[1:], np.iinfo(np.int64).max),
        offset_us_Z=offset_us,
        day_wave_WC=waves(CYCLES["weekday"]),
        second_wave_SC=_second_waves(),
    )


@lru_cache(maxsize=1)
def _second_waves() -> NDArray[np.float32]:
    """Of each second of a day: sine and cosine of the hour, the minute and the second (2 MB)."""
    second_S = np.arange(DAY_S)
    place = {"hour": second_S // 3_600, "minute": second_S // 60 % 60, "second": second_S % 60}
    return np.concatenate([waves(CYCLES[name])[place[name]] for name in place], axis=-1)
