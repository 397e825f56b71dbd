"""Benchmark: cells of made-up ships as one table, a leaderboard, rows of the warehouse."""

from __future__ import annotations

from functools import cache

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers import ships

from flows.steps import MAKING
from tasks.catalog.run import recorded_run
from tasks.config.suite import Cell, Suite
from tasks.evaluate.benchmark import LONG, STANDINGS_FILE, benchmark, rankings_in
from tasks.evaluate.cells import JudgedCell, LeftOut, judged_cells, judged_of
from tasks.evaluate.evaluate import evaluate
from tasks.prepare.conventions import CELLS_FILE, SCORES_FILE
from tasks.release.benchmark_runs import logged
from tasks.report.leaderboard import leaderboard, terminal_tables
from tasks.runtime import stage
from tasks.runtime.errors import DataError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store

MISSING = LeftOut(what="ais_noaa", reason="no source")


@cache
def suite() -> Suite:
    """Trainings of two seeds on ships, and the same again as a control that leaks."""
    settings = ships.config_of(max_steps=40).model_dump(include={"window", "assess", "train"})
    del settings["window"]["tasks"]
    return Suite.model_validate(
        {
            "name": "ships",
            "title": "Ships that turn",
            "families": ["chemin"],
            "splits": ["entity", "random_window"],
            "seeds": [0, 1],
            "settings": settings | {"model": {"preset": "tiny"}},
            "datasets": [{"dataset": "hurdat2", "label": "ships"}],
        }
    )


@cache
def judged() -> list[JudgedCell]:
    """A good and a bad training, in place of two seeds; the control has the errors of the good."""
    good, bad = ships.good(), ships.bad()
    [data] = suite().datasets
    cells = [
        JudgedCell(Cell(data, "entity", "chemin", 0), good.evaluated),
        JudgedCell(Cell(data, "entity", "chemin", 1), bad.evaluated),
        JudgedCell(Cell(data, "random_window", "chemin", 0), good.evaluated),
    ]
    return cells


@cache
def made() -> tuple[Store, Receipt, Receipt]:
    """The store, the tables and the page of a recorded benchmark."""
    store = ships.good().store
    with without_orchestrator(), recorded_run(store, "benchmark", "suite_ships"):
        evaluate(ships.config_of(40), ships.good().shards, ships.good().trained, store)
        tables = benchmark(suite(), judged(), store)
        return store, tables, leaderboard(suite(), tables, [MISSING], store)


def test_the_long_table_has_each_training_and_each_baseline_once():
    store, tables, _ = made()
    table = pq.read_table(store.folder(tables) / SCORES_FILE)
    assert table.schema == LONG
    keys = table.select(["split_kind", "seed", "split", "task", "track", "mask", "horizon"])
    keys = keys.append_column("model", table["model"]).append_column("metric", table["metric"])
    keys = keys.append_column("stratum", table["stratum"])
    assert len(keys.group_by(keys.column_names).aggregate([])) == len(table)
    seeds = table.filter(pc.invert(table["is_baseline"]))["seed"].unique().to_pylist()
    assert seeds == [0, 1]
    assert table.filter(table["is_baseline"])["seed"].unique().to_pylist() == [None]
    own = table.filter(pc.field("seed") == 1)
    evaluated = pq.read_table(ships.bad().evaluation / SCORES_FILE)
    assert own.select(evaluated.column_names) == evaluated.filter(~pc.field("is_baseline"))


def test_a_model_is_ranked_by_its_mean_over_seeds_and_shows_their_spread():
    store, tables, _ = made()
    rows = [row for row in rankings_in(store.folder(tables)) if row["split_kind"] == "entity"]
    [ours] = [row for row in rows if not row["is_baseline"]]
    counts = [one.evaluated.counts["test_skill_4"] for one in judged()[:2]]
    assert (ours["seed_low"], ours["seed_high"]) == pytest.approx(sorted(counts), abs=1e-4)
    assert ours["seed_low"] < 0 < ours["seed_high"]
    assert ours["skill"] == pytest.approx(sum(counts) / 2, abs=1e-4)
    assert ours["low"] < ours["skill"] < ours["high"]
    assert (ours["num_windows"], ours["num_entities"]) == (48, 6)
    assert {row["horizon"] for row in rows} == {4}


def test_one_seed_alone_is_ranked_with_the_interval_of_its_evaluation():
    store, tables, _ = made()
    [ours] = [
        row
        for row in rankings_in(store.folder(tables))
        if row["is_leaky"] and not row["is_baseline"]
    ]
    scores = pq.read_table(ships.good().evaluation / SCORES_FILE).to_pylist()
    [told] = [
        row
        for row in scores
        if (row["split"], row["track"], row["metric"], row["horizon"], row["stratum"])
        == ("test", "times_given", "skill", 4, "all")
        and row["model"] == "chemin"
    ]
    names = ("low", "high")
    assert ours["skill"] == pytest.approx(told["value"])
    assert [ours[name] for name in names] == pytest.approx([told[name] for name in names])


def test_what_leaks_is_shown_and_counts_for_nothing():
    store, tables, page = made()
    standings = pq.read_table(store.folder(tables) / STANDINGS_FILE).to_pylist()
    [ours] = [row for row in standings if not row["is_baseline"]]
    [honest] = [
        row
        for row in rankings_in(store.folder(tables))
        if not (row["is_leaky"] or row["is_baseline"])
    ]
    assert ours["skill"] == pytest.approx(honest["skill"])
    text = (store.folder(page) / "leaderboard.md").read_text()
    assert text.count("random window split (control, leaks)") == 1
    assert "Of 1 comparison with the best baseline" in text


def test_the_page_tells_who_cannot_be_told_and_what_was_left_out():
    store, _, page = made()
    text = (store.folder(page) / "leaderboard.md").read_text()
    assert "- ais\\_noaa: no source" in text or "- ais_noaa: no source" in text
    assert "too few to judge" in text  # six entities
    html = (store.folder(page) / "leaderboard.html").read_text()
    assert "<script" not in html
    assert "http" not in html.partition("</head>")[2].replace("https://www.nhc.noaa.gov", "")


def test_the_terminal_shows_models_alone():
    store, tables, _ = made()
    table, _ = terminal_tables(store.folder(tables))
    assert [list(column.cells) for column in table.columns][:2] == [
        ["ships", "ships, control"],
        ["chemin", "chemin"],
    ]


def test_the_warehouse_tells_scores_by_the_cell_and_no_other_stage_of_a_benchmark():
    store, tables, _ = made()
    with duckdb.connect(str(store.warehouse), read_only=True) as warehouse:
        told = warehouse.sql(
            "select cells.seed, count(*) from ops.scores semi join ops.cells using (recipe) "
            "join ops.cells using (recipe) where scores.dataset = 'suite_ships' and metric = "
            "'skill' and not is_baseline and split_kind = 'entity' group by all order by all"
        ).fetchall()
        assert [seed for seed, _ in told] == [0, 1]
        assert warehouse.sql("select distinct dataset from ops.scores").fetchall() == [
            ("suite_ships",)
        ]
    rows = pq.read_table(store.folder(tables) / CELLS_FILE).to_pylist()
    assert [(row["split_kind"], row["is_leaky"], row["seed"]) for row in rows] == [
        ("entity", False, 0),
        ("entity", False, 1),
        ("random_window", True, 0),
    ]


def test_without_a_registry_the_results_stand(monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(stage, "RETRY_DELAYS_S", [])
    store, tables, page = made()
    with without_orchestrator(), caplog.at_level("WARNING", logger="tasks"):
        assert logged(suite(), judged(), tables, page, store) == ""
    assert "not logged in MLflow, run again once it answers" in caplog.text


def test_data_without_a_source_are_told_and_hinder_nobody(store):
    given = {"title": "x", "name": "x", "datasets": [{"dataset": "porto", "source": "porto.zip"}]}
    suite = Suite.model_validate(given)
    missing = LeftOut(what="porto", reason="no source")
    assert list(judged_of(suite, "", store, MAKING)) == [missing]
    with pytest.raises(DataError, match="nothing could be judged; left out: porto: no source"):
        judged_cells(suite, "", store, MAKING)


def test_data_that_cannot_be_used_are_told_and_hinder_nobody(store, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    data = [{"dataset": "hurdat2", "source": "empty.txt", "label": name} for name in ("a", "b")]
    given = Suite.model_validate({"title": "x", "name": "x", "datasets": data})
    with without_orchestrator():
        first, second = judged_of(given, str(tmp_path), store, MAKING)
    assert isinstance(first, LeftOut)
    assert first.what == "a, entity split"
    assert first.reason == "empty.txt is empty; fetch it again"
    assert isinstance(second, LeftOut)
    assert second.what == "b, entity split"
