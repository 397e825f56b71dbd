"""Skill: paired with the bar window by window, the bar the best baseline of each mask, in words."""

from __future__ import annotations

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import masked_ships, ships

from model.baselines.forecast import CONSTANT_VELOCITY, LAST_POSITION
from model.data.shards import Shards
from model.evaluation.metrics import interval_over_entities
from model.evaluation.question import Judging
from model.evaluation.score_table import wide_rows
from model.evaluation.scores import scored
from model.evaluation.skill import bar_of, bars_of, skill, skill_intervals
from model.evaluation.verdict import coverage_verdict, verdict
from tasks.report.coverage_table import coverage_cells
from tasks.report.error_columns import COLUMNS, VERDICT
from tasks.report.error_tables import error_table, read_scores, told_skill
from tasks.report.markup import percent


@pytest.mark.parametrize(
    ("error", "bar", "expected"),
    [
        *((50.0, 100.0, 0.5), (100.0, 100.0, 0.0), (150.0, 100.0, -0.5), (0.0, 100.0, 1.0)),
        *((0.0, 0.0, 0.0), (1.0, 0.0, -math.inf)),
    ],
)
def test_skill_is_the_share_of_the_error_that_is_saved(error, bar, expected):
    assert skill(error, bar) == expected


def test_the_bar_of_all_masks_is_the_best_baseline_of_each():
    """The fault: one baseline for all masks, while another is better in each of them."""
    line_B = torch.tensor([1.0, 3.0, 40.0, 40.0]).double()
    curve_B = torch.tensor([30.0, 30.0, 4.0, 6.0]).double()
    told = {"line": line_B, "curve": curve_B}
    bar_B = bar_of(told, ["short", "short", "long", "long"])
    assert bar_B.tolist() == [1.0, 3.0, 4.0, 6.0]
    assert bar_of(told, ["all"] * 4).tolist() == curve_B.tolist()
    # Validation has named another for one of them, and for the other one that did not answer.
    named = {"short": "curve", "long": "spline"}
    bar_B = bar_of(told, ["short", "short", "long", "long"], named)
    assert bar_B.tolist() == [30.0, 30.0, 4.0, 6.0]


def test_windows_without_an_error_do_not_choose_the_bar():
    near_B = torch.tensor([math.nan, 2.0]).double()
    far_B = torch.tensor([math.nan, 3.0]).double()
    np.testing.assert_equal(
        bar_of({"far": far_B, "near": near_B}, ["all"] * 2).numpy(), near_B.numpy()
    )


def hard_and_easy(num_entities: int = 40, num_windows: int = 5):
    """A model 2 % ahead of a bar in windows that are hard or easy for both, some without error."""
    generator = np.random.default_rng(5)
    level = np.repeat(generator.lognormal(3, 1, num_entities), num_windows)
    bar = level * generator.lognormal(0, 0.3, len(level))
    error = 0.98 * bar * generator.lognormal(0, 0.02, len(level))
    bar[3] = error[3] = math.nan
    entities = [f"entity {place // num_windows}" for place in range(len(level))]
    return torch.from_numpy(error), torch.from_numpy(bar), entities


def test_the_interval_agrees_with_one_worked_out_by_hand():
    error_B, bar_B, entities = hard_and_easy()
    (found,) = skill_intervals([error_B], bar_B, entities, seed=2, num_resamples=4_000)
    names, generator = sorted(set(entities)), np.random.default_rng(9)
    owned = {name: [i for i, one in enumerate(entities) if one == name] for name in names}
    skills = []
    for _ in range(2_000):
        rows = [row for name in generator.choice(names, len(names)) for row in owned[name]]
        error, bar = np.nanmean(error_B.numpy()[rows]), np.nanmean(bar_B.numpy()[rows])
        skills.append(1 - error / bar)
    assert found == pytest.approx(np.quantile(skills, [0.025, 0.975]), abs=0.0006)


def test_pairing_tells_apart_what_intervals_of_each_cannot():
    error_B, bar_B, entities = hard_and_easy()
    ((low, high), own, other) = (
        *skill_intervals([error_B], bar_B, entities),
        interval_over_entities(error_B, entities),
        interval_over_entities(bar_B, entities),
    )
    assert 0 < low < 0.02 < high < 0.04
    assert own[0] < other[0] < own[1] < other[1]  # they overlap by far


def test_everyone_meets_the_same_draws_and_the_bar_itself_has_no_width():
    error_B, bar_B, entities = hard_and_easy()
    alone = skill_intervals([error_B], bar_B, entities, seed=3)
    together = skill_intervals([bar_B, error_B, error_B], bar_B, entities, seed=3)
    assert together == [(0.0, 0.0), *alone, *alone]
    assert skill_intervals([error_B], bar_B, entities, seed=4) != alone


def test_a_bar_of_zero_leaves_no_interval_undefined():
    bar_B = torch.tensor([0.0, 0.0, 1.0]).double()
    ((low, high),) = skill_intervals([torch.ones(3).double()], bar_B, ["a", "b", "c"])
    assert (low, high) == (-math.inf, 0.0)
    nothing = skill_intervals([bar_B * math.nan], bar_B * math.nan, ["a", "b", "c"])
    assert all(math.isnan(bound) for bound in nothing[0])


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0.1, 0.02, 0.2, 300, 60), "ahead"),
        ((0.1, -0.02, 0.2, 300, 60), "cannot be told apart"),
        ((-0.1, -0.2, 0.0, 300, 60), "cannot be told apart"),
        ((-0.1, -0.2, -0.02, 300, 60), "behind"),
        ((0.0, 0.0, 0.0, 300, 60), "the bar"),
        ((0.0, 0.0, 0.0, 3, 2), "the bar"),
        ((0.1, 0.02, 0.2, 29, 20), "too few to judge"),
        ((0.1, 0.02, 0.2, 300, 9), "too few to judge"),
        ((0.1, None, None, 300, 60), ""),
    ],
)
def test_a_skill_has_its_words(numbers, words):
    assert verdict(*numbers) == words


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0.80, 0.70, 0.90, 1_000, 9), "as promised"),
        ((0.74, 0.70, 0.76, 300, 100), "cannot be told"),
        ((0.74, 0.70, 0.75, 300, 100), "too small"),
        ((0.86, 0.84, 0.90, 300, 100), "cannot be told"),
        ((0.86, 0.85, 0.90, 300, 100), "too large"),
        ((0.74, None, None, 300, 100), "too small"),
        ((0.86, None, None, 300, 100), "too large"),
        ((0.74, 0.70, 0.75, 999, 99), "too few to say"),
    ],
)
def test_a_coverage_has_its_words(numbers, words):
    assert coverage_verdict(*numbers) == words


def test_a_step_whose_coverage_may_be_as_promised_is_told_as_such():
    about = {"dataset": "ships", "split_kind": "entity", "model": "gru"}
    about |= {"num_windows": 594, "num_entities": 103}
    seeds = [(1, 0.80, 0.77, 0.83), (20, 0.72, 0.69, 0.74), (20, 0.76, 0.73, 0.79)]
    rows = [
        about | {"metric": "coverage_80", "horizon": step, "value": value, "low": low, "high": high}
        for step, value, low, high in seeds
    ]
    rows += [row | {"metric": "raw_coverage_80", "value": 0.5} for row in rows]
    [cells] = coverage_cells(rows)
    assert cells[-3:] == ("50% at 1, 50% at 20", "80% at 1, 74% at 20", "cannot be told at 20")


# In the table of scores -------------------------------------------------------------------------


def test_skill_over_all_masks_is_over_the_best_of_each_mask():
    made = masked_ships.evaluated("masked_chemin")
    errors = pq.read_table(made.store.folder(made.evaluated) / "window_errors.parquet").to_pandas()
    judged = errors.query("task == 'recover' and track == 'times_given'")
    means = judged.query("split == 'validation'").groupby(["mask", "model"])["value"].mean()
    best = means.unstack()[["linear", "hermite"]].idxmin(axis=1)
    chosen = judged.query("split == 'test'")
    by_mask = chosen.set_index(["mask", "model"])["value"]
    bar = np.concatenate([by_mask.loc[mask, name].to_numpy() for mask, name in best.items()])
    rows = [
        row
        for row in masked_ships.rows_of(made, "recover")
        if (row["split"], row["track"], row["mask"]) == ("test", "times_given", "all")
    ]
    for row in rows:
        assert row["skill"] == pytest.approx(1 - row["mae_m"] / bar.mean())
        assert row["skill_low"] <= row["skill"] <= row["skill_high"]


def test_the_luckiest_baseline_of_test_is_not_its_bar():
    """The fault: the best of many is chosen on the windows that it is then compared on."""
    shards = Shards.open(ships.good().store.folder(ships.good().shards), "UTC")
    judging = Judging((1, 4), tasks=("forecast",), num_bootstrap=100)
    rivals = [LAST_POSITION, CONSTANT_VELOCITY]
    rows = scored(shards, rivals, "test", judging).table.to_pylist()
    assert bars_of(rows)["forecast", "times_given", "all", 1] == "constant_velocity"
    bars = {("forecast", "times_given", "all", 1): "last_position"}
    table = scored(shards, rivals, "test", judging, bars=bars).table
    told = {row["model"]: row for row in wide_rows(table, track="times_given", horizon=1)}
    still, moving = told["last_position"], told["constant_velocity"]
    assert (still["skill"], still["skill_low"], still["skill_high"]) == (0, 0, 0)
    assert moving["skill"] == pytest.approx(1 - moving["ade_m"] / still["ade_m"])
    assert moving["skill_low"] > 0


@pytest.mark.parametrize("worse", ["foundry", "foundry_without_memory"])
def test_the_line_below_a_table_is_of_the_model_itself_however_its_kin_fare(worse):
    """The fault: the last row was told, so the worst of a model and its like without a memory."""
    better = ({"foundry", "foundry_without_memory"} - {worse}).pop()
    rows = [
        {"model": name, "is_baseline": name == "damped_velocity", "mask": "all", "horizon": step}
        | {"skill": value, "skill_low": value, "skill_high": value + 0.01, "after": ""}
        | {"num_windows": 300, "num_entities": 60}
        for step in (1, 20)
        for name, value in ((better, 0.2), ("damped_velocity", 0.0), (worse, -0.3))
    ]
    own = 0.2 if better == "foundry" else -0.3
    assert told_skill(rows).startswith(f"foundry at step 20: skill {percent(own)}")
    assert told_skill([row for row in rows if row["is_baseline"]]) == ""


def test_every_skill_of_every_task_and_stratum_has_its_interval():
    made = masked_ships.evaluated("trajfm")
    rows = read_scores(made.store.folder(made.evaluated)).to_pylist()
    skills = [row for row in rows if row["metric"] == "skill"]
    assert len({row["stratum"] for row in skills}) > 3
    for row in skills:
        assert row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9  # of one entity: rounding
        is_bar = row["is_baseline"] and row["mask"] != "all" and row["value"] == 0
        if is_bar:  # itself, or what differs from it by rounding
            assert (row["low"], row["high"]) == pytest.approx((0, 0), abs=1e-9)


def test_tables_say_it_in_words():
    made = masked_ships.evaluated("trajfm")
    scores = read_scores(made.store.folder(made.evaluated))
    table = error_table(scores, "test", "forecast", "times_given")
    words = {cells[list(COLUMNS["forecast"]).index(VERDICT)] for cells in table.cells}
    assert words == {"the bar", "too few to judge"}  # six entities
