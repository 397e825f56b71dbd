"""Conformal factors: they agree with numpy, hold their share, and travel with a model."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import masked_ships, ships
from hypothesis import given
from hypothesis import strategies as st

from model.data.journeys import read_journeys
from model.data.shards import Shards
from model.evaluation.conformal import calibration_of
from model.evaluation.forecast_scores import read_forecast_windows
from model.evaluation.judged_tasks import TRACKS as TRACKS_OF_TASKS
from model.evaluation.judged_tasks import TRAVEL_TIME
from model.evaluation.travel_time_scores import travel_question
from model.inference.serving import load_trained
from model.interface.answers import Durations
from model.interface.calibration import CALIBRATION_FILE, TRACKS, Calibration
from model.interface.conformal import LEAST_WINDOWS, conformal_factor, decile_factor, radius_factor
from tasks.prepare import conventions
from tasks.release.bundle import write_bundle
from tasks.report.error_tables import read_scores

FACTORS = st.floats(0.01, 100)


@given(st.lists(st.floats(0, 1e6), min_size=20, max_size=60), st.sampled_from([0.5, 0.8, 0.95]))
def test_a_factor_is_a_quantile_of_numpy(values, share):
    level = math.ceil((len(values) + 1) * share) / len(values) - 1e-9  # just below a step of it
    found = conformal_factor(torch.tensor(values, dtype=torch.float64), share)
    assert found == np.quantile(values, level, method="inverted_cdf")


def test_too_few_windows_tell_no_factor():
    assert math.isnan(conformal_factor(torch.ones(18).double(), 0.95))
    assert conformal_factor(torch.ones(19).double(), 0.95) == 1
    nan_too = torch.cat([torch.ones(18).double(), torch.full((5,), torch.nan).double()])
    assert math.isnan(conformal_factor(nan_too, 0.95))


def test_a_new_window_is_held_as_often_as_was_promised():
    """Over many draws of 40 windows the mean share lies between p and p + 1 / 41."""
    generator = np.random.default_rng(5)
    told_m = generator.lognormal(3, 1, (4_000, 41))
    away_m = told_m * np.abs(generator.normal(0, 3, told_m.shape))  # the areas are far too small
    ratio = radius_factor(torch.from_numpy(away_m), torch.from_numpy(told_m))
    held = [float(row[40]) <= conformal_factor(row[:40], 0.8) for row in ratio]
    assert 0.8 - 0.02 < np.mean(held) < 0.8 + 1 / 41 + 0.02
    assert (ratio[:, 40] <= 1).double().mean() < 0.3


def test_stretched_deciles_reach_the_truth_just_so():
    seconds_B, median_B = torch.tensor([50.0, 400.0]).double(), torch.tensor([100.0, 100]).double()
    low_B, high_B = torch.tensor([80.0, 80.0]).double(), torch.tensor([150.0, 150]).double()
    factor_B = decile_factor(seconds_B, low_B, median_B, high_B)
    for place, factor in enumerate(factor_B.tolist()):
        calibration = Calibration({}, dict.fromkeys(TRACKS, factor))
        told = Durations(median_B, low_B, high_B)
        found = calibration.stretched_durations(told, torch.tensor([True, False]))
        ends = (found.p10_s_B[place], found.p90_s_B[place])
        assert float(ends[place]) == pytest.approx(float(seconds_B[place]))
        assert torch.equal(found.median_s_B, median_B)


@given(
    st.dictionaries(
        st.sampled_from([50, 80, 95]), st.dictionaries(st.integers(1, 99), FACTORS, max_size=3)
    ),
    st.dictionaries(st.sampled_from(TRACKS), FACTORS),
)
def test_a_calibration_comes_back_from_its_file(tmp_path_factory, radius, decile):
    folder = tmp_path_factory.mktemp("calibration")
    calibration = Calibration(radius, decile)
    calibration.write(folder)
    assert Calibration.read(folder) == calibration


def test_between_fitted_steps_factors_lie_on_a_line_and_beyond_them_they_stay():
    factor_H = Calibration({80: {2: 1.0, 4: 3.0}}).factor_H(80, 6)
    assert factor_H.tolist() == [1, 1, 2, 3, 3, 3]
    assert Calibration({80: {2: 2.0}}).factor_H(95, 2).tolist() == [1, 1]


def test_names_are_those_of_other_rooms():
    assert TRACKS == TRACKS_OF_TASKS[TRAVEL_TIME]
    assert CALIBRATION_FILE == conventions.CALIBRATION_FILE


# In the pipeline --------------------------------------------------------------------------------


def judged(family):
    made = ships.good() if family == "chemin" else masked_ships.evaluated(family)
    rows = read_scores(made.store.folder(made.evaluated)).to_pylist()
    return made, rows


def test_what_is_carried_is_what_validation_tells_and_test_changes_nothing_of_it():
    made, rows = judged("trajfm")
    carried = Calibration.read(made.store.folder(made.evaluated))
    assert carried == calibration_of(rows, "trajfm")
    assert set(carried.radius) == {50, 80, 95}
    without_test = [row for row in rows if row["split"] == "validation"]
    assert calibration_of(without_test, "trajfm") == carried
    spoilt = [row | {"value": 9.0} if row["split"] == "test" else row for row in rows]
    assert calibration_of(spoilt, "trajfm") == carried
    assert calibration_of(rows, "another") == Calibration()


def test_few_windows_of_validation_calibrate_nothing():
    """The journeys of this fleet are fewer than its windows."""
    made, rows = judged("trajfm")
    assert not Calibration.read(made.store.folder(made.evaluated)).decile
    enough = [row | {"num_windows": LEAST_WINDOWS} for row in rows]
    assert set(calibration_of(enough, "trajfm").decile) == set(TRACKS)
    few = [row | {"num_windows": LEAST_WINDOWS - 1} for row in rows]
    assert calibration_of(few, "trajfm") == Calibration()


def test_validation_is_raw_and_test_is_asked_with_the_factors():
    _, rows = judged("trajfm")

    def told(split, metric):
        return [
            row["value"]
            for row in rows
            if (row["split"], row["metric"], row["task"]) == (split, metric, "forecast")
        ]

    for percent in (50, 80, 95):
        raw, after = (told("validation", f"{name}coverage_{percent}") for name in ("raw_", ""))
        assert raw == after != []
    assert any(
        told("test", f"raw_coverage_{percent}") != told("test", f"coverage_{percent}")
        for percent in (50, 80, 95)
    )


def test_a_model_of_a_bundle_answers_with_its_calibration(tmp_path):
    made, _ = judged("trajfm")
    trained, evaluated = made.store.folder(made.trained), made.store.folder(made.evaluated)
    bundle = write_bundle(tmp_path / "bundle", trained, {}, evaluated)
    served, raw = load_trained(bundle), load_trained(trained)
    assert served.calibration == Calibration.read(evaluated) != raw.calibration == Calibration()
    shards = Shards.open(made.store.folder(made.shards), "UTC")
    _, windows = next(read_forecast_windows(shards, "test", 16))
    found, plain = (
        one.sampled_forecast(windows.context, 4, windows.time_s_BH[:, :4], 32, 1)
        for one in (served, raw)
    )
    assert torch.equal(found.lon_deg_BH, plain.lon_deg_BH)
    assert torch.equal(found.sample_lat_deg_BSH, plain.sample_lat_deg_BSH)
    factor_H = served.calibration.factor_H(80, 4)
    expected_BH = torch.maximum(plain.radius_p80_m_BH * factor_H, found.radius_p50_m_BH)
    torch.testing.assert_close(found.radius_p80_m_BH, expected_BH)
    assert bool((found.radius_p50_m_BH <= found.radius_p80_m_BH).all())
    assert bool((found.radius_p80_m_BH <= found.radius_p95_m_BH).all())
    journeys = travel_question(read_journeys(shards, "test", 2), "ends", "UTC")
    wide = replace(raw, calibration=Calibration({}, {"ends": 2.0}))
    told, stretched = raw.travel_time(journeys), wide.travel_time(journeys)
    ratio = (stretched.p90_s_B / stretched.median_s_B).log() / (
        told.p90_s_B / told.median_s_B
    ).log()
    torch.testing.assert_close(ratio, torch.full_like(ratio, 2.0), rtol=1e-4, atol=1e-4)
