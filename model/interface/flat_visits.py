"""Flat visits of many entities, one behind the other: checked, in order, and padded.

No message names a place: it may be somebody's home.

Shapes: N visits, R entities, B rows, V visits of a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..earth.arrays import Bools, Floats, Ints
from ..earth.columns import Columns
from .flat_points import checked_places


@dataclass(frozen=True)
class FlatVisits(Columns):
    """Visits of R entities, one behind the other in the order of time; `entity_N` counts to R.

    A visit without an end goes on; it is the last one of its entity. Blanks stand for visits that
    nobody saw: they have neither times nor a place. A visit that is censored lasted to its end or
    longer; the way to one was seen, or anything may have happened on it. `row_N` is the row that
    each came from.
    """

    entity_N: Ints
    arrived_us_N: Ints
    left_us_N: Ints
    lon_deg_N: Floats
    lat_deg_N: Floats
    has_end_N: Bools
    is_blank_N: Bools
    is_censored_N: Bools
    is_way_seen_N: Bools
    row_N: Ints

    @property
    def offset_R(self) -> Ints:
        """Entity r owns the visits offset_R[r] up to offset_R[r + 1]."""
        return np.flatnonzero(np.diff(self.entity_N, prepend=-1, append=-1)).astype(np.int64)

    @property
    def is_last_N(self) -> Bools:
        """Whether no visit of the same entity follows."""
        return np.diff(self.entity_N, append=-1) != 0


def sorted_visits(
    entity_N: Ints,
    arrived_us_N: Ints,
    left_us_N: Ints,
    lon_deg_N: Floats,
    lat_deg_N: Floats,
    has_arrival_N: Bools,
    has_end_N: Bools,
    is_censored_N: Bools,
    is_way_seen_N: Bools,
) -> FlatVisits:
    """Checked visits in the order of time; a row given twice counts once.

    The rows of an entity with a blank count in the order given.
    """
    if not len(entity_N):
        raise ValueError("no visits were given; each entity needs at least one")
    has_place_N = checked_places(lon_deg_N, lat_deg_N)
    is_blank_N = ~has_arrival_N & ~has_end_N & ~has_place_N
    _refuse(
        ~is_blank_N & ~(has_arrival_N & has_place_N),
        "a visit lacks arrived_at, or lon_deg and lat_deg; a blank to be filled lacks all four",
    )
    is_gapped_R = np.bincount(entity_N, is_blank_N) > 0
    key_N = np.where(is_gapped_R[entity_N], np.arange(len(entity_N)), arrived_us_N)
    visits = FlatVisits(
        entity_N,
        arrived_us_N,
        np.where(has_end_N, left_us_N, arrived_us_N),
        lon_deg_N,
        lat_deg_N,
        has_end_N,
        is_blank_N,
        is_censored_N | ~has_end_N,
        is_way_seen_N,
        np.arange(len(entity_N)),
    ).at(np.lexsort((lat_deg_N, lon_deg_N, left_us_N, key_N, entity_N)))
    visits = _without_repeats(visits)
    _check_order(visits)
    return visits


def _without_repeats(visits: FlatVisits) -> FlatVisits:
    """Visits without rows given twice; blanks that follow each other are one."""
    told = visits.entity_N, visits.arrived_us_N, visits.left_us_N, visits.has_end_N
    places = (np.nan_to_num(v, nan=999.0) for v in (visits.lon_deg_N, visits.lat_deg_N))
    columns = (*told, *places, visits.is_blank_N)
    is_repeat_N = np.all([column[1:] == column[:-1] for column in columns], axis=0)
    return visits.at(np.append(True, ~is_repeat_N))


def _check_order(visits: FlatVisits) -> None:
    """Refuse visits that end before they begin, or begin before the one before them has ended."""
    _refuse(visits.left_us_N < visits.arrived_us_N, "left_at lies before arrived_at", visits.row_N)
    seen = visits.at(~visits.is_blank_N)
    _refuse(
        ~seen.has_end_N & ~seen.is_last_N,
        "left_at is missing, and the entity has a later visit; only its last stay may go on",
        seen.row_N,
    )
    is_same_N = np.diff(seen.entity_N) == 0
    is_early_N = is_same_N & (np.diff(seen.arrived_us_N) < 0)
    _refuse(
        is_early_N,
        "the rows of an entity with a blank count in the order given, and arrived_at lies before "
        "that of the visit before",
        seen.row_N[1:],
    )
    overlaps_N = is_same_N & (seen.arrived_us_N[1:] < seen.left_us_N[:-1])
    if overlaps_N.any():
        first = int(overlaps_N.argmax())
        began, ended = (_text(us) for us in (seen.arrived_us_N[first + 1], seen.left_us_N[first]))
        _refuse(
            overlaps_N,
            f"a visit overlaps the one before it (arrived_at {began}, left_at before it {ended}); "
            "an entity is at one place at a time",
            seen.row_N[1:],
        )


def check_blanks(visits: FlatVisits) -> None:
    """Refuse blanks that have no visit on both sides, or are behind a stay that goes on."""
    is_first_N = np.diff(visits.entity_N, prepend=-1) != 0
    _refuse(
        visits.is_blank_N & (is_first_N | visits.is_last_N),
        "a blank stands before the first or behind the last visit of its entity; ask for "
        "next_visit there",
        visits.row_N,
    )


def _refuse(is_bad_N: Bools, what: str, row_N: Ints | None = None) -> None:
    """Say what is wrong with rows, and which is the first of them; they count from 0."""
    if is_bad_N.any():
        row_N = np.arange(len(is_bad_N)) if row_N is None else row_N
        first = int(row_N[is_bad_N].min())
        raise ValueError(f"{what}: so in {int(is_bad_N.sum())} of the rows, first in row {first}")


def _text(instant_us: int) -> str:
    return f"{np.datetime64(int(instant_us), 'us').astype('datetime64[s]')}Z"


def latest(visits: FlatVisits, longest: int) -> FlatVisits:
    """The last visits, at most `longest`, of each entity."""
    size_R = np.diff(visits.offset_R)
    behind_N = np.repeat(visits.offset_R[1:], size_R) - np.arange(len(visits.entity_N))
    return visits.at(behind_N <= longest)


def with_ends(visits: FlatVisits, left_us_R: Ints) -> FlatVisits:
    """The same, with the end of each entity's last visit."""
    left_us_N = visits.left_us_N.copy()
    left_us_N[visits.is_last_N] = left_us_R
    return replace(visits, left_us_N=left_us_N)
