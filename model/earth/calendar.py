"""Local clocks and calendars: fields of an instant in a zone, and the waves that a model reads.

The offsets of a zone come from Python's table of zones, here and in `sql/marts/calendar.sql`.
"""

from __future__ import annotations

import bisect
import datetime as dt
import functools
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from .arrays import Ints

CYCLES = {"weekday": 7, "hour": 24, "minute": 60, "second": 60}
NUM_CALENDAR = 2 * len(CYCLES)
DAY_S = 86_400
_FIRST_S, _LAST_S = (
    int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp()) for year in (1900, 2101)
)


def calendar_features(instant_us: Ints, zone: str) -> NDArray[np.float32]:
    """Sine and cosine of weekday, hour, minute and second on the clocks of a zone.

    `instant_us` (...) counts microseconds since 1970 UTC; the result is (..., 8).
    """
    local = calendar_of(instant_us, zone)
    return np.concatenate([waves(cycle)[local[name]] for name, cycle in CYCLES.items()], axis=-1)


@functools.cache
def waves(cycle: int) -> NDArray[np.float32]:
    """Sine and cosine at each place of a cycle: (cycle, 2)."""
    turn = 2 * np.pi * np.arange(cycle) / cycle
    return np.stack([np.sin(turn), np.cos(turn)], axis=-1).astype(np.float32)


def calendar_of(instant_us: Ints, zone: str) -> dict[str, Ints]:
    """Weekday (Monday is 0), hour, minute, second and day of the year (from 1) on local clocks.

    Equal to the columns of `sql/marts/calendar.sql`, which reads the same table of offsets.
    """
    from_us, offset_us = zone_offsets(zone)
    local_us = instant_us + offset_us[np.searchsorted(from_us, instant_us, side="right") - 1]
    day, in_day_us = np.divmod(local_us, DAY_S * 10**6)
    in_day_s = in_day_us // 10**6
    date = day.astype("datetime64[D]")
    return {
        "weekday": (day + 3) % 7,  # 1970 began on a Thursday
        "hour": in_day_s // 3_600,
        "minute": in_day_s // 60 % 60,
        "second": in_day_s % 60,
        "day_of_year": (date - date.astype("datetime64[Y]")).astype(np.int64) + 1,
    }


@functools.lru_cache(maxsize=64)
def zone_offsets(zone: str) -> tuple[Ints, Ints]:
    """From when on (microseconds since 1970 UTC) the clocks of a zone are how far ahead of UTC.

    The engine's own zones and Arrow's are not used: the first are as old as its build, the second
    forget summer time after 2037. Changes are found day by day from 1900 to 2100; the first and
    the last offset hold before and after that.
    """
    clock = ZoneInfo(zone)
    found = [(_FIRST_S, _offset_s(_FIRST_S, clock))]
    for day_s in range(_FIRST_S, _LAST_S, DAY_S):
        before_s, after_s = found[-1][1], _offset_s(day_s + DAY_S, clock)
        if after_s != before_s:
            found.append((_change_s(day_s, before_s, clock), after_s))
    from_us, offset_us = np.array(found, dtype=np.int64).T * 10**6
    from_us[0] = np.iinfo(np.int64).min
    return from_us, offset_us


def _change_s(day_s: int, before_s: int, clock: ZoneInfo) -> int:
    """The first second after `day_s`, within a day, at which an offset no longer holds."""
    seconds = range(day_s + 1, day_s + DAY_S + 1)
    return seconds[bisect.bisect_left(seconds, True, key=lambda s: _offset_s(s, clock) != before_s)]


def _offset_s(instant_s: int, clock: ZoneInfo) -> int:
    offset = dt.datetime.fromtimestamp(instant_s, clock).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())
