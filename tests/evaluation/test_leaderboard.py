"""Leaderboard: rankings and standings beside numbers that were worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from model.evaluation.leaderboard import Asked, ranking, standings, win_rate
from model.evaluation.skill import skill_intervals

ENTITIES = ["a", "a", "b", "b"]


def asked(**error_SB: list[list[float]]) -> Asked:
    """Errors of a model, by seed, beside two baselines in four windows under two masks."""
    errors = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in error_SB.items()}
    return Asked(errors, frozenset({"one", "other"}), ["x", "x", "y", "y"], ENTITIES)


GIVEN = {
    "mine": [[1.0, 1.0, 2.0, 2.0], [3.0, 1.0, 2.0, 4.0]],
    "one": [[2.0, 2.0, 8.0, 8.0]],
    "other": [[4.0, 4.0, 4.0, 4.0]],
}


def test_a_model_is_told_by_its_mean_over_seeds_against_the_best_of_each_mask():
    rows = {row["model"]: row for row in ranking(asked(**GIVEN), num_resamples=100)}
    mine = rows["mine"]
    # The bar is 2 2 4 4, of mean 3; the errors are 2 1 2 3 over the seeds, of mean 2.
    assert mine["bar"] == "one, other"
    assert (mine["error"], mine["bar_error"]) == (2.0, 3.0)
    assert mine["skill"] == pytest.approx(1 / 3)
    assert (mine["seed_low"], mine["seed_high"]) == pytest.approx((1 / 6, 1 / 2))
    assert (mine["num_seeds"], mine["num_windows"], mine["num_entities"]) == (2, 4, 2)
    assert rows["one"]["skill"] == pytest.approx(1 - 5 / 3)
    assert rows["one"]["num_seeds"] == 1
    assert [row["model"] for row in ranking(asked(**GIVEN))] == ["mine", "other", "one"]


def test_the_interval_is_the_paired_one_of_the_mean_over_seeds():
    [low, high] = skill_intervals(
        [torch.tensor([2.0, 1.0, 2.0, 3.0])], torch.tensor([2.0, 2.0, 4.0, 4.0]), ENTITIES, 3, 200
    )[0]
    mine = next(row for row in ranking(asked(**GIVEN), 3, 200) if row["model"] == "mine")
    assert (mine["low"], mine["high"]) == (low, high)
    assert low < mine["skill"] < high


def test_a_window_that_asks_nothing_counts_for_nobody():
    nan = math.nan
    holes = {
        "mine": [[1.0, nan, 2.0, nan]],
        "one": [[2.0, nan, 4.0, nan]],
        "other": [[9.0, nan, 9.0, nan]],
    }
    mine = next(row for row in ranking(asked(**holes)) if row["model"] == "mine")
    assert (mine["num_windows"], mine["num_entities"], mine["skill"]) == (2, 2, 0.5)


def rows_of(dataset: str, split: str = "entity", **errors: float) -> list[dict[str, object]]:
    return [
        {
            "dataset": dataset,
            "split_kind": split,
            "model": name,
            "is_baseline": name == "bar",
            "error": error,
            "bar_error": errors["bar"],
        }
        for name, error in errors.items()
    ]


def test_win_rates_and_skills_over_data_sets():
    rows = [
        *rows_of("a", bar=10.0, mine=5.0, yours=20.0),
        *rows_of("b", bar=10.0, mine=10.0, yours=20.0),
        *rows_of("c", bar=10.0, mine=20.0),
    ]
    board = {row["model"]: row for row in standings(rows, num_resamples=500)}
    # Mine wins both, then one and a half of two, then none of one: 1, 3/4, 0.
    assert board["mine"]["win_rate"] == pytest.approx((1 + 0.75 + 0) / 3)
    assert board["mine"]["skill"] == pytest.approx(1 - (0.5 * 1 * 2) ** (1 / 3))
    assert board["yours"]["win_rate"] == 0
    assert board["yours"]["num_datasets"] == 2
    assert board["yours"]["skill"] == pytest.approx(-1)
    assert board["mine"]["win_low"] <= board["mine"]["win_rate"] <= board["mine"]["win_high"]
    assert board["mine"]["low"] <= board["mine"]["skill"] <= board["mine"]["high"]
    assert (board["bar"]["is_baseline"], board["mine"]["is_baseline"]) == (True, False)


def test_two_splits_of_one_data_set_weigh_as_one():
    twice = [
        *rows_of("a", bar=10.0, mine=5.0),
        *rows_of("a", "time", bar=10.0, mine=5.0),
        *rows_of("b", bar=10.0, mine=20.0),
    ]
    once = [row for row in twice if row["split_kind"] == "entity"]
    assert standings(twice) == standings(once)


def test_no_single_data_set_decides():
    [mine] = [
        row
        for row in standings([*rows_of("a", bar=1.0, mine=1e9), *rows_of("b", bar=1.0, mine=1.0)])
        if row["model"] == "mine"
    ]
    assert mine["skill"] == pytest.approx(1 - 10)


def test_the_interval_of_a_win_rate_is_of_data_sets_drawn_whole():
    rows = [row for name in "abcdefgh" for row in rows_of(name, bar=2.0, mine=1.0 + (name > "d"))]
    mine = next(row for row in standings(rows, 1, 4_000) if row["model"] == "mine")
    wins = np.random.default_rng(5).choice([1.0, 0.5], size=(4_000, 8)).mean(axis=1)
    assert (mine["win_low"], mine["win_high"]) == pytest.approx(
        tuple(np.quantile(wins, [0.025, 0.975])), abs=0.07
    )


def test_alone_nobody_wins():
    assert math.isnan(win_rate(1.0, []))
    assert win_rate(1.0, [2.0, 1.0, 0.5]) == 0.5
