"""Controls of sequences of visits: what is known or wanted of them, checked, and read from JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..earth.calendar import calendar_of
from ..features.places import NUM_SPECIAL, Places, Special


class ControlError(ValueError):
    """What cannot be met, and why."""


@dataclass(frozen=True)
class Wanted:
    """What a visit must be: its region, and when it begins, in seconds after the first arrival."""

    region: int | None = None
    earliest_s: float = 0.0
    latest_s: float = math.inf


@dataclass(frozen=True)
class Controls:
    """What is known or wanted of sequences; regions are ids of the vocabulary.

    A sequence has `num_visits`, or goes on as long as visits begin within `until_s` of the first.
    `visits` are wanted at places from 0 on, so that the last one's region is the end. No visit is
    in a forbidden region, and each begins in one of the local hours where any are named.
    """

    started_us: int
    num_visits: int | None = None
    until_s: float | None = None
    visits: Mapping[int, Wanted] = field(default_factory=dict)
    forbidden: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    temperature: float = 1.0
    top_p: float = 1.0
    zone: str = "UTC"

    def check(self, places: Places) -> None:
        """Refuse what no sequence can be."""
        if (self.num_visits is None) == (self.until_s is None):
            raise ControlError("give num_visits or until_s, one of the two")
        if self.num_visits is not None and self.num_visits < 1:
            raise ControlError(f"num_visits must be at least 1, not {self.num_visits}")
        if not (self.temperature > 0 and 0 < self.top_p <= 1):
            raise ControlError("temperature must be above 0, and top_p above 0 and at most 1")
        self._check_regions(places)
        self._check_times(places.min_stay_s)

    def _check_regions(self, places: Places) -> None:
        known = range(NUM_SPECIAL, places.num_ids)
        asked = {one.region for one in self.visits.values() if one.region is not None}
        if strange := sorted((asked | self.forbidden) - {*known}):
            raise ControlError(
                f"{strange[0]} is no region of the vocabulary: {known[0]} to {known[-1]}"
            )
        if both := sorted(asked & self.forbidden):
            raise ControlError(f"region {both[0]} is wanted and forbidden")
        if self.forbidden >= {*known}:
            raise ControlError("all regions are forbidden")
        last = math.inf if self.num_visits is None else self.num_visits - 1
        for place in self.visits:
            if not 0 <= place <= last:
                raise ControlError(f"there is no visit {place}: they count from 0 to {last:g}")

    def _check_times(self, min_stay_s: float) -> None:
        hour = int(clock_of(np.array([self.started_us]), self.zone)[0])
        if self.hours and hour not in self.hours:
            raise ControlError(f"the first visit begins at {hour} h, which is no wanted hour")
        wanted = {0: Wanted(latest_s=0.0)} | {k: one for k, one in self.visits.items() if k}
        if self.visits.get(0, Wanted()).earliest_s > 0:
            raise ControlError("visit 0 begins at 0 s: times count from it")
        for place, one in wanted.items():
            for later, other in wanted.items():
                least_s = one.earliest_s + (later - place) * min_stay_s
                if later >= place and other.latest_s < least_s:
                    raise ControlError(
                        f"visit {later} cannot begin by {other.latest_s:g} s: after visit {place} "
                        f"at {one.earliest_s:g} s, and stays of {min_stay_s:g} s or more, it is "
                        f"{least_s:g} s at least"
                    )

    def latest_s(self, place: int, min_stay_s: float) -> float:
        """When a visit must begin at the latest, for those that are wanted behind it."""
        ahead = [
            one.latest_s - (later - place) * min_stay_s
            for later, one in self.visits.items()
            if later >= place
        ]
        return min(ahead, default=math.inf)


def clock_of(instant_us: np.ndarray, zone: str) -> np.ndarray:
    """The local hour of instants."""
    return calendar_of(instant_us, zone)["hour"]


# From JSON --------------------------------------------------------------------------------------

ASKED = ("num_visits", "until_s", "end", "visits", "forbidden", "hours", "temperature", "top_p")
ASKED_OF_VISIT = ("number", "place", "earliest_s", "latest_s")


def controls_of(
    given: Any, places: Places, started_us: int, start: int | None, zone: str
) -> Controls:
    """Controls from plain values, or their JSON; a place is a cell, or a pair of degrees.

    `visits` are wanted ones, each a mapping with its `number`, counted from 0, the start; `end` is
    the place of the last one. `start` is the region in which all begin, if it is known.
    """
    asked = _parsed(given)
    _check_names("controls", asked, ASKED)
    wanted = {} if start is None else {0: Wanted(region=start)}
    for one in _listed("visits", asked.get("visits", [])):
        _check_names("a visit of controls", one, ASKED_OF_VISIT)
        number = _whole("number of a visit of controls", one.get("number"))
        wanted[number] = Wanted(
            _region(places, f"visit {number}", one["place"]) if "place" in one else None,
            _number("earliest_s", one.get("earliest_s", 0.0)),
            _number("latest_s", one.get("latest_s", math.inf)),
        )
    if start is not None and wanted[0] != Wanted(region=start):
        raise ControlError("visit 0 is the start, which the row itself tells")
    num_visits = asked.get("num_visits")
    if num_visits is not None:
        num_visits = _whole("num_visits", num_visits)
    if "end" in asked:
        if num_visits is None:
            raise ControlError("end needs num_visits: without it no visit is known to be the last")
        if (last := wanted.get(num_visits - 1, Wanted())).region is not None:
            raise ControlError(f"the place of visit {num_visits - 1}, the end, is given twice")
        region = _region(places, "end", asked["end"])
        wanted[num_visits - 1] = Wanted(region, last.earliest_s, last.latest_s)
    found = Controls(
        started_us,
        num_visits,
        _number("until_s", asked["until_s"]) if asked.get("until_s") is not None else None,
        wanted,
        frozenset(
            _region(places, "forbidden", place)
            for place in _listed("forbidden", asked.get("forbidden", []))
        ),
        frozenset(_hour(hour) for hour in _listed("hours", asked.get("hours", []))),
        _number("temperature", asked.get("temperature", 1.0)),
        _number("top_p", asked.get("top_p", 1.0)),
        zone,
    )
    if {one.region for one in wanted.values()} & found.forbidden:
        raise ControlError("a place is wanted and forbidden")
    return found


def _parsed(given: Any) -> Mapping[str, Any]:
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except ValueError as error:
            raise ControlError(f"controls are no JSON: {error}") from None
    if not isinstance(given, Mapping):
        raise ControlError(f"controls must be names with values, not {type(given).__name__}")
    return given


def _check_names(what: str, given: Any, known: tuple[str, ...]) -> None:
    if not isinstance(given, Mapping):
        raise ControlError(f"{what} must be names with values, not {given!r}")
    if strange := sorted(set(given) - set(known)):
        raise ControlError(
            f"{what}: unknown {strange[0]!r}; the known ones are: {', '.join(known)}"
        )


def _listed(name: str, given: Any) -> list[Any]:
    if not isinstance(given, list | tuple):
        raise ControlError(f"{name} must be a list, not {given!r}")
    return [*given]


def _whole(name: str, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise ControlError(f"{name} must be a whole number, not {given!r}")
    return given


def _hour(given: Any) -> int:
    if not 0 <= _whole("an hour of hours", given) < 24:
        raise ControlError(f"an hour of hours must be from 0 to 23, not {given}")
    return int(given)


def _number(name: str, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or math.isnan(given):
        raise ControlError(f"{name} must be a number, not {given!r}")
    return float(given)


def _region(places: Places, name: str, given: Any) -> int:
    """The id of a region that is named by its cell, or by a place in it."""
    region = int(Special.UNKNOWN)
    if isinstance(given, str):
        named = [f"{cell:x}" for cell in places.cells]
        if given.lower() in named:
            region = NUM_SPECIAL + named.index(given.lower())
    elif isinstance(given, list | tuple) and len(given) == 2:
        lon_deg, lat_deg = (np.array([_number(f"{name}: degrees", value)]) for value in given)
        region = int(places.region_ids(lon_deg, lat_deg)[0])
    else:
        raise ControlError(
            f"{name}: a place is the name of a cell, or a pair of lon_deg and lat_deg"
        )
    if region < NUM_SPECIAL:
        raise ControlError(
            f"{name}: a place outside the {len(places.cells)} regions that the model knows"
        )
    return region
