"""One interface for every family: what each serves, and what holds for all of them alike."""

from __future__ import annotations

import pytest
import torch
from helpers.interface import (
    EVERY,
    check_alone_and_in_a_batch,
    check_asking_changes_nothing,
    random_weights,
    with_memory,
)
from helpers.walks import batch_of, context_of, walk

from model.earth.geometry import haversine_m
from model.families import FAMILIES, FAMILIES_OF_POINTS, MODULES, knows_place, tasks_of
from model.inference import api
from model.inference.api import check_task, forecast, score
from model.interface.masking import masked
from model.layers.distributions import Noise
from tasks.config.pipeline import PipelineConfig
from tasks.release.model_card import privacy_note


@pytest.mark.parametrize(("family", "task"), EVERY)
def test_alone_and_in_a_batch_it_is_the_same(family, task):
    check_alone_and_in_a_batch(random_weights(family), task)
    with pytest.raises(AssertionError):
        check_alone_and_in_a_batch(with_memory(random_weights(family)), task)


@pytest.mark.parametrize(("family", "task"), EVERY)
def test_asking_changes_nothing(family, task):
    check_asking_changes_nothing(random_weights(family).train(), task)
    with pytest.raises(AssertionError):
        check_asking_changes_nothing(with_memory(random_weights(family)).train(), task)


def fitted_at(family, lon_deg):
    """What is stored with weights whose train lies around a longitude."""
    model = random_weights(family)
    model.fit_inputs([batch_of(*walk(8, 12, lon_deg=lon_deg))])
    return model.state_dict()


@pytest.mark.parametrize("family", FAMILIES_OF_POINTS)
def test_a_card_of_people_says_whether_a_place_is_stored(family):
    """What moves when train is moved east is a place."""
    here, there = (fitted_at(family, lon_deg) for lon_deg in (8.0, 31.0))
    moved = [name for name in here if (there[name] - here[name]).double().abs().max() > 1]
    assert bool(moved) == knows_place(family), moved
    config = PipelineConfig(dataset="geolife", model={"family": family})
    said = privacy_note(config.source_row, config)
    assert ("the middle of the places of train" in said) == knows_place(family)


@pytest.mark.parametrize("family", FAMILIES_OF_POINTS)
def test_what_is_not_served_is_refused(family):
    model = random_weights(family)
    for task in {task for _, task in EVERY} - set(FAMILIES[family].tasks):
        with pytest.raises(ValueError, match=f"{family} does not serve '{task}'"):
            check_task(model, task)
    with pytest.raises(ValueError, match="does not serve 'dream'"):
        check_task(model, "dream")


def test_tasks_are_told_without_a_family_and_agree_with_it():
    """Loading a family compares them."""
    assert [tasks_of(family) for family in MODULES] == [one.tasks for one in FAMILIES.values()]
    listed = MODULES["patch"] | {"tasks": ["forecast"]}
    with pytest.raises(ValueError, match="make them agree"):
        type(FAMILIES)({"patch": listed})["patch"]


FORECASTERS, SCORERS = (
    [name for name in FAMILIES_OF_POINTS if task in FAMILIES[name].tasks]
    for task in ("forecast", "score")
)


@pytest.mark.parametrize("family", FORECASTERS)
def test_samples_follow_the_seed(family):
    model, context = random_weights(family), context_of(*walk(3, 8))
    first, again, other = (forecast(model, context, 4, None, 5, seed) for seed in (1, 1, 2))
    assert torch.equal(first.sample_lon_deg_BSH, again.sample_lon_deg_BSH)
    assert torch.equal(first.lon_deg_BH, other.lon_deg_BH)
    assert not torch.equal(first.sample_lon_deg_BSH, other.sample_lon_deg_BSH)


@pytest.mark.parametrize("family", FORECASTERS)
def test_a_long_list_is_forecast_in_pieces(family, monkeypatch):
    model, context = random_weights(family), context_of(*walk(5, 8))
    whole = forecast(model, context, 4, num_samples=3)
    monkeypatch.setattr(api, "MAX_ROWS", 6)
    pieces = forecast(model, context, 4, num_samples=3)
    away_m = haversine_m(
        whole.sample_lon_deg_BSH,
        whole.sample_lat_deg_BSH,
        pieces.sample_lon_deg_BSH,
        pieces.sample_lat_deg_BSH,
    )
    assert float(away_m.max()) < 0.2


@pytest.mark.parametrize("family", FORECASTERS)
def test_given_times_are_kept(family):
    points = walk(3, 8)
    target_s_BH = points[2][:, -1:] + torch.arange(1, 41) * 7.5
    found = forecast(random_weights(family), context_of(*points), 40, target_s_BH, num_samples=2)
    assert torch.equal(found.time_s_BH, target_s_BH)
    assert torch.isfinite(found.sample_lon_deg_BSH).all()


@pytest.mark.parametrize("family", SCORERS)
def test_a_walk_that_is_unlikely_surprises(family):
    """After training for a moment: a walk whose points are shuffled, against the walk itself."""
    model, draw = random_weights(family).train(), FAMILIES[family].draw
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(20):
        batch = batch_of(*walk(32, 12, seed=step))
        optimiser.zero_grad()
        model.loss(batch if draw is None else masked(batch, draw, step)).mean.backward()
        optimiser.step()
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(16, 12, seed=99)
    order = torch.tensor([0, 7, 3, 10, 1, 8, 5, 11, 2, 9, 4, 6])
    mixed = lon_deg_BT[:, order], lat_deg_BT[:, order], time_s_BT
    plain, shuffled = (
        score(model, context_of(*p)) for p in ((lon_deg_BT, lat_deg_BT, time_s_BT), mixed)
    )
    assert (shuffled > plain).all()


@pytest.mark.parametrize("family", SCORERS)
def test_what_is_longer_than_the_window_is_scored(family):
    model = random_weights(family)
    points = walk(2, 90)
    found = score(model, context_of(*points, [90, 5]))
    assert torch.isfinite(found).all()
    alone = score(model, context_of(*(value[1:] for value in points), [5]))
    torch.testing.assert_close(found[1:], alone, rtol=1e-4, atol=1e-3)


def test_shared_draws_are_evenly_spread():
    noise = Noise.shared(512, 3)
    for value_S in (*noise.uniform_SHE[:, 0].T, *torch.special.ndtr(noise.normal_SHE[:, 0]).T):
        share = (value_S < 0.8).double().mean()
        assert float(share) == pytest.approx(0.8, abs=0.01)
    assert len(Noise.shared(0, 3).uniform_SHE) == 0
