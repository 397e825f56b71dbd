"""The training loop: what it promises under kills, signals, damage and bad numbers."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from helpers.places import PROJECT, TESTS
from helpers.shards import write_shards
from helpers.toy_training import CONFIG, READING, Toy, outcome, run

from model.data.reading import read_batches, read_windows
from model.interface.batch import Cursor
from model.interface.weights import MismatchedCheckpoint, load_weights
from model.training import fit as fit_module
from model.training.averaging import AveragedWeights
from model.training.config import FitConfig, learning_rate
from model.training.fit import Interrupted, NonFiniteLoss, TrainingError, fit, validation_loss

LENGTHS = [50, 20, 33, 7, 90, 12, 41, 28, 16, 3]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, {"train": LENGTHS, "validation": [60, 45]})


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """What a run that nothing disturbs leaves behind."""
    folder = tmp_path_factory.mktemp("whole")
    run(shards, folder)
    return outcome(folder)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Stop(Exception):
    """Leaves a run in the middle, as a crash would."""


def crash_at(step):
    def watch(progress):
        if progress.step == step:
            raise Stop

    return watch


# A run


def test_a_run_learns_and_says_what_it_did(shards, tmp_path):
    config = replace(
        CONFIG, max_steps=150, patience=10, validate_every=25, learning_rate=0.02,
        checkpoint_every_s=60.0,
    )  # fmt: skip
    model = Toy()
    result = run(shards, tmp_path / "run", config, model)
    validations = [line for line in lines(tmp_path / "run") if "validation_loss" in line]
    assert result.stopped == "max_steps"
    assert result.steps == 150
    assert [line["step"] for line in validations] == list(range(25, 151, 25))
    best = min(validations, key=lambda line: line["validation_loss"])
    assert result.best_step == best["step"]
    assert result.best_validation_loss == best["validation_loss"]
    windows = [part.batch for part in read_windows(shards, "validation", 8, num_context=20)]
    untrained = validation_loss(Toy(), windows, torch.device("cpu"))
    assert result.best_validation_loss < 0.9 * untrained
    per_epoch = list(read_batches(shards, READING, num_epochs=1))
    assert result.epochs == 150 // len(per_epoch)
    assert not model.training


def test_tokens_are_the_points_that_are_no_pads(shards, tmp_path):
    result = run(shards, tmp_path / "run")
    batches = read_batches(shards, READING)
    assert result.num_tokens == sum(next(batches).num_points for _ in range(result.steps))


def test_the_model_comes_back_with_the_best_weights(shards, tmp_path):
    config = replace(CONFIG, learning_rate=0.5, max_steps=200)
    model, stored = Toy(), Toy(seed=1)
    result = run(shards, tmp_path / "run", config, model)
    assert result.best_step < result.steps
    assert result.stopped == "early_stopping"
    load_weights(stored, result.weights)
    windows = [part.batch for part in read_windows(shards, "validation", 8, num_context=20)]
    for one in (model, stored):
        assert validation_loss(one, windows, torch.device("cpu")) == result.best_validation_loss


def test_early_stopping_waits_for_its_patience(shards, tmp_path):
    config = replace(CONFIG, learning_rate=0.5, max_steps=200)
    result = run(shards, tmp_path / "run", config)
    validations = [line for line in lines(tmp_path / "run") if "validation_loss" in line]
    assert result.stopped == "early_stopping"
    assert result.steps == result.best_step + config.patience * config.validate_every
    assert all(v["validation_loss"] >= result.best_validation_loss for v in validations)


def test_a_finite_reader_ends_the_run_with_a_validation(shards, tmp_path):
    def fit_epochs(num_epochs):
        return fit(
            Toy(),
            lambda cursor: read_batches(shards, READING, start=cursor, num_epochs=num_epochs),
            lambda: (part.batch for part in read_windows(shards, "validation", 8, 20)),
            replace(CONFIG, max_steps=1_000, validate_every=1_000),
            tmp_path / f"run-{num_epochs}",
        )

    result = fit_epochs(2)
    assert (result.stopped, result.epochs) == ("data_exhausted", 2)
    assert result.best_step == result.steps
    with pytest.raises(TrainingError, match="no training batches"):
        fit_epochs(0)


def test_no_validation_target_is_an_error(shards, tmp_path):
    with pytest.raises(TrainingError, match="no targets"):
        fit(
            Toy(),
            lambda cursor: read_batches(shards, READING, start=cursor),
            lambda: [],
            CONFIG,
            tmp_path / "run",
        )


def test_the_mean_does_not_depend_on_how_windows_are_batched(shards):
    model, device = Toy(), torch.device("cpu")
    losses = [
        validation_loss(
            model, (part.batch for part in read_windows(shards, "validation", size, 20)), device
        )
        for size in (1, 3, 100)
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_the_learning_rate_rises_and_falls():
    config = FitConfig(max_steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.505)
    assert rates[100] == pytest.approx(0.01)


CHANGES = {
    "init": "somewhere",
    "max_steps": 9,
    "batch_size": 3,
    "accumulate": 2,
    "max_points": 12,
    "batching": "packed",
    "learning_rate": 1e-2,
    "warmup_steps": 9,
    "weight_decay": 0.5,
    "max_gradient_norm": 0.01,
    "ema_decay": 0.9,
    "validate_every": 5,
    "log_every": 3,
    "seed": 5,
    "thinned": 0.5,
    "finer": 0.5,
    "short": 0.5,
}


@pytest.mark.parametrize(("name", "value"), CHANGES.items())
def test_each_field_changes_something(shards, tmp_path, whole, name, value):
    run(shards, tmp_path / "run", replace(CONFIG, **{name: value}))
    changed = outcome(tmp_path / "run")
    assert any(changed[file] != whole[file] for file in ("weights.safetensors", "metrics.jsonl"))


def test_no_other_field_is_without_a_test():
    elsewhere = {"patience", "deterministic", "checkpoint_every_s", "precision", "select_by"}
    assert {entry.name for entry in fields(FitConfig)} == CHANGES.keys() | elsewhere


@pytest.mark.parametrize(
    "change",
    [
        {"max_steps": 0}, {"validate_every": 0}, {"log_every": 0}, {"learning_rate": 0.0},
        {"weight_decay": -1.0}, {"warmup_steps": -1}, {"max_gradient_norm": 0.0}, {"patience": 0},
        {"checkpoint_every_s": -1.0}, {"seed": -1}, {"accumulate": 0}, {"precision": "half"},
        {"batch_size": 0}, {"max_points": 1}, {"ema_decay": 1.0}, {"ema_decay": -0.1},
        {"thinned": -0.1}, {"finer": 1.1}, {"short": -0.1},
    ],
)  # fmt: skip
def test_senseless_configurations_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change)).split("_")[-1][:4]):
        FitConfig(**change)


# No trace


def test_two_runs_are_equal_whatever_went_on_around_them(shards, tmp_path, whole):
    torch.manual_seed(99)
    torch.rand(5)
    np.random.default_rng().random()
    run(shards, tmp_path / "again", replace(CONFIG, checkpoint_every_s=1e9))
    assert outcome(tmp_path / "again") == whole


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_trains_whatever_its_caller_wants_of_gradients(shards, tmp_path, whole, mode):
    model = Toy()
    with mode():
        run(shards, tmp_path / "run", model=model)
    assert outcome(tmp_path / "run") == whole


def global_states():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def test_nothing_global_is_left_changed(shards, tmp_path):
    torch.manual_seed(7)
    random.seed(7)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    seen, is_unchanged = [], []
    for attempt in range(3):  # threads of other libraries draw numbers too, now and then
        model, before = Toy(), global_states()
        run(
            shards,
            tmp_path / f"run {attempt}",
            replace(CONFIG, deterministic=True),
            model,
            on_progress=lambda _: seen.append(torch.are_deterministic_algorithms_enabled()),
        )
        is_unchanged.append(before == global_states())
    assert any(is_unchanged)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert all(seen)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_run_in_a_thread_needs_no_signal_handler(shards, tmp_path, whole):
    thread = threading.Thread(target=run, args=(shards, tmp_path / "run"))
    thread.start()
    thread.join()
    assert outcome(tmp_path / "run") == whole


# Averaged weights

AVERAGED = replace(CONFIG, ema_decay=0.7)


def test_the_mean_of_the_weights_is_judged_and_kept(shards, tmp_path):
    """Slowly: the weights of every step, and their mean."""
    config, model, seen = replace(AVERAGED, validate_every=12), Toy(), []
    run(
        shards, tmp_path / "plain", replace(config, ema_decay=0.0), model,
        lambda progress: seen.append(model.outer.weight.detach().clone()),
    )  # fmt: skip
    seen = seen[:12]  # a report of each step, then that of the validation
    expected = seen[0].clone()
    for step, weight in enumerate(seen[1:], 2):
        share = max(0.3, 1 / step)
        expected += share * (weight - expected)
    averaged = Toy()
    result = run(shards, tmp_path / "run", config, averaged)
    torch.testing.assert_close(averaged.outer.weight, expected, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(averaged.outer.weight, seen[-1], atol=1e-5)
    windows = [part.batch for part in read_windows(shards, "validation", 8, num_context=20)]
    loss = validation_loss(averaged, windows, torch.device("cpu"))
    assert result.best_validation_loss == loss


@pytest.fixture(scope="module")
def whole_mean(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole_mean")
    run(shards, folder, AVERAGED)
    return outcome(folder)


@pytest.mark.parametrize("step", [4, 7, 11])
def test_a_crashed_run_goes_on_with_its_mean(shards, tmp_path, whole_mean, monkeypatch, step):
    for folder in ("run", "forgets"):
        with pytest.raises(Stop):
            run(shards, tmp_path / folder, AVERAGED, on_progress=crash_at(step))
    run(shards, tmp_path / "run", AVERAGED, Toy(seed=8))
    assert outcome(tmp_path / "run") == whole_mean
    monkeypatch.setattr(AveragedWeights, "restore", lambda self, tensors: None)
    run(shards, tmp_path / "forgets", AVERAGED, Toy(seed=8))
    assert outcome(tmp_path / "forgets") != whole_mean


# Resume


@pytest.mark.parametrize("step", [2, 4, 5, 11, 12])
def test_a_crashed_run_goes_on_as_if_it_had_not(shards, tmp_path, whole, step):
    with pytest.raises(Stop):
        run(shards, tmp_path / "run", on_progress=crash_at(step))
    run(shards, tmp_path / "run", model=Toy(seed=8))  # weights come from the checkpoint
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize("step", [4, 7])
def test_a_crashed_run_goes_on_with_what_was_drawn(shards, tmp_path, step):
    drawn = replace(CONFIG, thinned=0.3, finer=0.3, short=0.3)
    run(shards, tmp_path / "whole", drawn)
    with pytest.raises(Stop):
        run(shards, tmp_path / "run", drawn, on_progress=crash_at(step))
    run(shards, tmp_path / "run", drawn, Toy(seed=8))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("step", [1, 9])
def test_a_run_that_crashed_before_its_first_checkpoint_starts_afresh(
    shards, tmp_path, whole, step
):
    config = replace(CONFIG, checkpoint_every_s=1e9)
    with pytest.raises(Stop):
        run(shards, tmp_path / "run", config, on_progress=crash_at(step))
    run(shards, tmp_path / "run", config)
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize(
    ("name", "forgetful"),
    [
        ("restore_optimiser", lambda optimiser, tensors: None),
        ("set_random_state", lambda device, states: None),
        ("restore_model", lambda model, tensors: None),
    ],
)
def test_a_resume_that_forgets_something_would_be_noticed(
    shards, tmp_path, whole, monkeypatch, name, forgetful
):
    with pytest.raises(Stop):
        run(shards, tmp_path / "run", on_progress=crash_at(7))
    monkeypatch.setattr(fit_module, name, forgetful)
    run(shards, tmp_path / "run")
    assert outcome(tmp_path / "run") != whole


def test_a_resume_that_forgets_its_place_in_the_data_would_be_noticed(
    shards, tmp_path, whole, monkeypatch
):
    with pytest.raises(Stop):
        run(shards, tmp_path / "run", on_progress=crash_at(7))
    from_json = fit_module.FitState.from_json
    monkeypatch.setattr(
        fit_module.FitState,
        "from_json",
        classmethod(lambda cls, value: from_json({**value, "cursor": Cursor().to_json()})),
    )
    run(shards, tmp_path / "run")
    assert outcome(tmp_path / "run") != whole


def test_a_finished_run_is_not_trained_again(shards, tmp_path):
    first = run(shards, tmp_path / "run")
    model, seen = Toy(seed=4), []
    assert run(shards, tmp_path / "run", model=model, on_progress=seen.append) == first
    assert seen == []
    best = Toy()
    load_weights(best, first.weights)
    assert torch.equal(model.outer.weight, best.outer.weight)


def test_another_configuration_or_model_does_not_take_over_the_folder(shards, tmp_path):
    run(shards, tmp_path / "run")
    with pytest.raises(MismatchedCheckpoint, match="another configuration"):
        run(shards, tmp_path / "run", replace(CONFIG, learning_rate=0.5))
    other = Toy()
    other.extra = torch.nn.Linear(1, 1)
    with pytest.raises(MismatchedCheckpoint, match="missing"):
        run(shards, tmp_path / "run", model=other)
    run(shards, tmp_path / "run", replace(CONFIG, checkpoint_every_s=5.0))


def newest(folder):
    return max((folder / "checkpoints").iterdir())


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimiser.safetensors", "random.safetensors", "state.json"]
)
def test_a_corrupt_newest_checkpoint_costs_steps_not_truth(shards, tmp_path, whole, caplog, name):
    with pytest.raises(Stop):
        run(shards, tmp_path / "run", on_progress=crash_at(9))
    path = newest(tmp_path / "run") / name
    path.write_bytes(path.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING):
        run(shards, tmp_path / "run")
    assert "falling back" in caplog.text
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize("damage", ["best", "metrics", "all checkpoints"])
def test_other_damage_is_made_good_from_what_is_left(shards, tmp_path, whole, damage):
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        run(shards, folder, on_progress=crash_at(9))
    if damage == "best":
        for path in (folder / "best").iterdir():
            path.write_bytes(b"")
    elif damage == "metrics":
        (folder / "metrics.jsonl").unlink()
    else:
        for path in (folder / "checkpoints").iterdir():
            (path / "state.json").write_text("{}")
    run(shards, folder)
    assert outcome(folder) == whole


def test_little_is_left_on_disk(shards, tmp_path):
    run(shards, tmp_path / "run")
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2
    assert len(list((tmp_path / "run" / "best").iterdir())) <= 2


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [3, 4, 12])
def test_a_signal_saves_and_says_so(shards, tmp_path, whole, number, step):
    config = replace(CONFIG, checkpoint_every_s=1e9)

    def ask(progress):
        if progress.step == step:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # impatience changes nothing

    with pytest.raises(Interrupted, match=f"step {step}"):
        run(shards, tmp_path / "run", config, on_progress=ask)
    assert newest(tmp_path / "run").is_dir()
    run(shards, tmp_path / "run", config)
    assert outcome(tmp_path / "run") == whole


def test_a_signal_during_validation_leaves_the_validation_to_the_next_run(shards, tmp_path, whole):
    def validation_batches():
        for part in read_windows(shards, "validation", 1, num_context=20):
            os.kill(os.getpid(), signal.SIGTERM)
            yield part.batch

    with pytest.raises(Interrupted, match="step 4"):
        fit(
            Toy(),
            lambda cursor: read_batches(shards, READING, start=cursor),
            validation_batches,
            CONFIG,
            tmp_path / "run",
        )
    assert all("validation_loss" not in line for line in lines(tmp_path / "run"))
    run(shards, tmp_path / "run")
    assert outcome(tmp_path / "run") == whole


def test_a_signal_while_a_checkpoint_is_written_lets_it_finish(
    shards, tmp_path, whole, monkeypatch
):
    fsync, calls = os.fsync, []

    def interrupting(descriptor):
        calls.append(descriptor)
        if len(calls) == 15:
            os.kill(os.getpid(), signal.SIGTERM)
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupting)
        with pytest.raises(Interrupted):
            run(shards, tmp_path / "run")
    run(shards, tmp_path / "run")
    assert outcome(tmp_path / "run") == whole


def test_kill_9_at_any_call_and_run_again_ends_as_the_unkilled_run(shards, tmp_path):
    script = TESTS / "helpers" / "toy_training.py"
    finished = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(shards.folder)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (PROJECT, TESTS)))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.stdout == "done\n", finished.stdout + finished.stderr


# Numbers that are none


class Poisoned(Toy):
    """Gives a loss that is not a number for the windows it is told."""

    def __init__(self, window_ids, value=math.nan):
        super().__init__()
        self.window_ids, self.value = torch.tensor(window_ids), value

    def loss(self, batch):
        loss = super().loss(batch)
        if torch.isin(batch.window_id_B, self.window_ids).any():
            return replace(loss, total=loss.total * self.value)
        return loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_window_is_named_with_its_step_and_leaves_the_weights(shards, tmp_path, value):
    batches = read_batches(shards, READING)
    early = {int(number) for _ in range(6) for number in next(batches).window_id_B}
    later = [int(number) for number in next(batches).window_id_B]
    bad = next(number for number in later if number not in early)
    model = Poisoned([bad], value)
    with pytest.raises(
        NonFiniteLoss, match=rf"loss is not finite at step 7, windows {bad}$"
    ) as error:
        run(shards, tmp_path / "run", model=model)
    assert (error.value.step, error.value.window_ids) == (7, [bad])
    assert all(value.isfinite().all() for value in model.parameters())
    assert newest(tmp_path / "run").is_dir()
    run(shards, tmp_path / "run")  # a sound model goes on from there


def test_a_bad_validation_window_is_named(shards, tmp_path):
    bad = next(read_windows(shards, "validation", 8, 20)).batch.window_id_B[2]
    # Crops are numbered from 0 on as well: only a crop of that number could be met before.
    with pytest.raises(NonFiniteLoss, match=rf"validation loss .* step 4, windows {int(bad)}$"):
        run(shards, tmp_path / "run", model=Poisoned([int(bad)]))


def test_an_exploding_gradient_names_its_batch(shards, tmp_path):
    class Steep(Toy):
        def loss(self, batch):
            loss = super().loss(batch)
            # Zero, with a slope that has no end at zero.
            return replace(loss, total=loss.total + (self.outer.bias.sum() * 0).sqrt())

    first = next(read_batches(shards, READING))
    with pytest.raises(NonFiniteLoss, match="gradient is not finite at step 1") as error:
        run(shards, tmp_path / "run", model=Steep())
    assert error.value.window_ids == first.window_id_B.tolist()
