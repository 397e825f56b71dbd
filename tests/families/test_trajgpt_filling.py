"""Gaps that are filled: every sample fits, ends in time, and follows its seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.trajgpt_models import random_weights, trained
from helpers.visit_worlds import LAW, MONDAY_US, batch_of_visits, visits_of_law

from model.families.trajgpt.filling import GapError, fill
from model.features.places import NUM_SPECIAL
from model.interface.infilling import laid_out

STARTED = torch.tensor([MONDAY_US, MONDAY_US + 3 * 3_600 * 10**6])


def with_gaps(model, *places, num_samples=40, seed=0, num_rows=2):
    """Eight visits of which some are taken out, and what is drawn in their places."""
    whole = batch_of_visits(*visits_of_law(77, num_rows, 8))
    kept = [place for place in range(8) if place not in places]
    columns = {name: value[:, kept] for name, value in whole.columns().items() if "_BV" in name}
    shown = replace(whole, **columns)
    is_gap_BV = torch.zeros(num_rows, len(kept), dtype=torch.bool)
    for number, place in enumerate(kept[:-1]):
        is_gap_BV[:, number] = kept[number + 1] != place + 1
    return whole, shown, fill(model, shown, is_gap_BV, STARTED, num_samples, seed)


@pytest.mark.parametrize("made", [random_weights, lambda: trained(40)])
def test_every_sample_fits_its_gap(made):
    _, shown, found = with_gaps(made(), 2, 3, 5)
    assert [[one.after for one in row] for row in found] == [[1, 2], [1, 2]]
    for row, gaps in enumerate(found):
        for one in gaps:
            began_s = float(shown.left_s_BV[row, one.after])
            ends_s = float(shown.arrived_s_BV[row, one.after + 1])
            assert len(one.visits) == 40
            for visits in one.visits:
                assert visits, "a gap is never left as it is"
                times = [began_s, *(t for v in visits for t in (v.arrived_s, v.left_s)), ends_s]
                assert times == sorted(times)
                assert all(v.left_s - v.arrived_s >= LAW.least_stay_s - 1e-6 for v in visits)
                assert all(NUM_SPECIAL <= v.region for v in visits)


def test_samples_follow_seed_and_window_and_not_their_neighbours():
    model = trained(40)
    _, _, found = with_gaps(model, 2, 3)
    _, _, again = with_gaps(model, 2, 3)
    _, _, other = with_gaps(model, 2, 3, seed=1)
    _, _, alone = with_gaps(model, 2, 3, num_rows=1)
    _, _, few = with_gaps(model, 2, 3, num_samples=5)
    regions = [
        [[visit.region for visit in visits] for visits in row[0].visits]
        for row in (found[0], again[0], other[0], alone[0], few[0])
    ]
    assert regions[0] == regions[1] == regions[3]
    assert regions[0] != regions[2]
    assert regions[0][:5] == regions[4]


def test_what_is_drawn_knows_what_lies_behind_the_gap():
    """With a later visit elsewhere, other regions are drawn: the cache holds what is shown."""
    model = random_weights()
    _, shown, found = with_gaps(model, 2, 3)
    is_gap_BV = torch.zeros_like(shown.is_pad_BV)
    is_gap_BV[:, 1] = True
    moved = shown.region_BV.clone()
    moved[:, -1] = NUM_SPECIAL + (moved[:, -1] - NUM_SPECIAL + 5) % LAW.chain.num_regions
    other = fill(model, replace(shown, region_BV=moved), is_gap_BV, STARTED, 40, 0)
    assert [v.arrived_s for s in found[0][0].visits for v in s] != [
        v.arrived_s for s in other[0][0].visits for v in s
    ]


def test_the_cache_tells_what_the_layout_tells():
    """The state behind the separator and an answer is that of training's layout, read at once."""
    from model.families.trajgpt.filling import Filling

    model = random_weights()
    whole, shown, _ = with_gaps(model, 2, 3)
    is_hidden_BV = torch.zeros_like(whole.is_pad_BV)
    is_hidden_BV[:, [2, 3]] = True
    layout = laid_out(whole, is_hidden_BV)
    with torch.no_grad():
        states_BTD = model.encode(layout)
        is_gap_V = torch.tensor([False, True, False, False, False, False])
        filling = Filling(model, shown.part(0, 1), is_gap_V, 3)
        filling.begin(int(STARTED[0]), 0, "UTC")
        torch.testing.assert_close(filling.state_SD[0], states_BTD[0, 7], rtol=1e-4, atol=1e-4)
        one = whole.part(0, 1)
        visit = [
            column[:, 2].expand(3) for column in (one.region_BV, one.arrived_s_BV, one.left_s_BV)
        ]
        open_S = torch.ones(3, dtype=torch.bool)
        filling.calendar = lambda arrived_s_S: one.calendar_BVK[:, 2].expand(3, -1)
        room_s_S = one.arrived_s_BV[:, 4].expand(3) - visit[-1]
        filling._read(*visit, open_S, 1, ~open_S, room_s_S)
        torch.testing.assert_close(filling.state_SD[0], states_BTD[0, 8], rtol=1e-4, atol=1e-4)
        # What is recalled is the same too.
        is_told_BT = torch.zeros_like(layout.is_pad_BV)
        is_told_BT[0, 8] = True
        torch.testing.assert_close(
            filling.memory.told(filling.state_SD).log_region_NR[:1],
            model.told(states_BTD, layout, is_told_BT).log_region_NR,
            rtol=1e-4,
            atol=1e-4,
        )


def test_gaps_that_nothing_can_fill_are_refused():
    model = random_weights()
    _, shown, _ = with_gaps(model, 2, 3, num_samples=1)
    behind_last = torch.zeros_like(shown.is_pad_BV)
    behind_last[0, -1] = True
    with pytest.raises(GapError, match="ask for the next visit"):
        fill(model, shown, behind_last, STARTED, 1, 0)
    short = torch.zeros_like(shown.is_pad_BV)
    short[0, 0] = True
    with pytest.raises(GapError, match=r"shorter than any stay \(1200 s\)"):
        fill(model, shown, short, STARTED, 1, 0)
