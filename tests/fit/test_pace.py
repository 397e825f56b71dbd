"""Pace of a training: what is charged, where it ends, and that it is the same training."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
import torch
from helpers.shards import write_shards
from helpers.walks import WALKING

from model.inference.serving import load_trained
from model.training.config import FitConfig
from model.training.launch import Training, run
from model.training.pace import paced

EVERY = 4
CONFIG = FitConfig(max_steps=12, batch_size=4, max_points=16, validate_every=EVERY, patience=12)
AGES_S = 1e6  # more than any training here takes


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> Training:
    sizes = {"train": [50, 20, 33, 7, 90, 12], "validation": [60, 45]}
    shards = write_shards(tmp_path_factory.mktemp("shards"), sizes)
    (shards.folder / "normaliser.json").write_text(json.dumps(WALKING.to_json()))
    return Training(str(shards.folder), "foundry", "tiny", CONFIG)


def test_it_ends_at_the_first_look_that_reaches_the_goal(training, tmp_path):
    values = iter([0.0, 0.2, 0.5])
    found = paced(training, lambda model: next(values), 0.1, EVERY, tmp_path)
    assert found.reached is not None
    assert (found.steps, found.reached["step"]) == (2 * EVERY, 2 * EVERY)
    assert [one["value"] for one in found.course] == [0.0, 0.2]
    assert 0 < found.reached["cpu_s"] == found.training_cpu_s


def test_what_never_reaches_it_goes_on_to_the_end(training, tmp_path):
    found = paced(training, lambda model: float("nan"), 0.1, EVERY, tmp_path)
    assert found.reached is None
    assert found.steps == CONFIG.max_steps
    assert [one["step"] for one in found.course] == [4, 8, 12]


def test_neither_the_measure_nor_the_preparation_is_charged(training, tmp_path):
    """The fault: a measure that takes days, and a clock that has run for days before."""
    began, aged_s = time.process_time(), [AGES_S]

    def measure(model):
        aged_s[0] += AGES_S
        return 0.0

    def clock_s():
        return time.process_time() + aged_s[0]

    found = paced(training, measure, 0.1, EVERY, tmp_path, clock_s)
    took_s = time.process_time() - began
    assert len(found.course) == 3
    assert 0 < found.training_cpu_s < took_s
    assert 0 < found.preparation_cpu_s < took_s
    assert found.training_cpu_s + found.preparation_cpu_s < took_s


def test_it_measures_the_weights_that_the_training_itself_would_keep(training, tmp_path):
    seen: list[dict[str, torch.Tensor]] = []

    def measure(model):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        assert model.memory is not None
        return 0.0

    often = replace(training, fit=replace(CONFIG, validate_every=5, log_every=3))
    paced(often, measure, 0.1, EVERY, tmp_path / "paced")
    run(training, tmp_path / "plain")
    kept = load_trained(tmp_path / "plain").model.state_dict()
    assert seen[-1].keys() == kept.keys()
    assert all(value.equal(kept[name]) for name, value in seen[-1].items())
    assert any(not value.equal(kept[name]) for name, value in seen[0].items())
