"""Trips of a made-up city: people go from their homes to its squares and back."""

from __future__ import annotations

import numpy as np

from model.earth.frame import Frame
from model.interface.trips import Trips

MONDAY_US = 1_704_067_200_000_000  # 2024-01-01T00:00:00Z
SQUARES_M = np.random.default_rng(7).normal(0, 3_000, (6, 2))


def city(seed: int, num_people: int = 30, num_days: int = 3, lon_deg=13.4, lat_deg=52.5) -> Trips:
    """Two trips a day of each person, around 8 and 17 o'clock, at about 8 metres a second."""
    generator = np.random.default_rng(seed)
    places, instants, sizes, entities = [], [], [], []
    for person in range(num_people):
        home_m = generator.normal(0, 2_000, 2)
        for day in range(num_days):
            square_m = SQUARES_M[generator.integers(len(SQUARES_M))]
            for hour, ends in ((8, (home_m, square_m)), (17, (square_m, home_m))):
                trip_m, time_s = trip(generator, *ends)
                started_s = 86_400 * day + 3_600 * (hour + generator.normal(0, 0.5))
                places.append(trip_m)
                instants.append(np.rint(1e6 * (started_s + time_s)).astype(np.int64) + MONDAY_US)
                sizes.append(len(time_s))
                entities.append(person)
    east_m_N, north_m_N = np.concatenate(places).T.copy()
    degrees = Frame(lon_deg, lat_deg).degrees(east_m_N, north_m_N)
    return Trips.of(np.array(sizes), np.concatenate(instants), *degrees, np.array(entities))


def trip(generator: np.random.Generator, start_m, end_m):
    """A bent way with a receiver's noise of 5 m, and the seconds since it began."""
    way_m, speed_mps = np.hypot(*(end_m - start_m)), max(generator.normal(8, 1.5), 2.0)
    num_points = 8 + int(way_m / speed_mps / 30)
    time_s = np.cumsum(generator.uniform(0.5, 1.5, num_points)) * way_m / speed_mps / num_points
    share_T1 = ((time_s - time_s[0]) / (time_s[-1] - time_s[0]))[:, None]
    across = (end_m - start_m)[::-1] * [-1, 1] * generator.normal(0, 0.1)
    bent_m = start_m + share_T1 * (end_m - start_m) + np.sin(np.pi * share_T1) * across
    return bent_m + generator.normal(0, 5, bent_m.shape), time_s - time_s[0]
