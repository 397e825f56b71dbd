"""The sphere against an independent geodesic library, and against itself backwards."""

from __future__ import annotations

import math

import pytest
import torch
from geographiclib.geodesic import Geodesic
from helpers.strategies import places
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.earth.constants import EARTH_RADIUS_M
from model.earth.geometry import haversine_m, rhumb_from, step_between, step_from, wrap_lon_deg

SPHERE = Geodesic(EARTH_RADIUS_M, 0)


def degrees(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def nearby(place: tuple[float, float], east_deg: float, north_deg: float) -> tuple[float, float]:
    lon_deg, lat_deg = place
    return lon_deg + east_deg, max(-90.0, min(90.0, lat_deg + north_deg))


@given(a=places(), b=places())
def test_distance_equals_the_geodesic_library(a, b):
    expected_m = SPHERE.Inverse(a[1], a[0], b[1], b[0])["s12"]
    distance_m = float(haversine_m(*degrees(*a, *b)))
    assert distance_m == pytest.approx(expected_m, rel=1e-9, abs=1e-7)


@given(a=places(), east_deg=st.floats(-1e-6, 1e-6), north_deg=st.floats(-1e-6, 1e-6))
def test_short_and_antipodal_distances_keep_their_digits(a, east_deg, north_deg):
    near = nearby(a, east_deg, north_deg)
    expected_m = SPHERE.Inverse(a[1], a[0], near[1], near[0])["s12"]
    assert float(haversine_m(*degrees(*a, *near))) == pytest.approx(expected_m, rel=1e-9, abs=1e-7)
    far = near[0] + 180.0, -near[1]
    expected_m = SPHERE.Inverse(a[1], a[0], far[1], far[0])["s12"]
    assert float(haversine_m(*degrees(*a, *far))) == pytest.approx(expected_m, rel=1e-9)


@given(a=places(), b=places())
def test_step_is_distance_and_azimuth_of_the_geodesic_library(a, b):
    east_m, north_m = (float(part) for part in step_between(*degrees(*a, *b)))
    answer = SPHERE.Inverse(a[1], a[0], b[1], b[0])
    assert math.hypot(east_m, north_m) == pytest.approx(answer["s12"], rel=1e-9, abs=1e-7)
    reached = SPHERE.Direct(a[1], a[0], math.degrees(math.atan2(east_m, north_m)), answer["s12"])
    missed_m = SPHERE.Inverse(b[1], b[0], reached["lat2"], reached["lon2"])["s12"]
    assert missed_m < 1e-6


@given(a=places(), azimuth_deg=st.floats(-180, 180), distance_m=st.floats(0, 2e7))
def test_end_of_a_step_equals_the_geodesic_library(a, azimuth_deg, distance_m):
    azimuth = math.radians(azimuth_deg)
    east_m, north_m = distance_m * math.sin(azimuth), distance_m * math.cos(azimuth)
    lon_deg, lat_deg = (float(part) for part in step_from(*degrees(*a, east_m, north_m)))
    expected = SPHERE.Direct(a[1], a[0], azimuth_deg, distance_m)
    missed_m = SPHERE.Inverse(lat_deg, lon_deg, expected["lat2"], expected["lon2"])["s12"]
    assert missed_m < 1e-6


def held_course(lon_deg: float, lat_deg: float, course_deg: float, way_m: float, num_steps: int):
    """The end of many short geodesics that all begin with the same azimuth."""
    for _ in range(num_steps):
        reached = SPHERE.Direct(lat_deg, lon_deg, course_deg, way_m / num_steps)
        lon_deg, lat_deg = reached["lon2"], reached["lat2"]
    return lon_deg, lat_deg


@pytest.mark.parametrize(
    ("place", "course_deg", "way_m"),
    [
        ((10.0, 50.0), 63.0, 200_000.0),
        ((179.9, -62.0), 118.0, 150_000.0),  # over the date line
        ((-179.9, 60.0), 270.0, 100_000.0),  # along a parallel
        ((5.0, 45.0), 89.9, 300_000.0),
        ((5.0, 45.0), 89.999, 300_000.0),
        ((-74.0, 40.7), 0.0, 50_000.0),
        ((0.0, -0.5), 225.0, 400_000.0),
        ((30.0, 88.0), 20.0, 150_000.0),
    ],
)
def test_a_rhumb_line_is_a_held_course_in_short_geodesics(place, course_deg, way_m):
    """Two sizes of steps tell what is left out between them: the error halves with the step."""
    coarse, fine = (held_course(*place, course_deg, way_m, size) for size in (400, 800))
    turned_deg = (fine[0] - coarse[0] + 180) % 360 - 180
    expected = fine[0] + turned_deg, 2 * fine[1] - coarse[1]
    course = math.radians(course_deg)
    moved_m = way_m * math.sin(course), way_m * math.cos(course)
    lon_deg, lat_deg = (float(part) for part in rhumb_from(*degrees(*place, *moved_m)))
    assert SPHERE.Inverse(lat_deg, lon_deg, expected[1], expected[0])["s12"] < 0.05
    great_circle = [float(part) for part in step_from(*degrees(*place, *moved_m))]
    away_m = SPHERE.Inverse(*great_circle[::-1], expected[1], expected[0])["s12"]
    assert (away_m > 50) == (course_deg != 0)


@given(a=places(), course_deg=st.floats(0, 360), way_m=st.floats(0, 1e6))
def test_a_rhumb_line_leads_back_and_ends_at_a_pole(a, course_deg, way_m):
    course = math.radians(course_deg)
    moved_m = degrees(way_m * math.sin(course), way_m * math.cos(course))
    lon_deg, lat_deg = end = rhumb_from(*degrees(*a), *moved_m)
    assert -180 <= float(lon_deg) < 180
    assert -90 <= float(lat_deg) <= 90
    if abs(a[1]) < 89 and abs(float(lat_deg)) < 89:
        back = rhumb_from(*end, *(-part for part in moved_m))
        assert float(haversine_m(*back, *degrees(*a))) < 1e-3


@given(a=places(), b=places())
def test_a_step_leads_back_to_its_end(a, b):
    a_lon, a_lat, b_lon, b_lat = degrees(*a, *b)
    lon_deg, lat_deg = step_from(a_lon, a_lat, *step_between(a_lon, a_lat, b_lon, b_lat))
    assert float(haversine_m(lon_deg, lat_deg, b_lon, b_lat)) < 0.001
    assert -180 <= float(lon_deg) < 180
    assert -90 <= float(lat_deg) <= 90


def test_a_step_without_length_has_no_direction():
    east_m, north_m = step_between(*degrees(7.0, 51.0, 7.0, 51.0))
    assert (float(east_m), float(north_m)) == (0.0, 0.0)


def test_the_short_way_leads_over_the_date_line():
    east_m, _ = step_between(*degrees(179.5, 0.0, -179.5, 0.0))
    assert float(east_m) == pytest.approx(math.radians(1) * EARTH_RADIUS_M)


@pytest.mark.parametrize(
    ("lon_deg", "expected_deg"), [(180.0, -180.0), (-180.0, -180.0), (540.0, -180.0), (190, -170)]
)
def test_each_meridian_has_one_name(lon_deg, expected_deg):
    assert float(wrap_lon_deg(torch.tensor(lon_deg, dtype=torch.float64))) == expected_deg


def test_shapes_broadcast():
    lon_deg_B1, lat_deg_B1 = torch.zeros(3, 1).double(), torch.zeros(3, 1).double()
    lon_deg_T, lat_deg_T = torch.arange(4).double(), torch.zeros(4).double()
    assert haversine_m(lon_deg_B1, lat_deg_B1, lon_deg_T, lat_deg_T).shape == (3, 4)
