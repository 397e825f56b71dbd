"""One configuration of a training: the form, the flags and torchrun ask for the same recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from typing import get_args

import pytest
from helpers import ships
from helpers.places import PROJECT
from pydantic import ValidationError

from flows import cli
from model.families import FAMILIES, MODULES, learning_rate_of, presets_of
from model.training.config import FitConfig
from model.training.launch import Training
from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import ModelConfig, TrainConfig
from tasks.pretrain.train import train
from tasks.runtime.machine import Machine
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

# What the form has elsewhere (the seed, the machine's own settings) or does not ask for.
NOT_ASKED = {"seed", "log_every", "deterministic", "checkpoint_every_s"}


def test_the_form_has_the_fields_and_the_defaults_of_a_training():
    asked = TrainConfig.model_fields.keys()
    assert {entry.name for entry in fields(FitConfig)} == asked | NOT_ASKED
    defaults = {name: getattr(FitConfig(), name) for name in asked}
    assert TrainConfig().model_dump() == {**defaults, "learning_rate": None}
    assert PipelineConfig().training.fit == FitConfig()


@pytest.mark.parametrize("family", sorted(MODULES))
def test_a_family_is_trained_at_its_own_rate_unless_another_is_given(family):
    rate = learning_rate_of(family) or FitConfig.learning_rate
    config = PipelineConfig(model={"family": family})
    assert config.training.fit == FitConfig(learning_rate=rate)
    told = TrainConfig.model_fields["learning_rate"].description
    assert (f"{rate:g} for {family}" in told) == (rate != FitConfig.learning_rate)
    assert f"{FitConfig.learning_rate:g} for others" in told
    given = PipelineConfig(model={"family": family}, train={"learning_rate": 0.02})
    assert given.training.fit.learning_rate == 0.02


@pytest.mark.parametrize("family", sorted(MODULES))
def test_every_preset_of_a_family_can_be_asked_for_and_no_other(family):
    known = list(FAMILIES[family].presets)
    for preset in get_args(ModelConfig.model_fields["preset"].annotation):
        if preset in known:
            assert PipelineConfig(model={"family": family, "preset": preset}).training
        else:
            with pytest.raises(ValidationError, match=f"{family} has no preset {preset}"):
                ModelConfig(family=family, preset=preset)
    assert list(presets_of(family)) == known


def test_the_flags_have_the_defaults_of_a_training(monkeypatch):
    seen = []
    monkeypatch.setattr(cli.Run, "execute", lambda self: seen.append(self.config.training.fit))
    assert cli.main(["run"]) == 0
    assert cli.main(["run", "--train.accumulate", "4", "--train.batching", "packed"]) == 0
    assert seen == [FitConfig(), FitConfig(accumulate=4, batching="packed")]


@pytest.mark.parametrize("name", sorted(TrainConfig.model_fields.keys() - {"init"}))
def test_what_the_form_refuses_as_too_little_a_training_refuses(name):
    wrong = "none" if isinstance(getattr(FitConfig, name), str) else -1
    for kind in (FitConfig, TrainConfig):
        with pytest.raises(ValueError, match=name if kind is TrainConfig else None):
            kind(**{name: wrong})
    with pytest.raises(ValidationError):
        PipelineConfig(train={name: wrong})


def test_the_recipe_holds_what_decides_and_no_clock():
    config = PipelineConfig(train={"init": "models:/one@candidate"}, seed=3)
    kept = config.training.model_dump(mode="json")["fit"]
    assert kept == {**FitConfig(seed=3).deciding(), "init": False}
    assert "checkpoint_every_s" not in kept


def test_weights_to_begin_with_may_lie_elsewhere_when_a_run_goes_on():
    one, other = (
        FitConfig(init=place, checkpoint_every_s=age) for place, age in (("a", 1), ("b", 2))
    )
    assert one.deciding() == other.deciding() != FitConfig().deciding()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"fit": {"num_accumulated": 2}},
            "FitConfig has init, .*accumulate.*; not num_accumulated",
        ),
        ({"fit": {"clip_norm": 1.0, "max_steps": 2}}, "; not clip_norm"),
        (
            {"batch_size": 8},
            "Training has shards, family, preset, fit, zone, inputs, corpus, tells_kinds, places; "
            "not batch_size",
        ),
    ],
)
def test_a_field_that_a_training_lacks_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Training.from_json({"shards": "s", "family": "chemin", "preset": "tiny", **change})


@pytest.fixture(scope="module")
def shards_of_ships(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    return store, ships.stored_shards(store)


def launched(job: dict, folder) -> subprocess.CompletedProcess:
    """`python -m model.training.launch` with as many threads as the pipeline takes."""
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return subprocess.run(
        [sys.executable, "-m", "model.training.launch", path, folder / "work"],
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": str(Machine().num_threads)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_both_entries_train_the_same_weights_by_default(shards_of_ships, tmp_path):
    store, shards = shards_of_ships
    config = ships.config_of()
    few = {"max_steps": 12}
    config = config.model_copy(update={"train": TrainConfig(**few)})
    with without_orchestrator():
        ours = store.folder(train(config, shards, store))
    job = {"shards": str(store.folder(shards)), "family": "chemin", "preset": "tiny", "fit": few}
    process = launched(job, tmp_path)
    assert process.returncode == 0, process.stderr
    for name in ("weights.safetensors", "metrics.jsonl", "training.json", "config.json"):
        assert (tmp_path / "work" / name).read_bytes() == (ours / name).read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    assert launched({**job, "fit": few | {"weight_decay": 0.01}}, other).returncode == 0
    changed = (other / "work" / "weights.safetensors").read_bytes()
    assert changed != (ours / "weights.safetensors").read_bytes()


def test_a_job_of_old_names_ends_with_a_line_that_names_them(tmp_path):
    process = launched({"fit": {"num_accumulated": 2}}, tmp_path)
    assert process.returncode == 2
    assert "job.json: FitConfig has" in process.stderr
    assert "not num_accumulated" in process.stderr
    assert "Traceback" not in process.stderr
