"""A whole run with a family of visits: from made-up people to a version, and what follows it."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from flows.steps import (
    assessed,
    config_for,
    points_of,
    prepared,
    shards_of,
    tables_of,
    train,
    transferred,
)
from model.families import FILES, VISITS
from tasks.catalog.run import recorded_run
from tasks.config.pipeline import PipelineConfig
from tasks.config.suite import Suite
from tasks.evaluate.benchmark import rankings_in
from tasks.evaluate.cells import Making, judged_cells
from tasks.evaluate.seen import SEEN_SHARE
from tasks.report.error_tables import read_scores
from tasks.report.trip_page import choices
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

pytestmark = pytest.mark.slow

DATA = {
    "dataset": "synthetic",
    "synthetic": {
        **{"kind": "people", "num_entities": 12, "num_points": 1_500},
        **{"interval_s": 60, "interval_spread": 0.1, "gap_s": 1_800},
    },
    "clean": {"max_gap_s": 1_600},
    "stay": {"max_gap_s": 1_600},
    "split": {"validation_percent": 20, "test_percent": 20},
    "assess": {"num_bootstrap": 100},
}
MODEL = {
    "model": {"family": "trajgpt", "preset": "tiny"},
    "train": {"max_steps": 20, "batch_size": 16, "validate_every": 10},
}
CONFIG = PipelineConfig.model_validate(DATA | MODEL)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A store, and what a run in it has come to."""
    store = Store(tmp_path_factory.mktemp("visits") / "store")
    store.prepare()
    with without_orchestrator(), recorded_run(store, "pipeline", "synthetic"):
        return store, assessed(CONFIG, points_of(CONFIG, "", store), store)


def test_a_version_is_registered_and_told_of(run):
    store, done = run
    assert done.candidate_uri == "models:/trajfoundry-trajgpt-synthetic@candidate"
    shards, evaluated = done.receipt("visit_shards"), done.receipt("evaluate")
    assert (shards.counts["split_kind"], shards.counts["is_leaky"]) == ("time", 0)
    assert (store.folder(shards) / FILES[VISITS]).is_file()
    assert evaluated.counts[SEEN_SHARE] == 0.0
    tasks = set(read_scores(store.folder(evaluated))["task"].to_pylist())
    assert tasks == {"next_region", "next_travel", "next_stay"}
    assert "probe" not in {one.receipt.stage for one in done.stages}
    assert (
        "Errors of next visits" in (store.folder(done.receipt("report")) / "report.md").read_text()
    )


def test_all_windows_of_validation_and_test_are_judged(run):
    """None is lost on the way from the stored windows to the errors of each answerer."""
    store, done = run
    stored = pq.read_table(store.folder(done.receipt("visit_shards")) / "windows.parquet")
    asked = sorted(
        row["window_id"] for row in stored.to_pylist() if row["split"] in ("validation", "test")
    )
    errors = pq.read_table(store.folder(done.receipt("evaluate")) / "window_errors.parquet")
    by_model: dict[str, list[int]] = {}
    for row in errors.to_pylist():
        if row["task"] == "next_region":
            by_model.setdefault(row["model"], []).append(row["window_id"])
    assert len(by_model) == 10
    assert all(sorted(ids) == asked for ids in by_model.values())


def test_trips_of_it_are_shown(run):
    store, _ = run
    assert len(choices("synthetic", store)) > 1


def test_the_version_is_judged_again_on_visits_with_a_share_of_people_to_learn_from(run):
    store, done = run
    with without_orchestrator():
        asked = config_for(CONFIG, done.candidate_uri, store)
        data = prepared(asked, points_of(asked, "", store), store)
        found = transferred(asked, done.candidate_uri, data.shards, store, (50.0,))
    assert data.shards == done.receipt("visit_shards")
    rows = read_scores(store.folder(found)).to_pylist()
    assert {"trajgpt-synthetic", "trajgpt-synthetic 50 %"} < {row["model"] for row in rows}


def test_a_suite_judges_visits_beside_points(run):
    """Each kind on shards of its own; data without visits are told, and hinder nothing."""
    store, _ = run
    settings = {name: told for name, told in DATA.items() if name != "dataset"}
    data = {"dataset": "synthetic", "label": "people", "settings": settings | SHORT}
    suite = Suite.model_validate(
        {
            "name": "mine",
            "title": "Mine",
            "families": ["trajgpt", "gru"],
            "splits": ["time"],
            "settings": {"train": MODEL["train"], "model": {"preset": "tiny"}},
            "datasets": [data, {"dataset": "hurdat2", "families": ["trajgpt"]}],
        }
    )
    with without_orchestrator():
        judged, left_out = judged_cells(suite, "", store, Making(shards_of, train))
        ranked = rankings_in(store.folder(tables_of(suite, judged, store)))
    assert [one.what for one in left_out] == ["hurdat2, time split, visits"]
    assert {one.cell.family for one in judged} == {"trajgpt", "gru"}
    by_task = {task: {row["model"] for row in ranked if row["task"] == task} for task in TASKS}
    assert {"trajgpt", "kneser_ney"} < by_task["next_region"]
    assert {"gru", "last_position"} < by_task["forecast"]
    assert not by_task["forecast"] & by_task["next_region"]


TASKS = ("forecast", "next_region")
SHORT = {"window": {"num_context": 4, "num_horizon": 4, "stride": 8}}
