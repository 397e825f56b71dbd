"""Paths of train made in memory, and questions about them, for the tests of neighbour baselines."""

from __future__ import annotations

import numpy as np
import torch
from geographiclib.geodesic import Geodesic

from model.earth.constants import EARTH_RADIUS_M
from model.interface.contexts import Context
from model.interface.flat_points import FlatPoints
from model.interface.memory.paths import PastPaths

SPHERE = Geodesic(EARTH_RADIUS_M, 0.0)
STARTED_US = 1_700_000_000_000_000


def walk(generator, num_points, lon_deg=10.0, lat_deg=50.0, speed_mps=8.0):
    """A walk that turns little by little, about 10 s a step: (time_s, lon_deg, lat_deg)."""
    time_s = np.cumsum(generator.integers(5, 16, num_points)).astype(float)
    course_deg = generator.uniform(0, 360) + np.cumsum(generator.normal(0, 15, num_points))
    place = (
        lat_deg + generator.normal(0, 0.004),
        (lon_deg + generator.normal(0, 0.006) + 180) % 360 - 180,
    )
    places = [place]
    for step_s, course in zip(np.diff(time_s), course_deg, strict=False):
        found = SPHERE.Direct(*place, course, speed_mps * step_s)
        place = found["lat2"], found["lon2"]
        places.append(place)
    lat, lon = np.array(places).T
    return time_s, lon, lat


def walks(seed, sizes, **where):
    generator = np.random.default_rng(seed)
    return [walk(generator, size, **where) for size in sizes]


def flat(trips, started_us=STARTED_US):
    """Trips as flat points; trip r begins r hours after the first."""
    path_N = np.repeat(np.arange(len(trips)), [len(trip[0]) for trip in trips])
    time_s_N, lon_deg_N, lat_deg_N = (np.concatenate(column) for column in zip(*trips, strict=True))
    instant_us_N = started_us + path_N * 3_600_000_000 + np.rint(time_s_N * 1e6).astype(np.int64)
    return FlatPoints(path_N, instant_us_N, lon_deg_N, lat_deg_N, np.ones(len(path_N), bool))


def paths_of(trips, entity=None):
    """A memory of trips, each of an entity of its own if none are named."""
    entity_R = np.arange(len(trips)) if entity is None else np.array(entity)
    return PastPaths.of(flat(trips), entity_R)


def context_of(trips, num_points, started_us=STARTED_US + 10**15):
    """The first points of trips, one row each; nobody of train was there then."""
    time_s, lon_deg, lat_deg = (
        torch.from_numpy(np.stack([column[:num_points] for column in columns]))
        for columns in zip(*trips, strict=True)
    )
    started_us_B = torch.full((len(trips),), started_us)
    return Context(lon_deg, lat_deg, time_s, started_us_B, "UTC", torch.zeros_like(lon_deg) > 0)


def place_after(trip, point, elapsed_s):
    """(lat_deg, lon_deg) of a trip some time after one of its points, by another implementation."""
    time_s, lon_deg, lat_deg = trip
    at_s = time_s[point] + elapsed_s
    if at_s >= time_s[-1]:
        return lat_deg[-1], lon_deg[-1]
    before = int(np.searchsorted(time_s, at_s, side="right")) - 1
    line = SPHERE.InverseLine(
        lat_deg[before], lon_deg[before], lat_deg[before + 1], lon_deg[before + 1]
    )
    share = (at_s - time_s[before]) / (time_s[before + 1] - time_s[before])
    found = line.Position(share * line.s13)
    return found["lat2"], found["lon2"]


def step_m(start, end):
    """(east_m, north_m) from one (lat_deg, lon_deg) to another."""
    found = SPHERE.Inverse(*start, *end)
    course = np.deg2rad(found["azi1"])
    return np.array([np.sin(course), np.cos(course)]) * found["s12"]
