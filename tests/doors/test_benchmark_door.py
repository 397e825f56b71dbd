"""Benchmark at its doors: it goes on after a kill, a repeat does nothing, two are the same."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.places import PROJECT
from helpers.storms import storms

from tasks.registry.client import registry
from tasks.runtime.run_records import read_records
from tasks.runtime.store import Store, read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]
SUITE = """
title = "Tiny: storms that drift west"
families = ["chemin", "trajfm"]
seeds = [0, 1]

[settings]
window = { num_context = 4, num_horizon = 4, stride = 4 }
assess = { horizons = [1, 4], gate_horizon = 4, num_bootstrap = 100 }
model = { preset = "tiny" }
train = { max_steps = 4 }

[[datasets]]
dataset = "hurdat2"
source = "made-hurdat2.txt"
splits = ["entity", "random_window"]

[[datasets]]
dataset = "ais_noaa"
source = "ships.zip"
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "made-hurdat2.txt").write_text(storms(num_storms=30, num_points=24))
    (folder / "tiny.toml").write_text(SUITE)
    return folder


def started(store: Path, sources: Path) -> subprocess.Popen[str]:
    flags = ("--suite", str(sources / "tiny.toml"), "--source-folder", str(sources), "--json")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "flows.cli", "benchmark", "--no-server"),
            *("--store", str(store), *flags),
        ],
        cwd=PROJECT,
        # With two threads sums may be rounded in another order.
        env=os.environ | {"TRAJFOUNDRY_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> dict[str, object]:
    told, said = process.communicate()
    assert process.returncode == 0, said
    answer: dict[str, object] = json.loads(told)
    return answer


def contents(store: Path) -> dict[str, str]:
    """What each folder of the benchmark holds, by its place."""
    found = {}
    for path in store.glob("*/*/*/manifest.json"):
        manifest = read_manifest(path.parent)
        assert manifest is not None
        found[str(path.parent.relative_to(store))] = manifest.content
    return found


@pytest.fixture(scope="module")
def whole(sources, tmp_path_factory) -> tuple[Path, dict[str, object]]:
    store = tmp_path_factory.mktemp("whole") / "store"
    return store, ended(started(store, sources))


def test_a_killed_benchmark_goes_on_and_ends_as_one_that_was_not(whole, sources, tmp_path):
    store, answer = whole
    took_s = sum(run.wall_s for run in read_records(Store(store))[0].stages)
    process = started(tmp_path / "store", sources)
    time.sleep(random.Random(3).uniform(5, 5 + took_s))
    process.kill()
    process.communicate()
    assert ended(started(tmp_path / "store", sources)) == answer
    assert contents(tmp_path / "store") == contents(store)


def test_a_repeat_does_nothing_again(whole, sources):
    store, answer = whole
    before = contents(store)
    assert ended(started(store, sources)) == answer
    assert contents(store) == before
    assert all(run.is_cached for run in read_records(Store(store))[-1].stages)


def test_what_has_no_source_is_told(whole):
    assert whole[1]["left_out"] == [{"what": "ais_noaa", "reason": "no source"}]


def test_the_registry_has_the_suite_its_cells_and_their_seeds(whole):
    with registry(Store(whole[0])) as client:
        [experiment] = client.search_experiments(filter_string="name LIKE 'trajfoundry%'")
        runs = client.search_runs([experiment.experiment_id], max_results=100)
    below: dict[str | None, list[str]] = {}
    for run in runs:
        below.setdefault(run.data.tags.get("mlflow.parentRunId"), []).append(run.info.run_id)
    [suite] = below[None]
    cells = below[suite]
    assert len(cells) == 4  # two families on two splits
    assert [len(below[cell]) for cell in cells] == [2, 2, 2, 2]
    assert {run.info.status for run in runs} == {"FINISHED"}
    seeds = [run for run in runs if run.info.run_id not in (suite, *cells)]
    assert {run.data.params["seed"] for run in seeds} == {"0", "1"}
    assert all("test/damped_velocity/ade_m_step_4" in run.data.metrics for run in seeds)
