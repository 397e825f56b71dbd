"""Simple forecasts: exact where their assumption holds, anywhere on the sphere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from geographiclib.geodesic import Geodesic
from hypothesis import assume, given
from hypothesis import strategies as st

from model.baselines.forecast import (
    CONSTANT_VELOCITY,
    CONSTANT_VELOCITY_3,
    LAST_POSITION,
    arrival_velocity_mps,
    damped_velocity,
    fitted_damped_velocity,
    predicted_time_s,
)
from model.earth.constants import EARTH_RADIUS_M
from model.earth.geometry import haversine_m, step_between
from model.evaluation.metrics import ade_m
from model.interface.contexts import Context

SPHERE = Geodesic(EARTH_RADIUS_M, 0)


def great_circle(lon_deg, lat_deg, course_deg, distances_m):
    """Points on one great circle, by another implementation."""
    line = SPHERE.Line(lat_deg, lon_deg, course_deg)
    points = [line.Position(float(metres)) for metres in distances_m]
    lon, lat = [p["lon2"] for p in points], [p["lat2"] for p in points]
    return torch.tensor([lon], dtype=torch.float64), torch.tensor([lat], dtype=torch.float64)


def tensor(*values):
    return torch.tensor([values], dtype=torch.float64)


def split(lon_deg, lat_deg, time_s, num_context):
    """(context, target times, target places)."""
    context = (lon_deg[:, :num_context], lat_deg[:, :num_context], time_s[:, :num_context])
    return context, time_s[:, num_context:], (lon_deg[:, num_context:], lat_deg[:, num_context:])


def known(context):
    """Longitudes, latitudes and times as the context that a baseline is asked about."""
    lon_deg_BT, lat_deg_BT, time_s_BT = context
    started_us_B = torch.zeros(len(time_s_BT), dtype=torch.int64)
    is_pad_BT = torch.zeros_like(time_s_BT, dtype=torch.bool)
    return Context(lon_deg_BT, lat_deg_BT, time_s_BT, started_us_B, "UTC", is_pad_BT)


def places(baseline, context, target_s):
    """Where a baseline puts the points at the target times."""
    found = baseline.forecast(known(context), target_s.shape[1], target_s)
    return found.lon_deg_BH, found.lat_deg_BH


def every_baseline():
    return LAST_POSITION, CONSTANT_VELOCITY, CONSTANT_VELOCITY_3, damped_velocity(60.0)


@given(
    lon_deg=st.floats(-180, 180),
    lat_deg=st.floats(-90, 90),
    course_deg=st.floats(-180, 180),
    speed_mps=st.floats(0.1, 300),
    step_s=st.lists(st.floats(0.5, 600), min_size=8, max_size=8),
)
def test_constant_velocity_is_exact_on_a_great_circle(
    lon_deg, lat_deg, course_deg, speed_mps, step_s
):
    time_s = torch.from_numpy(np.cumsum(step_s))[None]
    track = great_circle(lon_deg, lat_deg, course_deg, speed_mps * time_s[0])
    context, target_s, truth = split(*track, time_s, num_context=4)
    # Two places a hair from a pole lose their course in the digits of degrees.
    assume(float(track[1].abs().max()) < 89.999)
    for baseline in (CONSTANT_VELOCITY, CONSTANT_VELOCITY_3, damped_velocity(math.inf)):
        error_m = haversine_m(*places(baseline, context, target_s), *truth)
        # The context's own digits (1e-9 m a degree's last bit) grow with the ratio of times.
        assert float(error_m.max()) < 0.01


def test_the_course_is_the_one_of_arrival():
    time_s = torch.arange(0, 8, dtype=torch.float64)[None] * 600
    track = great_circle(10, 84, 60, 250 * time_s[0])
    context, target_s, truth = split(*track, time_s, num_context=2)
    assert float(haversine_m(*places(CONSTANT_VELOCITY, context, target_s), *truth).max()) < 0.01
    # Planted fault: the initial course of the last step, kept at its end, leads kilometres astray.
    east_m, north_m = step_between(
        context[0][:, 0], context[1][:, 0], context[0][:, 1], context[1][:, 1]
    )
    right = arrival_velocity_mps(known(context))
    assert abs(float(torch.atan2(east_m, north_m) - torch.atan2(*right))) > math.radians(5)


def test_crossing_a_pole_goes_straight_on():
    time_s = torch.arange(0, 6, dtype=torch.float64)[None]
    track = great_circle(30, 89.9, 0, 5_000 * time_s[0])
    context, target_s, truth = split(*track, time_s, num_context=2)
    assert float(haversine_m(*places(CONSTANT_VELOCITY, context, target_s), *truth).max()) < 0.01
    assert float(track[0][0, -1]) == pytest.approx(-150)


def test_longitudes_stay_in_range_over_the_date_line():
    context = (tensor(179.0, 179.5), tensor(0.0, 0.0), tensor(0.0, 1.0))
    lon_deg, lat_deg = places(CONSTANT_VELOCITY, context, tensor(2.0, 3.0, 4.0))
    assert lon_deg[0].tolist() == pytest.approx([-180.0, -179.5, -179.0])
    assert lat_deg[0].tolist() == pytest.approx([0, 0, 0])


def test_last_position_stands_still():
    context = (tensor(1.0, 2.0), tensor(3.0, 4.0), tensor(0.0, 1.0))
    lon_deg, lat_deg = places(LAST_POSITION, context, tensor(2.0, 9.0))
    assert (lon_deg[0].tolist(), lat_deg[0].tolist()) == ([2.0, 2.0], [4.0, 4.0])


def test_three_steps_are_taken_as_one():
    """A zigzag: its last step points aside, its last three point ahead."""
    context = (tensor(0, 0.001, 0.002, 0.003), tensor(0, 0.0, 0.001, 0.0), tensor(0, 10, 20, 30))
    lon_deg, lat_deg = places(CONSTANT_VELOCITY_3, context, tensor(40.0))
    assert (float(lon_deg), float(lat_deg)) == pytest.approx((0.004, 0.0), abs=1e-9)
    lon_deg, lat_deg = places(CONSTANT_VELOCITY, context, tensor(40.0))
    assert (float(lon_deg), float(lat_deg)) == pytest.approx((0.004, -0.001), abs=1e-9)


def test_steps_without_duration_are_passed_over():
    moving = (tensor(0, 0.001, 0.002, 0.002), tensor(0, 0, 0, 0), tensor(0, 10, 20, 20))
    lon_deg, _ = places(CONSTANT_VELOCITY, moving, tensor(30.0))
    assert float(lon_deg) == pytest.approx(0.003)
    frozen = (tensor(0.0, 1.0, 2.0), tensor(0.0, 0.0, 0.0), tensor(5.0, 5.0, 5.0))
    for baseline in (CONSTANT_VELOCITY, CONSTANT_VELOCITY_3, damped_velocity(60.0)):
        lon_deg, lat_deg = places(baseline, frozen, tensor(6.0, 7.0))
        assert lon_deg[0].tolist() == pytest.approx([2.0, 2.0])
        assert lat_deg[0].tolist() == pytest.approx([0.0, 0.0])


def test_one_point_of_context_stands_still():
    for baseline in every_baseline():
        context = (tensor(1.0), tensor(2.0), tensor(0.0))
        lon_deg, lat_deg = places(baseline, context, tensor(9.0))
        assert (float(lon_deg), float(lat_deg)) == pytest.approx((1.0, 2.0))
    with pytest.raises(ValueError, match="one point"):
        LAST_POSITION.forecast(known(context), 3)


def test_windows_do_not_see_each_other():
    generator = torch.Generator().manual_seed(0)
    lon_deg, lat_deg = torch.rand((2, 6, 9), generator=generator, dtype=torch.float64) * 0.01 + 50
    time_s = torch.arange(9, dtype=torch.float64).expand(6, 9) * 30
    context, target_s, _ = split(lon_deg, lat_deg, time_s, num_context=5)
    for baseline in every_baseline():
        together = places(baseline, context, target_s)
        for row in range(6):
            one = slice(row, row + 1)
            alone = places(baseline, [value[one] for value in context], target_s[one])
            error_m = haversine_m(*(value[one] for value in together), *alone)
            assert float(error_m.max()) < 1e-6  # vector and scalar code round differently


# Damping


@pytest.mark.parametrize("tau_s", [0.5, 20.0, 1e3, 1e9])
def test_damping_is_the_integral_of_the_decaying_speed(tau_s):
    elapsed_s = torch.tensor([0.0, 1.0, 10.0, 100.0], dtype=torch.float64)
    for elapsed, driven in zip(
        elapsed_s.tolist(), damped_velocity(tau_s).driven_s(elapsed_s), strict=True
    ):
        middle = (np.arange(200_000) + 0.5) / 200_000 * elapsed
        expected = float(np.exp(-middle / tau_s).mean() * elapsed)
        assert float(driven) == pytest.approx(expected, rel=1e-6)


def test_the_limits_of_damping_are_the_other_baselines():
    context = (tensor(10.0, 10.01), tensor(60.0, 60.02), tensor(0.0, 30.0))
    target_s = tensor(60.0, 90.0, 600.0)
    velocity, position = CONSTANT_VELOCITY, LAST_POSITION
    for tau_s, other in ((1e12, velocity), (math.inf, velocity), (1e-9, position), (0.0, position)):
        ours, theirs = (places(b, context, target_s) for b in (damped_velocity(tau_s), other))
        assert float(haversine_m(*ours, *theirs).max()) < 1e-3


def windows(tau_s, num_windows=40, num_context=5, num_horizon=12, noise_m=0.0):
    """Windows whose speed decays with a known time constant after the context."""
    generator = np.random.default_rng(5)
    rows = []
    for _ in range(num_windows):
        speed_mps, step_s = generator.uniform(1, 20), generator.uniform(5, 60)
        time_s = step_s * np.arange(1 - num_context, num_horizon + 1)
        driven_s = time_s.copy()
        ahead = time_s > 0
        driven_s[ahead] = damped_velocity(tau_s).driven_s(torch.from_numpy(time_s[ahead])).numpy()
        driven_s = driven_s - driven_s[0] + generator.normal(0, noise_m, len(time_s)) / speed_mps
        start = (generator.uniform(-180, 180), generator.uniform(-80, 80))
        rows.append(
            (*great_circle(*start, generator.uniform(0, 360), speed_mps * driven_s), time_s)
        )
    lon_deg, lat_deg = torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])
    time_s = torch.from_numpy(np.stack([row[2] for row in rows]))
    return split(lon_deg, lat_deg, time_s, num_context)


def fitted(context, lon_deg, lat_deg, target_s):
    """On windows of which every point is a target."""
    is_target = torch.ones_like(target_s, dtype=torch.bool)
    return fitted_damped_velocity(known(context), lon_deg, lat_deg, target_s, is_target)


@pytest.mark.parametrize("tau_s", [3.0, 45.0, 900.0])
def test_the_time_constant_is_recovered(tau_s):
    context, target_s, truth = windows(tau_s)
    found = fitted(context, *truth, target_s)
    assert found.tau_s == pytest.approx(tau_s, rel=1e-3)
    error_m = haversine_m(*places(found, context, target_s), *truth)
    assert float(error_m.mean()) < 0.1


def test_undamped_motion_gives_an_infinite_time_constant():
    context, target_s, truth = windows(math.inf, noise_m=1e-3)
    found = fitted(context, *truth, target_s)
    assert found.tau_s > 1e3 * float(target_s.max())


def test_a_stop_gives_a_time_constant_near_zero():
    context, target_s, truth = windows(0.0)
    assert fitted(context, *truth, target_s).tau_s == 0.0


def test_the_fitted_constant_is_no_worse_than_a_fine_search():
    context, target_s, truth = windows(45.0, noise_m=30.0)
    everything = torch.ones_like(target_s, dtype=torch.bool)

    def error_m(tau_s):
        forecast = places(damped_velocity(tau_s), context, target_s)
        return float(ade_m(haversine_m(*forecast, *truth), everything, 10).mean())

    found = fitted(context, *truth, target_s)
    assert (
        error_m(found.tau_s) <= min(error_m(value) for value in np.geomspace(0.1, 1e5, 300)) + 1e-6
    )


def test_pads_have_no_say_in_the_fit():
    context, target_s, truth = windows(45.0)
    is_target = torch.ones_like(target_s, dtype=torch.bool)
    is_target[::2, 9:] = False  # too short for ten steps: not scored at all
    spoiled = [torch.where(is_target, value, 0.0) for value in (*truth, target_s)]
    found = fitted_damped_velocity(known(context), *spoiled, is_target)
    assert found.tau_s == pytest.approx(45.0, rel=1e-3)
    with pytest.raises(ValueError, match="no window"):
        fitted_damped_velocity(known(context), *truth, target_s, torch.zeros_like(is_target))


def test_predicted_times_go_on_with_the_median_step():
    time_s = tensor(0.0, 10.0, 20.0, 50.0, 60.0)
    assert predicted_time_s(known((time_s, time_s, time_s)), 3)[0].tolist() == [70.0, 80.0, 90.0]
    assert predicted_time_s(known((tensor(0.0, 0.0, 0.0),) * 2 + (tensor(0.0, 10.0, 30.0),)), 1)[
        0
    ].tolist() == [45.0]


def test_every_baseline_has_its_own_name():
    names = [baseline.name for baseline in every_baseline()]
    assert names == ["last_position", "constant_velocity", "constant_velocity_3", "damped_velocity"]


def test_pads_behind_a_context_change_nothing():
    generator = torch.Generator().manual_seed(3)
    lon_deg, lat_deg = torch.rand((2, 4, 6), generator=generator, dtype=torch.float64) * 0.01
    time_s = torch.arange(6, dtype=torch.float64).expand(4, 6) * 30
    whole = known((lon_deg, lat_deg, time_s))
    is_pad = torch.arange(9).expand(4, 9) >= 6
    columns = (lon_deg, lat_deg, time_s)
    padded = Context(
        *(torch.nn.functional.pad(value, (0, 3), value=7.0) for value in columns),
        whole.started_us_B,
        "UTC",
        is_pad,
    )
    for baseline in every_baseline():
        one, other = (baseline.forecast(context, 5) for context in (whole, padded))
        torch.testing.assert_close(one.lon_deg_BH, other.lon_deg_BH)
        torch.testing.assert_close(one.lat_deg_BH, other.lat_deg_BH)
        torch.testing.assert_close(one.time_s_BH, other.time_s_BH)
