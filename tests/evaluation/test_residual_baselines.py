"""Forecast baselines that stand on damped velocity: each agrees with an independent fit."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import masked_ships, ships
from helpers.plane_windows import lags_mps, plane_windows, walks
from scipy.integrate import solve_ivp
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import QuantileRegressor

from model.baselines import trees
from model.baselines.forecast import damped_velocity
from model.baselines.linear import LinearResidual
from model.baselines.one_thread import one_thread
from model.baselines.place import PlaceRegression, place_features
from model.baselines.residual import LAGS, ResidualForecast, at_leads, chosen, leads
from model.baselines.reverting import Lanes, MeanRevertingVelocity, lane_keys
from model.baselines.trees import BoostedTrees
from model.data.shards import Shards
from model.earth.geometry import haversine_m
from model.evaluation.fitted_baselines import (
    EXPERTS,
    FORECASTS,
    GENERAL,
    RECOVERIES,
    TRAVEL_TIMES,
    UnknownBaselineError,
    fitted_baselines,
)
from model.features.least_absolute import SMOOTHING, least_absolute
from model.interface.contexts import Context
from tasks.config.datasets import DATASETS, dataset_named
from tasks.config.pipeline import AssessConfig, PipelineConfig
from tasks.runtime.store import Store

FORECAST = ["forecast"]
CONTEXT, DAMPED = 6, damped_velocity(400.0)


@pytest.fixture(autouse=True)
def on_one_thread():
    """As all fits of the product."""
    with one_thread():
        yield


RESIDUALS = {
    one.name: one for one in (LinearResidual, PlaceRegression, MeanRevertingVelocity, BoostedTrees)
}


def fitted(name, seed=0, **how):
    """A baseline fitted on walks."""
    train, validation = (plane_windows(*walks(seed + k, **how), CONTEXT) for k in (0, 1))
    return fitted_on(name, train, validation)


def fitted_on(name, train, validation):
    more = {"mean_reverting_velocity": (6,), "boosted_trees": (0,)}
    return RESIDUALS[name].fit(train, validation, DAMPED, *more.get(name, ()))


def places(baseline, windows):
    found = baseline.forecast(windows.context, windows.time_s_BH.shape[1], windows.time_s_BH)
    return found.lon_deg_BH, found.lat_deg_BH


def moved_m(baseline, windows):
    """Where a baseline leads to, in the plane of the last known point."""
    lon_deg_BH, lat_deg_BH = places(baseline, windows)
    return replace(windows, lon_deg_BH=lon_deg_BH, lat_deg_BH=lat_deg_BH).moved_m_BHC.numpy()


# Least absolute distance ------------------------------------------------------------------------


def problem(seed, num_rows=80, num_weights=4):
    generator = np.random.default_rng(seed)
    design = generator.normal(size=(num_rows, num_weights, 2)) * [[1], [5], [0.2], [40]]
    wanted = np.einsum("npc,p->nc", design, [1.0, -0.5, 3.0, 0.02])
    wanted += generator.standard_t(1.5, size=wanted.shape)
    return torch.from_numpy(design), torch.from_numpy(wanted)


def only(found):
    (weight_P,) = found
    return weight_P


@pytest.mark.parametrize("strength", [0.01, 0.3, 3.0])
def test_the_fit_is_the_least_of_its_objective(strength):
    design, wanted = problem(1)
    smooth = SMOOTHING * float(wanted.norm(dim=1).mean())
    x, y = design.numpy(), wanted.numpy()
    curvature = ((x**2).sum(2) / np.sqrt((y**2).sum(1) + smooth**2)[:, None]).sum(0)

    def objective(weight):
        miss = y - np.einsum("npc,p->nc", x, weight)
        distance = np.sqrt((miss**2).sum(1) + smooth**2)
        return distance.sum() + strength / 2 * (curvature * weight**2).sum()

    found = minimize(objective, np.zeros(4), method="BFGS", options={"gtol": 1e-6})
    ours = only(least_absolute(design, wanted, [strength])).numpy()
    assert objective(ours) <= found.fun * (1 + 1e-6)
    np.testing.assert_allclose(ours, found.x, rtol=5e-3, atol=5e-4)


def test_in_one_dimension_it_is_the_regression_to_the_median():
    design, wanted = (value[..., :1] for value in problem(2))
    x, y = design.numpy()[..., 0], wanted.numpy()[:, 0]
    median = QuantileRegressor(quantile=0.5, alpha=0, fit_intercept=False).fit(x, y)
    ours = only(least_absolute(design, wanted, [1e-9])).numpy()
    least = np.abs(y - x @ median.coef_).sum()
    assert np.abs(y - x @ ours).sum() == pytest.approx(least, rel=1e-3)


def test_infinite_strength_no_rows_and_nothing_to_tell_leave_zeros():
    design, wanted = problem(3)
    for rows, strength in ((wanted, math.inf), (torch.zeros_like(wanted), 0.1)):
        assert only(least_absolute(design, rows, [strength])).tolist() == [0.0] * 4
    assert only(least_absolute(design[:0], wanted[:0], [0.1])).tolist() == [0.0] * 4
    # A column that is always zero, and one that stands there twice, have an answer.
    design[:, 0] = 0
    design[:, 1] = design[:, 2]
    weight = only(least_absolute(design, wanted, [0.01]))
    assert bool(weight.isfinite().all())
    assert float(weight[1]) == pytest.approx(float(weight[2]))


# Leads ------------------------------------------------------------------------------------------


def test_values_stand_at_leads_and_between_them():
    value_LK = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    lead = torch.tensor([[0.5, 1.0, 1.5, 2.0, 2.25, 3.0, 9.0]])
    found = at_leads(value_LK, lead)
    assert found[0, :, 0].tolist() == [1, 1, 1.5, 2, 2.5, 4, 4]
    assert found[0, :, 1].tolist() == [10, 10, 15, 20, 25, 40, 40]


def test_a_lead_is_told_in_median_steps():
    zero = torch.zeros(3, 4, dtype=torch.float64)
    time_s = torch.tensor([[0, 10, 30, 40], [0, 0, 0, 0], [5, 0, 0, 0]], dtype=torch.float64)
    is_pad = torch.tensor([[False] * 4, [False] * 4, [False, True, True, True]])
    context = Context(zero, zero, time_s, torch.zeros(3, dtype=torch.int64), "UTC", is_pad)
    elapsed_s = torch.tensor([[10.0, 25.0]] * 3, dtype=torch.float64)
    assert leads(context, elapsed_s).tolist() == [[1, 2.5], [1e9, 1e9], [1, 1]]
    assert leads(context.at(slice(1)).latest(1), elapsed_s[:1]).tolist() == [[1, 1]]


@pytest.mark.parametrize("name", RESIDUALS)
def test_any_horizon_and_any_times_are_answered_alike(name):
    baseline = fitted(name)
    windows = plane_windows(*walks(7, num_horizon=12), CONTEXT)
    whole = places(baseline, windows)
    for steps in ([1], [4], [0, 2], [11]):  # the last lies far behind what was fitted
        part = windows.at(slice(None))
        part = replace(
            part,
            **{
                key: getattr(part, key)[:, steps]
                for key in ("lon_deg_BH", "lat_deg_BH", "time_s_BH", "is_target_BH")
            },
        )
        away_m = haversine_m(*places(baseline, part), *(value[:, steps] for value in whole))
        assert float(away_m.max()) < 1e-3
    predicted = baseline.forecast(windows.context, 12)
    assert float(haversine_m(predicted.lon_deg_BH, predicted.lat_deg_BH, *whole).max()) < 1e-3


@pytest.mark.parametrize("name", RESIDUALS)
def test_what_stands_still_or_is_one_point_has_a_finite_forecast(name):
    baseline = fitted(name)
    path_m, time_s = np.zeros((2, 11, 2)), np.tile(60.0 * np.arange(11), (2, 1))
    time_s[1, :6] = 0
    windows = plane_windows(path_m, time_s, CONTEXT)
    for context in (windows.context, windows.context.latest(1)):
        found = baseline.forecast(context, 5, windows.time_s_BH)
        assert bool(found.lon_deg_BH.isfinite().all() & found.lat_deg_BH.isfinite().all())


# What all of them promise -----------------------------------------------------------------------


@pytest.mark.parametrize("name", RESIDUALS)
@pytest.mark.parametrize("turn_deg", [0.0, 15.0])
def test_no_step_of_validation_is_worse_than_damped_velocity(name, turn_deg):
    """Train turns left, validation right: what is learned there is of no use, and is not told."""
    train = plane_windows(*walks(0, turn_deg=-15), CONTEXT)
    validation = plane_windows(*walks(1, num_windows=25, turn_deg=turn_deg), CONTEXT)
    baseline = fitted_on(name, train, validation)
    ours, bar = (validation.mean_miss_m_H(one) for one in (baseline, DAMPED))
    assert bool((ours <= bar + 1e-6).all())
    if turn_deg == 15 and name == "boosted_trees":
        assert float(baseline.share_L.max()) == 0
        believed = replace(baseline, share_L=torch.ones(1, dtype=torch.float64))
        assert bool((validation.mean_miss_m_H(believed) > bar).all())


class Astray(LinearResidual):
    """The fault: a residual that leads a kilometre astray at every second step."""

    def residual_m(self, context, elapsed_s_BH):
        residual_m = torch.zeros(*elapsed_s_BH.shape, 2, dtype=torch.float64)
        residual_m[:, 1::2] = 1_000
        return residual_m


def test_the_choice_leaves_out_the_leads_that_are_worse():
    validation = plane_windows(*walks(1), CONTEXT)
    astray = Astray(damped=DAMPED, weight_LP=torch.zeros(1, 7))
    miss_m = validation.mean_miss_m_H(astray)
    assert bool((miss_m[1::2] > validation.mean_miss_m_H(DAMPED)[1::2]).all())
    found = chosen([astray], validation)
    assert found.share_L.tolist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("name", ["linear_residual", "boosted_trees"])
def test_a_turned_and_moved_trajectory_is_forecast_turned_and_moved(name):
    baseline = fitted(name, turn_deg=5)
    assert float(baseline.share_L.max()) > 0
    windows = plane_windows(*walks(4, turn_deg=5), CONTEXT)
    turn = Rotation.from_euler("xyz", [40, -25, 100], degrees=True)

    def turned(lon_deg, lat_deg):
        lon, lat = np.radians(lon_deg.numpy()), np.radians(lat_deg.numpy())
        vector = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)
        x, y, z = np.moveaxis(turn.apply(vector.reshape(-1, 3)).reshape(vector.shape), -1, 0)
        angles = (np.arctan2(y, x), np.arctan2(z, np.hypot(x, y)))
        return tuple(torch.from_numpy(np.degrees(angle)) for angle in angles)

    context = windows.context
    lon_deg_BT, lat_deg_BT = turned(context.lon_deg_BT, context.lat_deg_BT)
    other = replace(context, lon_deg_BT=lon_deg_BT, lat_deg_BT=lat_deg_BT)
    expected = turned(*places(baseline, windows))
    away_m_BH = haversine_m(*places(baseline, replace(windows, context=other)), *expected)
    # A tree's threshold may lie within rounding of a velocity: nearly all, not all, are equal.
    assert float((away_m_BH < 1e-3).double().mean()) > 0.99


def test_only_train_and_validation_decide(tmp_path):
    def forecasts(**sizes):
        store = Store(tmp_path / str(len(sizes)))
        shards = Shards.open(store.folder(ships.stored_shards(store, sizes=ships.SIZES | sizes)))
        experts = fitted_baselines(shards, FORECAST, 6, 0, tuple(FORECASTS))[4:]
        windows = plane_windows(*walks(0, num_context=8, num_horizon=4), 8)
        return {one.name: torch.stack(places(one, windows)) for one in experts}

    every, fewer = forecasts(), forecasts(test=3)
    assert [*every] == [*FORECASTS]
    for name in every:
        assert torch.equal(every[name], fewer[name]), name


def test_rows_of_datasets_name_baselines_that_there_are():
    for row in DATASETS.values():
        assert {*row.baselines} <= {*EXPERTS}, row.name
        assert len({*row.baselines}) == len(row.baselines)
    assert dataset_named("own_ferries").baselines == GENERAL
    storms = PipelineConfig().evaluate_rules
    assert storms.baselines == dataset_named("hurdat2").baselines
    assert "place_regression" in dataset_named("hurdat2").baselines


def test_a_run_may_only_add_baselines():
    """A run that could leave some out would lower the bar of its own gate."""
    row = dataset_named("hurdat2").baselines
    for asked in ((), ("linear_residual",), ("kalman_turn", "linear_residual", "kalman_turn")):
        rules = PipelineConfig(assess=AssessConfig(baselines=asked)).evaluate_rules
        added = ("kalman_turn",) if "kalman_turn" in asked else ()
        assert rules.baselines == row + added


def test_each_name_is_that_of_its_answerer():
    store, receipt, _ = masked_ships.trained("trajfm")
    shards = Shards.open(store.folder(receipt))
    for table, task in ((FORECASTS, "forecast"), (RECOVERIES, "recover")):
        found = fitted_baselines(shards, [task], 6, 0, tuple(table))
        assert [one.name for one in found][-len(table) :] == [*table]
    found = fitted_baselines(shards, ["travel_time"], 6, 0, tuple(EXPERTS))
    assert found[-1].name in TRAVEL_TIMES


def test_a_split_without_windows_has_nothing_to_fit_on(tmp_path):
    store = Store(tmp_path / "store")
    receipt = ships.stored_shards(store, sizes=ships.SIZES | {"validation": 0})
    with pytest.raises(UnknownBaselineError, match=r"unknown baselines \['line'\]"):
        fitted_baselines(
            Shards.open(store.folder(ships.stored_shards(store))), FORECAST, 6, 0, ["line"]
        )
    with pytest.raises(ValueError, match="validation split has no windows"):
        fitted_baselines(Shards.open(store.folder(receipt)), FORECAST)


# Linear residual --------------------------------------------------------------------------------


def test_the_linear_residual_is_what_a_plane_oracle_says():
    path_m, time_s = walks(2, num_windows=40)
    windows = plane_windows(path_m, time_s, CONTEXT)
    generator = torch.Generator().manual_seed(0)
    weight_LP = torch.rand(5, len(LAGS), generator=generator, dtype=torch.float64)
    velocity = lags_mps(path_m, time_s, CONTEXT, LAGS)
    elapsed = 60.0 * np.arange(1, 6)
    driven = 400 * (1 - np.exp(-elapsed / 400))
    expected = velocity[:, :1] * driven[:, None] + np.einsum(
        "hp,bpc,h->bhc", weight_LP.numpy(), velocity, elapsed
    )
    found = moved_m(LinearResidual(damped=DAMPED, weight_LP=weight_LP), windows)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_planted_weights_are_found_through_outliers():
    """The way on is the velocity of three steps at 0.8 of its speed; a tenth went elsewhere."""
    generator = np.random.default_rng(5)

    def planted(seed, share):
        path_m, time_s = walks(seed, num_windows=200)
        elapsed_s = 60.0 * np.arange(1, 6)[:, None]
        velocity = lags_mps(path_m, time_s, CONTEXT, (3,))
        path_m[:, CONTEXT:] = path_m[:, [CONTEXT - 1]] + 0.8 * velocity * elapsed_s
        is_astray = generator.random(len(path_m)) < share
        path_m[is_astray, CONTEXT:] += generator.normal(0, 50_000, (is_astray.sum(), 1, 2))
        return plane_windows(path_m, time_s, CONTEXT)

    found = LinearResidual.fit(planted(0, 0.1), planted(1, 0.1), DAMPED)
    clean = planted(2, 0.0)
    assert bool((found.share_L == 1).all())
    assert float(clean.mean_miss_m_H(found).max()) < 0.05 * float(clean.mean_miss_m_H(DAMPED).max())


def test_the_strength_is_the_one_that_validation_likes_best():
    train, validation = (plane_windows(*walks(k, num_windows=30), CONTEXT) for k in (0, 1))
    found = LinearResidual.fit(train, validation, DAMPED)
    bar = validation.mean_miss_m_H(DAMPED)
    errors = []
    for weight_LP in LinearResidual.weights(train, DAMPED):
        one = LinearResidual(damped=DAMPED, weight_LP=weight_LP)
        errors.append(float((validation.mean_miss_m_H(one) / bar).mean()))
        if torch.equal(weight_LP, found.weight_LP):
            taken = errors[-1]
    assert errors[0] == 1  # infinite strength is damped velocity itself
    assert taken == min(errors)


# Place regression -------------------------------------------------------------------------------


def test_place_features_are_those_worked_out_by_hand():
    path_m, time_s = walks(3, num_windows=2)
    windows = plane_windows(path_m, time_s, CONTEXT, [-80.0, 150.0], [20.0, -35.0])
    instant = dt.datetime(2004, 9, 1, tzinfo=dt.UTC)
    started_us_B = torch.tensor([int(instant.timestamp() * 1e6)] * 2)
    found = place_features(replace(windows.context, started_us_B=started_us_B)).numpy()
    velocity = lags_mps(path_m, time_s, CONTEXT, (1, 2, 3))
    season = 2 * math.pi * 245 / 365.25  # the first of September of a leap year
    for row, (lon_deg, lat_deg) in enumerate([(-80, 20), (150, -35)]):
        lon, lat = math.radians(lon_deg), math.radians(lat_deg)
        waves = [math.sin(lon), math.cos(lon), math.sin(season), math.cos(season)]
        expected = [*velocity[row].ravel(), 1, lat, lat**2, *waves, *(velocity[row, 0] * lat)]
        np.testing.assert_allclose(found[row], expected, rtol=1e-6, atol=1e-9)


def recurving(seed, num_windows=150):
    """Storms that drift west in the south and east in the north, whatever they did before."""
    generator = np.random.default_rng(seed)
    path_m, time_s = walks(seed, num_windows=num_windows, step_s=21_600.0)
    lat_deg = generator.uniform(10, 40, num_windows)
    drift_mps = np.stack([0.5 * (lat_deg - 25), np.full(num_windows, 2.0)], -1)[:, None]
    path_m[:, CONTEXT:] = path_m[:, [CONTEXT - 1]] + drift_mps * 21_600 * np.arange(1, 6)[:, None]
    return plane_windows(path_m, time_s, CONTEXT, generator.uniform(-90, -30, num_windows), lat_deg)


def test_a_drift_by_latitude_is_found_and_a_linear_residual_cannot_see_it():
    train, validation, test = (recurving(seed) for seed in range(3))
    place, linear = (
        one.fit(train, validation, DAMPED) for one in (PlaceRegression, LinearResidual)
    )
    ours, theirs, bar = (float(test.mean_miss_m_H(one).mean()) for one in (place, linear, DAMPED))
    assert ours < 0.05 * bar
    assert theirs > 0.7 * bar


# Mean-reverting velocity ------------------------------------------------------------------------


def test_the_closed_form_solves_its_equation():
    path_m, time_s = walks(6, num_windows=3)
    windows = plane_windows(path_m, time_s, CONTEXT)
    mean_mps, tau_s = np.array([3.0, -1.0]), 170.0
    baseline = MeanRevertingVelocity(
        damped=DAMPED, tau_s=tau_s, lanes=Lanes({(): mean_mps}, mean_mps, 6, 0)
    )
    found = moved_m(baseline, windows)
    velocity = lags_mps(path_m, time_s, CONTEXT, (1,))[:, 0]
    for row, start_mps in enumerate(velocity):
        solved = solve_ivp(
            lambda _, state: [*state[2:], *(-(state[2:] - mean_mps) / tau_s)],
            (0, 300),
            [0, 0, *start_mps],
            t_eval=60.0 * np.arange(1, 6),
            rtol=1e-9,
            atol=1e-9,
        )
        np.testing.assert_allclose(found[row], solved.y[:2].T, atol=1e-3)


def test_lanes_are_a_table_of_means():
    """Two courses through one cell, three windows each, and a lane that train did not see."""
    step_m = np.array([[300.0, 0.0]] * 3 + [[0.0, -600.0]] * 3)[:, None]
    path_m = np.concatenate([step_m * np.arange(4)[:, None]], 1)
    path_m[2, 3] = path_m[2, 2]  # of one the target lies where it was
    time_s = np.tile(60.0 * np.arange(4), (6, 1))
    windows = plane_windows(path_m, time_s, 3)
    assert lane_keys(windows.context, 6)[:, 1].tolist() == [2, 2, 2, 4, 4, 4]
    mean = (2 * np.array([5.0, 0.0]) + 3 * np.array([0.0, -10.0])) / 6
    east = (2 * np.array([5.0, 0.0]) + 5 * mean) / 8
    south = (3 * np.array([0.0, -10.0]) + 5 * mean) / 8
    for detail, expected in ((0, [mean] * 6), (1, [mean] * 6), (2, [east] * 3 + [south] * 3)):
        found = Lanes.of(windows, 6, detail).at(windows.context)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    resting = plane_windows(0 * path_m, time_s, 3)
    assert lane_keys(resting.context, 6)[:, 1].tolist() == [-1] * 6
    far = plane_windows(path_m, time_s, 3, lon_deg=100.0)
    np.testing.assert_allclose(Lanes.of(windows, 6, 2).at(far.context), [mean] * 6, atol=1e-6)


def test_the_mean_and_the_time_constant_are_found():
    """Ships that pass a point on any course and all end up going east at 6 m/s."""
    mean_mps, tau_s = np.array([6.0, 0.0]), 240.0

    def planted(seed):
        path_m, time_s = walks(seed, num_windows=300, num_horizon=40)
        elapsed_s = 60.0 * np.arange(1, 41)[:, None]
        velocity = lags_mps(path_m, time_s, CONTEXT, (1,))
        driven_s = tau_s * (1 - np.exp(-elapsed_s / tau_s))
        ahead_m = mean_mps * elapsed_s + (velocity - mean_mps) * driven_s
        path_m[:, CONTEXT:] = path_m[:, [CONTEXT - 1]] + ahead_m
        return plane_windows(path_m, time_s, CONTEXT)

    found = MeanRevertingVelocity.fit(planted(0), planted(1), DAMPED, 6)
    test = planted(2)
    assert found.tau_s == pytest.approx(tau_s, rel=0.15)
    ours, bar = (float(test.mean_miss_m_H(one).mean()) for one in (found, DAMPED))
    assert ours < 0.15 * bar


# Boosted trees ----------------------------------------------------------------------------------


def test_trees_agree_with_the_same_trees_fitted_in_the_plane():
    path_m, time_s = walks(8, num_windows=100, turn_deg=8)
    windows = plane_windows(path_m, time_s, CONTEXT)
    found = BoostedTrees.fit(windows, windows, DAMPED, 0)
    velocity = lags_mps(path_m, time_s, CONTEXT, LAGS)
    heading = velocity[:, 0] / np.linalg.norm(velocity[:, 0], axis=1)[:, None]

    axes = np.stack([heading, np.stack([-heading[:, 1], heading[:, 0]], -1)], 1)  # along, across

    def turned(vector_BKC):
        return np.einsum("bkc,bac->bka", vector_BKC, axes)

    elapsed = 60.0 * np.arange(1, 6)
    driven = 400 * (1 - np.exp(-elapsed / 400))
    truth = path_m[:, CONTEXT:] - path_m[:, [CONTEXT - 1]]
    rate = turned((truth - velocity[:, :1] * driven[:, None]) / elapsed[:, None])
    motion = np.delete(turned(velocity).reshape(len(velocity), 1, -1), 1, axis=-1)
    motion = np.repeat(motion, 5, axis=1)
    when = np.tile(np.stack([elapsed, np.arange(1.0, 6.0)], -1), (len(velocity), 1, 1))
    feature = np.concatenate([when, motion], -1).reshape(-1, 15)
    told = [
        HistGradientBoostingRegressor(
            loss="absolute_error", early_stopping=False, random_state=0, **trees.OPTIONS
        )
        .fit(feature, rate[..., axis].ravel(), np.tile(elapsed, len(velocity)))
        .predict(feature)
        for axis in (0, 1)
    ]
    residual = np.einsum("bka,bac,k->bkc", np.stack(told, -1).reshape(rate.shape), axes, elapsed)
    expected = velocity[:, :1] * driven[:, None] + found.share_L.numpy()[:, None] * residual
    away_m = np.linalg.norm(moved_m(found, windows) - expected, axis=-1)
    assert np.median(away_m) < 1  # thresholds lie within rounding of some of the velocities
    assert float(found.share_L.min()) == 1


def test_trees_tell_a_turn_with_less_noise_than_real_weights():
    train, validation, test = (
        plane_windows(*walks(k, num_windows=200, turn_deg=15), CONTEXT) for k in range(3)
    )
    bent = BoostedTrees.fit(train, validation, DAMPED, 0)
    straight = LinearResidual.fit(train, validation, DAMPED)
    ours, theirs = (float(test.mean_miss_m_H(one).mean()) for one in (bent, straight))
    assert ours < 0.8 * theirs


def test_a_part_of_many_samples_is_enough(monkeypatch):
    monkeypatch.setattr(trees, "NUM_SAMPLES", 400)
    few = fitted("boosted_trees", turn_deg=15, num_windows=200)
    monkeypatch.undo()
    test = plane_windows(*walks(9, turn_deg=15), CONTEXT)
    assert float(test.mean_miss_m_H(few).mean()) < float(test.mean_miss_m_H(DAMPED).mean())


def test_every_expert_is_a_residual_forecast():
    for name in RESIDUALS:
        assert isinstance(fitted(name), ResidualForecast)
