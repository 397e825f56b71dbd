"""Shared rows: who learned from what, that a repeat does nothing, and that no test was seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
from helpers import ships

from flows.steps import MAKING
from model.data.shards import Shards
from model.evaluation.question import Judging
from model.evaluation.scores import scored
from model.inference.serving import Trained, load_trained
from tasks.catalog.run import recorded_run
from tasks.config.pipeline import PipelineConfig
from tasks.config.suite import Suite
from tasks.evaluate.benchmark import LADDER_FILE, benchmark, rankings_in
from tasks.evaluate.cells import JudgedCell, LeftOut, judged_cells, judged_on, paces_of
from tasks.evaluate.ladder import OVER_BASELINES, OVER_OWN, OVER_SIMPLE, SIMPLE
from tasks.evaluate.seen import SEEN_SHARE
from tasks.evaluate.shared_rows import Ready
from tasks.report.leaderboard import leaderboard, terminal_tables
from tasks.runtime.errors import DataError
from tasks.runtime.run_records import StageRun, stages_so_far
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store


def suite_of(**changes: object) -> Suite:
    """Two seas of ships, few steps, and every row."""
    settings = ships.config_of(max_steps=6).model_dump(include={"window", "assess", "train"})
    settings["train"] |= {"validate_every": 3, "learning_rate": None}
    del settings["window"]["tasks"]
    return Suite.model_validate(
        {
            "name": "seas",
            "title": "Two seas",
            "families": ["foundry"],
            "tasks": ["forecast"],
            "rows": ["own", "joint", "held_out"],
            "few_shot": [1, 20],
            "few_shot_train": {"max_steps": 2, "validate_every": 1},
            "settings": settings | {"model": {"preset": "tiny"}},
            "datasets": [sea("north", 0), sea("south", 1)],
        }
        | changes
    )


def sea(label: str, number: int) -> dict[str, object]:
    settings = {"synthetic": {"seed": number}}
    return {"dataset": "synthetic", "label": label, "settings": settings}


# By the seed of its world: what the ships are drawn by, and how many there are of each split. The
# third has the ships of the first, and asks about those that the first learns from.
SIZES = {"train": 24, "validation": 12, "test": 8}
SEAS = {0: (0, SIZES), 1: (1, SIZES), 2: (0, {"test": 24, "validation": 12, "train": 8})}


def shards_of(config: PipelineConfig, source: str, store: Store) -> Receipt:
    return stored(config.synthetic.seed, store)


def stored(number: int, store: Store) -> Receipt:
    """The ships of a sea, as the stages before would have left them."""
    seed, sizes = SEAS[number]
    return ships.stored_shards(store, seed, sizes, "synthetic")


class Ran(NamedTuple):
    store: Store
    judged: list[JudgedCell]
    left_out: tuple[LeftOut, ...]
    stages: tuple[StageRun, ...]


def ran(suite: Suite, store: Store) -> Ran:
    with without_orchestrator(), recorded_run(store, "benchmark", f"suite_{suite.name}"):
        done = judged_cells(suite, "", store, MAKING._replace(shards_of=shards_of))
        return Ran(store, *done, stages_so_far())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Ran:
    return ran(suite_of(), Store(tmp_path_factory.mktemp("seas") / "store"))


@pytest.fixture(scope="module")
def tables(run) -> Path:
    with without_orchestrator():
        return run.store.folder(benchmark(suite_of(), run.judged, run.store))


def of_stage(run: Ran, stage: str) -> list[Receipt]:
    return [one.receipt for one in run.stages if one.receipt.stage == stage]


def shared_by(run: Ran, trained: Receipt) -> int:
    """How many of the data the weights are shared by; 0 of those that are of one by itself."""
    given = inputs_of(run, trained)["shards"]
    return len(given) if isinstance(given, list) else 0


def inputs_of(run: Ran, receipt: Receipt) -> dict[str, str | list[str]]:
    return run.store.manifest(receipt).recipe.inputs


# Who learned from what


def test_each_row_is_judged_on_each_data_set(run):
    told = {(one.cell.data.name, one.cell.row) for one in run.judged}
    rows = ("own", "joint", "held_out")
    assert told == {(name, row) for name in ("north", "south") for row in rows}
    assert not run.left_out


def test_joint_weights_are_trained_once_on_all_and_held_out_ones_on_the_others(run):
    shared = [one for one in of_stage(run, "train") if one.dataset == "suite_seas"]
    assert sorted(shared_by(run, one) for one in shared) == [1, 1, 2]
    first, second = [one for one in shared if shared_by(run, one) == 1]
    assert inputs_of(run, first)["shards"] != inputs_of(run, second)["shards"]


def test_a_repeat_makes_nothing_and_fewer_rows_make_none_of_the_others(run):
    assert all(one.is_cached for one in ran(suite_of(), run.store).stages)
    few = ran(suite_of(rows=["joint"], few_shot=[]), run.store)
    assert {one.cell.row for one in few.judged} == {"joint"}
    assert all(one.is_cached for one in few.stages)
    assert len(of_stage(few, "train")) == 1


def test_shared_weights_have_seen_no_point_of_any_test(run):
    assert [one.evaluated.counts[SEEN_SHARE] for one in run.judged] == [0.0] * len(run.judged)


@pytest.mark.parametrize(
    ("row", "number", "split"), [("joint", 2, "test"), ("held_out", 0, "train")]
)
def test_what_is_learned_from_under_another_name_is_told_and_not_judged(run, row, number, split):
    """The faults: a sea whose train part is the test of the other, and one that stands twice."""
    seas = [sea("north", 0), sea("twin", number)]
    said = rf"on twin, entity split: 100\.0% of the points of its {split} part are learned from"
    with pytest.raises(DataError, match=said):
        ran(suite_of(rows=[row], few_shot=[], datasets=seas), run.store)


def test_few_entities_that_are_of_the_test_are_told_and_not_judged(run):
    """The fault: what is trained on with a few entities is given those of the test."""

    def cheating(config, address, shards, percent, course, store):
        return MAKING.few_shot(config, address, stored(2, store), 100, course, store)

    suite = suite_of(rows=["held_out"], few_shot=[1])
    ready = [
        Ready(data, "entity", "", stored(number, run.store), tuple(suite.cells_of(data, "entity")))
        for number, data in enumerate(suite.datasets)
    ]
    with without_orchestrator():
        making = MAKING._replace(few_shot=cheating)
        [told] = judged_on(suite, ready[0], ready, run.store, making)
    assert isinstance(told, LeftOut)
    assert told.reason.startswith("No test: the model was trained on 100.0% of the points of test")


# Few entities


def tuned_by_percent(run: Ran) -> list[tuple[Receipt, Receipt]]:
    """The learning shards of a sea and the training on them, the smaller share first."""
    learning = [one for one in of_stage(run, "learning") if one.place]
    trained = [one for one in of_stage(run, "train") if "init" in inputs_of(run, one)]
    return list(zip(learning, trained, strict=True))[:2]


def entities_in(folder: Path, split: str) -> set[str]:
    paths = sorted(folder.glob(f"{split}-*.parquet"))
    return {one for path in paths for one in pq.read_table(path)["entity_id"].to_pylist()}


def test_few_entities_are_part_of_more_and_none_is_of_the_test(run):
    (few, _), (more, _) = tuned_by_percent(run)
    folders = [run.store.folder(one) for one in (few, more)]
    for split, numbers in (("train", (1, 3)), ("validation", (1, 2))):
        fewer, others = (entities_in(folder, split) for folder in folders)
        assert (len(fewer), len(others)) == numbers
        assert fewer < others
    learned = {one for folder in folders for one in entities_in(folder, "*")}
    asked = entities_in(run.store.folder(shards_of(suite_config(), "", run.store)), "test")
    assert asked
    assert not learned & asked


def suite_config() -> PipelineConfig:
    [north, _] = suite_of().datasets
    return suite_of().config_of(north, "entity", "foundry")


def test_the_weights_come_back_as_they_were_where_no_step_is_better(run):
    """As after no step at all: only the memory is that of the few trips."""
    ruinous = {"max_steps": 2, "validate_every": 1, "learning_rate": 0.2, "warmup_steps": 0}
    [held_out, *_] = [one for one in of_stage(run, "train") if shared_by(run, one) == 1]
    address, shards = str(run.store.folder(held_out)), stored(0, run.store)
    with without_orchestrator():
        tuned = MAKING.few_shot(suite_config(), address, shards, 20, ruinous, run.store)
    assert tuned.counts["best_step"] == 0
    ours, theirs = (load_trained(run.store.folder(one)) for one in (tuned, held_out))
    windows = Shards.open(run.store.folder(shards))
    asked = answered(ours.remembering(theirs.model.memory), windows)
    assert asked == answered(theirs, windows)
    assert asked != answered(ours, windows)  # the few trips are known


def answered(trained: Trained, shards: Shards) -> list[list[float]]:
    judging = Judging(horizons=(4,), tasks=("forecast",), num_bootstrap=100)
    errors = scored(shards, [replace(trained, title="it")], "test", judging).window_errors
    return errors.sort_by("window_id")["value"].to_pylist()


# Tables


def test_the_ladder_tells_each_model_at_each_step_over_each_bar(tables):
    rows = pq.read_table(tables / LADDER_FILE).to_pylist()
    models = {row["model"] for row in rows}
    shared = {"foundry joint", "foundry held out", "foundry held out 1 %", "foundry held out 20 %"}
    assert shared | {"foundry", "foundry held out with past trips here"} <= models
    for against, asked in (
        (OVER_SIMPLE, models),
        (OVER_BASELINES, models),
        (OVER_OWN, {name for name in models if "joint" in name or "held out" in name}),
    ):
        told = {
            (row["dataset"], row["horizon"], row["model"])
            for row in rows
            if row["against"] == against
        }
        assert told == {(x, h, name) for x in ("north", "south") for h in (1, 4) for name in asked}
    assert {row["bar"] for row in rows if row["against"] == OVER_SIMPLE} <= {*SIMPLE}


def test_a_skill_of_the_ladder_is_over_the_error_of_its_bar(tables):
    rows = pq.read_table(tables / LADDER_FILE).to_pylist()
    error = {(row["dataset"], row["horizon"], row["model"]): row["error"] for row in rows}
    over_own = [row for row in rows if row["against"] == OVER_OWN]
    for row in over_own:
        bar = error[row["dataset"], row["horizon"], "foundry"]
        assert row["bar_error"] == bar
        assert row["skill"] == pytest.approx(1 - row["error"] / bar)
        assert row["low"] <= row["skill"] <= row["high"]
    assert len({row["skill"] for row in over_own}) > 4


def test_what_a_memory_adds_is_a_model_and_no_baseline(tables):
    rows = {row["model"]: row for row in rankings_in(tables)}
    assert {"foundry", "foundry_without_memory", "foundry joint without memory"} <= rows.keys()
    named = [name for name, row in rows.items() if row["is_baseline"]]
    assert "damped_velocity" in named
    assert not [name for name in named if "foundry" in name]


def test_the_page_and_the_terminal_show_the_rows(run, tables):
    with without_orchestrator():
        made = benchmark(suite_of(), run.judged, run.store)
        page = leaderboard(suite_of(), made, (), run.store)
    text = (run.store.folder(page) / "leaderboard.md").read_text()
    assert "### Step 4, over simple\n\n| model | north | south |" in text
    assert "| foundry held out 20 % | own training |" in text
    *_, ladder = terminal_tables(tables)
    assert "foundry joint" in list(ladder.columns[1].cells)


def test_own_training_is_timed_where_it_is_asked_for_and_a_repeat_tells_the_same(run):
    timed = suite_of(rows=["own"], few_shot=[], time_to_skill=True)
    first, again = (ran(timed, run.store) for _ in range(2))
    assert [one.pace for one in run.judged] == [None] * len(run.judged)
    paces = paces_of(first.judged)
    assert [(one.dataset, one.model, one.seed) for one in paces] == [
        ("north", "foundry", 0),
        ("south", "foundry", 0),
    ]
    assert paces == paces_of(again.judged)
    assert all(one.is_cached for one in again.stages)
    with without_orchestrator():
        made = benchmark(timed, first.judged, run.store)
        page = run.store.folder(leaderboard(timed, made, (), run.store, paces))
    shown = "NaN" if paces[0].cpu_s is None else f"{paces[0].cpu_s:.1f}"
    assert f"| north | foundry | {shown} |" in (page / "leaderboard.md").read_text()
    told = {
        one.receipt.counts["training_cpu_s"] for one in first.stages if one.receipt.stage == "pace"
    }
    assert min(told) > 0
