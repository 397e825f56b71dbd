"""Generation under controls: each is met or refused, and without any the law is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.trajgpt_models import random_weights, trained
from helpers.visit_worlds import LAW, MONDAY_US, batch_of_visits, visits_of_law
from scipy import stats

from model.earth.calendar import calendar_of
from model.families.trajgpt.generation import (
    ControlError,
    Controls,
    Drawing,
    Wanted,
    batch_of,
    generate,
    nucleus,
)
from model.features.places import NUM_SPECIAL, Special
from model.interface.infilling import begun

NUM = 1_000
NINE_US = MONDAY_US + 9 * 3_600 * 10**6
PLAIN = Controls(started_us=NINE_US, num_visits=6)
HOME, WORK = NUM_SPECIAL + 5, NUM_SPECIAL + 10


def drawn(controls, num=NUM, seed=0, model=None):
    return generate(model or trained(40), controls, num, seed)


def hours_of(found, controls):
    instant_us_BV = controls.started_us + (found.arrived_s_BV.numpy() * 1e6).round().astype(
        np.int64
    )
    return calendar_of(instant_us_BV, "UTC")["hour"][~found.is_pad_BV.numpy()]


def check_is_a_sequence(found):
    """Time goes on, stays last, regions are regions, and pads lie on the right."""
    is_visit_BV = ~found.is_pad_BV
    assert bool((found.region_BV[is_visit_BV] >= NUM_SPECIAL).all())
    assert bool((found.duration_s_BV[is_visit_BV] >= LAW.least_stay_s - 1e-6).all())
    assert bool((found.travel_s_BV >= 0).all())
    assert bool((found.is_pad_BV[:, 1:] >= found.is_pad_BV[:, :-1]).all())
    assert bool((found.region_BV[found.is_pad_BV] == Special.PAD).all())


def test_sequences_are_sequences():
    found = drawn(PLAIN)
    assert found.region_BV.shape == (NUM, 6)
    check_is_a_sequence(found)


def test_the_end_and_what_lies_between_are_met():
    visits = {0: Wanted(HOME), 2: Wanted(WORK, 7_200.0, 40_000.0), 5: Wanted(HOME)}
    found = drawn(replace(PLAIN, visits=visits))
    check_is_a_sequence(found)
    assert found.region_BV[:, [0, 2, 5]].unique(dim=0).tolist() == [[HOME, WORK, HOME]]
    arrived_s_B = found.arrived_s_BV[:, 2]
    assert 7_200 <= float(arrived_s_B.min())
    assert float(arrived_s_B.max()) <= 40_000


def test_forbidden_regions_never_come():
    forbidden = frozenset(range(NUM_SPECIAL, NUM_SPECIAL + 14))
    found = drawn(replace(PLAIN, forbidden=forbidden))
    assert set(found.region_BV.unique().tolist()) <= {NUM_SPECIAL + 14, NUM_SPECIAL + 15}


def test_hours_are_kept():
    controls = replace(PLAIN, num_visits=3, hours=frozenset(range(6, 23)))
    found = drawn(controls)
    check_is_a_sequence(found)
    assert set(hours_of(found, controls).tolist()) <= controls.hours


def test_an_instant_ends_a_sequence():
    found = drawn(Controls(started_us=NINE_US, until_s=60_000.0))
    check_is_a_sequence(found)
    assert float(found.arrived_s_BV[~found.is_pad_BV].max()) <= 60_000
    assert len((~found.is_pad_BV).sum(1).unique()) > 3


@pytest.mark.parametrize(
    ("controls", "reason"),
    [
        (Controls(NINE_US), "num_visits or until_s"),
        (replace(PLAIN, num_visits=0), "at least 1"),
        (replace(PLAIN, forbidden=frozenset({2})), "2 is no region of the vocabulary: 5 to 20"),
        (replace(PLAIN, visits={9: Wanted(HOME)}), "no visit 9: they count from 0 to 5"),
        (
            replace(PLAIN, visits={1: Wanted(HOME)}, forbidden=frozenset({HOME})),
            f"region {HOME} is wanted and forbidden",
        ),
        (replace(PLAIN, forbidden=frozenset(range(5, 21))), "all regions are forbidden"),
        (replace(PLAIN, visits={3: Wanted(latest_s=3_599.0)}), "it is 3600 s at least"),
        (
            replace(PLAIN, visits={1: Wanted(earliest_s=9e3), 2: Wanted(latest_s=9.5e3)}),
            "visit 2 cannot begin by 9500 s",
        ),
        (replace(PLAIN, visits={0: Wanted(earliest_s=5.0)}), "visit 0 begins at 0 s"),
        (replace(PLAIN, hours=frozenset({3})), "begins at 9 h"),
        (replace(PLAIN, temperature=0.0), "temperature must be above 0"),
        # Within reach in time, but nobody travels for a year.
        (replace(PLAIN, visits={1: Wanted(earliest_s=3e7)}), "in none of 20 draws"),
    ],
)
def test_what_cannot_be_met_is_refused_with_its_reason(controls, reason):
    with pytest.raises(ControlError, match=reason):
        drawn(controls, num=3)


def test_a_sequence_is_a_function_of_seed_and_row():
    found, again, other = drawn(PLAIN, 20), drawn(PLAIN, 20), drawn(PLAIN, 20, seed=1)
    few = drawn(PLAIN, 5)
    for name in ("region_BV", "arrived_s_BV", "left_s_BV"):
        assert torch.equal(getattr(found, name), getattr(again, name))
        torch.testing.assert_close(
            getattr(few, name), getattr(found, name)[:5], rtol=1e-4, atol=1.0
        )
    assert not torch.equal(found.region_BV, other.region_BV)


def test_the_cache_tells_what_the_whole_sequence_tells():
    """Densities of a drawn sequence, read at once, give back the uniform numbers: none is amiss."""
    model = trained(40)
    found = drawn(replace(PLAIN, num_visits=8))
    whole = replace(found, is_target_BV=~found.is_pad_BV)
    with torch.no_grad():
        told, asked = model.asked(begun(whole))
        stay = told.stay(asked).cumulative(asked.duration_s_N)
        travel = told.travel(asked.region_N).cumulative(asked.travel_s_N)
    is_later = torch.arange(len(stay)) % 8 > 0
    is_way = is_later & (asked.travel_s_N > 0)
    assert stats.kstest(stay.numpy(), "uniform").pvalue > 1e-3
    # Of a travel that takes time the share lies above that of none.
    zero = told.travel(asked.region_N).log_zero.exp().detach()
    within = ((travel - zero) / (1 - zero))[is_way]
    assert stats.kstest(within.numpy(), "uniform").pvalue > 1e-3


def test_what_is_remembered_is_what_a_history_tells():
    """The next region behind sequences that were drawn, and behind the same as a history."""
    model, keys = random_weights(), [(0, row, 0) for row in range(6)]
    drawing = Drawing(model, PLAIN, keys)
    with torch.no_grad():
        history = batch_of(drawing.run(), PLAIN, model)
        found = drawing.memory.told(drawing.hidden_BD).log_region_NR
        expected = model.next_visit(history).log_region_NR
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_less_of_the_mass_and_a_low_temperature_take_what_is_likeliest():
    chance_BR = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)
    assert nucleus(chance_BR, 0.7).tolist() == [[0.5, 0.3, 0, 0]]
    assert nucleus(chance_BR, 0.4).tolist() == [[0.5, 0, 0, 0]]
    assert nucleus(chance_BR, 1.0).tolist() == chance_BR.tolist()
    entropies = [
        np.mean(
            [
                stats.entropy(np.bincount(column))
                for column in drawn(replace(PLAIN, temperature=temperature)).region_BV.T.numpy()
            ]
        )
        for temperature in (1.0, 0.3)
    ]
    assert entropies[1] < entropies[0]


def test_a_planted_fault_is_seen(monkeypatch):
    """Without the room that wanted visits need, their time is missed: it is refused, not met."""
    monkeypatch.setattr(Controls, "latest_s", lambda controls, place, min_stay_s: np.inf)
    visits = {2: Wanted(WORK, 0.0, 6_000.0)}
    found = drawn(replace(PLAIN, num_visits=3, visits=visits), num=50)
    assert float(found.arrived_s_BV[:, 2].max()) > 6_000


def test_random_weights_keep_controls_too():
    visits = {2: Wanted(WORK, 0.0, 50_000.0), 5: Wanted(HOME)}
    found = drawn(replace(PLAIN, visits=visits), num=100, model=random_weights())
    check_is_a_sequence(found)
    assert bool((found.region_BV[:, 5] == HOME).all())


@pytest.mark.slow
def test_without_controls_the_law_is_kept():
    """Shares of regions after a while, and stays, as near as the law is to itself."""
    model = trained(1_000, num_rows=40_000)
    found = generate(model, Controls(started_us=NINE_US, num_visits=12), 4_000, 0)
    region_BV, _, stay_s_BV = visits_of_law(5_000_000, 4_000, 12)
    halves = visits_of_law(6_000_000, 4_000, 12)

    def apart(one, other):
        shares = [np.bincount(value.ravel(), minlength=16) / value.size for value in (one, other)]
        return np.abs(shares[0] - shares[1]).sum()

    made = found.region_BV.numpy() - NUM_SPECIAL
    assert apart(made, region_BV) < 3 * apart(halves[0], region_BV) + 0.02
    away = stats.wasserstein_distance(
        np.log(found.duration_s_BV.numpy().ravel()), np.log(stay_s_BV.ravel())
    )
    floor = stats.wasserstein_distance(np.log(halves[2].ravel()), np.log(stay_s_BV.ravel()))
    assert away < 3 * floor + 0.02
    assert batch_of_visits(*halves).region_BV.shape == found.region_BV.shape
