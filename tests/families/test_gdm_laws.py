"""gdm on laws that are known: Gaussians of one step, and an autoregression of steps.

The fast tests train for seconds, the slow ones for minutes on one core. Of the autoregression
recovery is to come within 5 % of the smoother, and the areas of four fifths of the samples are to
hold 78 to 82 % of the truth.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.lawful import batch_of_world, normaliser_of, places_m, points_of_world, smoothed_m
from helpers.motion import points_reached
from helpers.walks import batch_of
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from model.earth.geometry import haversine_m
from model.families.gdm import network
from model.families.gdm.network import PRESETS, Gdm, start_or_some
from model.families.gdm.steps import KnownSteps, known_steps
from model.features.point_features import steps_of
from model.interface.batch import Cursor
from model.interface.masked_input import masked_input_of
from model.interface.masking import from_start, masked, places_of_segments
from model.interface.weights import load_weights
from model.synthetic.world import World
from model.training.averaging import AveragedWeights
from model.training.config import FitConfig, learning_rate
from model.training.fit import fit

TINY = PRESETS["tiny"]  # as the product trains it: with controls
MEAN_M = np.array([20.0, -10.0])
COVARIANCE_M2 = np.array([[400.0, 150.0], [150.0, 225.0]])


def learnt(model, batches, config):
    """The mean of the weights over the steps of a training, of batches by their step."""
    average = AveragedWeights(model, config.ema_decay)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay)
    for step in range(config.max_steps):
        optimiser.param_groups[0]["lr"] = learning_rate(step, config)
        optimiser.zero_grad()
        model.loss(batches(step)).mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimiser.step()
        average.take_in(step + 1)
    return average.model.eval()


# ------------------------------------------------------------------ Gaussians


def batch_of_steps(step_m_NC):
    """Trajectories of one step each, of ten seconds."""
    step_NTF = np.zeros((len(step_m_NC), 2, 3))
    step_NTF[:, 1] = np.column_stack([step_m_NC, np.full(len(step_m_NC), 10.0)])
    start_N = torch.zeros(len(step_m_NC), dtype=torch.float64)
    return batch_of(*points_reached(start_N, start_N, start_N, torch.from_numpy(step_NTF)))


def gaussian_steps(num):
    """Steps whose mean and covariance are exactly those of the law."""
    drawn_NC = np.random.default_rng(0).standard_normal((num, 2))
    drawn_NC -= drawn_NC.mean(axis=0)
    own = np.linalg.cholesky(np.cov(drawn_NC.T, bias=True))
    law = np.linalg.cholesky(COVARIANCE_M2)
    return MEAN_M + drawn_NC @ np.linalg.inv(own).T @ law.T


@cache
def gaussian_model(max_steps):
    step_m_NC = gaussian_steps(1_024)
    torch.manual_seed(0)
    whole = batch_of_steps(step_m_NC)
    points = whole.lon_deg_BT, whole.lat_deg_BT, whole.time_s_BT
    model = Gdm(replace(TINY, num_layers=1), normaliser_of(points))
    model.fit_inputs([whole])
    parts = [masked(whole.part(row, row + 128), from_start, 0) for row in range(0, 1_024, 128)]

    def batches(step):
        return replace(parts[step % len(parts)], cursor=Cursor(step // len(parts), 1))

    config = FitConfig(
        max_steps=max_steps, warmup_steps=20, learning_rate=1e-2, ema_decay=1 - 4 / max_steps
    )
    return learnt(model, batches, config)


@torch.no_grad()
def check_moments(model, num):
    """Mean and covariance of generated steps within three standard errors of the law's."""
    found = model.generate(num, 2, seed=5)
    step_m_NC = steps_of(found.lon_deg_NT, found.lat_deg_NT, found.time_s_NT)[:, 1, :2].numpy()
    deviation_m_C = np.sqrt(np.diag(COVARIANCE_M2))
    error_m_C = np.abs(step_m_NC.mean(axis=0) - MEAN_M)
    assert (error_m_C < 3 * deviation_m_C / np.sqrt(num)).all(), error_m_C
    square_CC = np.outer(deviation_m_C**2, deviation_m_C**2) + COVARIANCE_M2**2
    error_m2_CC = np.abs(np.cov(step_m_NC.T) - COVARIANCE_M2)
    assert (error_m2_CC < 3 * np.sqrt(square_CC / num)).all(), error_m2_CC
    assert float((found.time_s_NT[:, 1] - 10).abs().max()) < 0.5


def test_samples_of_a_gaussian_have_its_moments():
    model = gaussian_model(240)
    check_moments(model, 3_000)
    untrained = Gdm(model.config, model.normaliser)
    with pytest.raises(AssertionError):
        check_moments(untrained, 3_000)


def test_the_one_answer_is_the_mean():
    model = gaussian_model(240)
    batch = masked(batch_of_steps(gaussian_steps(4)), from_start, 0)
    with torch.no_grad():
        code_BTF = model.mean_code(known_steps(masked_input_of(batch), model.code))
    step_m_BC = model.code.decode(code_BTF)[:, 1, :2].numpy()
    np.testing.assert_allclose(step_m_BC, np.tile(MEAN_M, (4, 1)), rtol=0, atol=2.5)


@pytest.mark.slow
def test_many_samples_of_a_gaussian_cannot_be_told_from_its_own():
    """By their moments, nor by boosted trees that try to tell them apart."""
    model = gaussian_model(600)
    check_moments(model, 5_000)
    with torch.no_grad():
        found = model.generate(5_000, 2, seed=6)
    made = steps_of(found.lon_deg_NT, found.lat_deg_NT, found.time_s_NT)[:, 1, :2].numpy()
    own = np.random.default_rng(1).multivariate_normal(MEAN_M, COVARIANCE_M2, 5_000)
    is_made_N = np.repeat([True, False], 5_000)
    told_N = cross_val_predict(
        HistGradientBoostingClassifier(max_iter=50, random_state=0),
        np.concatenate([made, own]),
        is_made_N,
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        method="predict_proba",
    )[:, 1]
    assert roc_auc_score(is_made_N, told_N) == pytest.approx(0.5, abs=0.02)


# ------------------------------------------------------------------ an autoregression

WORLD = World(kind="ar1", num_points=30)
SEEN, BATCH, MAX_STEPS = 166_400, 64, 2_600  # each trajectory once
HELD_OUT, FRESH = 900_000, 1_000_000  # trajectories from here on are seen by no training


@cache
@torch.enable_grad()  # whoever asks first may not want gradients
def ar1_model():
    """`tiny` as the product's engine trains it: with validation, and the mean of its weights."""
    points = points_of_world(WORLD, 0, SEEN)
    torch.manual_seed(0)
    model = Gdm(TINY, normaliser_of(points))
    model.fit_inputs([batch_of_world(points, slice(0, 4_000))])

    def batches(cursor):
        for number in range(cursor.batch, MAX_STEPS):
            batch = batch_of_world(points, slice(number * BATCH, (number + 1) * BATCH))
            yield masked(replace(batch, cursor=Cursor(0, number + 1)), start_or_some, 0)

    def validation():
        held_out = points_of_world(WORLD, HELD_OUT, HELD_OUT + 2_000)
        return [masked(batch_of_world(held_out, slice(None)), start_or_some, 0)]

    config = FitConfig(
        max_steps=MAX_STEPS, validate_every=200, learning_rate=2e-3, ema_decay=1 - 20 / MAX_STEPS
    )
    with tempfile.TemporaryDirectory() as folder:
        load_weights(model, fit(model, batches, validation, config, Path(folder)).weights)
    return model.eval()


def hidden_places(num):
    points = points_of_world(WORLD, FRESH, FRESH + num)
    return points, masked(batch_of_world(points, slice(None)), places_of_segments, 7)


@pytest.mark.slow
@torch.no_grad()
def test_recovery_comes_near_the_smoother():
    points, batch = hidden_places(2_000)
    found = ar1_model().recover(batch)
    asked_BT = found.is_recovered_BT
    away_m_BT = haversine_m(found.lon_deg_BT, found.lat_deg_BT, batch.lon_deg_BT, batch.lat_deg_BT)
    best_BTC, _ = smoothed_m(WORLD, points, batch.shows_place_BT.numpy())
    least_m_BT = np.linalg.norm(best_BTC - places_m(points), axis=-1)
    ratio = float(away_m_BT[asked_BT].mean()) / least_m_BT[asked_BT.numpy()].mean()
    assert 0.99 < ratio < 1.05, ratio


@torch.no_grad()
def check_calibration(model, num, room):
    """Areas of four fifths hold as many truths, within `room`, and samples differ as they should.

    That is, by the deviation of a coordinate that the smoother tells, within a twentieth.
    """
    points, batch = hidden_places(num)
    lon_deg_BGT, lat_deg_BGT, _ = model.paths(masked_input_of(batch), 64, seed=3)
    is_hidden_BT, truth = batch.is_target_BT, (batch.lon_deg_BT, batch.lat_deg_BT)
    center, sample = ((lon_deg_BGT[:, g], lat_deg_BGT[:, g]) for g in (slice(1), slice(1, None)))
    radius_m_BT = haversine_m(*center, *sample).quantile(0.8, dim=1)
    away_m_BT = haversine_m(*(value_BGT[:, 0] for value_BGT in center), *truth)
    held = float((away_m_BT <= radius_m_BT)[is_hidden_BT].double().mean())
    middle = (value_BGT.mean(1, keepdim=True) for value_BGT in sample)
    square_m2_BT = haversine_m(*middle, *sample).square().sum(1) / (2 * 63)
    _, best_m2_BT = smoothed_m(WORLD, points, batch.shows_place_BT.numpy())
    best_m2 = best_m2_BT[is_hidden_BT.numpy()].mean()
    spread = float(square_m2_BT[is_hidden_BT].mean() / best_m2) ** 0.5
    assert abs(held - 0.8) <= room, (held, spread)
    assert spread == pytest.approx(1, abs=0.05), (held, spread)


@pytest.mark.slow
def test_recovery_tells_how_far_off_it_is():
    check_calibration(ar1_model(), 300, 0.02)


def with_noise(share):
    """What is hidden begins too near to zero, or at it as in the published code."""
    own = network.sample_noise
    return lambda *given: share * own(*given)


def held_clean(known, x_BTF, time, noise_BTF):
    """What is known is put beside x_t without its noise, as in the published code."""
    freed_BTF = known.freed(x_BTF) + known.told_BTF - known.freed(known.told_BTF)
    return torch.where(known.hides_BTF, freed_BTF, known.told_BTF)


@pytest.mark.slow
def test_who_is_too_sure_is_found_out(monkeypatch):
    model = ar1_model()
    check_calibration(model, 60, 0.1)
    for share in (0.5, 0.0):
        with monkeypatch.context() as patch:
            patch.setattr(network, "sample_noise", with_noise(share))
            with pytest.raises(AssertionError):
                check_calibration(model, 60, 0.1)
    repainted = Gdm(replace(model.config, conditioning="repainted"), model.normaliser).eval()
    repainted.load_state_dict(model.state_dict())
    monkeypatch.setattr(KnownSteps, "painted", held_clean)
    with pytest.raises(AssertionError):
        check_calibration(repainted, 60, 0.1)


@pytest.mark.slow
@torch.no_grad()
def test_made_up_steps_follow_the_law():
    """Mean, mean square and product of neighbours: of codes, whose variance over train is 1."""
    num, model = 1_000, ar1_model()
    found = model.generate(num, WORLD.num_points, seed=1)
    made = moments_of(model, (found.lon_deg_NT, found.lat_deg_NT, found.time_s_NT))
    real = moments_of(model, points_of_world(WORLD, FRESH, FRESH + num))
    assert float((made - real).abs().max()) < 0.15, (made, real)


def moments_of(model, points):
    """Of all trajectories together, (3, F)."""
    code_NTF = model.code.encode(steps_of(*points)[:, 1:])
    products = (code_NTF, code_NTF**2, code_NTF[:, 1:] * code_NTF[:, :-1])
    return torch.stack([value_NTF.mean((0, 1)) for value_NTF in products])
