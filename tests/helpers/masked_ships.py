"""Ships with stored windows of every task, and models of several families judged on them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers import ships
from model.data.shards import WINDOW_SCHEMA
from model.evaluation.score_table import wide_rows
from tasks.config.pipeline import ModelConfig, PipelineConfig
from tasks.evaluate.evaluate import evaluate
from tasks.pretrain.train import train
from tasks.report.error_tables import read_scores
from tasks.report.facts import RunSteps
from tasks.report.report import report
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Recipe, Store

NUM_POINTS = ships.NUM_CONTEXT + ships.NUM_HORIZON
STRIDE_OF_MADE_UP = 8
TASKS = ("forecast", "path_inference", "recover", "travel_time")


def config_of(family: str, tasks: tuple[str, ...] = TASKS) -> PipelineConfig:
    config = ships.config_of(max_steps=3)
    return config.model_copy(
        update={
            "model": ModelConfig(family=family, preset="tiny"),
            "window": config.window.model_copy(update={"tasks": tuple(sorted(tasks))}),
        }
    )


def stored_shards(
    store: Store,
    tasks: tuple[str, ...] = TASKS,
    journeys_of: tuple[str, ...] = (),
    stride: int = ships.STRIDE,
    sizes: dict[str, int] = ships.SIZES,
) -> Receipt:
    """Published shards of ships with windows of these tasks, journeys of all splits or of some."""
    splits = journeys_of or tuple(sizes)
    settings = {"tasks": [*tasks], "journeys_of": [*splits], "stride": stride, "sizes": sizes}
    recipe = Recipe(
        stage="shards", dataset="hurdat2", code={}, sql={}, settings=settings, inputs={"split": "0"}
    )
    store.prepare()
    with store.draft() as draft:
        counts = ships.build(draft, 0, sizes)
        path = draft / "windows.parquet"
        windows = [row for row in pq.read_table(path).to_pylist() if row["start"] % stride == 0]
        windows += [row for row in more_windows(windows, splits) if row["task"] in tasks]
        for number, row in enumerate(windows):
            row["window_id"] = (number * 7919) % 1_000_003  # in no order that anything may lean on
        table = pa.Table.from_pylist(windows, schema=pa.schema(WINDOW_SCHEMA))
        pq.write_table(table, path, write_page_checksum=True)
        return store.publish(draft, recipe, counts, licence="made up")


def more_windows(windows: list[dict], journeys_of: tuple[str, ...]) -> list[dict]:
    """The windows of the other tasks on the same stretches, and a journey of each trip."""
    generator = np.random.default_rng(4)
    found = []
    for row in windows:
        inner = NUM_POINTS - 2
        observed = {
            ("recover", "keep_1_2"): [True, *(generator.random(inner) < 0.5), True],
            ("recover", "block_5"): [not 3 <= place < 8 for place in range(NUM_POINTS)],
            ("path_inference", "ends"): [True, *[False] * inner, True],
        }
        for (task, mask), is_observed in observed.items():
            if row["split"] != "train":
                masked = [bool(value) for value in is_observed]
                masked[1] = False  # something is asked in every window
                found.append(row | {"task": task, "mask": mask, "is_observed": masked})
        if row["start"] == 0 and row["split"] in journeys_of:
            whole = [True, *[False] * (ships.NUM_POINTS - 2), True]
            journey = {"task": "travel_time", "mask": "ends", "is_observed": whole}
            found.append(row | journey | {"num_points": ships.NUM_POINTS})
    return [row | {"num_context": row["is_observed"].index(False)} for row in found]


@cache
def trained(family: str) -> tuple[Store, Receipt, Receipt]:
    """A store, its shards, and a hardly trained model of a family.

    What makes trips up takes its time over each window, so that it is asked about half of them.
    """
    store = Store(Path(ships._folder.name) / f"masked-{family}")
    shards = stored_shards(store, stride=STRIDE_OF_MADE_UP if family == "gdm" else ships.STRIDE)
    with without_orchestrator():
        return store, shards, train(config_of(family), shards, store)


@cache
def evaluated(
    family: str, tasks: tuple[str, ...] = TASKS, assess: tuple[tuple[str, int], ...] = ()
) -> RunSteps:
    """The steps up to the errors on every one of the tasks that a family serves.

    `assess` is what is set there besides.
    """
    store, shards, model = trained(family)
    config = config_of(family, tasks)
    more = config.assess.model_copy(update=dict(assess))
    config = config.model_copy(update={"assess": more})
    with without_orchestrator():
        return RunSteps(config, store, shards, model, evaluate(config, shards, model, store))


def rows_of(made: RunSteps, *tasks: str) -> list[dict]:
    """The scores of some tasks, the metrics of each answerer side by side."""
    scores = read_scores(made.store.folder(made.evaluated))
    return [row for task in tasks for row in wide_rows(scores, task=task, stratum="all")]


RECOVERY = ("recover", "path_inference")


@cache
def reported(family: str, tasks: tuple[str, ...] = TASKS) -> Receipt:
    """The report of the same; what the encoding keeps is not of the family."""
    made, good = evaluated(family, tasks), ships.good()
    place = made.store.folder(good.proved)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(good.store.folder(good.proved))
    with without_orchestrator():
        return report(made, good.proved, {"records read": 1_000})
