"""A number of made-up trips prepared and trained on, stage by stage: one process a number."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench_clock import Clock, main

from tasks.config.pipeline import PipelineConfig
from tasks.ingest.ingest import ingest
from tasks.prepare import clean, regions, shards, split, step_features
from tasks.pretrain.train import TRAIN
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

NUM_POINTS = 60
NUM_STEPS, VALIDATE_EVERY = 2_000, 200
HIGH_WATER = Path("/proc/self/clear_refs")


def scale(clock: Clock, num_trips: Path, folder: Path) -> None:
    """From the generator to a trained model; each stage starts with a new peak of memory."""
    store = Store(folder)
    store.prepare()
    config = PipelineConfig(
        dataset="synthetic",
        synthetic={"num_entities": int(str(num_trips)), "num_points": NUM_POINTS},
        model={"preset": "tiny"},
        train={"max_steps": NUM_STEPS, "validate_every": VALIDATE_EVERY},
    )
    with without_orchestrator():
        with stage(clock, "ingest"):
            points = ingest(config, "", store)
        with stage(clock, "clean"):
            cleaned = clean.clean(config, points, store)
        with stage(clock, "split"):
            drawn = split.split(config, cleaned, store)
        with stage(clock, "features"):
            featured = step_features.features(config, cleaned, store)
        with stage(clock, "regions"):
            known = regions.regions(config, cleaned, drawn, store)
        with stage(clock, "shards"):
            made = shards.shards(config, cleaned, featured, drawn, known, store)
        inputs = {"shards": made}
        job = TRAIN.job(config.dataset, config.training, inputs, store, licence="none")
        with stage(clock, "train"), resident() as readings_mb:
            TRAIN.plain(job)
    tenth = max(len(readings_mb) // 10, 1)
    clock.measures["train"]["answers"] |= {
        f"tenth_{n + 1}_mb": statistics.median(readings_mb[n * tenth : (n + 1) * tenth])
        for n in range(10)
    }
    counts = store.manifest(made).counts
    clock.measures["shards"]["answers"] |= {
        "trips": sum(float(counts[f"trips_{name}"]) for name in split.SPLITS),
        "points": sum(float(counts[f"points_{name}"]) for name in split.SPLITS),
    }


@contextmanager
def stage(clock: Clock, name: str) -> Iterator[None]:
    HIGH_WATER.write_text("5")
    with clock.measure(name):
        yield


@contextmanager
def resident() -> Iterator[list[float]]:
    """The memory that the process holds, five times a second, in MiB."""
    readings_mb: list[float] = []
    done = threading.Event()

    def read() -> None:
        while not done.wait(0.2):
            status = Path("/proc/self/status").read_text().splitlines()
            [line] = [line for line in status if line.startswith("VmRSS")]
            readings_mb.append(int(line.split()[1]) / 1024)

    reader = threading.Thread(target=read)
    reader.start()
    yield readings_mb
    done.set()
    reader.join()


if __name__ == "__main__":
    main({"scale": scale})
