"""The calendar of many instants by table: the numbers of `encoding.calendar_features`, faster.

Arrow knows the zones but turns instants one by one. A zone changes its offset twice a year at most
times, so a kernel needs the instants of those changes and the waves of each second of a day.

Shapes: Z stretches of constant offset, W weekdays, S seconds of a day, C (sine, cosine) of each
cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

DAY_S = 86_400
FIRST_US, LAST_US = -5_364_662_400_000_000, 7_258_118_400_000_000  # years 1800 to 2200
SAMPLE_US = 12 * 3_600_000_000  # no zone changes its offset and changes it back within this


@dataclass(frozen=True)
class Clock:
    """Offsets of a zone: stretch z ends before end_us_Z[z]; and the waves of days and seconds."""

    end_us_Z: NDArray[np.int64]
    offset_us_Z: NDArray[np.int64]
    day_wave_WC: NDArray[np.float32]
    second_wave_SC: NDArray[np.float32]


@lru_cache(maxsize=16)
def clock_of(zone: str) -> Clock:
    """The offsets of a zone as Arrow knows them; before 1800 and after 2200 they stay the same."""
    instant_us = np.arange(FIRST_US, LAST_US, SAMPLE_US)
    offset_us = _offset_us(instant_us, zone)
    changed = np.flatnonzero(offset_us[1:] != offset_us[:-1])
    low_us, high_us = instant_us[changed], instant_us[changed + 1]
    while (high_us - low_us > 1).any():  # high is the first instant of the new offset
        middle_us = (low_us + high_us) // 2
        is_before = _offset_us(middle_us, zone) == offset_us[changed]
        low_us = np.where(is_before, middle_us, low_us)
        high_us = np.where(is_before, high_us, middle_us)
    return Clock(
        end_us_Z=np.append(high_us, np.iinfo(np.int64).max),
        offset_us_Z=np.append(offset_us[changed], offset_us[-1]),
        day_wave_WC=_waves(7),
        second_wave_SC=_second_waves(),
    )


def _offset_us(instant_us: NDArray[np.int64], zone: str) -> NDArray[np.int64]:
    stamps = pa.array(instant_us).cast(pa.timestamp("us", tz=zone))
    return pc.local_timestamp(stamps).cast(pa.int64()).to_numpy() - instant_us


@lru_cache(maxsize=1)
def _second_waves() -> NDArray[np.float32]:
    """Of each second of a day: sine and cosine of the hour, the minute and the second (2 MB)."""
    second_S = np.arange(DAY_S)
    cycles = (_waves(24)[second_S // 3_600], _waves(60)[second_S // 60 % 60])
    return np.concatenate([*cycles, _waves(60)[second_S % 60]], axis=-1)


def _waves(cycle: int) -> NDArray[np.float32]:
    """Sine and cosine of each place of a cycle."""
    turn = 2 * np.pi * np.arange(cycle) / cycle
    return np.stack([np.sin(turn), np.cos(turn)], axis=-1).astype(np.float32)
