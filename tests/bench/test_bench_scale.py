"""Up to a million made-up trips with a gigabyte for the database; run with `make bench-scale`.

It takes half an hour and 10 GB of disk. `TRAJFOUNDRY_BENCH_TRIPS` gives other numbers of trips,
parted by commas. Seconds are reported, and only memory and rows are judged.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_rounds import RESULTS, machine
from helpers.places import PROJECT

NUM_TRIPS = [
    int(number)
    for number in os.environ.get("TRAJFOUNDRY_BENCH_TRIPS", "250000,500000,1000000").split(",")
]
MEMORY_LIMIT_MB = 1_000
BESIDE_DATABASE_MB = 800  # the libraries, a bucket's blocks and the index of its rows
GROWTH = 1.05  # what training may hold in the end, beside what it holds half-way
STAGES = ("ingest", "clean", "split", "features", "regions", "shards", "train")

pytestmark = [pytest.mark.scale, pytest.mark.timeout(6 * 3_600)]


def measured(num_trips: int, folder: Path) -> dict[str, Any]:
    """The measures of each stage; what was made is removed."""
    done = subprocess.run(
        [
            sys.executable,
            PROJECT / "tests" / "bench" / "bench_scale.py",
            "scale",
            str(num_trips),
            folder,
        ],
        env=os.environ
        | {"PYTHONPATH": str(PROJECT), "TRAJFOUNDRY_MEMORY_LIMIT_MB": str(MEMORY_LIMIT_MB)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def measures(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    made = {n: measured(n, tmp_path_factory.mktemp("scale") / "store") for n in NUM_TRIPS}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps({"machine": machine(), "trips": made}, indent=1))
    return made


def test_seconds_and_memory_are_told(measures: dict[int, dict[str, Any]], capsys: Any) -> None:
    lines = [
        "| trips | stage | wall s | CPU s | CPU us a trip | peak MiB |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for num_trips, stages in measures.items():
        for name in STAGES:
            found = stages[name]
            each_us = found["cpu_s"] / num_trips * 1e6
            lines.append(
                f"| {num_trips:,} | {name} | {found['wall_s']:.1f} | {found['cpu_s']:.1f} "
                f"| {each_us:,.0f} | {found['peak_mb']:,.0f} |"
            )
    with capsys.disabled():
        print("\n\n" + "\n".join(lines))
        for num_trips, stages in measures.items():
            held = ", ".join(f"{mb:,.0f}" for mb in stages["train"]["answers"].values())
            print(f"{num_trips:,} trips: MiB held in each tenth of the training: {held}")
    assert all(stages.keys() == set(STAGES) for stages in measures.values())


def test_memory_is_bounded(measures: dict[int, dict[str, Any]]) -> None:
    for num_trips, stages in measures.items():
        for name in STAGES[:-1]:
            assert stages[name]["peak_mb"] < MEMORY_LIMIT_MB + BESIDE_DATABASE_MB, (num_trips, name)


def test_training_does_not_grow(measures: dict[int, dict[str, Any]]) -> None:
    for num_trips, stages in measures.items():
        held = stages["train"]["answers"]
        assert held["tenth_10_mb"] < GROWTH * held["tenth_5_mb"], num_trips


def test_most_trips_arrive(measures: dict[int, dict[str, Any]]) -> None:
    """A silence cuts a trip in two, and short ones are left out."""
    for num_trips, stages in measures.items():
        assert stages["shards"]["answers"]["trips"] == pytest.approx(num_trips, rel=0.2)
