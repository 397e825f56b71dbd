"""Probability scores: they agree with scoringrules, and calibrated answers look calibrated."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scoringrules
import torch
from helpers import masked_ships, ships

from model.baselines.forecast import LAST_POSITION
from model.data.shards import Shards
from model.earth.geometry import step_from
from model.evaluation.judged_tasks import TRAVEL_TIME
from model.evaluation.probability import (
    crps_of_quantiles,
    energy_score_m,
    levels,
    min_ade_m,
    pit_tenths,
)
from model.evaluation.question import AnswerError, Judging
from model.evaluation.score_table import wide_rows
from model.evaluation.scores import scored
from model.inference.serving import load_trained
from model.interface.answers import Forecast
from tasks.report.error_tables import CALIBRATION, read_scores

METRES = 111_195.08  # of a degree at the equator


def plane(generator: np.random.Generator, *shape: int) -> torch.Tensor:
    """Places in metres, east and north, so near the null island that the Earth is flat."""
    return torch.from_numpy(generator.normal(0, 50, (*shape, 2)))


def test_the_energy_score_agrees_with_scoringrules():
    generator = np.random.default_rng(1)
    sample_m_BSC, truth_m_BC = plane(generator, 30, 12), plane(generator, 30)
    found = energy_score_m(*(sample_m_BSC / METRES).unbind(-1), *(truth_m_BC / METRES).unbind(-1))
    expected = scoringrules.es_ensemble(truth_m_BC.numpy(), sample_m_BSC.numpy(), estimator="fair")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_the_energy_score_of_equal_samples_is_the_displacement():
    zeros_BS, north_B = torch.zeros(1, 4).double(), torch.ones(1).double()
    found = energy_score_m(zeros_BS, zeros_BS, north_B * 0, north_B)
    assert float(found) == pytest.approx(METRES, rel=1e-6)


def test_crps_agrees_with_scoringrules_and_with_the_formula_of_a_log_normal():
    from scipy.stats import lognorm

    generator = np.random.default_rng(2)
    value_B, shares = generator.lognormal(5, 1, 50), levels(400)
    quantile_Q = lognorm.ppf(shares, s=0.8, scale=math.exp(5))
    quantile_BQ = np.tile(quantile_Q, (50, 1))
    found = crps_of_quantiles(torch.from_numpy(quantile_BQ), shares, torch.from_numpy(value_B))
    oracle = scoringrules.crps_quantile(value_B, quantile_BQ, np.array(shares))
    np.testing.assert_allclose(found, oracle, rtol=1e-9)
    np.testing.assert_allclose(found, scoringrules.crps_lognormal(value_B, 5, 0.8), rtol=5e-3)


def test_crps_of_a_point_is_the_absolute_error():
    point_BQ, value_B = torch.full((2, 3), 7.0).double(), torch.tensor([5.0, 10.0]).double()
    assert crps_of_quantiles(point_BQ, levels(3), value_B).tolist() == pytest.approx([2.0, 3.0])


def test_pit_is_even_where_samples_and_truth_come_from_one_law():
    generator = np.random.default_rng(3)
    sample_BS = torch.from_numpy(generator.normal(size=(20_000, 64)))
    truth_B = torch.from_numpy(generator.normal(size=20_000))
    mass_T = pit_tenths(sample_BS, truth_B).mean(0)
    np.testing.assert_allclose(mass_T, 0.1, atol=0.008)
    narrow_T = pit_tenths(sample_BS / 3, truth_B).mean(0)
    assert narrow_T[0] > 0.3 < narrow_T[9]


def test_pit_of_ties_is_spread_over_them():
    mass = pit_tenths(torch.zeros(1, 9).double(), torch.zeros(1).double())
    np.testing.assert_allclose(mass[0], 0.1)
    beyond = pit_tenths(torch.zeros(1, 9).double(), torch.ones(1).double())
    np.testing.assert_allclose(beyond[0], [0] * 9 + [1], atol=1e-12)


def test_min_ade_is_of_the_best_whole_path_among_the_first_five():
    away_m_BSH = torch.tensor([[[9.0, 1], [4, 4], [1, 9], [6, 6], [7, 7], [0, 0]]]).double()
    every_BH = torch.ones(1, 2, dtype=torch.bool)
    assert float(min_ade_m(away_m_BSH, every_BH, 2)) == 4
    assert float(min_ade_m(away_m_BSH, every_BH, 1)) == 1
    assert min_ade_m(away_m_BSH, every_BH, 3).isnan().all()


# In the table of scores -------------------------------------------------------------------------


class Gaussian:
    """Stands still, and says that the truth lies around there as a Gaussian of some width does."""

    name, tasks, is_baseline = "gaussian", ("forecast",), False

    def __init__(self, scale_m: float) -> None:
        self.scale_m = scale_m

    def forecast(self, context, num_horizon, target_time_s_BH):
        return LAST_POSITION.forecast(context, num_horizon, target_time_s_BH)

    def sampled_forecast(self, context, num_horizon, target_time_s_BH, num_samples, seed):
        point = self.forecast(context, num_horizon, target_time_s_BH)
        generator = torch.Generator().manual_seed(seed)
        shape = (1, num_samples, num_horizon)
        away_m = (self.scale_m * torch.randn(shape, generator=generator).double() for _ in "en")
        columns = point.lon_deg_BH, point.lat_deg_BH, point.time_s_BH
        lon_B1H, lat_B1H, time_B1H = (value_BH.unsqueeze(1) for value_BH in columns)
        samples = step_from(lon_B1H, lat_B1H, *away_m)
        times = time_B1H.expand_as(samples[0])
        points = zip((lon_B1H, lat_B1H, time_B1H), (*samples, times), strict=True)
        return Forecast.of([torch.cat(pair, dim=1) for pair in points])


def rows_of(answerer, **changes) -> dict[int, dict]:
    made = ships.good()
    shards = Shards.open(made.store.folder(made.shards), "UTC")
    judging = replace(Judging((1, 4), tasks=("forecast",), num_bootstrap=50), **changes)
    table = scored(shards, [answerer, LAST_POSITION], "test", judging).table
    rows = wide_rows(table, track="times_given", model=answerer.name)
    return {row["horizon"]: row for row in rows}


def test_areas_hold_what_they_should_if_their_width_is_right_and_less_if_not():
    step_m = 600 * 6  # of a ship, in a random direction at every first step
    right, narrow, wide = (rows_of(Gaussian(step_m * share)) for share in (0.85, 0.05, 9.0))
    for row, held in ((narrow[1], 0), (wide[1], 1)):
        assert [row[f"coverage_{share}"] for share in (50, 80, 95)] == [held] * 3
    assert narrow[1]["pit_100"] > 0.95
    assert right[1]["energy_score_m"] < narrow[1]["energy_score_m"] < wide[1]["energy_score_m"]
    assert narrow[1]["energy_score_m"] == pytest.approx(narrow[1]["fde_m"], rel=0.1)
    for rows in (right, narrow, wide):
        for row in rows.values():
            tenths = [row[f"pit_{tenth}0"] for tenth in range(1, 11)]
            assert sum(tenths) == pytest.approx(1)
            assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))


def test_fewer_windows_may_be_sampled_and_the_table_says_so():
    made = ships.good()
    trained = load_trained(made.store.folder(made.trained))
    whole, some, cut = (
        rows_of(trained, **changes)
        for changes in ({}, {"num_sampled_windows": 10}, {"num_sampled_windows": 10} | PARTS)
    )
    assert whole[4]["coverage_80_windows"] == whole[4]["num_windows"] == 48
    assert some[4]["coverage_80_windows"] == 10
    assert some[4]["ade_m"] == whole[4]["ade_m"]
    assert some[4]["energy_score_m"] != whole[4]["energy_score_m"]
    for name in ("coverage_80", "energy_score_m", "minade_5_m", "pit_10"):
        assert cut[4][name] == pytest.approx(some[4][name], rel=1e-4)


PARTS = {"windows_at_once": 3}  # fewer than lie between two that are sampled


class Mute(Gaussian):
    """The fault: a sample without a number, which a mean could pass over."""

    def sampled_forecast(self, *asked):
        found = super().sampled_forecast(*asked)
        found.sample_lat_deg_BSH[0, 1] = math.nan
        return found


class Unasked(Gaussian):
    """The fault: no samples where there should be some."""

    def sampled_forecast(self, context, num_horizon, target_time_s_BH, num_samples, seed):
        return self.forecast(context, num_horizon, target_time_s_BH)


def test_samples_that_are_no_numbers_are_refused():
    with pytest.raises(AnswerError, match="gaussian left samples of forecasts without an answer"):
        rows_of(Mute(100.0))
    with pytest.raises(AnswerError, match="asked for samples and gave none"):
        rows_of(Unasked(100.0))


def test_only_who_tells_a_spread_is_scored_on_it():
    made = masked_ships.evaluated("trajfm")
    rows = read_scores(made.store.folder(made.evaluated)).to_pylist()
    spread = ("coverage_", "energy_score_m", "minade_5_m", "pit_", "crps_s", "nll")
    told = [row for row in rows if row["metric"].startswith(spread)]
    assert {row["model"] for row in told} == {"trajfm"}
    assert all(math.isfinite(row["value"]) for row in told)
    assert {row["task"] for row in told} == {"forecast", TRAVEL_TIME}


def test_travel_times_have_a_density_whose_quantiles_and_surprise_agree():
    """The log density is the slope of the share that lies below, by central differences."""
    made = masked_ships.evaluated("trajfm")
    trained = load_trained(made.store.folder(made.trained))
    shards = Shards.open(made.store.folder(made.shards), "UTC")
    from model.data.journeys import read_journeys
    from model.evaluation.travel_time_scores import travel_question

    asked = travel_question(read_journeys(shards, "test", 2), "ends", "UTC")
    density = trained.duration_density(asked)
    told = trained.travel_time(asked)
    assert torch.equal(density.quantile(0.5), told.median_s_B)
    for share in (0.2, 0.5, 0.8):
        low_B, high_B = density.quantile(share - 0.005), density.quantile(share + 0.005)
        slope_B = 0.01 / (high_B - low_B)
        middle_B = density.log_density(density.quantile(share))
        np.testing.assert_allclose(middle_B, slope_B.log(), atol=0.01)


def test_the_calibration_has_a_table_of_its_own():
    made = masked_ships.evaluated("trajfm")
    scores = read_scores(made.store.folder(made.evaluated))
    forecasts, ends, paths = CALIBRATION.tables(scores, "test")
    assert {"within 50 %", "within 80 %", "within 95 %", "PIT"} <= set(forecasts.columns)
    assert [len(table.cells) for table in (forecasts, ends, paths)] == [2, 1, 1]
    assert all(all(cells) for table in (forecasts, ends, paths) for cells in table.cells)
