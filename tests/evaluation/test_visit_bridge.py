"""Baselines that fill gaps: tables by hand, chains by whole matrices, and what is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.visit_worlds import MONDAY_US, batch_of_visits, places_of, visits_of_law

from model.baselines.visit_bridge import (
    MOST_HIDDEN,
    Bridge,
    GapLengths,
    GapShares,
    OwnMostFrequent,
    RegionSteps,
    fitted_fillers,
    log_run_lengths,
)
from model.baselines.visit_history import PastVisits
from model.features.places import NUM_SPECIAL
from model.interface.infilling import with_gaps

A, B, C = (NUM_SPECIAL + number for number in range(3))
TRAVEL_S, STAY_S = 600.0, 1_800.0  # of which 600 are over the shortest stay
STARTED = torch.tensor([MONDAY_US])


def row_of(*regions):
    region_BV = np.array([regions]) - NUM_SPECIAL
    return batch_of_visits(
        region_BV, np.full(region_BV.shape, TRAVEL_S), np.full(region_BV.shape, STAY_S)
    )


def with_hidden(batch, *places):
    is_target_BV = torch.zeros_like(batch.is_pad_BV)
    is_target_BV[:, list(places)] = True
    return with_gaps(replace(batch, is_target_BV=is_target_BV))


TRAIN = row_of(A, B, A, B, C)
PAST = PastVisits.of([TRAIN], places_of())


def test_steps_are_those_of_kneser_ney_by_hand():
    """A to B twice, B to A and to C once: the discount is 2 / (2 + 2 * 1)."""
    steps = RegionSteps.of(PAST)
    assert steps.seen_RR[[A], [B]] == pytest.approx((2 - 0.5) / 2)
    assert steps.seen_RR[[B], [A]] == steps.seen_RR[[B], [C]] == pytest.approx((1 - 0.5) / 2)
    assert steps.rest_R[[A, B, C]] == pytest.approx([0.25, 0.5, 1.0])
    # Three pairs of regions and a visit spread over 16 regions and the unknown one; then the
    # history, where A is twice and B once: regions are there once, twice, twice in train.
    parent_R = steps.parent.probability(row_of(A, B, A))[0].numpy()
    continued = (1 + 1 / 17) / 4
    assert parent_R[A] == pytest.approx((2 - 0.2) / 3 + 0.2 * 2 / 3 * continued)
    assert parent_R[C] == pytest.approx(0.2 * 2 / 3 * continued)
    assert steps.after(A, parent_R).sum() == pytest.approx(1)


def test_chains_between_two_ends_are_those_of_whole_matrices():
    windows = [batch_of_visits(*visits_of_law(3, 20, 8))]
    steps = RegionSteps.of(PastVisits.of(windows, places_of()))
    parent_R = steps.parent.probability(row_of(A, B, C))[0].numpy()
    step_RR = steps.seen_RR.toarray() + np.outer(steps.rest_R, parent_R)
    inner_RR = step_RR * (np.arange(len(parent_R)) >= NUM_SPECIAL)
    bridge = Bridge.of(steps, parent_R, A, C)
    expected = [
        (np.linalg.matrix_power(inner_RR, n) @ step_RR)[A, C] for n in range(1, MOST_HIDDEN + 1)
    ]
    np.testing.assert_allclose(np.exp(bridge.log_reached()), expected)
    two = np.arange(MOST_HIDDEN) == 1
    draw = np.random.default_rng(0)
    drawn = [tuple(bridge.drawn(two, draw)) for _ in range(4_000)]
    pair_RR = inner_RR[A][:, None] * inner_RR * step_RR[:, C]
    likeliest = np.unravel_index(pair_RR.argmax(), pair_RR.shape)
    chance = pair_RR.max() / pair_RR.sum()
    share = np.mean([one == likeliest for one in drawn])
    assert share == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 4_000) ** 0.5)


def test_numbers_follow_from_how_long_a_gap_is():
    """Gaps of one visit last 3,000 s, of two 5,400, of three 7,800."""
    lengths = GapLengths.of([log_run_lengths(TRAIN)])
    np.testing.assert_allclose(np.exp(lengths.mean_N[:3]), [3_000, 5_400, 7_800])
    # Three gaps of one visit, two of two, one of three; each visit more is hidden by a fifth.
    np.testing.assert_allclose(np.exp(lengths.log_chance_N[:4]), [3, 2 / 5, 1 / 25, 0])
    assert lengths.spread == 0.1
    for place, length_s in enumerate((3_000, 5_400, 7_800)):
        assert int(lengths.log_weight(length_s).argmax()) == place


def test_times_part_a_gap_by_the_shares_of_train():
    shares = GapShares.of(PAST)
    draw = np.random.default_rng(0)
    # Over the least stay of 1,200 s there are 1,800: a way, a stay's rest and a way are as long.
    [visit] = shares.drawn([A], 1_000.0, 4_000.0, draw)
    assert (visit.arrived_s, visit.left_s) == pytest.approx((1_600, 3_400))
    first, last = shares.drawn([A, B], 0.0, 2_400.0, draw)  # no time is left for ways
    assert (first.arrived_s, first.left_s) == pytest.approx((0, 1_200))
    assert (last.arrived_s, last.left_s) == pytest.approx((1_200, 2_400))


def test_the_own_most_frequent_region_stands_in_the_middle():
    places = places_of()
    places = replace(places, duration_s=replace(places.duration_s, p50=2_000.0))
    shown, is_gap_BV = with_hidden(row_of(B, A, B, C, A, A), 2)
    [[gap]] = OwnMostFrequent(places).infill(shown, is_gap_BV, STARTED, 3, 0, "UTC")
    [[visit], *others] = gap.visits
    began_s, ends_s = float(shown.left_s_BV[0, 1]), float(shown.arrived_s_BV[0, 2])
    assert visit.region == A
    assert (visit.arrived_s, visit.left_s) == pytest.approx((began_s + 500, ends_s - 500))
    assert others == [[visit]] * 2


def test_a_bridge_fits_its_gap_and_follows_seed_and_window():
    windows = [batch_of_visits(*visits_of_law(3, 40, 8))]
    _, bridge = fitted_fillers(windows, places_of())
    shown, is_gap_BV = with_hidden(batch_of_visits(*visits_of_law(9, 3, 8)), 2, 4, 5)
    started = STARTED.expand(3)
    found = bridge.infill(shown, is_gap_BV, started, 20, 0, "UTC")
    for row, gaps in enumerate(found):
        assert [gap.after for gap in gaps] == [1, 2]
        for gap in gaps:
            began_s = float(shown.left_s_BV[row, gap.after])
            ends_s = float(shown.arrived_s_BV[row, gap.after + 1])
            for visits in gap.visits:
                times = [began_s, *(t for v in visits for t in (v.arrived_s, v.left_s)), ends_s]
                assert times == sorted(times)
                assert all(v.left_s - v.arrived_s >= 1_200 - 1e-6 for v in visits)
                assert all(v.region >= NUM_SPECIAL for v in visits)
    assert bridge.infill(shown, is_gap_BV, started, 20, 0, "UTC") == found
    assert bridge.infill(shown, is_gap_BV, started, 20, 1, "UTC") != found
    alone = bridge.infill(shown.at(slice(1, 2)), is_gap_BV[1:2], STARTED, 20, 0, "UTC")
    assert alone == [found[1]]
