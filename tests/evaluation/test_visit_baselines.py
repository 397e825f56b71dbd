"""Baselines of the next visit: proper laws, of train alone, and near the law of made-up visits."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from helpers.visit_worlds import LAW, batch_of_visits, places_of, visits_of_law

from model.baselines.visit_baselines import fitted_visit_baselines
from model.features.places import NUM_SPECIAL, Special
from model.interface.next_visit import parted

NAMES = (
    *("stay", "own_frequency", "own_recent", "global_frequency", "hour_frequency"),
    *("markov_1", "markov_2", "kneser_ney", "exploration", "marginal_times"),
    *("region_hour_times", "log_normal_times", "boosted_times"),
)
MANY, FEW = (200, 24), (12, 8)


def batch_of_law(seed, num_rows, num_visits, num_pads=0):
    return batch_of_visits(*visits_of_law(seed, num_rows, num_visits), num_pads=num_pads)


@cache
def fitted(shape):
    """All baselines by name, fitted on so many windows of so many visits."""
    baselines = fitted_visit_baselines([batch_of_law(0, *shape)], places_of())
    return {one.name: one for one in baselines}


def answers(baseline, history):
    """Numbers of all that is told behind histories, of the region D and of two hours on the way."""
    told, num_N = baseline.next_visit(history), len(history.region_BV)
    _, asked = parted(batch_of_law(5, num_N, 3))
    arrivals = asked.at(slice(None))
    travel, stay = told.travel(arrivals.region_N), told.stay(arrivals)
    seconds_N = torch.linspace(0, 9_000, num_N)
    return (
        told.log_region_NR,
        travel.log_density(seconds_N),
        travel.quantile(0.9),
        stay.log_density(seconds_N + 1_200),
        stay.quantile(0.5),
    )


def assert_equal(one, other):
    for value, again in zip(one, other, strict=True):
        torch.testing.assert_close(value, again, rtol=1e-10, atol=1e-10)


def test_every_baseline_has_a_name_and_the_question_that_it_serves():
    assert tuple(fitted(FEW)) == NAMES
    assert {one.tasks for one in fitted(FEW).values()} == {("next_visit",)}


def test_each_law_stands_once_in_a_table():
    """Laws of regions share one law of times, which would stand there nine times."""
    by_task = {
        task: [one for one in fitted(FEW).values() if task in one.judged_on]
        for task in ("next_region", "next_travel", "next_stay")
    }
    assert len({id(one.regions) for one in by_task["next_region"]}) == len(by_task["next_region"])
    for task in ("next_travel", "next_stay"):
        assert len({id(one.times) for one in by_task[task]}) == len(by_task[task]) == 4


@pytest.mark.parametrize("name", NAMES)
def test_regions_have_shares_of_one_and_none_has_none(name):
    history, _ = parted(batch_of_law(1, 6, 5))
    probability_NR = fitted(FEW)[name].next_visit(history).log_region_NR.exp()
    one_N = torch.ones(6, dtype=torch.float64)
    torch.testing.assert_close(probability_NR.sum(1), one_N, rtol=0, atol=1e-13)
    is_visit_R = torch.ones(places_of().num_ids, dtype=torch.bool)
    is_visit_R[Special.BLANK : NUM_SPECIAL] = False
    assert bool((probability_NR[:, is_visit_R] > 0).all())
    assert bool((probability_NR[:, ~is_visit_R] == 0).all())


@pytest.mark.parametrize("name", NAMES)
def test_neither_neighbours_nor_pads_count(name):
    baseline, batch = fitted(FEW)[name], batch_of_law(1, 6, 5, num_pads=4)
    told = answers(baseline, batch)
    assert_equal(told, answers(baseline, batch.part(0, None, 5)))
    other_row = batch.region_BV.clone()
    other_row[0] = other_row[0].flip(0)
    lone = answers(baseline, replace(batch, region_BV=other_row))
    assert_equal([value[1:] for value in told], [value[1:] for value in lone])
    garbage = {
        key: value.masked_fill(
            batch.is_pad_BV if value.ndim == 2 else batch.is_pad_BV.unsqueeze(-1), 7
        )
        for key, value in batch.columns().items()
        if key.endswith(("_BV", "_BVK")) and not key.startswith("is_")
    }
    assert_equal(told, answers(baseline, replace(batch, **garbage)))


def test_only_targets_and_what_was_before_them_is_learned():
    """Visits after the last target may be anything: they are those of nobody in train."""
    train = batch_of_law(0, 12, 12)
    is_target_BV = train.is_target_BV.clone()
    is_target_BV[:, 8:] = False
    train = replace(train, is_target_BV=is_target_BV)
    later = {name: getattr(train, name).clone() for name in ("region_BV", "left_s_BV", "east_m_BV")}
    later["region_BV"][:, 8:] = NUM_SPECIAL + 3
    later["left_s_BV"][:, 8:] += 1e6
    later["east_m_BV"][:, 8:] = 0.0
    history, _ = parted(batch_of_law(1, 6, 5))
    for one, other in zip(
        fitted_visit_baselines([train], places_of()),
        fitted_visit_baselines([replace(train, **later)], places_of()),
        strict=True,
    ):
        assert_equal(answers(one, history), answers(other, history))


def test_batches_are_learned_as_one():
    whole = batch_of_law(0, *FEW)
    parts = [whole.part(0, 5), whole.part(5, None)]
    history, _ = parted(batch_of_law(1, 6, 5))
    for one in fitted_visit_baselines(parts, places_of()):
        assert_equal(answers(one, history), answers(fitted(FEW)[one.name], history))


def test_train_without_any_history_is_refused():
    with pytest.raises(ValueError, match="no visit of train"):
        fitted_visit_baselines([batch_of_law(0, 3, 1)], places_of())


# ------------------------------------------------------------------ the law


@cache
def excess():
    """How far the surprises of each baseline lie above those of the law, as a share of these."""
    region_BV, travel_s_BV, stay_s_BV = visits_of_law(10**6, 2_000, 4)
    history, asked = parted(batch_of_visits(region_BV, travel_s_BV, stay_s_BV))
    least = (
        LAW.chain.entropy,
        LAW.travel_nll(region_BV, travel_s_BV)[:, -1].mean(),
        LAW.stay_nll(region_BV, travel_s_BV, stay_s_BV)[:, -1].mean(),
    )
    found = {}
    for name, one in fitted(MANY).items():
        told = one.next_visit(history)
        surprise = (
            -told.log_region_NR.gather(1, asked.region_N[:, None]).mean(),
            -told.travel(asked.region_N).log_density(asked.travel_s_N).mean(),
            -told.stay(asked).log_density(asked.duration_s_N).mean(),
        )
        found[name] = np.array([float(value) for value in surprise]) / least - 1
    return found


def test_markov_chains_come_near_the_entropy_of_the_law():
    region = {name: value[0] for name, value in excess().items()}
    assert abs(region["markov_1"]) < 0.02
    assert abs(region["markov_2"]) < 0.03
    assert abs(region["kneser_ney"]) < 0.04
    others = ("stay", "own_frequency", "own_recent", "global_frequency", "hour_frequency")
    assert min(region[name] for name in others) > 0.5


def test_times_come_near_those_of_the_law():
    """A travel depends on the region alone; a stay on the region and, by a power, on the travel."""
    by_hour, marginal, line = (
        excess()[name][1:] for name in ("markov_1", "marginal_times", "log_normal_times")
    )
    assert abs(by_hour[0]) < 0.02
    assert abs(by_hour[1]) < 0.02
    assert (abs(line) < 0.01).all()
    assert (marginal > by_hour).all()
    assert by_hour[1] > line[1]
    assert (abs(excess()["boosted_times"][1:]) < 0.02).all()
