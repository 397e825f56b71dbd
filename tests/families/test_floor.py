"""Families on a law whose best answer is known: how near they come, and whether they know it.

The fast tests train for seconds and have wide bounds; the slow ones train for minutes on one core
and are the goal: forecasts within 2 % of the floor and recovery within 5 %, and 80 % areas that
cover 78 to 82 %, those of forecasts with the calibration that a model carries.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.lawful import (
    batch_of_world,
    normaliser_of,
    places_m,
    points_of_world,
    smoothed_m,
    write_shards_of_world,
)
from helpers.process_floors import Ar1Floor
from helpers.walks import context_of

from model.earth.geometry import haversine_m, step_between
from model.families import build
from model.families.chemin.masked import imputation_targets
from model.inference.api import forecast
from model.interface.calibration import Calibration
from model.interface.conformal import conformal_factor, radius_factor
from model.interface.masked_input import masked_input_of
from model.interface.masking import masked, places_of_segments
from model.interface.weights import load_weights
from model.layers.distributions import StepMixture
from model.synthetic.world import World
from model.training.config import FitConfig
from model.training.launch import Training, first_model, run

WORLD = World(kind="ar1", num_points=30)
NUM_CONTEXT, NUM_HORIZON = 20, 10
HORIZONS = (1, 2, 5, 10)
SEEN = 128_000  # trajectories, each once
HELD_OUT, FRESH = 900_000, 1_000_000  # trajectories that no training sees


@cache
def shards_of(num_trajectories):
    """A folder of that many trajectories to learn from, and others to validate on."""
    folder = Path(tempfile.mkdtemp(prefix="floor-"))
    atexit.register(shutil.rmtree, folder)
    num_held_out = min(2_000, num_trajectories // 10)  # ten validations cost less than training
    spans = {"train": (0, num_trajectories), "validation": (HELD_OUT, HELD_OUT + num_held_out)}
    write_shards_of_world(folder, WORLD, spans)
    return folder


@cache
def fitted(family, max_steps, num_trajectories, **changes):
    """A tiny model as the product trains it: its masks, its loader, its engine."""
    config = FitConfig(
        max_steps=max_steps,
        validate_every=max(1, max_steps // 10),
        ema_decay=1 - 10 / max_steps,
        **changes,
    )
    training = Training(str(shards_of(num_trajectories)), family, "tiny", config)
    with tempfile.TemporaryDirectory() as folder:
        result = run(training, Path(folder))
        model = first_model(training)
        load_weights(model, result.weights)
    return model.eval()


def forecast_of(model, points, num_samples):
    """Its answer about the horizon of each trajectory, and how far that is from the truth."""
    context = context_of(*(value[:, :NUM_CONTEXT] for value in points))
    lon_deg_BH, lat_deg_BH, time_s_BH = (value[:, NUM_CONTEXT:] for value in points)
    found = forecast(model, context, NUM_HORIZON, time_s_BH, num_samples, seed=1)
    return found, haversine_m(found.lon_deg_BH, found.lat_deg_BH, lon_deg_BH, lat_deg_BH)


def calibration_of_validation(model, num_samples, number=2_000):
    """Split-conformal factors of each step, as an evaluation fits them and a model carries them."""
    found, away_m_BH = forecast_of(
        model, points_of_world(WORLD, HELD_OUT, HELD_OUT + number), num_samples
    )
    ratio_BH = radius_factor(away_m_BH, found.radius_p80_m_BH)
    factors = {step: conformal_factor(ratio_B, 0.8) for step, ratio_B in enumerate(ratio_BH.T, 1)}
    return Calibration({80: factors})


def forecast_quality(model, num_fresh=4_000, num_samples=512, calibration=Calibration()):
    """By steps ahead: error over that of the Kalman filter after a long past, and coverage."""
    points = points_of_world(WORLD, FRESH, FRESH + num_fresh)
    found, away_m_BH = forecast_of(model, points, num_samples)
    is_within_BH = away_m_BH <= calibration.stretched(found).radius_p80_m_BH
    return {
        steps: (
            float(away_m_BH[:, steps - 1].mean())
            / Ar1Floor.of(WORLD.ar1).displacement_floor_m(steps),
            float(is_within_BH[:, steps - 1].double().mean()),
        )
        for steps in HORIZONS
    }


def place_of(model, batch):
    """p(place) of each asked point, where its density starts, and which points those are."""
    shown = masked_input_of(batch)
    hidden_BTD, near = model.encode(shown)
    if hasattr(near, "has_both_BT"):
        _, asks_BT = imputation_targets(shown, near)
        ahead = near.at(asks_BT)
        place = model.place_head(hidden_BTD[asks_BT], ahead, batch.time_s_BT[asks_BT])
    else:
        asks_BT = shown.is_asked_BT
        ahead = near.at(asks_BT)
        place = model.place_at(hidden_BTD, near, asks_BT, batch.time_s_BT)
    return place, (ahead.lon_deg_BT, ahead.lat_deg_BT), asks_BT


def recovery_quality(model, num_fresh=4_000):
    """Error over that of the smoother of the same windows, and coverage, over all hidden points."""
    points = points_of_world(WORLD, FRESH, FRESH + num_fresh)
    batch = masked(batch_of_world(points, slice(None)), places_of_segments, 7)
    with torch.no_grad():
        place, starts, asks_BT = place_of(model, batch)
        mean_NC, radius_m_N = place.mean(), radius_p80_m(place)
    ends = batch.lon_deg_BT[asks_BT], batch.lat_deg_BT[asks_BT]
    true_NC = torch.stack(step_between(*starts, *ends), dim=-1)
    away_m_N = (mean_NC - true_NC).norm(dim=-1)
    best_BTC, _ = smoothed_m(WORLD, points, batch.shows_place_BT.numpy())
    least_m_BT = np.linalg.norm(best_BTC - places_m(points), axis=-1)
    ratio = float(away_m_N.mean()) / least_m_BT[asks_BT.numpy()].mean()
    return ratio, float((away_m_N <= radius_m_N).double().mean())


def radius_p80_m(place: StepMixture):
    """How far from the mean four fifths of evenly spread draws lie."""
    draw_SE = torch.quasirandom.SobolEngine(3, scramble=True, seed=1).draw(512)
    draw_SE = draw_SE.clamp(1e-6, 1 - 1e-6)
    num = len(place.reach_m)
    away = [
        (place.sample(uniform.expand(num), normal_C.expand(num, 2)) - place.mean()).norm(dim=-1)
        for uniform, normal_C in zip(
            draw_SE[:, 0], torch.special.ndtri(draw_SE[:, 1:]), strict=True
        )
    ]
    return torch.stack(away).quantile(0.8, dim=0)


# ------------------------------------------------------------------ seconds


def test_the_smoother_of_the_past_is_the_filter():
    """What the smoother says of the next point is what the Kalman filter says."""
    points = points_of_world(WORLD, 0, 20)
    is_known_BT = np.zeros((20, WORLD.num_points), bool)
    is_known_BT[:, :NUM_CONTEXT] = True
    mean_BTC, variance_BT = smoothed_m(WORLD, points, is_known_BT)
    filtered_BTC, filtered_T = Ar1Floor.of(WORLD.ar1).one_step(places_m(points))
    np.testing.assert_allclose(
        mean_BTC[:, NUM_CONTEXT], filtered_BTC[:, NUM_CONTEXT - 1], rtol=0, atol=0.01
    )
    assert variance_BT[0, NUM_CONTEXT] == pytest.approx(filtered_T[NUM_CONTEXT - 1], rel=1e-3)


@pytest.mark.parametrize(("family", "max_steps"), [("trajfm", 240), ("patch", 120), ("gru", 120)])
def test_a_forecast_comes_near_the_floor_in_seconds(family, max_steps):
    """A family of several tasks is asked for a forecast in some of its rows alone."""
    model = fitted(family, max_steps, 1_500, batch_size=32, learning_rate=1e-2, warmup_steps=20)
    found = forecast_quality(model, num_fresh=800, num_samples=64)
    for steps, (ratio, coverage) in found.items():
        assert 0.95 < ratio < 1.1, (steps, found)
        assert 0.55 < coverage < 0.95, (steps, found)


@pytest.mark.parametrize("family", ["trajfm", "patch", "gru"])
def test_an_untrained_forecast_is_far_from_the_floor(family):
    torch.manual_seed(0)
    model = build(family, "tiny", normaliser_of(points_of_world(WORLD, 0, 300)))
    found = forecast_quality(model, num_fresh=800, num_samples=1)
    assert min(ratio for ratio, _ in found.values()) > 1.1, found


# ------------------------------------------------------------------ minutes


@pytest.mark.slow
@pytest.mark.parametrize("family", ["trajfm", "patch", "chemin"])
def test_forecasts_reach_the_floor_and_know_it(family):
    model = fitted(family, 2_000, SEEN, learning_rate=7e-3)
    # The step-by-step draws of a rollout even out more slowly than draws that a path shares.
    size = (2_000, 1_024) if family == "chemin" else (4_000, 512)
    found = forecast_quality(model, *size, calibration_of_validation(model, size[1]))
    for steps, (ratio, coverage) in found.items():
        assert 0.98 < ratio < 1.02, (steps, found)
        assert 0.78 <= coverage <= 0.82, (steps, found)


@cache
def recovery_found(family):
    return recovery_quality(fitted(family, 2_000, SEEN, learning_rate=7e-3))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["trajfm", "masked_chemin"])
def test_recovery_reaches_the_floor(family):
    ratio, _ = recovery_found(family)
    assert 0.99 < ratio < 1.05


@pytest.mark.slow
@pytest.mark.parametrize("family", ["trajfm", "masked_chemin"])
def test_recovery_knows_how_far_off_it_is(family):
    _, coverage = recovery_found(family)
    assert 0.78 <= coverage <= 0.82
