"""A training shared by two processes: torchrun starts them, and they talk over the loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from helpers import ships
from helpers.places import PROJECT, TESTS
from helpers.shards import write_shards
from helpers.toy_ranks import quiet_toy, run_shared

from model.inference.serving import load_trained
from model.interface.weights import load_tensors
from model.training import launch
from model.training.config import FitConfig
from model.training.fit import FitResult
from model.training.launch import Training

LENGTHS = [50, 20, 33, 7, 90, 12, 41, 28, 16, 3]


def torchrun(*arguments: str | Path, num_ranks: int = 2) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={num_ranks}", *map(str, arguments)),
        ],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, words = process.communicate(timeout=300)
    return process.returncode, words


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, {"train": LENGTHS, "validation": [60, 45, 20]})


@pytest.fixture(scope="module")
def found(shards, tmp_path_factory):
    """What two ranks did, and the folder where they did it."""
    root = tmp_path_factory.mktemp("ranks")
    code, words = finished(torchrun(TESTS / "helpers" / "toy_ranks.py", shards.folder, root))
    assert code == 0, words
    return json.loads((root / "found.json").read_text()), root


@pytest.fixture(scope="module")
def alone(shards, tmp_path_factory) -> tuple[FitResult, Path]:
    """The same steps by one process, which takes the batches of both."""
    folder = tmp_path_factory.mktemp("alone")
    return run_shared(shards, folder, quiet_toy()), folder


def furthest(one: Path, other: Path) -> float:
    """The largest difference of two stored models."""
    a, b = (load_tensors(folder / "weights.safetensors") for folder in (one, other))
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_two_ranks_end_as_one_that_takes_the_batches_of_both(found, alone):
    facts, root = found
    result, folder = alone
    assert facts["ranks_agree"]
    assert facts["result"] == [result.steps, result.num_tokens, result.epochs, result.best_step]
    assert facts["validation_loss"] == pytest.approx(result.best_validation_loss, rel=1e-5)
    assert furthest(root / "shared", folder) < 1e-5
    moved = furthest(root / "whole", folder)
    assert furthest(root / "faulty", folder) > 1e-4
    assert moved > 1e-4  # another run is not taken for the same


def test_one_rank_writes_and_the_course_is_that_of_one(found, alone):
    _, root = found
    ours, theirs = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (root / "shared", alone[1])
    )
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_a_signal_to_one_rank_stops_both_at_the_same_step_and_they_go_on_exactly(found):
    facts, _ = found
    first, second = facts["stopped_at"]
    assert first == second == 6
    assert facts["same_as_whole"]


def test_a_window_of_the_second_rank_is_named_by_the_first(found):
    facts, _ = found
    assert facts["named"] == [facts["bad"]]


def test_a_step_that_ranks_cannot_share_is_refused(found):
    facts, _ = found
    assert "1 batches cannot be shared by 2 ranks" in facts["refused"]


# The entry point


def job_of(store, max_steps: int = 20) -> Training:
    folder = store.folder(ships.stored_shards(store))
    fit = FitConfig(
        max_steps=max_steps,
        warmup_steps=3,
        validate_every=10,
        batch_size=8,
        accumulate=2,
        max_points=16,
        checkpoint_every_s=0.0,
    )
    return Training(str(folder), "chemin", "tiny", fit)


def test_a_training_survives_json():
    training = Training("somewhere", "chemin", "tiny", FitConfig(max_steps=3, init="there"))
    assert Training.from_json(json.loads(json.dumps(asdict(training)))) == training


def test_torchrun_trains_a_model_that_can_be_served(store, tmp_path):
    training = job_of(store)
    (tmp_path / "job.json").write_text(json.dumps(asdict(training)))
    process = torchrun("-m", "model.training.launch", tmp_path / "job.json", tmp_path / "shared")
    code, words = finished(process)
    assert code == 0, words
    result = launch.run(training, tmp_path / "alone")
    course = json.loads((tmp_path / "shared" / "training.json").read_text())
    assert course["steps"] == result.steps == 20
    assert course["best_validation_loss"] == pytest.approx(result.best_validation_loss, rel=1e-4)
    assert furthest(tmp_path / "shared", tmp_path / "alone") < 1e-4
    assert load_trained(tmp_path / "shared").name == "chemin"


def at_its_first_checkpoint(store, tmp_path):
    """The command of a training that has run whole, and the same one started once more."""
    (tmp_path / "job.json").write_text(json.dumps(asdict(job_of(store, max_steps=300))))
    command = ("-m", "model.training.launch", tmp_path / "job.json")
    code, words = finished(torchrun(*command, tmp_path / "whole"))
    assert code == 0, words
    process = torchrun(*command, tmp_path / "cut")
    deadline_s = time.monotonic() + 120
    while not list((tmp_path / "cut").glob("checkpoints/checkpoint-*")):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    return command, process


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_and_the_same_command_goes_on(store, tmp_path):
    command, process = at_its_first_checkpoint(store, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert finished(process)[0] != 0
    assert not (tmp_path / "cut" / "training.json").exists()
    assert finished(torchrun(*command, tmp_path / "cut"))[0] == 0
    for name in ("weights.safetensors", "metrics.jsonl"):
        ours, theirs = ((tmp_path / run / name).read_bytes() for run in ("cut", "whole"))
        assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_one_killed_rank_ends_the_job_in_time_and_the_same_command_goes_on(store, tmp_path, victim):
    command, process = at_its_first_checkpoint(store, tmp_path)
    family = psutil.Process(process.pid).children(recursive=True)
    [rank] = [one for one in family if one.environ().get("RANK") == str(victim)]
    rank.send_signal(signal.SIGKILL)
    begun_s = time.monotonic()
    assert finished(process)[0] != 0
    assert time.monotonic() - begun_s < 90
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert not (tmp_path / "cut" / "training.json").exists()
    assert finished(torchrun(*command, tmp_path / "cut"))[0] == 0
    for name in ("weights.safetensors", "metrics.jsonl"):
        ours, theirs = ((tmp_path / run / name).read_bytes() for run in ("cut", "whole"))
        assert ours == theirs
