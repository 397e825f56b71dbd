"""Errors of forecasts: pads never count, averages are what their names say."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import torch
from geographiclib.geodesic import Geodesic
from helpers.places import FIXTURES
from hypothesis import given
from hypothesis import strategies as st

from model.earth.constants import EARTH_RADIUS_M
from model.earth.geometry import haversine_m, step_from
from model.evaluation import metrics

PADDED_SCORE = FIXTURES / "padded_steps" / "predictions.csv"


def padded_score():
    """Displacements in plane metres of three trips of five steps, and which steps are real."""
    with PADDED_SCORE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    error = [
        math.hypot(float(r["x_pred"]) - float(r["x_true"]), float(r["y_pred"]) - float(r["y_true"]))
        for r in rows
    ]
    is_valid = [row["valid"] == "1" for row in rows]
    return torch.tensor(error, dtype=torch.float64).view(3, 5), torch.tensor(is_valid).view(3, 5)


def test_padded_steps_are_not_perfect_predictions():
    error_BH, is_target_BH = padded_score()
    assert int(is_target_BH.sum()) == 9
    assert float(error_BH[is_target_BH].mean()) == pytest.approx(14.4444, abs=0.001)
    ade_B = metrics.ade_m(error_BH, is_target_BH)
    assert metrics.mean_over_windows(ade_B) == pytest.approx(13.0222, abs=0.001)
    fde_B = metrics.fde_m(error_BH, is_target_BH)
    assert fde_B.tolist() == pytest.approx([5, 13, 10], abs=0.001)
    assert metrics.mean_over_windows(fde_B) == pytest.approx(9.3333, abs=0.001)
    # A mask that lets pads in gives the wrong answer that was once published.
    everything = torch.ones_like(is_target_BH)
    assert float(error_BH[everything].mean()) == pytest.approx(8.6667, abs=0.001)


def test_the_same_score_on_the_sphere():
    with PADDED_SCORE.open(newline="") as file:
        rows = list(csv.DictReader(file))

    def place(suffix):
        metres = [[float(row[axis + suffix]) for row in rows] for axis in "xy"]
        east_m, north_m = torch.tensor(metres, dtype=torch.float64).view(2, 3, 5)
        return step_from(torch.zeros_like(east_m), torch.zeros_like(east_m), east_m, north_m)

    _, is_target_BH = padded_score()
    error_BH = haversine_m(*place("_pred"), *place("_true"))
    ade_B = metrics.ade_m(error_BH, is_target_BH)
    assert metrics.mean_over_windows(ade_B) == pytest.approx(13.0222, rel=0.006)


@pytest.mark.parametrize("poison", [0.0, 1e9, float("nan"), float("inf")])
@pytest.mark.parametrize("num_steps", [None, 1, 2, 3])
def test_what_stands_in_a_pad_has_no_effect(poison, num_steps):
    error_BH, is_target_BH = padded_score()
    poisoned_BH = torch.where(is_target_BH, error_BH, poison)
    for metric in (metrics.ade_m, metrics.fde_m):
        ours = metric(poisoned_BH, is_target_BH, num_steps)
        torch.testing.assert_close(ours, metric(error_BH, is_target_BH, num_steps), equal_nan=True)


def test_a_window_shorter_than_the_horizon_is_not_scored_there():
    error_BH, is_target_BH = padded_score()
    for metric in (metrics.ade_m, metrics.fde_m):
        assert metric(error_BH, is_target_BH, 3).isnan().tolist() == [False, True, False]
    assert metrics.fde_m(error_BH, is_target_BH, 2)[0] == 10
    assert metrics.ade_m(error_BH, is_target_BH, 2)[0] == 7.5
    nothing = torch.zeros_like(is_target_BH)
    assert metrics.ade_m(error_BH, nothing).isnan().all()
    assert metrics.fde_m(error_BH, nothing).isnan().all()


def test_averages_say_what_they_average():
    value_B = torch.tensor([1.0, 3.0, 5.0, 100.0, math.nan], dtype=torch.float64)
    entity_id_B = ["ship", "ship", "ship", "taxi", "taxi"]
    assert metrics.mean_over_windows(value_B) == 27.25
    assert metrics.mean_over_entities(value_B, entity_id_B) == 51.5
    assert metrics.percentile_over_windows(value_B, 50) == 4
    assert metrics.interval_over_entities(value_B, entity_id_B) == (3, 100)


def test_no_window_at_all_has_no_error():
    none_B, entity_id_B = torch.full((2,), math.nan), ["a", "b"]
    found = [
        metrics.mean_over_windows(none_B),
        metrics.mean_over_entities(none_B, entity_id_B),
        metrics.percentile_over_windows(none_B, 90),
        *metrics.interval_over_entities(none_B, entity_id_B),
    ]
    assert all(math.isnan(value) for value in found)


def test_ids_must_belong_to_values():
    with pytest.raises(ValueError, match="3 values for 2 entity ids"):
        metrics.mean_over_entities(torch.zeros(3), ["a", "b"])


def test_the_interval_is_seeded_and_wider_than_one_over_windows():
    generator = np.random.default_rng(1)
    level_E = generator.normal(100, 20, 30)
    value_B = torch.from_numpy((level_E[:, None] + generator.normal(0, 1, (30, 50))).ravel())
    entity_id_B = [f"entity {number // 50}" for number in range(1_500)]
    low, high = metrics.interval_over_entities(value_B, entity_id_B, seed=3)
    assert (low, high) == metrics.interval_over_entities(value_B, entity_id_B, seed=3)
    assert (low, high) != metrics.interval_over_entities(value_B, entity_id_B, seed=4)
    assert low < float(value_B.mean()) < high
    # Of the mean of 30 levels: twice 1.96 standard errors.
    assert high - low == pytest.approx(2 * 1.96 * level_E.std() / math.sqrt(30), rel=0.15)
    alone = [str(number) for number in range(1_500)]
    flattered = metrics.interval_over_entities(value_B, alone, seed=3)
    assert high - low > 4 * (flattered[1] - flattered[0])


@given(
    lon_a=st.floats(-180, 180), lat_a=st.floats(-90, 90),
    lon_b=st.floats(-180, 180), lat_b=st.floats(-90, 90),
)  # fmt: skip
def test_displacement_is_the_sphere_distance(lon_a, lat_a, lon_b, lat_b):
    expected = Geodesic(EARTH_RADIUS_M, 0).Inverse(lat_a, lon_a, lat_b, lon_b)["s12"]
    places = [
        torch.tensor([[value]], dtype=torch.float64) for value in (lon_a, lat_a, lon_b, lat_b)
    ]
    assert float(haversine_m(*places)) == pytest.approx(expected, abs=0.001)
