"""Visits of a law that is known, as the stages after shards find them, judged and reported once."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from helpers.ships import Assessed
from helpers.visit_worlds import LAW, write_shards_of_law
from tasks.config.pipeline import AssessConfig, ModelConfig, PipelineConfig, TrainConfig
from tasks.evaluate.evaluate import evaluate
from tasks.pretrain.train import train
from tasks.report.facts import RunSteps
from tasks.report.report import report
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Recipe, Store

NUM_VISITS, NUM_INFILLED = 8, 6
SPANS = {"train": (0, 120), "validation": (120, 160), "test": (160, 200)}
CONFIG = PipelineConfig(
    dataset="geolife",
    model=ModelConfig(family="trajgpt", preset="tiny"),
    train=TrainConfig(max_steps=20, batch_size=16, max_points=NUM_VISITS, validate_every=10),
    assess=AssessConfig(num_bootstrap=100),
)


def stored_visits(store: Store, spans: dict[str, tuple[int, int]] = SPANS) -> Receipt:
    """Published shards of visits, as the data stages would have left them."""
    recipe = Recipe(
        stage="visit_shards",
        dataset=CONFIG.dataset,
        code={},
        sql={},
        settings={"spans": {split: list(span) for split, span in spans.items()}},
        inputs={"split": 32 * "0"},
    )
    facts = {"split_kind": "time", "split_hash": "f00d", "is_leaky": 0, "visits_train": 960}
    store.prepare()
    with store.draft() as draft:
        splits_asked = ("train", "validation", "test")
        write_shards_of_law(draft, spans, NUM_VISITS, LAW, None, splits_asked, NUM_INFILLED)
        return store.publish(
            draft, recipe, facts, licence="made up", lineage={"split": recipe.inputs["split"]}
        )


def assess(store: Store, config: PipelineConfig = CONFIG) -> Assessed:
    """Run the stages after shards as plain functions: of visits no encoding is proved."""
    shards = stored_visits(store)
    with without_orchestrator():
        trained = train(config, shards, store)
        evaluated = evaluate(config, shards, trained, store)
        steps = RunSteps(config, store, shards, trained, evaluated)
        reported = report(steps, None, {"records read": 1_000})
    return Assessed(**vars(steps), proved=None, reported=reported)


_folder = tempfile.TemporaryDirectory(prefix="visitors-")


@cache
def good() -> Assessed:
    """Made once, so that nobody may change its folders."""
    return assess(Store(Path(_folder.name) / "store"))
