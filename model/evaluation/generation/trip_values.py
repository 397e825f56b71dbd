"""Trip values: what a trip, its steps and its days are in numbers.

Shapes: N points, R trips, S steps, K stretches, C coordinates of space, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...earth.arrays import Floats, Ints
from ...earth.calendar import DAY_S, calendar_of
from ...earth.frame import Frame
from ...earth.geometry import step_between
from ...interface.memory.paths import in_space_m
from ...interface.trips import NOBODY, Trips
from .comparison import Values

LEAST_STEP_M, LEAST_STEP_S = 1.0, 1e-3  # below: at rest, without a direction; no time at all
ROAM_M, LEAST_REST_S = 50.0, 60.0  # whoever walks is out of the first before the second is over
QUANTILES = (0.1, 0.5, 0.9)
# The features that tell nothing of when anything was.
OF_PLACES = frozenset(
    {
        *("num_points", "path_m", "gyration_m", "away_m", "straightness", "at_rest"),
        *(f"{end}_{axis}_m" for end in ("start", "end", "mean") for axis in ("east", "north")),
        *(f"step_m_p{100 * share:.0f}" for share in QUANTILES),
        *("mean_turn", "turn_p90", "turns_back"),
    }
)


@dataclass(frozen=True)
class Steps:
    """The steps of trips: east and north in metres at their own starts, and seconds."""

    trip_S: Ints
    east_m_S: Floats
    north_m_S: Floats
    time_s_S: Floats

    @classmethod
    def of(cls, trips: Trips) -> Steps:
        points = trips.points
        (start_S,) = np.nonzero(np.diff(points.trajectory_N) == 0)
        place = torch.from_numpy(points.lon_deg_N), torch.from_numpy(points.lat_deg_N)
        starts, ends = ([axis[start_S + ahead] for axis in place] for ahead in (0, 1))
        east_m_S, north_m_S = (axis.numpy() for axis in step_between(*starts, *ends))
        time_s_S = (points.instant_us_N[start_S + 1] - points.instant_us_N[start_S]) / 1e6
        return cls(points.trajectory_N[start_S], east_m_S, north_m_S, time_s_S)

    @property
    def way_m_S(self) -> Floats:
        way_m_S: Floats = np.hypot(self.east_m_S, self.north_m_S)
        return way_m_S

    @property
    def speed_mps_S(self) -> Floats:
        speed_mps_S: Floats = self.way_m_S / np.maximum(self.time_s_S, LEAST_STEP_S)
        return speed_mps_S


def path_m(trips: Trips, steps: Steps) -> Floats:
    """The length (R) of each trip."""
    return np.asarray(np.bincount(steps.trip_S, steps.way_m_S, len(trips)), float)


def duration_s(trips: Trips) -> Floats:
    """From the first point of each trip to its last (R)."""
    instant_us_N, offset_R = trips.points.instant_us_N, trips.offset_R
    return (instant_us_N[offset_R[1:] - 1] - instant_us_N[offset_R[:-1]]) / 1e6


def gyration_m(trips: Trips) -> Floats:
    """The root mean square distance (R) of the points of each trip from their mean."""
    points = trips.points
    place_m_NC = in_space_m(points.lon_deg_N, points.lat_deg_N)
    # From the first point of each trip: squares of the Earth's radius would leave no digits.
    place_m_NC -= place_m_NC[trips.offset_R[:-1]][points.trajectory_N]
    size_R = np.diff(trips.offset_R)
    mean_m_CR = [np.bincount(points.trajectory_N, axis_m_N) / size_R for axis_m_N in place_m_NC.T]
    square_R = np.bincount(points.trajectory_N, (place_m_NC**2).sum(1)) / size_R
    spread_R: Floats = np.sqrt(np.maximum(square_R - sum(mean_R**2 for mean_R in mean_m_CR), 0.0))
    return spread_R


def rests(trips: Trips) -> Values:
    """How long each rest of a trip lasts, in seconds: a stretch that is near its first point.

    It ends before the first point that is farther away, where the next stretch begins.
    """
    points, first_R, size_R = trips.points, trips.offset_R[:-1], np.diff(trips.offset_R)
    place_m_NC = in_space_m(points.lon_deg_N, points.lat_deg_N)
    begin_N = np.repeat(first_R, size_R)
    for step in range(1, int(size_R.max(initial=0))):
        at_S = first_R[size_R > step] + step
        begin_S = begin_N[at_S - 1]
        away_m_S = np.linalg.norm(place_m_NC[at_S] - place_m_NC[begin_S], axis=1)
        begin_N[at_S] = np.where(away_m_S > ROAM_M, at_S, begin_S)
    (begin_K,) = np.nonzero(begin_N == np.arange(len(begin_N)))
    last_K = np.append(begin_K[1:], len(begin_N)) - 1
    lasts_s_K = (points.instant_us_N[last_K] - points.instant_us_N[begin_K]) / 1e6
    is_rest_K = lasts_s_K >= LEAST_REST_S
    return Values(lasts_s_K[is_rest_K], points.trajectory_N[begin_K[is_rest_K]])


def rest_share(trips: Trips, rest: Values) -> Floats:
    """The share (R) of the time of each trip that it rests."""
    rested_s_R = np.bincount(rest.trip_N, rest.value_N, len(trips))
    share_R: Floats = rested_s_R / np.maximum(duration_s(trips), LEAST_STEP_S)
    return share_R


def start_hour(trips: Trips, zone: str) -> Floats:
    """The hour of the day (R), with its fraction, at which each trip begins."""
    local = calendar_of(trips.points.instant_us_N[trips.offset_R[:-1]], zone)
    return local["hour"] + local["minute"] / 60 + local["second"] / 3_600


def trips_a_day(trips: Trips, zone: str) -> Values:
    """How many trips an entity begins on each local day on which it begins any; nobody has days."""
    first_us_R = trips.points.instant_us_N[trips.offset_R[:-1]]
    local = calendar_of(first_us_R, zone)
    in_day_s_R = 3_600 * local["hour"] + 60 * local["minute"] + local["second"]
    # The midday of the local day in universal time tells days apart in any zone.
    day_R = (first_us_R // 10**6 - in_day_s_R + DAY_S // 2) // DAY_S
    (known,) = np.nonzero(trips.entity_R != NOBODY)
    pairs = np.stack([trips.entity_R[known], day_R[known]], axis=1)
    _, first, number = np.unique(pairs, axis=0, return_index=True, return_counts=True)
    return Values(number.astype(float), known[first])


# Features ---------------------------------------------------------------------------------------


def features(trips: Trips, frame: Frame, zone: str) -> dict[str, Floats]:
    """About thirty numbers (R) of each trip, by their names; NaN where a trip is too short."""
    steps, points = Steps.of(trips), trips.points
    local = calendar_of(points.instant_us_N[trips.offset_R[:-1]], zone)
    east_m_N, north_m_N = frame.metres(points.lon_deg_N, points.lat_deg_N)
    first_R, last_R, size_R = trips.offset_R[:-1], trips.offset_R[1:] - 1, np.diff(trips.offset_R)
    path_m_R, duration_s_R = path_m(trips, steps), duration_s(trips)
    away_m_R = np.hypot(
        east_m_N[last_R] - east_m_N[first_R], north_m_N[last_R] - north_m_N[first_R]
    )
    return {
        "num_points": size_R.astype(float),
        "path_m": path_m_R,
        "duration_s": duration_s_R,
        "gyration_m": gyration_m(trips),
        "away_m": away_m_R,
        "straightness": away_m_R / np.maximum(path_m_R, LEAST_STEP_M),
        "mean_speed_mps": path_m_R / np.maximum(duration_s_R, LEAST_STEP_S),
        "start_hour": start_hour(trips, zone),
        "weekday": local["weekday"].astype(float),
        "start_east_m": east_m_N[first_R],
        "start_north_m": north_m_N[first_R],
        "end_east_m": east_m_N[last_R],
        "end_north_m": north_m_N[last_R],
        "mean_east_m": np.bincount(points.trajectory_N, east_m_N) / size_R,
        "mean_north_m": np.bincount(points.trajectory_N, north_m_N) / size_R,
        **_of_steps(steps, len(trips)),
        **_of_turns(steps, len(trips)),
    }


def _of_steps(steps: Steps, num_trips: int) -> dict[str, Floats]:
    told = {"step_m": steps.way_m_S, "step_s": steps.time_s_S, "speed_mps": steps.speed_mps_S}
    found = {
        f"{name}_p{100 * share:.0f}": quantile_of_trips(value_S, steps.trip_S, num_trips, share)
        for name, value_S in told.items()
        for share in (*QUANTILES, *((1.0,) if name == "speed_mps" else ()))
    }
    at_rest_S = (steps.way_m_S < LEAST_STEP_M).astype(float)
    return found | {"at_rest": mean_of_trips(at_rest_S, steps.trip_S, num_trips)}


def _of_turns(steps: Steps, num_trips: int) -> dict[str, Floats]:
    """How far trips turn between steps that have a direction, and how their speed changes."""
    is_turn_S = np.diff(steps.trip_S) == 0
    trip_T = steps.trip_S[1:][is_turn_S]
    change_mps_T = np.diff(steps.speed_mps_S)[is_turn_S]
    moves_S = steps.way_m_S >= LEAST_STEP_M
    course_S = np.arctan2(steps.east_m_S, steps.north_m_S)
    turn_S = np.abs((np.diff(course_S) + np.pi) % (2 * np.pi) - np.pi)
    has_course_T = (moves_S[1:] & moves_S[:-1])[is_turn_S]
    turn_T, turning_T = turn_S[is_turn_S][has_course_T], trip_T[has_course_T]
    return {
        "mean_turn": mean_of_trips(turn_T, turning_T, num_trips),
        "turn_p90": quantile_of_trips(turn_T, turning_T, num_trips, 0.9),
        "turns_back": mean_of_trips((turn_T > np.pi / 2).astype(float), turning_T, num_trips),
        "speed_change_mps": np.sqrt(mean_of_trips(change_mps_T**2, trip_T, num_trips)),
    }


def mean_of_trips(value_S: Floats, trip_S: Ints, num_trips: int) -> Floats:
    """The mean (R) of the values of each trip; NaN of one that has none."""
    number_R = np.bincount(trip_S, minlength=num_trips)
    total_R = np.bincount(trip_S, value_S, num_trips)
    return np.where(number_R > 0, total_R / np.maximum(number_R, 1), np.nan)


def quantile_of_trips(value_S: Floats, trip_S: Ints, num_trips: int, share: float) -> Floats:
    """The value (R) at a share of each trip's values in their order; NaN of one that has none."""
    sorted_S = value_S[np.lexsort((value_S, trip_S))]
    number_R = np.bincount(trip_S, minlength=num_trips)
    place_R = np.cumsum(number_R) - number_R + np.rint(share * (number_R - 1)).astype(np.int64)
    found_R = np.full(num_trips, np.nan)
    found_R[number_R > 0] = sorted_S[place_R[number_R > 0]]
    return found_R
