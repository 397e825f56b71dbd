"""Shards of made-up ships that turn steadily: what a model learns fast and a straight line misses.

Used by the tests of the stages after shards, which need a store with something worth judging.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from helpers.motion import points_reached
from helpers.shards import SCHEMA, forecast_window
from model.data.shards import WINDOW_SCHEMA
from tasks.config.datasets import Dataset
from tasks.config.pipeline import (
    AssessConfig,
    ModelConfig,
    PipelineConfig,
    TrainConfig,
    WindowConfig,
)
from tasks.evaluate.evaluate import evaluate
from tasks.pretrain.encoding_check import probe_encoding
from tasks.pretrain.train import train
from tasks.report.facts import RunSteps
from tasks.report.report import report
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Counts, Receipt, Recipe, Store

NUM_POINTS = 24
NUM_CONTEXT, NUM_HORIZON, STRIDE = 8, 4, 4
SIZES = {"train": 60, "validation": 20, "test": 12}  # the gate asks for ten entities


class ShipsConfig(PipelineConfig):
    """Judged beside the baselines of every table alone.

    The experts of storms learn to turn for ever by one angle in less time than a model does.
    """

    @property
    def source_row(self) -> Dataset:
        return super().source_row.model_copy(update={"baselines": ()})


def config_of(max_steps: int = 250, seed: int = 0) -> ShipsConfig:
    return ShipsConfig(
        window=WindowConfig(num_context=NUM_CONTEXT, num_horizon=NUM_HORIZON, stride=STRIDE),
        model=ModelConfig(preset="tiny"),
        train=TrainConfig(
            max_steps=max_steps,
            batch_size=32,
            max_points=NUM_POINTS,
            learning_rate=5e-3,
            warmup_steps=10,
            validate_every=50,
        ),
        assess=AssessConfig(horizons=(1, 4), gate_horizon=4, num_bootstrap=100),
        seed=seed,
    )


def stored_shards(
    store: Store,
    seed: int = 0,
    sizes: dict[str, int] = SIZES,
    dataset: str = "hurdat2",
    is_leaky: int = 0,
) -> Receipt:
    """Published shards of ships, as the data stages would have left them."""
    recipe = Recipe(
        stage="shards",
        dataset=dataset,
        code={},
        sql={},
        settings={"seed": seed, "sizes": sizes, "is_leaky": is_leaky},
        inputs={"split": f"{seed:032x}"},
    )
    store.prepare()
    with store.draft() as draft:
        counts = build(draft, seed, sizes) | {"is_leaky": is_leaky}
        return store.publish(
            draft, recipe, counts, licence="made up", lineage={"split": recipe.inputs["split"]}
        )


def build(draft: Path, seed: int, sizes: dict[str, int]) -> Counts:
    generator = np.random.default_rng(seed)
    windows = []
    for split, num_trips in sizes.items():
        trips = [trip(generator, split, number) for number in range(num_trips)]
        if trips:
            table = pa.Table.from_pylist(trips, schema=SCHEMA)
            pq.write_table(table, draft / f"{split}-000.parquet", write_page_checksum=True)
        windows += [
            {"trip_id": row["trip_id"], "entity_id": row["entity_id"], "start": start}
            | forecast_window(split, NUM_CONTEXT, NUM_CONTEXT + NUM_HORIZON, start)
            for row in trips
            for start in range(0, NUM_POINTS - NUM_CONTEXT - NUM_HORIZON + 1, STRIDE)
        ]
    for number, window in enumerate(windows):
        window["window_id"] = number
    index = pa.Table.from_pylist(windows, schema=pa.schema(WINDOW_SCHEMA))
    pq.write_table(index, draft / "windows.parquet", write_page_checksum=True)
    (draft / "normaliser.json").write_text(json.dumps(NORMALISER))
    return {"windows": len(windows), "split_kind": "entity", "split_hash": "f00d"}


NORMALISER = {
    "num_steps": 1_000,
    "step_s": {"p10": 500.0, "p50": 600.0, "p90": 700.0},
    "speed_mps": {"p10": 4.0, "p50": 6.0, "p90": 8.0},
    "step_m": {"p10": 2_400.0, "p50": 3_600.0, "p90": 4_800.0},
}


def trip(generator: np.random.Generator, split: str, number: int) -> dict[str, object]:
    """A ship that turns 20 degrees to the right at every step, at about 6 m/s."""
    step_s = generator.uniform(500, 700, NUM_POINTS).round()
    heading = generator.uniform(0, 2 * np.pi) + np.deg2rad(20) * np.arange(NUM_POINTS)
    step_m = step_s * generator.uniform(4, 8)
    step = np.stack([step_m * np.sin(heading), step_m * np.cos(heading), step_s], axis=-1)
    step[0] = 0
    lon_deg, lat_deg = generator.uniform(-180, 180), generator.uniform(-60, 60)
    start = [torch.tensor([value], dtype=torch.float64) for value in (lon_deg, lat_deg, 0.0)]
    lon_deg_T, lat_deg_T, time_s_T = (
        value[0].numpy() for value in points_reached(*start, torch.from_numpy(step)[None])
    )
    return {
        "dataset": "ships",
        "entity_id": f"{split}-{number // 2}",
        "trip_id": f"{split}-{number:05d}",
        "split": split,
        "started_at": datetime(2024, 5, 6, tzinfo=UTC) + timedelta(hours=number),
        "t_s": time_s_T,
        "lon_deg": lon_deg_T,
        "lat_deg": lat_deg_T,
        "step_east_m": step[:, 0],
        "step_north_m": step[:, 1],
        "step_s": step[:, 2],
        "speed_mps": np.hypot(step[:, 0], step[:, 1]) / np.maximum(step[:, 2], 1),
        "turn_rad": np.zeros(NUM_POINTS),
    }


@dataclass(frozen=True, kw_only=True)
class Assessed(RunSteps):
    """A store with a model that went through training, evaluation and report."""

    proved: Receipt | None
    reported: Receipt


def assess(store: Store, config: PipelineConfig) -> Assessed:
    """Run the stages after shards as plain functions."""
    shards = stored_shards(store)
    counts = {"records read": 1_000, "rejected: impossible speed": 3}
    with without_orchestrator():
        trained = train(config, shards, store)
        evaluated = evaluate(config, shards, trained, store)
        proved = probe_encoding(config, shards, store)
        steps = RunSteps(config, store, shards, trained, evaluated)
        reported = report(steps, proved, counts)
    return Assessed(**vars(steps), proved=proved, reported=reported)


_folder = tempfile.TemporaryDirectory(prefix="ships-")


@cache
def good() -> Assessed:
    """A model that beats every baseline; made once, so that nobody may change its folders."""
    return assess(Store(Path(_folder.name) / "store"), config_of(max_steps=40))


@cache
def bad() -> Assessed:
    """In the same store, a model that has hardly been trained."""
    return assess(good().store, config_of(max_steps=1))
