"""Recall of visits: one goes back to where one went from here before, and to nothing that comes."""

from __future__ import annotations

import torch

from model.families.trajgpt.recall import Past, Recall, Recalled, clues
from model.features.places import NUM_SPECIAL

A, B, C, D = range(NUM_SPECIAL, NUM_SPECIAL + 4)
WIDTH = 8


def past_of(*regions, is_visit=None):
    region_BV = torch.tensor([regions])
    is_visit_BV = torch.ones_like(region_BV, dtype=torch.bool) if is_visit is None else is_visit
    calendar_BVK = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(1, len(regions), 4)
    key_BVD, place_m_BVC = (torch.zeros(1, len(regions), size) for size in (WIDTH, 2))
    hour_s_BV = 3_600.0 * torch.arange(len(regions)).double().unsqueeze(0)
    times = hour_s_BV, hour_s_BV + 1_800.0, is_visit_BV, is_visit_BV
    return Past(key_BVD, region_BV, place_m_BVC, calendar_BVK, is_visit_BV, *times)


def recalled(past, place):
    torch.manual_seed(0)
    recall = Recall(WIDTH)
    row_N, place_N = torch.tensor([0]), torch.tensor([place])
    with torch.no_grad():
        share_BQV = recall.shares(torch.zeros(1, 1, WIDTH), past, place_N.unsqueeze(1))
    return Recalled.of(share_BQV[:, 0], past, row_N, place_N)


def test_one_goes_where_one_went_from_here_before():
    chance_R = recalled(past_of(A, B, C, D, A), 4).chance_NR(D + 1)[0]
    assert int(chance_R.argmax()) == B
    # Two visits that agree say more than one: behind C A it was D, behind B A it was C.
    chance_R = recalled(past_of(C, A, D, B, A, C, A), 6).chance_NR(D + 1)[0]
    assert float(chance_R[D]) > float(chance_R[B])


def test_shares_add_up_to_one_and_none_is_of_what_comes_later():
    past = past_of(A, B, C, D, A)
    told = recalled(past, 2)
    assert torch.isclose(told.share_NV.sum(), torch.tensor(1.0))
    assert told.share_NV[0, 3:].tolist() == [0, 0]
    other = past_of(A, B, C, B, B)
    assert torch.equal(recalled(other, 2).share_NV, told.share_NV)
    nothing = torch.zeros(1, 5, dtype=torch.bool)
    assert recalled(past_of(A, B, C, D, A, is_visit=nothing), 2).share_NV.sum() == 0


def test_clues_are_what_a_reader_would_count():
    """By hand, of A B A C A at its end: what followed A, the pair, the region, how long ago."""
    found = clues(past_of(A, B, A, C, A), torch.tensor([[4]]))[0, 0]
    followed, pair, same, ago, hour, weekday = found.unbind(-1)
    assert followed.tolist() == [0, 1, 0, 1, 0]
    assert pair.tolist() == [0, 0, 0, 0, 0]
    assert same.tolist() == [1, 0, 1, 0, 1]
    torch.testing.assert_close(ago, torch.log1p(torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])))
    assert hour.tolist() == weekday.tolist() == [0, 1, 1, 1, 1]
    # What is no region is followed by nothing.
    blank = NUM_SPECIAL - 2
    assert clues(past_of(blank, A, blank), torch.tensor([[2]]))[0, 0, :, 0].sum() == 0
