"""Runs that faults are injected into: made-up storms, stages as plain functions, a small model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flows.steps import Prepared, assessed, prepared
from helpers.places import PROJECT, TESTS
from helpers.storms import storms
from tasks.catalog.run import recorded_run
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.ingest import ingest
from tasks.release.register import Registration
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

SMALL = PipelineConfig.model_validate(
    {
        "window": {"num_context": 4, "num_horizon": 4, "stride": 4},
        "model": {"preset": "tiny"},
        "train": {"max_steps": 12, "validate_every": 6, "warmup_steps": 2},
        "assess": {"horizons": (1, 4), "gate_horizon": 4, "num_bootstrap": 100},
    }
)
SMALL_FLAGS = (
    *("--window.num_context", "4", "--window.num_horizon", "4", "--window.stride", "4"),
    *("--model.preset", "tiny", "--train.max_steps", "12", "--train.validate_every", "6"),
    *("--train.warmup_steps", "2", "--assess.horizons", "[1,4]", "--assess.gate_horizon", "4"),
    *("--assess.num_bootstrap", "100"),
)


def storm_file(folder: Path, name: str = "hurdat2-made-up.txt") -> Path:
    path = folder / name
    path.write_text(storms(40, 16))
    return path


def prepare(root: Path, source: Path) -> Prepared:
    """From the file to shards, with its record."""
    store = Store(root)
    with without_orchestrator(), recorded_run(store, "prepare", SMALL.dataset):
        return prepared(SMALL, ingest(SMALL, str(source), store), store)


def whole(root: Path, source: Path) -> Registration:
    """From the file to a registered model, with its record."""
    store = Store(root)
    with without_orchestrator(), recorded_run(store, "pipeline", SMALL.dataset):
        return assessed(SMALL, ingest(SMALL, str(source), store), store).registration


def content(root: Path) -> dict[str, str]:
    """Every published file by its place and SHA-256; each folder must be complete."""
    store = Store(root)
    found = {}
    for folder in sorted(root.glob(f"[a-z]*/{SMALL.dataset}/*/")):
        stage, dataset = folder.parts[-3:-1]
        manifests = {m.recipe.digest: m for m in store.published(stage, dataset)}
        for file in manifests[folder.name].files:
            found[f"{stage}/{folder.name}/{file.name}"] = file.sha256
    return found


def child(script: str, *arguments: str | Path, **env: str) -> subprocess.Popen[str]:
    """A Python process of its own that runs this text."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=PROJECT,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(**more: str) -> dict[str, str]:
    """That of a user, in which the helpers of the tests are found as well."""
    free = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    return free | {"PYTHONPATH": f"{PROJECT}{os.pathsep}{TESTS}"} | more


def finished(process: subprocess.Popen[str], timeout_s: float = 300) -> tuple[int, str, str]:
    """The exit code and what it said; one that does not end in time is killed."""
    try:
        said, complained = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, said, complained
