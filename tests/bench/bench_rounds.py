"""Measurements in turn: contestants in processes of their own, medians of rounds, and a report."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from helpers.places import PROJECT

RESULTS = PROJECT / "benchmarks" / "results"
PEERS = Path(os.environ.get("TRAJFOUNDRY_PEERS", PROJECT / ".venv-peers")) / "bin" / "python"
NUM_ROUNDS = int(os.environ.get("TRAJFOUNDRY_BENCH_ROUNDS", "3"))
NUM_SLOW_ROUNDS = int(os.environ.get("TRAJFOUNDRY_BENCH_SLOW_ROUNDS", "1"))


def geolife_sample() -> Path:
    """A zip of GeoLife; without one a measurement is skipped."""
    given = os.environ.get("TRAJFOUNDRY_GEOLIFE")
    path = Path(given) if given else PROJECT.parent / "shared" / "data" / "geolife-sample.zip"
    if not path.is_file():
        pytest.skip("GeoLife is not here; TRAJFOUNDRY_GEOLIFE may name its zip")
    return path


@dataclass(frozen=True)
class Contestant:
    """A program and its arguments; `is_slow` limits its rounds, `makes` is a folder it fills."""

    name: str
    script: str
    arguments: tuple[str | Path, ...]
    is_slow: bool = False
    makes: Path | None = None

    def run(self) -> dict[str, Any]:
        """The measures of one new process; a script of the peers runs in their environment."""
        if self.makes is not None:
            shutil.rmtree(self.makes, ignore_errors=True)
        python = str(PEERS) if "peers" in self.script else sys.executable
        done = subprocess.run(
            [python, PROJECT / "tests" / "bench" / self.script, *self.arguments],
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "tests")])},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{self.name}: {done.stderr[-2_000:]}"
        return json.loads(done.stdout.splitlines()[-1])


@dataclass
class Bench:
    """All measures so far: (measure, contestant) to the readings of its rounds."""

    readings: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)

    def take_turns(self, *contestants: Contestant) -> None:
        for i in range(NUM_ROUNDS):
            for contestant in contestants:
                if i < NUM_SLOW_ROUNDS or not contestant.is_slow:
                    for measure, reading in contestant.run().items():
                        self.readings.setdefault((measure, contestant.name), []).append(reading)

    def answers(self, measure: str, name: str) -> dict[str, float]:
        """What a contestant found, which must be the same in each round."""
        first, *others = [reading["answers"] for reading in self.readings[measure, name]]
        assert all(other == pytest.approx(first, rel=1e-12) for other in others)
        return first

    def median(self, measure: str, name: str, quantity: str) -> float:
        readings = self.readings.get((measure, name), [])
        return statistics.median(r[quantity] for r in readings) if readings else float("nan")


# The report ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """A ratio of two medians that should be at least, or at most, a number.

    `above` and `below` name a measure and a contestant. What counts is the time, unless another
    quantity is named.
    """

    title: str
    above: tuple[str, str]
    below: tuple[str, str]
    bound: float
    is_floor: bool = True
    quantity: str = "s"

    def judged(self, bench: Bench) -> dict[str, Any]:
        """The ratio by wall and by CPU seconds.

        Seconds by the wall say little on a busy machine: where the two disagree, the verdict says
        so.
        """
        kinds = ("wall_s", "cpu_s") if self.quantity == "s" else (self.quantity, self.quantity)
        ratios = [
            bench.median(*self.above, kind) / bench.median(*self.below, kind) for kind in kinds
        ]
        return judged(self.title, self.bound, self.is_floor, *ratios)


def judged(title: str, bound: float, is_floor: bool, wall: float, cpu: float) -> dict[str, Any]:
    is_met = tuple(bool(found >= bound if is_floor else found <= bound) for found in (wall, cpu))
    words = {
        (True, True): "met",
        (True, False): "by wall only",
        (False, True): "by CPU only",
        (False, False): "missed",
    }
    verdict = "not measured" if math.isnan(wall) else words[is_met]
    sign = "≥" if is_floor else "≤"
    return {"title": title, "goal": f"{sign} {bound:g}", "wall": wall, "cpu": cpu, "is": verdict}


def report(bench: Bench, subject: str, goals: Sequence[dict[str, Any]], remark: str = "") -> str:
    """The tables and a remark, kept with all readings in `benchmarks/results`, as shown."""
    text = as_markdown(bench, subject, goals) + (f"\n{remark}\n" if remark else "")
    RESULTS.mkdir(parents=True, exist_ok=True)
    stamp = f"{subject}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    (RESULTS / f"{stamp}.md").write_text(text)
    (RESULTS / f"{stamp}.json").write_text(as_json(bench, goals))
    return f"\n\n{text}\nKept in {RESULTS.relative_to(PROJECT)}/{stamp}.md and .json"


def as_json(bench: Bench, goals: Sequence[dict[str, Any]]) -> str:
    readings = [
        {"measure": measure, "contestant": name, "readings": readings}
        for (measure, name), readings in bench.readings.items()
    ]
    return json.dumps({"machine": machine(), "readings": readings, "goals": goals}, indent=1)


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "load_1_min": round(os.getloadavg()[0], 1),
        **{name: version(name) for name in ("duckdb", "pyarrow", "numpy", "numba")},
    }


def as_markdown(bench: Bench, subject: str, goals: Sequence[dict[str, Any]]) -> str:
    told = ", ".join(f"{name} {value}" for name, value in machine().items())
    lines = [
        f"{subject}: medians of n new processes in turn; {told}",
        "",
        "| measure | contestant | wall s | CPU s | peak MiB | first answer | n |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for (measure, name), readings in sorted(bench.readings.items()):
        wall_s, cpu_s, peak_mb = (
            bench.median(measure, name, kind) for kind in ("wall_s", "cpu_s", "peak_mb")
        )
        number = next(iter(readings[0]["answers"].values()))
        lines.append(
            f"| {measure} | {name} | {wall_s:.2f} | {cpu_s:.2f} | {peak_mb:,.0f} "
            f"| {number:,.0f} | {len(readings)} |"
        )
    lines += ["", "| ratio | goal | wall | CPU | |", "|---|---:|---:|---:|---|"]
    lines += [
        f"| {row['title']} | {row['goal']} | {row['wall']:.2f} | {row['cpu']:.2f} | {row['is']} |"
        for row in goals
    ]
    return "\n".join(lines) + "\n"
