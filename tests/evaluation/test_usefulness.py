"""What made-up trips are worth: who learns from which trips, and what is lost by it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import ships
from helpers.made_up_trips import NUM_POINTS, TEST, TRAIN, ZONE

from model.data.shards import Shards, read_group, row_groups
from model.evaluation.generation.generation_rows import LEARNER_ERROR, LOST
from model.evaluation.generation.usefulness import BAR, REAL, Usefulness
from model.interface.trips import Trips
from tasks.evaluate.learners import NORMALISER_FILE, fitting, learner_of, write_lesson

FEW = TRAIN.chosen(np.arange(24))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The folder whose scales are lent."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / NORMALISER_FILE).write_text(json.dumps(ships.NORMALISER))
    return folder


def weights_of(trips: Trips, shards, tmp_path, seed: int = 0) -> torch.Tensor:
    learner = learner_of(trips, shards, ZONE, 2, seed, tmp_path)
    assert not [*tmp_path.iterdir()], "nothing is left in the draft"
    return torch.cat([value.flatten() for value in learner.model.state_dict().values()])


def test_a_lesson_holds_the_trips_as_they_are(tmp_path):
    write_lesson(tmp_path / "lesson", FEW)
    opened = Shards.open(tmp_path / "lesson")
    [group] = row_groups(opened, "train")
    read, points = read_group(group), FEW.points
    np.testing.assert_array_equal(read.offset_R, FEW.offset_R)
    np.testing.assert_array_equal(read.lon_deg_N, points.lon_deg_N)
    np.testing.assert_array_equal(opened.tracked(group)[0], points.instant_us_N)
    is_first_N = np.diff(points.trajectory_N, prepend=-1) != 0
    assert np.all(read.step_NF[is_first_N] == 0)
    seconds_N = np.diff(points.instant_us_N, prepend=0) / 1e6
    np.testing.assert_allclose(read.step_NF[~is_first_N, 2], seconds_N[~is_first_N], rtol=1e-6)


def test_only_the_trips_and_the_seed_tell_what_is_learnt(shards, tmp_path):
    first = weights_of(FEW, shards, tmp_path)
    assert torch.equal(first, weights_of(FEW, shards, tmp_path))
    renamed = replace(FEW, entity_R=FEW.entity_R[::-1].copy())
    assert torch.equal(first, weights_of(renamed, shards, tmp_path)), "whose they are is not told"
    assert not torch.equal(first, weights_of(TEST.chosen(np.arange(24)), shards, tmp_path))
    assert not torch.equal(first, weights_of(FEW, shards, tmp_path, seed=1))


def test_a_learner_reads_whole_trips_and_is_chosen_by_no_others(shards, tmp_path):
    fit = fitting(FEW, 300, 7)
    assert (fit.max_points, fit.max_steps, fit.validate_every) == (NUM_POINTS, 300, 300)
    assert fit.seed == 7
    assert learner_of(FEW.chosen(np.arange(19)), shards, ZONE, 2, 0, tmp_path) is None


# What is lost -----------------------------------------------------------------------------------


def asked(**error_m) -> Usefulness:
    """Errors in four windows of two entities."""
    given = {name: np.array(value, float) for name, value in error_m.items()}
    return Usefulness(given, np.array([0, 0, 1, 1]), 100)


def test_what_is_lost_is_the_difference_of_two_skills():
    """Of windows whose errors differ a hundredfold, the same is lost in each resample."""
    real = [10, 20, 1_000, 2_000]
    used = asked(**{REAL: real, BAR: np.multiply(real, 2), "made_up": np.multiply(real, 1.5)})
    told = used.measured("made_up")
    assert told[LEARNER_ERROR].value() == pytest.approx(1.5 * np.mean(real))
    assert told[LOST].value() == pytest.approx(0.75 - 0.5)
    assert told[LOST].interval(0, 50) == pytest.approx((0.25, 0.25))
    low, high = told[LEARNER_ERROR].interval(0, 50)
    assert high > 10 * max(low, 1)
    assert used.measured(REAL)[LOST].interval(0, 50) == (0, 0)
    assert used.measured("nobody") == {}


def test_more_may_be_gained_than_lost():
    used = asked(**{REAL: [4, 4, 4, 4], BAR: [8, 8, 8, 8], "better": [2, 2, 3, 3]})
    told = used.measured("better")[LOST]
    assert told.value() == pytest.approx(-3 / 16)
    low, high = told.interval(0, 50)
    assert low < told.value() < high < 0
