"""Points to features and back."""

from __future__ import annotations

import datetime as dt
import math
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch
from helpers.motion import points_reached
from helpers.strategies import durations_s, longitudes, places
from hypothesis import given
from hypothesis import strategies as st

from model.earth.calendar import calendar_features
from model.earth.geometry import haversine_m, step_between, step_from
from model.features.normaliser import MIN_STEP_S, Normaliser, Quantiles
from model.features.point_features import (
    LAGS,
    NUM_SPATIAL,
    NUM_TEMPORAL,
    point_features,
    steps_of,
)

STEADY = {"p10": 60.0, "p50": 60.0, "p90": 60.0}
STILL = {"p10": 0.0, "p50": 0.0, "p90": 0.0}
WALK = Normaliser.from_json(
    {
        "num_steps": 9,
        "step_s": {"p10": 1.0, "p50": 5.0, "p90": 30.0},
        "speed_mps": {"p10": 0.2, "p50": 1.4, "p90": 4.0},
        "step_m": {"p10": 0.5, "p50": 7.0, "p90": 60.0},
    }
)


def features_of(lon_deg_BT, lat_deg_BT, time_s_BT, normaliser=WALK):
    index_BQ = torch.arange(time_s_BT.shape[1]).expand(time_s_BT.shape)
    calendar_BQK = torch.zeros(*time_s_BT.shape, 8)
    first_BQ = torch.zeros_like(index_BQ)
    return point_features(
        lon_deg_BT, lat_deg_BT, time_s_BT, calendar_BQK, index_BQ, first_BQ, normaliser
    )


def journeys(place):
    points = st.lists(st.tuples(place, durations_s()), min_size=1, max_size=12)
    return points.map(
        lambda rows: torch.tensor([(*at, pause_s) for at, pause_s in rows], dtype=torch.float64).T
    )


@given(journey=journeys(places()))
def test_each_step_leads_from_its_start_to_its_end_even_at_a_pole(journey):
    lon_deg_T, lat_deg_T, pause_s_T = journey
    step_TF = steps_of(lon_deg_T, lat_deg_T, pause_s_T.cumsum(0))
    assert not step_TF[0].any()
    ends = step_from(lon_deg_T[:-1], lat_deg_T[:-1], step_TF[1:, 0], step_TF[1:, 1])
    assert (haversine_m(*ends, lon_deg_T[1:], lat_deg_T[1:]) < 0.001).all()


@given(journey=journeys(st.tuples(longitudes(), st.floats(-89.9, 89.9))))
def test_a_chain_of_steps_leads_back_to_the_points(journey):
    lon_deg_T, lat_deg_T, pause_s_T = journey
    time_s_T = pause_s_T.cumsum(0)
    step_TF = steps_of(lon_deg_T, lat_deg_T, time_s_T)
    back = points_reached(lon_deg_T[0], lat_deg_T[0], time_s_T[0], step_TF)
    assert float(haversine_m(back[0], back[1], lon_deg_T, lat_deg_T).max()) < 0.001
    assert float((back[2] - time_s_T).abs().max()) < 1e-6


@given(step_s=durations_s())
def test_a_normalised_duration_is_the_duration(step_s):
    code = WALK.encode_step_s(torch.tensor(step_s, dtype=torch.float64))
    back_s = math.exp(float(code) * WALK.log_step_scale + WALK.log_step_center) - MIN_STEP_S
    assert back_s == pytest.approx(step_s, rel=1e-12, abs=1e-6)


@given(
    instant_us=st.integers(600_000_000 * 10**6, 2_145_000_000 * 10**6),
    zone=st.sampled_from(["UTC", "Asia/Shanghai", "America/St_Johns", "Europe/Berlin"]),
)
def test_calendar_is_that_of_the_zone(instant_us, zone):
    local = dt.datetime.fromtimestamp(instant_us // 10**6, ZoneInfo(zone))
    turns = [local.weekday() / 7, local.hour / 24, local.minute / 60, local.second / 60]
    waves = [wave(2 * math.pi * turn) for turn in turns for wave in (math.sin, math.cos)]
    calendar = calendar_features(np.array([[instant_us]]), zone)
    assert calendar.shape == (1, 1, 8)
    assert calendar.dtype == np.float32
    np.testing.assert_allclose(calendar[0, 0], waves, atol=1e-6)


def test_normaliser_survives_json():
    assert Normaliser.from_json(WALK.to_json()) == WALK


def test_constant_sampling_and_still_objects_have_scales():
    dull = Normaliser(3, Quantiles(**STEADY), Quantiles(**STILL), Quantiles(**STILL))
    place = torch.zeros(1, 5, dtype=torch.float64)
    features = features_of(place, place, place, dull)  # even without a second between points
    for values in (features.spatial_BQS, features.temporal_BQM, features.velocity_mps_BQLC):
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("wrong", [(1.0, math.nan, 2.0), (-1.0, 0.0, 1.0), (3.0, 2.0, 1.0)])
def test_impossible_quantiles_are_refused(wrong):
    with pytest.raises(ValueError, match="quantiles"):
        Quantiles(*wrong)


@given(start=places(), azimuth_deg=st.floats(0, 360), step_m=st.floats(1e3, 1e5))
def test_going_on_along_the_great_circle_keeps_the_velocity(start, azimuth_deg, step_m):
    azimuth = math.radians(azimuth_deg)
    origin = [torch.tensor(value, dtype=torch.float64) for value in start]
    along = torch.arange(10, dtype=torch.float64) * step_m
    lon_deg_T, lat_deg_T = step_from(*origin, along * math.sin(azimuth), along * math.cos(azimuth))
    time_s_BT = 60.0 * torch.arange(10, dtype=torch.float64).unsqueeze(0)
    features = features_of(lon_deg_T.unsqueeze(0), lat_deg_T.unsqueeze(0), time_s_BT)
    velocity_QLC = features.velocity_mps_BQLC[0].double()
    for index in range(1, 9):
        for lag in range(len(LAGS)):
            east_m, north_m = 60 * velocity_QLC[index, lag]
            ahead = step_from(lon_deg_T[index], lat_deg_T[index], east_m, north_m)
            missed_m = haversine_m(*ahead, lon_deg_T[index + 1], lat_deg_T[index + 1])
            # float32 velocities; near a pole a degree of longitude rounds to more than nothing.
            assert float(missed_m) < 1e-5 * step_m + 0.01


def test_features_come_from_the_own_past():
    generator = torch.Generator().manual_seed(3)
    lon_deg_BT, lat_deg_BT = torch.rand(2, 1, 12, generator=generator, dtype=torch.float64)
    time_s_BT = torch.arange(12, dtype=torch.float64).unsqueeze(0)
    before = features_of(lon_deg_BT, lat_deg_BT, time_s_BT)
    changed_BT = lon_deg_BT.clone()
    changed_BT[:, 7] += 0.1
    after = features_of(changed_BT, lat_deg_BT, time_s_BT)
    assert torch.equal(before.spatial_BQS[:, :7], after.spatial_BQS[:, :7])
    assert not torch.equal(before.spatial_BQS[:, 7], after.spatial_BQS[:, 7])


def test_feature_counts_are_as_declared():
    place = torch.zeros(2, 3, dtype=torch.float64)
    features = features_of(place, place, place)
    assert features.spatial_BQS.shape == (2, 3, NUM_SPATIAL)
    assert features.temporal_BQM.shape == (2, 3, NUM_TEMPORAL)


def test_steps_are_measured_at_their_own_start():
    lon_deg_T = torch.tensor([0.0, 90.0, 90.0], dtype=torch.float64)
    lat_deg_T = torch.tensor([80.0, 80.0, 70.0], dtype=torch.float64)
    step_TF = steps_of(lon_deg_T, lat_deg_T, torch.arange(3, dtype=torch.float64))
    for end in (1, 2):
        start = end - 1
        expected = step_between(lon_deg_T[start], lat_deg_T[start], lon_deg_T[end], lat_deg_T[end])
        assert torch.equal(step_TF[end, :2], torch.stack(expected))
