"""Point rules of speed, stays and identities: a point beside the last kept, or beside an anchor.

A window function sees raw neighbours only, so that a run of spikes would be judged against itself.

Shapes: N points in the order of their tracks, S stays, K open lines, L all lines.
"""

from __future__ import annotations

import math

import numpy as np

from .arrays import Bools, Floats, Ints
from .compiled import compiled
from .constants import EARTH_RADIUS_M


@compiled
def distance_m(lon_a_deg: float, lat_a_deg: float, lon_b_deg: float, lat_b_deg: float) -> float:
    """Great-circle distance from a to b: the formula of `geometry.haversine_m`, on scalars."""
    turn_deg = lon_b_deg - lon_a_deg
    turn = math.radians(turn_deg - 360.0 * round(turn_deg / 360.0))
    climb = math.radians(lat_b_deg - lat_a_deg)
    lat_a, cos_b = math.radians(lat_a_deg), math.cos(math.radians(lat_b_deg))
    sin_half_squared = math.sin(turn / 2) ** 2
    east = math.sin(turn) * cos_b
    north = math.sin(climb) + 2 * math.sin(lat_a) * cos_b * sin_half_squared
    outward = math.cos(climb) - 2 * math.cos(lat_a) * cos_b * sin_half_squared
    return EARTH_RADIUS_M * math.atan2(math.hypot(east, north), outward)


@compiled
def side_of_limit(
    lon_a_deg: float, lat_a_deg: float, lon_b_deg: float, lat_b_deg: float, limit_m: float
) -> int:
    """-1 where b is surely nearer to a than the limit, 1 where it is surely farther, else 0.

    Most points need no trigonometry: a way is at least its climb, and at most what climb and turn
    would be on a plane at the equator. Within half a degree the curvature, and what any of this is
    rounded by, is less than a ten-thousandth.
    """
    turn_deg, climb_deg = lon_b_deg - lon_a_deg, lat_b_deg - lat_a_deg
    if not (limit_m > 0 and abs(turn_deg) < 0.5 and abs(climb_deg) < 0.5):
        return 0
    limit_deg = math.degrees(limit_m / EARTH_RADIUS_M)
    if climb_deg * climb_deg + turn_deg * turn_deg < limit_deg * limit_deg * 0.999:
        return -1
    return 1 if abs(climb_deg) > limit_deg * 1.001 else 0


@compiled
def is_speed_possible(
    is_track_start_N: Bools,
    tracked_us_N: Ints,
    lon_deg_N: Floats,
    lat_deg_N: Floats,
    max_speed_mps: float,
    max_gap_s: float,
) -> Bools:
    """Whether each point can be kept: reached from the last kept one at `max_speed_mps`.

    Tracks follow each other; within one, points ascend in time. A run begins with a track, and
    after a silence longer than `max_gap_s` since the last kept point; its first point is kept.
    Consecutive points that cannot be reached from the last kept one, but each from the one before,
    are rivals of the run. Once they outnumber what the run has kept, they take its place: of a
    spike at the start of a run only the spike goes, and not all that follows it.
    """
    is_kept_N = np.zeros(tracked_us_N.size, np.bool_)
    first = last = rival = 0  # first and last kept point of the run, first of its rivals
    num_kept = 0
    for n in range(tracked_us_N.size):
        if is_track_start_N[n] or tracked_us_N[n] - tracked_us_N[last] > max_gap_s * 1e6:
            first, num_kept, is_reached = n, 0, True
        else:
            is_reached = _is_reached(tracked_us_N, lon_deg_N, lat_deg_N, last, n, max_speed_mps)
        if is_reached:
            is_kept_N[n] = True
            last, rival, num_kept = n, n + 1, num_kept + 1
            continue
        if rival < n and not _is_reached(
            tracked_us_N, lon_deg_N, lat_deg_N, n - 1, n, max_speed_mps
        ):
            rival = n
        if n + 1 - rival > num_kept:
            is_kept_N[first:rival] = False
            is_kept_N[rival : n + 1] = True
            first, last, num_kept = rival, n, n + 1 - rival
            rival = n + 1
    return is_kept_N


@compiled
def steps_m(lon_deg_N: Floats, lat_deg_N: Floats) -> Floats:
    """Metres from the point before to each point; the first one has come from nowhere."""
    step_m_N = np.zeros(lon_deg_N.size)
    for n in range(1, lon_deg_N.size):
        step_m_N[n] = distance_m(lon_deg_N[n - 1], lat_deg_N[n - 1], lon_deg_N[n], lat_deg_N[n])
    return step_m_N


@compiled
def _is_reached(
    tracked_us_N: Ints, lon_deg_N: Floats, lat_deg_N: Floats, a: int, b: int, max_speed_mps: float
) -> bool:
    """Whether point b, later than a, is within reach of a."""
    elapsed_s = (tracked_us_N[b] - tracked_us_N[a]) / 1e6
    a_and_b = lon_deg_N[a], lat_deg_N[a], lon_deg_N[b], lat_deg_N[b]
    side = side_of_limit(*a_and_b, max_speed_mps * elapsed_s)
    return side < 0 or (side == 0 and distance_m(*a_and_b) <= max_speed_mps * elapsed_s)


# Stays ------------------------------------------------------------------------------------------


@compiled
def stays(
    is_track_start_N: Bools,
    tracked_us_N: Ints,
    lon_deg_N: Floats,
    lat_deg_N: Floats,
    radius_m: float,
    min_stay_s: float,
    max_gap_s: float,
    is_exit_awaited: bool,
) -> tuple[Ints, Ints, Ints]:
    """First point, last point, and the point whose instant is the end, of each stay in order.

    The sliding definition of Li et al. (2008), as trackintel has it: the first point is the
    anchor; the first later point at `radius_m` or more from it is the exit and the next anchor,
    whether the time spent was enough for a stay or not. A track, and a silence longer than
    `max_gap_s`, set a new anchor too.

    A stay lasts to its last point inside, and a silence or the end of the track may end it. With
    `is_exit_awaited` it lasts to its exit, and one whose exit is not seen is none (trackintel).
    """
    first_S = np.empty(tracked_us_N.size, np.int64)
    last_S, end_S = np.empty_like(first_S), np.empty_like(first_S)
    num_stays = anchor = 0
    for n in range(1, tracked_us_N.size + 1):
        is_cut = (
            n == tracked_us_N.size
            or is_track_start_N[n]
            or tracked_us_N[n] - tracked_us_N[n - 1] > max_gap_s * 1e6
        )
        if not is_cut:
            places = lon_deg_N[anchor], lat_deg_N[anchor], lon_deg_N[n], lat_deg_N[n]
            side = side_of_limit(*places, radius_m)
            if side < 0 or (side == 0 and distance_m(*places) < radius_m):
                continue
        end = n if is_exit_awaited else n - 1
        has_end = not (is_cut and is_exit_awaited)
        if has_end and tracked_us_N[end] - tracked_us_N[anchor] >= min_stay_s * 1e6:
            first_S[num_stays], last_S[num_stays], end_S[num_stays] = anchor, n - 1, end
            num_stays += 1
        anchor = n
    return first_S[:num_stays].copy(), last_S[:num_stays].copy(), end_S[:num_stays].copy()


@compiled
def location_numbers(
    is_track_start_S: Bools, lon_deg_S: Floats, lat_deg_S: Floats, radius_m: float
) -> Ints:
    """For each stay the index of the stay that founded its location, stays in order of time.

    Places are those of the first points of the stays. A stay belongs to the nearest founder of its
    entity closer than `radius_m`, of equally near ones to the earliest; where there is none, it
    founds a location. Later stays never move a location: what was said of a visit stays true.
    """
    founder_S = np.empty(lon_deg_S.size, np.int64)
    first = 0
    for s in range(lon_deg_S.size):
        if is_track_start_S[s]:
            first = s
        founder_S[s], nearest_m = s, radius_m
        for other in range(first, s):
            if founder_S[other] == other:
                away_m = distance_m(lon_deg_S[other], lat_deg_S[other], lon_deg_S[s], lat_deg_S[s])
                if away_m < nearest_m:
                    founder_S[s], nearest_m = other, away_m
    return founder_S


# Identities -------------------------------------------------------------------------------------

MAX_IDENTITIES = 4  # open at once in one track
MIN_IDENTITY_POINTS, MIN_RETURNS = 5, 3


@compiled
def identities(
    is_track_start_N: Bools,
    tracked_us_N: Ints,
    lon_deg_N: Floats,
    lat_deg_N: Floats,
    max_speed_mps: float,
) -> Ints:
    """The number, from 1, of the entity that each point belongs to among those of its track.

    A point joins the nearest of the open lines whose last point reaches it at `max_speed_mps`, of
    equally near ones the oldest. Out of reach of all it opens a line; where `MAX_IDENTITIES` are
    open, it takes the place of the one with the fewest points, of equally small ones the oldest.
    A line is an entity of its own if it has `MIN_IDENTITY_POINTS` points and took up again
    `MIN_RETURNS` times after a point of another such line: lines that alternate, not a jump and
    not a few spikes. Entities are numbered in the order of their first points. All other points
    are of number 1, where the speed limit judges them.
    """
    line_N = np.empty(tracked_us_N.size, np.int64)
    identity_N = np.ones(tracked_us_N.size, np.int64)
    start = 0
    for n in range(1, tracked_us_N.size + 1):
        if n == tracked_us_N.size or is_track_start_N[n]:
            num_lines = _draw_lines(
                tracked_us_N, lon_deg_N, lat_deg_N, start, n, max_speed_mps, line_N
            )
            if num_lines > 1:
                _number_entities(line_N[start:n], num_lines, identity_N[start:n])
            start = n
    return identity_N


@compiled
def _draw_lines(
    tracked_us_N: Ints,
    lon_deg_N: Floats,
    lat_deg_N: Floats,
    start: int,
    end: int,
    max_speed_mps: float,
    line_N: Ints,
) -> int:
    """Write the line of each point of one track; return how many lines there are."""
    last_K = np.zeros(MAX_IDENTITIES, np.int64)
    size_K, name_K = np.zeros_like(last_K), np.zeros_like(last_K)
    num_open = num_lines = 0
    for n in range(start, end):
        found, nearest_m = -1, np.inf
        for k in range(num_open):
            away_m = distance_m(
                lon_deg_N[last_K[k]], lat_deg_N[last_K[k]], lon_deg_N[n], lat_deg_N[n]
            )
            elapsed_s = (tracked_us_N[n] - tracked_us_N[last_K[k]]) / 1e6
            is_nearer = away_m < nearest_m or (away_m == nearest_m and name_K[k] < name_K[found])
            if away_m <= max_speed_mps * elapsed_s and is_nearer:
                found, nearest_m = k, away_m
        if found < 0:
            found = num_open
            if num_open == MAX_IDENTITIES:
                found = 0
                for k in range(1, MAX_IDENTITIES):
                    if (size_K[k], name_K[k]) < (size_K[found], name_K[found]):
                        found = k
            else:
                num_open += 1
            size_K[found], name_K[found] = 0, num_lines
            num_lines += 1
        last_K[found] = n
        size_K[found] += 1
        line_N[n] = name_K[found]
    return num_lines


@compiled
def _number_entities(line_N: Ints, num_lines: int, identity_N: Ints) -> None:
    """Write the entity of each point of one track, given its lines; the rest stay as they are."""
    size_L = np.zeros(num_lines, np.int64)
    returns_L, entity_L = np.zeros_like(size_L), np.zeros_like(size_L)
    for line in line_N:
        size_L[line] += 1
    before = -1
    for line in line_N:
        if size_L[line] >= MIN_IDENTITY_POINTS:
            returns_L[line] += before >= 0 and before != line
            before = line
    is_entity_L = (size_L >= MIN_IDENTITY_POINTS) & (returns_L >= MIN_RETURNS)
    if is_entity_L.sum() < 2:
        return
    num_entities = 0
    for n in range(line_N.size):
        line = line_N[n]
        if is_entity_L[line]:
            if entity_L[line] == 0:
                num_entities += 1
                entity_L[line] = num_entities
            identity_N[n] = entity_L[line]
