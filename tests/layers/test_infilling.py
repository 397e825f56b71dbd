"""Windows with blanks: no visit is lost, what is hidden shows nowhere, draws follow their seed."""

from __future__ import annotations

from dataclasses import replace

import torch
from helpers.visit_worlds import batch_of_visits, visits_of_law
from hypothesis import given, settings
from hypothesis import strategies as st

from model.features.places import NUM_SPECIAL, Special
from model.interface.batch import Cursor
from model.interface.infilling import NO_VISIT, infilled, laid_out
from model.interface.next_visit import AskedVisits

BLANK, SEP, ANSWER, PAD = (int(kind) for kind in (*NO_VISIT[:3], Special.PAD))


def walked(num_rows=1, num_visits=5, num_pads=0, seed=3):
    return batch_of_visits(*visits_of_law(seed, num_rows, num_visits), num_pads=num_pads)


def hidden(*places, num_visits=5):
    is_hidden_BV = torch.zeros(1, num_visits, dtype=torch.bool)
    is_hidden_BV[0, list(places)] = True
    return is_hidden_BV


def test_a_run_stands_behind_its_window_and_ends_with_a_token():
    """A B C D E with B and C hidden, as in the published layout."""
    batch = walked()
    a, b, c, d, e = batch.region_BV[0].tolist()
    found = laid_out(batch, hidden(1, 2))
    assert found.region_BV[0].tolist() == [a, BLANK, d, e, SEP, b, c, ANSWER]
    assert found.is_target_BV[0].tolist() == 5 * [False] + 3 * [True]
    arrived_V, left_V = batch.arrived_s_BV[0], batch.left_s_BV[0]
    # The blank lasts from A to D; the first answer's way begins where A ended.
    assert found.arrived_s_BV[0, 1] == left_V[0]
    assert found.left_s_BV[0, 1] == arrived_V[3]
    assert found.travel_s_BV[0, 5] == arrived_V[1] - left_V[0]
    assert found.travel_s_BV[0, 6] == arrived_V[2] - left_V[1]
    assert found.is_travel_known_BV[0].tolist()[5:] == [True, True, False]
    assert found.is_open_BV[0].tolist()[5:] == [False, False, True]
    # A visit that is told behind the separator must be over when D begins; nothing else need be.
    ends_s, never_s = float(arrived_V[3]), float("inf")
    assert found.until_s_BV[0].tolist() == [*5 * [never_s], ends_s, ends_s, never_s]
    # So much is left behind the separator and each visit to what is told next.
    room_s = [ends_s - float(left_V[visit]) for visit in (0, 1, 2)]
    assert found.room_s_BV[0].tolist() == [*4 * [never_s], *room_s, never_s]


def test_two_runs_are_told_one_after_the_other():
    batch = walked(num_visits=6)
    regions = batch.region_BV[0].tolist()
    found = laid_out(batch, hidden(1, 3, 4, num_visits=6))
    expected = [regions[0], BLANK, regions[2], BLANK, regions[5], SEP]
    expected += [regions[1], ANSWER, regions[3], regions[4], ANSWER]
    assert found.region_BV[0].tolist() == expected
    asked = AskedVisits.of(found, found.is_target_BV)
    first_way_s = batch.arrived_s_BV[0, 3] - batch.left_s_BV[0, 2]
    assert asked.travel_s_N[2] == first_way_s
    ends_s = [float(batch.arrived_s_BV[0, place]) for place in (2, 5)]
    never_s = float("inf")
    assert asked.until_s_N.tolist() == [ends_s[0], never_s, ends_s[1], ends_s[1], never_s]
    # Behind an answer the next gap is open, behind the last one none.
    left_s = [float(batch.left_s_BV[0, place]) for place in (2, 3, 4)]
    room_s = [*(ends_s[1] - value for value in left_s), never_s]
    assert found.room_s_BV[0, 7:].tolist() == room_s


def test_a_window_without_blanks_is_told_as_a_whole():
    batch = walked(num_rows=3)
    found = laid_out(batch, torch.zeros(3, 5, dtype=torch.bool))
    for name, value in batch.columns().items():
        kept = getattr(found, name)
        assert torch.equal(kept[:, 1:] if "_BV" in name else kept, value), name
    assert found.region_BV[:, 0].tolist() == 3 * [SEP]
    assert found.left_s_BV[:, 0].tolist() == [0, 0, 0]
    assert torch.equal(found.calendar_BVK[:, 0], batch.calendar_BVK[:, 0])
    assert not bool(found.is_travel_known_BV[:, :2].any())
    assert bool(found.is_travel_known_BV[:, 2:].all())
    # In training the first visit is told as well.
    assert infilled(replace(batch.part(0, 1, 1)), 0).is_target_BV.tolist() == [[False, True]]


@given(st.integers(0, 50), st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_every_visit_stands_once_and_what_is_shown_tells_nothing_of_what_is_hidden(seed, num_pads):
    batch = replace(walked(4, 9, num_pads, seed), cursor=Cursor(epoch=seed))
    found = infilled(batch, seed)
    for row in range(4):
        own = found.region_BV[row][found.is_visit_BV[row]].tolist()
        assert sorted(own) == sorted(batch.region_BV[row, :9].tolist())
        kinds = found.region_BV[row].tolist()
        assert kinds.count(BLANK) == kinds.count(ANSWER)
        assert kinds.count(SEP) == 1
        assert (kinds[0] == SEP) == (BLANK not in kinds)
    is_behind_BT = (found.region_BV == SEP).cumsum(1) > 0
    is_shown_BT = ~is_behind_BT & found.is_visit_BV
    times = found.arrived_s_BV[is_shown_BT]
    is_hidden_BT = is_behind_BT & found.is_visit_BV & (found.region_BV >= NUM_SPECIAL)
    if BLANK in found.region_BV:
        rows = (found.region_BV == BLANK).any(1)
        assert not set(times.tolist()) & set(
            found.arrived_s_BV[is_hidden_BT & rows[:, None]].tolist()
        )
        # What is shown is told as well, where it comes straight behind another visit.
        is_told_BT = found.is_target_BV & is_shown_BT
        follows_BT = is_shown_BT[:, 1:] & is_shown_BT[:, :-1]
        assert not bool(is_told_BT[:, 0].any())
        assert torch.equal(is_told_BT[:, 1:], follows_BT)
        assert bool(found.is_target_BV[is_hidden_BT].all())


def test_runs_follow_seed_epoch_and_window():
    batch = walked(64, 9)
    first, again = infilled(batch, 1), infilled(batch, 1)
    assert torch.equal(first.region_BV, again.region_BV)
    for other in (infilled(batch, 2), infilled(replace(batch, cursor=Cursor(epoch=1, batch=3)), 1)):
        assert first.region_BV.shape != other.region_BV.shape or not torch.equal(
            first.region_BV, other.region_BV
        )
    alone = infilled(batch.part(5, 6), 1)
    width = alone.region_BV.shape[1]
    assert torch.equal(alone.region_BV, first.region_BV[5:6, :width])
    share = (first.region_BV == BLANK).any(1).double().mean()
    assert 0.2 < float(share) < 0.6


def test_the_ends_of_a_window_are_never_hidden():
    batch = walked(200, 4)
    found = infilled(batch, 0)
    for row in range(200):
        is_before_T = (found.region_BV[row] == SEP).cumsum(0) == 0
        shown = found.region_BV[row][is_before_T & found.is_visit_BV[row]]
        first = shown[0] if len(shown) else found.region_BV[row, 1]
        assert int(first) == int(batch.region_BV[row, 0])
        if BLANK in found.region_BV[row]:
            assert int(shown[-1]) == int(batch.region_BV[row, 3])
