"""Generators beside each other: who is the bar, who copies, and what a model's losses tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers.interface import random_weights
from helpers.made_up_trips import NUM_POINTS, TEST, TRAIN, ZONE, CopyMachine

from model.baselines.generators import IndependentSteps, MarkovWalk
from model.baselines.rollouts import CONTEXTS_AT_ONCE, Rollouts
from model.evaluation.generation.generation_rows import (
    AUC,
    SKILL,
    bar_areas,
    bar_of,
    copied_by,
    whole_rows,
)
from model.evaluation.generation.generation_scores import (
    GENERATION_TABLE,
    Samples,
    generation_scores,
)
from model.evaluation.generation.generation_table import Judge, Losses, RealTrips
from model.evaluation.generation.made_up import made_up, starts_of
from model.evaluation.generation.member_losses import lesson, losses_of
from model.evaluation.generation.validity import rejected, sound
from model.inference.serving import Trained
from model.interface.flat_points import context_of, latest
from model.interface.trips import Trips

JUDGE = Judge(RealTrips(TRAIN, TEST, ZONE, 40.0), num_resamples=10)
MACHINE = CopyMachine(TRAIN)


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    """A copy machine as a model, beside the simple generators."""
    makers = (MACHINE, IndependentSteps.fit(TRAIN), MarkovWalk.fit(TRAIN))
    trips = {one.name: made_up(one, TEST, ZONE, 0) for one in makers}
    losses = Losses(np.linspace(0, 1, len(TRAIN)), np.linspace(0.1, 1.1, len(TEST)))
    return generation_scores(Samples(MACHINE.name, trips, losses), JUDGE, "validation")


def test_everyone_is_in_one_table_from_the_same_starts(rows):
    table = pa.Table.from_pylist(rows, GENERATION_TABLE)
    assert set(table["model"].to_pylist()) == {"copy_machine", "independent_steps", "markov_walk"}
    assert set(table["split"].to_pylist()) == {"validation"}
    assert {row["num_entities"] for row in rows} == {20}
    assert {row["model"] for row in rows if not row["is_baseline"]} == {"copy_machine"}
    [starts] = MACHINE.asked
    np.testing.assert_array_equal(
        starts.lon_deg_BT[:, 0].numpy(), TEST.points.lon_deg_N[TEST.offset_R[:-1]]
    )
    own = made_up(IndependentSteps.fit(TRAIN), TEST, ZONE, 0)
    np.testing.assert_array_equal(own.entity_R, TEST.entity_R)
    np.testing.assert_array_equal(
        own.points.instant_us_N[own.offset_R[:-1]], TEST.points.instant_us_N[TEST.offset_R[:-1]]
    )


def test_a_copy_machine_has_the_best_area_and_is_told_by_its_copies(rows):
    machine = whole_rows(rows, "copy_machine")
    assert machine[AUC]["value"] < min(bar_areas(rows).values()) - 0.2
    assert "copied_share" in copied_by(machine)
    assert machine["copied_share"]["value"] > 0.95 > 0.2 > machine["copied_share"]["floor_high"]
    assert all(not copied_by(whole_rows(rows, name)) for name in bar_areas(rows))


def test_who_copies_is_no_bar(rows):
    """The machine as a baseline: the best of the others is, and it alone is if all copy."""
    as_baselines = [row | {"is_baseline": True} for row in rows]
    others = {name: whole_rows(rows, name)[AUC]["value"] for name in bar_areas(rows)}
    assert bar_of(as_baselines) == bar_of(rows) == min(others, key=lambda name: others[name])
    alone = [row for row in as_baselines if row["model"] == "copy_machine"]
    assert bar_of(alone) == "copy_machine"
    assert bar_of([]) is None


def test_the_skill_is_over_the_bar(rows):
    [skill] = [row for row in rows if row["measure"] == SKILL]
    told, bar = (whole_rows(rows, name)[AUC]["value"] for name in ("copy_machine", skill["bar"]))
    assert skill["bar"] == bar_of(rows)
    assert skill["value"] == pytest.approx(1 - told / bar)
    assert 0 < skill["low"] <= skill["value"] <= skill["high"]


def test_what_was_asked_is_what_is_judged_and_rejected():
    sample = made_up(IndependentSteps.fit(TRAIN), TEST, ZONE, 0)
    lat_deg_N, instant_us_N = sample.points.lat_deg_N.copy(), sample.points.instant_us_N.copy()
    lat_deg_N[3 * NUM_POINTS + 2] = 91.0
    instant_us_N[3 * NUM_POINTS + 1] = instant_us_N[5 * NUM_POINTS + 1] = 0
    spoilt = Trips(
        replace(sample.points, lat_deg_N=lat_deg_N, instant_us_N=instant_us_N), sample.entity_R
    )
    found = rejected(spoilt)
    assert found == {"off_sphere": 1, "unordered": 1}
    assert len(sound(spoilt)) + sum(found.values()) == len(TEST)


# Losses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gdm", "chemin"])
def test_the_loss_of_a_trip_is_its_own(family):
    """Whatever the company, and the same again; of more than are asked others are not told."""
    model = random_weights(family)
    some = TEST.chosen(np.arange(6))
    whole = losses_of(model, some, ZONE, 0)
    assert np.isfinite(whole).all()
    alone = losses_of(model, some.chosen(np.array([4])), ZONE, 0)
    np.testing.assert_allclose(alone, whole[4], rtol=1e-5)
    few = losses_of(model, some, ZONE, 0, most=2)
    known = ~np.isnan(few)
    assert known.sum() == 2
    np.testing.assert_array_equal(few[known], whole[known])


def test_what_was_learnt_costs_less():
    """A network that has seen nothing but two trips tells them from others."""
    model = random_weights("gdm").train()
    seen, other = TRAIN.chosen(np.array([0, 1])), TRAIN.chosen(np.array([7, 8]))
    before = losses_of(model, other, ZONE, 0).mean() - losses_of(model, seen, ZONE, 0).mean()
    every = context_of(seen.points, latest(seen.points, 64), ZONE)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(30):
        optimiser.zero_grad()
        model.loss(lesson(model, every, step % 2, step)).mean.backward()
        optimiser.step()
    after = losses_of(model, other, ZONE, 0).mean() - losses_of(model, seen, ZONE, 0).mean()
    assert after > before + 0.05


# Rollouts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["chemin", "gru", "trajfm"])
def test_forecasters_roll_out_from_a_start(family):
    """No two have the same draws, though a forecaster shares its noise among contexts."""
    number = CONTEXTS_AT_ONCE + 2
    starts = starts_of(TEST.chosen(np.zeros(number, int)), ZONE)
    rollouts = Rollouts(Trained(random_weights(family)))
    assert rollouts.name == f"{family}_rollouts"
    found, again, other = (rollouts.generate(starts, 5, seed) for seed in (0, 0, 1))
    assert found.lon_deg_NT.shape == (number, 5)
    assert torch.equal(found.lon_deg_NT[:, :1], starts.lon_deg_BT)
    assert torch.equal(found.lon_deg_NT, again.lon_deg_NT)
    assert not torch.equal(found.lon_deg_NT, other.lon_deg_NT)
    assert len({*found.lon_deg_NT[:, 1].tolist()}) == number
    assert (found.time_s_NT.diff(dim=1) >= 0).all()
