"""Steps that a model knows: what a forecast says at sampling rates it was not trained on."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import masked_ships

from model.earth.geometry import EARTH_RADIUS_M
from model.features.normaliser import Normaliser, Quantiles
from model.inference.serving import Params, forecast_points, load_trained, sorted_points

SPEED_MPS, NUM_CONTEXT, NUM_HORIZON = 5.0, 12, 4
INTERVALS_S = (1, 5, 20, 60, 120, 300, 600, 1_200, 3_600, 86_400)
DEG_PER_M = 180 / np.pi / EARTH_RADIUS_M


def sailing(interval_s: float, num_points: int):
    """A constant motion along the equator: seconds and degrees east."""
    elapsed_s = interval_s * np.arange(num_points)
    return elapsed_s, elapsed_s * SPEED_MPS * DEG_PER_M


def asked(trained, interval_s: float, horizon_interval_s: float | None = None):
    """The forecast of a constant motion at given instants, and its share of the true way."""
    elapsed_s, lon_deg = sailing(interval_s, NUM_CONTEXT)
    us = (elapsed_s * 1e6).astype(np.int64)
    points = sorted_points(np.zeros(NUM_CONTEXT, np.int64), us, lon_deg, np.zeros(NUM_CONTEXT))
    ahead_s = (horizon_interval_s or interval_s) * np.arange(1, NUM_HORIZON + 1)
    target_us_RH = (us[-1] + ahead_s * 1e6).astype(np.int64)[None]
    params = Params(horizon=NUM_HORIZON, num_samples=0)
    found = forecast_points(trained, points, params, target_us_RH)
    return found, (found.lon_deg_RH[0, -1] - lon_deg[-1]) / (ahead_s[-1] * SPEED_MPS * DEG_PER_M)


@pytest.mark.parametrize("family", ["chemin", "gru", "patch", "trajfm"])
def test_a_forecast_at_steps_that_training_lacks_says_so(family):
    """From a second to a day a step; training had steps of eight to twelve minutes."""
    store, _shards, model = masked_ships.trained(family)
    trained = load_trained(store.folder(model))
    known = [step_s for step_s in INTERVALS_S if not asked(trained, step_s)[0].is_extrapolated_R[0]]
    assert known == [300, 600, 1_200]


def test_a_constant_motion_goes_on_at_the_steps_of_training():
    """Of `chemin`, which starts from constant motion; hardly trained, it is still near it."""
    store, _shards, model = masked_ships.trained("chemin")
    trained = load_trained(store.folder(model))
    shares = [asked(trained, interval_s)[1] for interval_s in (300, 600, 1_200)]
    assert shares == pytest.approx([1.0] * 3, abs=0.1)


def test_steps_asked_for_count_as_steps_known():
    store, _shards, model = masked_ships.trained("chemin")
    trained = load_trained(store.folder(model))
    shortest_s, longest_s = trained.model.normaliser.known_step_s
    typical_s = trained.model.normaliser.typical_step_s
    assert not asked(trained, typical_s)[0].is_extrapolated_R[0]
    assert asked(trained, typical_s, 3 * longest_s)[0].is_extrapolated_R[0]
    assert asked(trained, shortest_s / 3, typical_s)[0].is_extrapolated_R[0]


def test_a_single_point_has_no_step_to_be_wrong_about():
    store, _shards, model = masked_ships.trained("chemin")
    trained = load_trained(store.folder(model))
    points = sorted_points(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1), np.zeros(1))
    found = forecast_points(trained, points, Params(horizon=1, num_samples=0))
    assert found.is_extrapolated_R.tolist() == [False]


def test_constant_sampling_leaves_room_on_both_sides():
    steady = Quantiles(60.0, 60.0, 60.0)
    shortest_s, longest_s = Normaliser(1, steady, steady, steady).known_step_s
    assert (shortest_s, longest_s) == (30.0, 120.0)
