"""Places: the local frame against other formulas, ids that are one vocabulary, clipped inputs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.strategies import places as places_deg
from helpers.visits import places_of
from hypothesis import given
from hypothesis import strategies as st

from model.earth.cells import cells_of, centres_of
from model.earth.geometry import middle_of
from model.features.normaliser import Quantiles
from model.features.places import NUM_SPECIAL, Places, Special

RADIUS_M = 6_371_008.8
CELLS = cells_of(np.array([179.99, -179.97, 179.95]), np.array([-17.0, -17.01, -17.0]), 8).tolist()


def vector_of(lon_deg, lat_deg):
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def local_by_vectors(from_deg, to_deg):
    """(east_m, north_m) by the tangent plane: the arc's length along the projection of its end."""
    lon = np.radians(from_deg[0])
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    start, end = vector_of(*from_deg), vector_of(*to_deg)
    north = np.cross(start, east)
    across, along = end @ east, end @ north
    sine = np.hypot(across, along)
    distance_m = RADIUS_M * np.arctan2(sine, start @ end)
    return distance_m * across / sine, distance_m * along / sine


@given(centroid=places_deg(), turn=st.floats(0, 6.28), angle=st.floats(1e-6, 3.0))
def test_the_local_frame_is_that_of_vectors_and_leads_back(centroid, turn, angle):
    there = replace(places_of(CELLS), centroid_lon_deg=centroid[0], centroid_lat_deg=centroid[1])
    away_m = torch.tensor([RADIUS_M * angle], dtype=torch.float64)
    lon_deg, lat_deg = there.degrees(away_m * np.sin(turn), away_m * np.cos(turn))
    expected_m = local_by_vectors(np.array(centroid), (float(lon_deg), float(lat_deg)))
    east_m, north_m = there.local_m(lon_deg, lat_deg)
    assert (float(east_m), float(north_m)) == pytest.approx(expected_m, abs=1e-2, rel=1e-7)
    back = there.degrees(east_m, north_m)
    ends = (vector_of(float(lon_deg), float(lat_deg)), vector_of(*map(float, back)))
    assert RADIUS_M * np.linalg.norm(ends[0] - ends[1]) < 1e-3


def test_ids_are_one_vocabulary_with_the_special_ones_first():
    places = places_of(CELLS)
    assert [*Special] == [0, 1, 2, 3, 4]
    assert (Special.UNKNOWN, Special.PAD) == (0, 4)
    assert places.num_ids == NUM_SPECIAL + 3 == 8
    lon_deg_R, lat_deg_R = centres_of(np.array(CELLS))
    assert places.region_ids(lon_deg_R, lat_deg_R).tolist() == [5, 6, 7]
    assert places.region_ids(np.array([0.0]), np.array([0.0])).tolist() == [Special.UNKNOWN]
    east_m_R, north_m_R = places.centres_m()
    assert not east_m_R[:NUM_SPECIAL].any()
    assert not north_m_R[:NUM_SPECIAL].any()
    found_m = places.local_m(torch.from_numpy(lon_deg_R), torch.from_numpy(lat_deg_R))
    torch.testing.assert_close((east_m_R[NUM_SPECIAL:], north_m_R[NUM_SPECIAL:]), found_m)


def test_places_survive_json_and_refuse_what_does_not_fit_together():
    places = places_of(CELLS)
    assert Places.from_json(json.loads(json.dumps(places.to_json()))) == places
    with pytest.raises(ValueError, match="a region or more"):
        replace(places, cells=places.cells[:2])
    with pytest.raises(ValueError, match="a region or more"):
        replace(places, cells=(), east_m=(), north_m=())


def test_inputs_are_clipped_to_what_train_has_seen():
    places = places_of(CELLS, max_distance_m=1_000.0, max_elapsed_s=60.0)
    metres = torch.tensor([-2_000.0, 5.0, 1_001.0])
    assert places.clipped_m(metres).tolist() == [-1_000.0, 5.0, 1_000.0]
    assert places.clipped_s(torch.tensor([-1.0, 59.0, 61.0])).tolist() == [0.0, 59.0, 60.0]


@pytest.mark.parametrize(
    ("quantiles", "scale_m"),
    [((0, 5_000, 1e6), 5_000), ((0, 0, 1e6), 1_000), ((0, 0, 300), 300), ((0, 0, 0), 1)],
)
def test_the_scale_of_places_is_that_of_most_visits(quantiles, scale_m):
    assert places_of(CELLS, distance_m=Quantiles(*quantiles)).place_scale_m == scale_m


def test_a_middle_is_weighed_knows_no_date_line_and_is_hardly_drawn_far_away():
    def middle(*places_and_weights):
        columns = torch.tensor(places_and_weights, dtype=torch.float64).unbind(1)
        return tuple(map(float, middle_of(*columns)))

    assert middle((179.9, 0.0, 1), (-179.9, 0.0, 1), (-179.8, 0.0, 1)) == pytest.approx((-179.9, 0))
    assert middle((7.0, 51.0, 3), (8.0, 51.0, 2)) == pytest.approx((7.0, 51.0), abs=1e-9)
    assert middle((7.0, 51.0, 2), (8.0, 51.0, 3)) == pytest.approx((8.0, 51.0), abs=1e-9)
    assert middle((7.0, 51.0, 9), (-100.0, 40.0, 3)) == pytest.approx((7.0, 51.0), abs=1e-9)
