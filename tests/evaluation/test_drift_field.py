"""Drift field: means as a slow loop finds them, a planted current, and damping beyond train."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

import h3.api.basic_int as h3
import numpy as np
import pytest
import torch
from helpers.past import SPHERE, context_of, flat, paths_of, step_m, walks

from model.baselines.drift_field import PRIOR_STEPS, drift_field, fitted_drift_field, month_of
from model.baselines.forecast import damped_velocity
from model.baselines.windows import Windows
from model.earth.geometry import haversine_m
from model.interface.memory.paths import PastPaths

TARGET_S = torch.tensor([10.0, 40.0], dtype=torch.float64)
JANUARY_US, JULY_US = (
    int(datetime(2024, month, 3, tzinfo=UTC).timestamp()) * 1_000_000 for month in (1, 7)
)


def told(baseline, context, target_s=TARGET_S):
    return baseline.forecast(context, len(target_s), context.last_B1()[2] + target_s)


def test_means_agree_with_a_slow_loop():
    """Two journeys through the same cells, in two months; means are pulled as the page says."""
    trips = walks(1, [50, 50, 40])
    points = flat(trips, JANUARY_US)
    points.instant_us_N[50:100] += JULY_US - JANUARY_US
    found = drift_field(PastPaths.of(points, np.arange(3)), 8, 30.0)
    steps = [
        (
            h3.latlng_to_cell(lat[at], lon[at], 8),
            6 if number == 1 else 0,
            step_m((lat[at], lon[at]), (lat[at + 1], lon[at + 1])),
            time_s[at + 1] - time_s[at],
        )
        for number, (time_s, lon, lat) in enumerate(trips)
        for at in range(len(time_s) - 1)
    ]
    prior_s = PRIOR_STEPS * np.median([step[3] for step in steps])
    sums = defaultdict(lambda: [np.zeros(2), 0.0])
    for cell, month, metres, seconds in steps:
        for key in ((cell, month), (cell, None)):
            sums[key][0] += metres
            sums[key][1] += seconds
    assert found.cell_V.tolist() == sorted({step[0] for step in steps})
    assert len(found.cell_V) > 3
    for number, cell in enumerate(found.cell_V.tolist()):
        metres, seconds = sums[cell, None]
        mean_mps = metres / (seconds + prior_s)
        for month in (0, 3, 6):
            metres, seconds = sums[cell, month]
            expected = (metres + prior_s * mean_mps) / (seconds + prior_s)
            np.testing.assert_allclose(found.drift_mps_VMC[number, month], expected, atol=1e-6)


def test_a_forecast_worked_by_hand():
    """Standing still in a drift of 2 m/s east: 2 (t - tau (1 - exp(-t / tau)))."""
    trips = walks(2, [50])
    field = drift_field(paths_of(trips), 8, 20.0)
    field.drift_mps_VMC[:] = [2.0, 0.0]
    still = [tuple(np.repeat(column[5], 3) for column in trips[0])]
    context = context_of(still, 3)
    found = told(field, context)
    for place, elapsed_s in enumerate((10.0, 40.0)):
        east_m = 2 * (elapsed_s - 20 * (1 - np.exp(-elapsed_s / 20)))
        expected = SPHERE.Direct(still[0][2][0], still[0][1][0], 90, east_m)
        assert float(found.lon_deg_BH[0, place]) == pytest.approx(expected["lon2"], abs=1e-9)
        assert float(found.lat_deg_BH[0, place]) == pytest.approx(expected["lat2"], abs=1e-9)


def test_where_train_never_was_it_is_the_damped_velocity():
    context = context_of(walks(3, [10] * 3, lat_deg=-30.0), 10)
    found = told(drift_field(paths_of(walks(4, [40] * 3)), 6, 25.0), context)
    expected = told(damped_velocity(25.0), context)
    torch.testing.assert_close(found.lon_deg_BH, expected.lon_deg_BH)
    torch.testing.assert_close(found.lat_deg_BH, expected.lat_deg_BH)


def carried(generator, size, started_lon_deg):
    """Carried east at 5 m/s, whatever its own motion at first was: that wears off in 30 s."""
    time_s = np.arange(size) * 10.0
    own_mps = generator.normal(0, 5, 2)
    worn_s = 30 * (1 - np.exp(-np.maximum(time_s - 50, 0) / 30)) + np.minimum(time_s, 50)
    east_m = own_mps[0] * worn_s + 5 * (time_s - worn_s)
    north_m = own_mps[1] * worn_s
    lon_deg = started_lon_deg + np.rad2deg(east_m / 6_371_000)
    return time_s, lon_deg, np.rad2deg(north_m / 6_371_000)


def test_a_planted_current_is_found_and_beats_the_damped_velocity():
    generator = np.random.default_rng(0)
    trips = [carried(generator, 300, generator.uniform(0, 0.1)) for _ in range(40)]
    asked = [carried(generator, 30, generator.uniform(0.02, 0.1)) for _ in range(40)]
    time_s, lon_deg, lat_deg = (
        torch.from_numpy(np.stack(column)[:, 6:]) for column in zip(*asked, strict=True)
    )
    context = context_of(asked, 6)
    is_target = torch.ones_like(time_s, dtype=torch.bool)
    windows = Windows(context, lon_deg, lat_deg, time_s, is_target)
    found = fitted_drift_field(paths_of(trips), windows)

    def error_m(one):
        answer = one.forecast(context, 24, time_s)
        return float(haversine_m(answer.lon_deg_BH, answer.lat_deg_BH, lon_deg, lat_deg).mean())

    damped_m = min(error_m(damped_velocity(tau_s)) for tau_s in np.geomspace(5, 1e4, 40))
    assert len(found.cell_V) > 0
    assert error_m(found) < 0.5 * damped_m
    # Asked about those who stand still, no field at all is chosen.
    first = context.lon_deg_BT[:, -1:].expand(-1, 24), context.lat_deg_BT[:, -1:].expand(-1, 24)
    rest = fitted_drift_field(paths_of(trips), Windows(context, *first, time_s, is_target))
    assert (len(rest.cell_V), rest.tau_s) == (0, 10.0)


def test_rows_do_not_see_each_other():
    trips = walks(5, [40] * 4)
    context, field = context_of(walks(6, [10] * 5), 10), drift_field(paths_of(trips), 7, 25.0)
    together = told(field, context)
    for row in range(5):
        alone = told(field, context.at(slice(row, row + 1)))
        assert alone.lon_deg_BH[0].tolist() == pytest.approx(together.lon_deg_BH[row].tolist())


def test_months_are_those_of_the_calendar():
    days = [
        datetime(year, month, 28, 23, tzinfo=UTC) for year in (1969, 2024) for month in (1, 2, 12)
    ]
    instants = np.array([int(day.timestamp()) * 1_000_000 for day in days])
    assert month_of(instants).tolist() == [day.month - 1 for day in days]
