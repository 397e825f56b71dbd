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
from model.earth.geometry import haversine_m, step_between, step_from, wrap_lon_deg

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
