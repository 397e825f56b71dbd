"""Killed at any step and run again, a stage ends as if it never was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.places import PROJECT
from helpers.storms import storms

from tasks.runtime.store import Store

# A process that dies by SIGKILL just before its n-th operation on files.
DYING = """
import os, signal, sys
import pyarrow.parquet as pq

root, source, fatal = sys.argv[1], sys.argv[2], int(sys.argv[3])
done = 0


def watched(function):
    def call(*arguments, **named):
        global done
        done += 1
        if done == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call


for name in ("fsync", "rename", "replace", "mkdir", "unlink"):
    setattr(os, name, watched(getattr(os, name)))
pq.ParquetWriter.write_table = watched(pq.ParquetWriter.write_table)
pq.ParquetWriter.close = watched(pq.ParquetWriter.close)

from flows.steps import prepared
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.ingest import ingest
from tasks.catalog.run import recorded_run
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

config = PipelineConfig(window={"num_context": 4, "num_horizon": 4, "stride": 4},
                        assess={"horizons": (1, 4), "gate_horizon": 4})
store = Store(root)
with without_orchestrator(), recorded_run(store, "prepare", config.dataset):
    prepared(config, ingest(config, source, store), store)
print(done)
"""


def run(root: Path, source: Path, fatal: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DYING, str(root), str(source), str(fatal)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )


def content(root: Path) -> dict[str, str]:
    """Every published file but run records and the warehouse, by its place."""
    store = Store(root)
    return {
        f"{manifest.recipe.stage}/{manifest.recipe.digest}/{file.name}": file.sha256
        for stage in ("part", "snapshot", "clean", "split", "features", "shards", "train")
        for manifest in store.published(stage, "hurdat2")
        for file in manifest.files
    }


@pytest.fixture(scope="module")
def oracle(tmp_path_factory) -> tuple[Path, dict[str, str], int]:
    """The raw file, what an unkilled run publishes, and its number of file operations."""
    folder = tmp_path_factory.mktemp("oracle")
    source = folder / "hurdat2-made-up.txt"
    source.write_text(storms(40, 16))
    for root in (folder / "first", folder / "store"):  # the first one fills the caches of kernels
        done = run(root, source, 0)
        assert done.returncode == 0, done.stderr
    published = content(folder / "store")
    assert len(published) > 20
    return source, published, int(done.stdout.split()[-1])


def check_killed_at(step: int, root: Path, oracle: tuple[Path, dict[str, str], int]) -> None:
    source, published, _ = oracle
    died = run(root, source, step)
    assert died.returncode == -9, died.stderr
    again = run(root, source, 0)
    assert again.returncode == 0, again.stderr
    assert content(root) == published
    assert not list((root / ".tmp").iterdir())


@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
def test_a_run_killed_on_its_way_ends_like_one_that_was_not(share, oracle, tmp_path):
    check_killed_at(max(1, round(share * oracle[2])), tmp_path / "store", oracle)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_run_killed_at_each_of_its_steps_ends_like_one_that_was_not(oracle, tmp_path):
    for step in range(1, oracle[2] + 1):
        check_killed_at(step, tmp_path / f"store-{step}", oracle)


CHECKPOINTED = "TRAJFOUNDRY_CHECKPOINT_EVERY_S"


def whole_run(root: Path, source: Path) -> subprocess.Popen[bytes]:
    """The pipeline by its command line, with a small model and frequent checkpoints."""
    flags = ["--model.preset", "tiny", "--train.max_steps", "400", "--train.validate_every", "100"]
    shape = ["--window.num_context", "4", "--window.num_horizon", "4", "--window.stride", "4"]
    assess = ["--assess.horizons", "[1,4]", "--assess.gate_horizon", "4"]
    command = [sys.executable, "-m", "flows.cli", "run", "--store", str(root)]
    return subprocess.Popen(
        [*command, "--source", str(source), *flags, *shape, *assess],
        cwd=PROJECT,
        env=os.environ | {CHECKPOINTED: "0.2"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_a_pipeline_killed_in_its_training_ends_with_the_same_weights(tmp_path):
    source = tmp_path / "hurdat2-made-up.txt"
    source.write_text(storms(40, 16))
    unkilled, killed = tmp_path / "unkilled", tmp_path / "killed"
    assert whole_run(unkilled, source).wait(timeout=300) == 0

    process = whole_run(killed, source)
    deadline_s = time.monotonic() + 240
    while not list(killed.glob(".work/*/checkpoints/*")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    process.kill()
    assert process.wait(timeout=30) == -9
    assert not list(killed.glob("train/*/*"))

    assert whole_run(killed, source).wait(timeout=300) == 0
    [weights] = unkilled.glob("train/*/*/weights.safetensors")
    [again] = killed.glob("train/*/*/weights.safetensors")
    assert again.read_bytes() == weights.read_bytes()
    assert content(killed) == content(unkilled)
