"""A small store of storms that we made up, and damage to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from flows.steps import prepared
from tasks.catalog.run import recorded_run
from tasks.config.pipeline import PipelineConfig
from tasks.evaluate.evaluate import evaluate
from tasks.ingest.ingest import ingest
from tasks.pretrain.train import train
from tasks.runtime.file_hashes import sha256_file
from tasks.runtime.manifest import MANIFEST
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

SMALL = {
    "window": {"num_context": 4, "num_horizon": 4, "stride": 4},
    "assess": {"horizons": (1, 4), "gate_horizon": 4},
    "model": {"family": "trajfm", "preset": "tiny"},
    "train": {"max_steps": 2},
}


def run(root: Path, source: Path, until: str = "shards", **changes: object) -> Store:
    """Prepare the storms without an orchestrator, and train and evaluate if asked to."""
    config, store = PipelineConfig(**(SMALL | changes)), Store(root)
    with without_orchestrator(), recorded_run(store, "prepare", config.dataset):
        data = prepared(config, ingest(config, str(source), store), store)
        if until != "shards":
            trained = train(config, data.shards, store)
        if until == "evaluate":
            evaluate(config, data.shards, trained, store)
    return store


def copied(root: Path, to: Path) -> Path:
    return Path(shutil.copytree(root, to / "store"))


def folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"*/*/*/{MANIFEST}"))


def hashes(root: Path) -> dict[str, str]:
    """Every published file by its place; pictures and manifests tell of the run itself."""
    return {
        path.relative_to(root).as_posix(): sha256_file(path)
        for folder in folders(root)
        for path in folder.iterdir()
        if path.name != MANIFEST
    }


def flip(path: Path, place: int, *, times_stay: bool = False) -> None:
    """Turn the lowest bit of one byte: of a digit it makes another digit."""
    found = path.stat()
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    if times_stay:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def largest(folder: Path) -> Path:
    files = [path for path in folder.iterdir() if path.name != MANIFEST]
    return max(files, key=lambda path: path.stat().st_size)
