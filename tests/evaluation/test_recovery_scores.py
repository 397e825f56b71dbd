"""Recovery and path inference are judged on all stored windows, and nobody sees the answers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import masked_ships

from model.baselines.recovery import HERMITE, LINEAR, RecoveryBaseline, linear_m
from model.data.reading import read_windows
from model.data.shards import Shards
from model.earth.geometry import haversine_m
from model.evaluation.judged_tasks import TRACKS
from model.evaluation.question import AnswerError, Judging
from model.evaluation.score_table import mask_order
from model.evaluation.scores import scored
from model.inference.api import recover
from model.inference.serving import load_trained
from model.interface.contexts import Partial
from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import ModelConfig, WindowConfig
from tasks.evaluate.evaluate import EVALUATE, evaluate
from tasks.pretrain.train import check_windows_fit
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.stage import without_orchestrator

FAMILIES = ("trajfm", "masked_chemin")
KEYS = ("split", "task", "track", "mask", "model")
BASELINES = ("linear", "hermite")


def opened(family: str):
    store, shards, model = masked_ships.trained(family)
    return Shards.open(store.folder(shards), "UTC"), load_trained(store.folder(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_stored_window_is_counted_once(family):
    made = masked_ships.evaluated(family)
    windows = pq.read_table(made.store.folder(made.shards) / "windows.parquet").to_pylist()
    rows = masked_ships.rows_of(made, *masked_ships.RECOVERY)
    assert {(row["task"], row["track"]) for row in rows} == {
        (task, track) for task in masked_ships.RECOVERY for track in TRACKS[task]
    }
    assert {row["model"] for row in rows} == {family, *BASELINES}
    assert len({tuple(row[key] for key in KEYS) for row in rows}) == len(rows)
    for row in rows:
        stored = [
            window
            for window in windows
            if (window["split"], window["task"]) == (row["split"], row["task"])
            and row["mask"] in ("all", window["mask"])
        ]
        assert row["num_windows"] == len(stored) > 0
        assert row["num_entities"] == len({window["entity_id"] for window in stored})
        hidden = sum(window["is_observed"].count(False) for window in stored)
        assert row["num_points"] == hidden
        assert row["low"] <= row["mae_m"] <= row["high"]
        assert row["mae_p50_m"] <= row["mae_p90_m"]
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))


@pytest.mark.parametrize("track", ["times_given", "times_hidden"])
@pytest.mark.parametrize("answerer", ["trajfm", "linear"])
def test_the_rows_agree_with_a_slow_loop(track, answerer):
    """One window at a time, one point at a time; the question is built anew."""
    made = masked_ships.evaluated("trajfm")
    shards, trained = opened("trajfm")
    means_m, squares_m2 = [], []
    for stored in read_windows(shards, "test", 1, task="recover"):
        batch = stored.batch
        if stored.mask_B != ("block_5",):
            continue
        known_BT = batch.is_observed_BT
        asked = Partial(
            batch.lon_deg_BT.masked_fill(~known_BT, 0),
            batch.lat_deg_BT.masked_fill(~known_BT, 0),
            batch.time_s_BT if track == "times_given" else batch.time_s_BT * known_BT,
            known_BT,
            torch.ones_like(known_BT) if track == "times_given" else known_BT,
            stored.started_us_B,
            "UTC",
            batch.is_pad_BT,
        )
        found = LINEAR.recover(asked) if answerer == "linear" else recover(trained.model, asked)
        lon_deg_BT, lat_deg_BT = found.lon_deg_BT, found.lat_deg_BT
        away_m = [
            float(
                haversine_m(
                    *(
                        value[0, place]
                        for value in (lon_deg_BT, lat_deg_BT, batch.lon_deg_BT, batch.lat_deg_BT)
                    )
                )
            )
            for place in range(masked_ships.NUM_POINTS)
            if not known_BT[0, place]
        ]
        means_m.append(sum(away_m) / len(away_m))
        squares_m2 += [value * value for value in away_m]
    (row,) = (
        row
        for row in masked_ships.rows_of(made, *masked_ships.RECOVERY)
        if tuple(row[key] for key in KEYS) == ("test", "recover", track, "block_5", answerer)
    )
    assert row["mae_m"] == pytest.approx(np.mean(means_m), rel=1e-4)
    assert row["mae_p50_m"] == pytest.approx(np.percentile(means_m, 50), rel=1e-4)
    assert row["mae_p90_m"] == pytest.approx(np.percentile(means_m, 90), rel=1e-4)
    assert row["rmse_m"] == pytest.approx(np.sqrt(np.mean(squares_m2)), rel=1e-4)


def test_skill_is_against_the_baseline_that_is_best_on_validation():
    rows = masked_ships.rows_of(masked_ships.evaluated("trajfm"), *masked_ships.RECOVERY)
    by_key = {tuple(row[key] for key in KEYS): row for row in rows}
    for key, row in by_key.items():
        if key[3] == "all":  # the bar of each mask, as tests of skill say
            continue
        told = {name: by_key["validation", *key[1:4], name]["mae_m"] for name in BASELINES}
        bar_m = by_key[(*key[:4], min(told, key=told.__getitem__))]["mae_m"]
        assert row["skill"] == pytest.approx(1 - row["mae_m"] / bar_m)
    assert any(row["skill"] < 0 for row in rows if row["model"] == "trajfm")


def test_with_the_ends_alone_both_baselines_are_one():
    rows = masked_ships.rows_of(masked_ships.evaluated("trajfm"), *masked_ships.RECOVERY)
    for split in ("validation", "test"):
        errors = {
            row["model"]: row["mae_m"]
            for row in rows
            if (row["split"], row["task"], row["mask"]) == (split, "path_inference", "ends")
        }
        assert errors["hermite"] == pytest.approx(errors["linear"], rel=1e-9)


class Peeking(RecoveryBaseline):
    """The fault: it looks up what it should tell."""

    def recover(self, partial):
        found = super().recover(partial)
        return replace(found, lon_deg_BT=partial.lon_deg_BT, lat_deg_BT=partial.lat_deg_BT)


def test_a_baseline_that_peeks_is_caught():
    shards, _ = opened("trajfm")
    with pytest.raises(AnswerError, match="linear left hidden points of recover without"):
        scored(shards, [Peeking("linear", linear_m)], "test", Judging(tasks=("recover",)))


def test_the_size_of_a_batch_changes_nothing():
    shards, trained = opened("masked_chemin")
    whole, parts = (
        scored(
            shards,
            [trained, LINEAR, HERMITE],
            "test",
            Judging(tasks=masked_ships.RECOVERY, windows_at_once=size),
        ).table.to_pylist()
        for size in (1_000, 7)
    )
    for one, other in zip(whole, parts, strict=True):
        assert one == {
            name: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
            for name, value in other.items()
        }


def test_masks_stand_in_the_order_of_their_numbers():
    masks = ["all", "keep_1_8", "block_20", "ends", "block_5", "keep_1_2", "block_10"]
    expected = ["block_5", "block_10", "block_20", "ends", "keep_1_2", "keep_1_8", "all"]
    assert sorted(masks, key=mask_order) == expected


# What is not served or not stored ---------------------------------------------------------------


def test_a_family_that_does_not_forecast_has_no_row_of_forecasts():
    made = masked_ships.evaluated("masked_chemin")
    folder = made.store.folder(made.evaluated)
    for name in ("scores", "window_errors"):
        table = pq.read_table(folder / f"{name}.parquet")
        assert set(table["task"].to_pylist()) == set(masked_ships.RECOVERY)
    assert {path.name for path in folder.iterdir()} == {
        *("scores.parquet", "window_errors.parquet", "baselines.json", "calibration.json"),
        "manifest.json",
    }
    counts = made.evaluated.counts
    rows = masked_ships.rows_of(made, *masked_ships.RECOVERY)
    (row,) = (
        row
        for row in rows
        if tuple(row[key] for key in KEYS)
        == ("test", "recover", "times_given", "all", "masked_chemin")
    )
    assert counts["test_recover_mae_m"] == pytest.approx(row["mae_m"], abs=1e-3)
    assert counts["test_recover_skill"] == pytest.approx(row["skill"], abs=1e-4)
    assert counts["validation_path_inference_windows"] > 0
    assert not [name for name in counts if "ade" in name or "travel" in name]


def other_evaluation(family: str, tasks: tuple[str, ...]):
    store, _, model = masked_ships.trained(family)
    shards = masked_ships.stored_shards(store, tasks)
    with without_orchestrator():
        evaluated = evaluate(masked_ships.config_of(family, tasks), shards, model, store)
    return store.folder(evaluated)


def tasks_in(folder) -> set[str]:
    return set(pq.read_table(folder / "scores.parquet")["task"].to_pylist())


def test_tasks_that_are_not_stored_have_no_rows():
    folder = other_evaluation("trajfm", ("forecast", "path_inference"))
    assert tasks_in(folder) == {"forecast", "path_inference"}


def test_windows_that_are_there_but_not_asked_for_are_not_judged():
    """The configuration decides, not what happens to lie in the shards."""
    store, shards, model = masked_ships.trained("trajfm")
    with without_orchestrator():
        config = masked_ships.config_of("trajfm", ("forecast",))
        folder = store.folder(evaluate(config, shards, model, store))
    assert tasks_in(folder) == {"forecast"}


def test_a_family_that_serves_no_stored_task_is_told_so():
    with pytest.raises(DataError, match="masked_chemin serves none of the tasks"):
        other_evaluation("masked_chemin", ("forecast",))


def test_the_tasks_are_part_of_the_recipe():
    _, shards, model = masked_ships.trained("trajfm")
    recipes = {
        EVALUATE.recipe(
            "hurdat2",
            masked_ships.config_of("trajfm", tasks).evaluate_rules,
            {"shards": shards, "trained": model},
        ).digest
        for tasks in (("forecast",), ("forecast", "recover"))
    }
    assert len(recipes) == 2


def test_windows_that_are_longer_than_a_model_reads_are_refused():
    def rules(family, num_context, tasks=("forecast", "recover")):
        window = WindowConfig(num_context=num_context, num_horizon=24, tasks=tasks)
        return PipelineConfig(model=ModelConfig(family=family), window=window).training

    check_windows_fit(rules("masked_chemin", 40))
    check_windows_fit(rules("chemin", 41))
    check_windows_fit(rules("trajfm", 41, ("forecast", "travel_time")))
    with pytest.raises(ConfigError, match="reads at most 64 points"):
        check_windows_fit(rules("masked_chemin", 41))
