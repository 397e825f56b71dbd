"""What foundry promises of hidden points, with random weights; each guard catches its fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.masked_guards import (
    astride_the_date_line,
    check_a_resumed_run_ends_alike,
    check_windows_count_alike,
    hiding_others,
)
from helpers.served import frame_of
from helpers.walks import STILL, WALKING, batch_of, context_of, shaken, standing, walk
from hypothesis import given, settings
from hypothesis.strategies import booleans, lists

from model.baselines.recovery import HERMITE, LINEAR
from model.earth.geometry import haversine_m, step_from
from model.families import FAMILIES, build
from model.families.foundry.between import Around, Asked, GapHead
from model.families.foundry.network import Foundry
from model.inference.api import recover
from model.inference.point_frames import PointFrames
from model.inference.serving import Params, Trained
from model.interface.contexts import Partial
from model.interface.masked_input import masked_input_of
from model.interface.masking import JUDGED, as_judged_often, masked, unmasked

PLACELESS = replace(FAMILIES["foundry"].presets["tiny"], has_place=False)
HIDDEN = (3, 4, 5, 9, 12, 13)


def random_weights(family=Foundry, config=PLACELESS):
    return shaken(family, config, spread=0.05)


def gaps(points, hidden=HIDDEN, hides_times=False):
    """Walks of which some places, or times as well, are hidden; NaN stands there."""
    partial = Partial.of(context_of(*points), 0, None)
    hides_BT = torch.zeros_like(partial.is_pad_BT)
    hides_BT[:, list(hidden)] = True
    nan_BT = hides_BT & hides_times
    return replace(
        partial,
        lon_deg_BT=partial.lon_deg_BT.masked_fill(hides_BT, torch.nan),
        lat_deg_BT=partial.lat_deg_BT.masked_fill(hides_BT, torch.nan),
        time_s_BT=partial.time_s_BT.masked_fill(nan_BT, torch.nan),
        shows_place_BT=~hides_BT,
        shows_time_BT=~nan_BT,
    )


def away_m(one, other):
    return haversine_m(one.lon_deg_BT, one.lat_deg_BT, other.lon_deg_BT, other.lat_deg_BT)


# ------------------------------------------------------------------ planted faults


class Spoilt(Foundry):
    """Turns what it is told of gaps by something that it must not know."""

    def __init__(self, config, normaliser):
        super().__init__(config, normaliser)
        plain = self.gap_head.forward
        self.gap_head.forward = lambda asked, where: plain(asked, where) + self.spoil(asked)

    def spoil(self, asked):
        raise NotImplementedError


class AbsolutePlace(Spoilt):
    """Knows where on Earth it is, though it was told no place."""

    def spoil(self, asked):
        return asked.at_N.lon_deg_BT.float().unsqueeze(-1)


class BatchStatistics(Spoilt):
    """Leaks: what other rows ask."""

    def spoil(self, asked):
        return asked.at_N.path_m_BTPC[:, 0].mean(0)


class EndsAlone(Foundry):
    """Sees nothing of the motion on both sides of a gap."""

    def __init__(self, config, normaliser):
        super().__init__(config, normaliser)
        self.gap_head.forward = lambda asked, where: asked.at_N.path_m_BTPC[:, 0]


class Peeks(Foundry):
    """Leaks: what stands where something is hidden."""

    def recover(self, batch):
        found = super().recover(batch)
        return replace(found, lon_deg_BT=found.lon_deg_BT + 1e-9 * self.truth.lon_deg_BT)


# ------------------------------------------------------------------ guards


def check_what_is_hidden_is_unseen(model, times):
    batch = masked(batch_of(*walk(3, 20), num_pads=3), times, 0)
    told = []
    for one in (batch, hiding_others(batch)):
        model.truth = one  # for those that peek
        with torch.no_grad():
            told.append(model.recover(one))
    for name in ("lon_deg_BT", "lat_deg_BT", "time_s_BT"):
        assert torch.equal(getattr(told[0], name), getattr(told[1], name))


def check_both_sides_are_seen(model):
    """The second known point before a gap and the second one behind it."""
    points = walk(3, 16)
    before = recover(model, gaps(points))
    for changed in (1, 7):
        moved_BT = points[0].clone()
        moved_BT[:, changed] += 1e-3
        after = recover(model, gaps((moved_BT, *points[1:])))
        assert (away_m(before, after)[:, 4] > 1e-3).all(), changed


def check_meridian_does_not_matter(model):
    points = walk(3, 16)
    moved, shift_deg_B1 = astride_the_date_line(points)
    home, there = (recover(model, gaps(given)) for given in (points, moved))
    back = replace(home, lon_deg_BT=home.lon_deg_BT + shift_deg_B1)
    assert float(away_m(there, back).max()) < 0.05


def check_rows_are_independent(model):
    points = walk(4, 16)
    together = recover(model, gaps(points))
    for row in range(4):
        alone = recover(model, gaps([value[row : row + 1] for value in points]))
        expected = replace(
            together,
            lon_deg_BT=together.lon_deg_BT[row : row + 1],
            lat_deg_BT=together.lat_deg_BT[row : row + 1],
        )
        assert float(away_m(alone, expected).max()) < 1e-2


@pytest.mark.parametrize("draw", [*JUDGED, as_judged_often])
def test_what_is_hidden_is_unseen(draw):
    check_what_is_hidden_is_unseen(random_weights(), draw)
    with pytest.raises(AssertionError):
        check_what_is_hidden_is_unseen(random_weights(Peeks), draw)


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (check_both_sides_are_seen, EndsAlone),
        (check_meridian_does_not_matter, AbsolutePlace),
        (check_rows_are_independent, BatchStatistics),
    ],
)
def test_a_guard_holds_and_catches_its_fault(check, fault):
    check(random_weights())
    with pytest.raises(AssertionError):
        check(random_weights(fault))


# ------------------------------------------------------------------ paths


@pytest.mark.parametrize("hides_times", [False, True])
def test_the_simple_paths_are_those_of_the_baselines(hides_times):
    """Straight, and bent by the next known points, in metres of walks of some kilometres."""
    asked = gaps(walk(5, 16), hides_times=hides_times)
    around = Around.of(masked_input_of(asked.batch()))
    for path, baseline in ((0, LINEAR), (1, HERMITE)):
        expected = baseline.recover(asked)
        moved_m = around.path_m_BTPC[..., path, :].double().unbind(-1)
        lon_deg_BT, lat_deg_BT = step_from(around.lon_deg_BT, around.lat_deg_BT, *moved_m)
        found = replace(expected, lon_deg_BT=lon_deg_BT, lat_deg_BT=lat_deg_BT)
        assert float(away_m(found, expected)[:, list(HIDDEN)].max()) < 0.01


def test_errors_of_paths_are_those_of_points_left_out_in_turn():
    """Each known point but the ends, hidden alone, against a slow loop over the baselines."""
    points = walk(2, 16)
    shown = masked_input_of(gaps(points).batch())
    told_BTP = Around.of(shown).missed(shown)
    assert torch.equal(told_BTP, told_BTP[:, :1].expand_as(told_BTP))
    misses = {LINEAR: 0.0, HERMITE: 0.0}
    for left_out in set(range(1, 15)) - set(HIDDEN):
        asked = gaps(points, (*HIDDEN, left_out))
        for baseline in misses:
            found = baseline.recover(asked)
            truth = replace(found, lon_deg_BT=points[0], lat_deg_BT=points[1])
            misses[baseline] += (away_m(found, truth)[:, left_out].square() + 0.01).sqrt()
    expected_B = torch.log(misses[LINEAR] / misses[HERMITE]).float()
    torch.testing.assert_close(told_BTP[:, 0, 0] - told_BTP[:, 0, 1], expected_B, atol=1e-3, rtol=0)


def test_packed_sequences_know_nothing_of_each_other():
    points = walk(2, 24)
    batch = masked(batch_of(*points), as_judged_often, 3)
    sequence_BT = (torch.arange(24) >= 12).long().expand(2, 24)
    shown = masked_input_of(replace(batch, sequence_BT=sequence_BT))
    packed = Around.of(shown)
    missed_BTP = packed.missed(shown)
    for part in (slice(0, 12), slice(12, 24)):
        own = masked_input_of(
            replace(
                batch.part(0, None, None),
                **{
                    name: value[:, part] - (part.start if name == "shown_BT" else 0)
                    for name, value in batch.columns().items()
                    if "_BT" in name and value.dtype != torch.bool
                },
                **{
                    name: value[:, part]
                    for name, value in batch.columns().items()
                    if "_BT" in name and value.dtype == torch.bool
                },
            )
        )
        alone = Around.of(own)
        torch.testing.assert_close(packed.path_m_BTPC[:, part], alone.path_m_BTPC)
        torch.testing.assert_close(missed_BTP[:, part], alone.missed(own))


def test_hidden_times_are_spread_evenly():
    points = walk(2, 16)
    found = recover(random_weights(), gaps(points, (4, 5, 6), hides_times=True))
    for place, share in ((4, 0.25), (5, 0.5), (6, 0.75)):
        even_s_B = points[2][:, 3] + share * (points[2][:, 7] - points[2][:, 3])
        torch.testing.assert_close(found.time_s_BT[:, place], even_s_B)
    assert found.is_recovered_BT.sum(1).tolist() == [3, 3]
    known = [place for place in range(16) if place not in (4, 5, 6)]
    assert torch.equal(found.lon_deg_BT[:, known], points[0][:, known])


def test_what_no_known_point_bounds_on_both_sides_is_not_told():
    """The fault: whoever was last seen at noon was recovered there until the evening."""
    points = walk(2, 16)
    found = recover(random_weights(), gaps(points, (0, 5, 14, 15)))
    assert found.is_recovered_BT.nonzero()[:, 1].tolist() == [5, 5]
    both = recover(random_weights(), gaps(points, (0, 5, 14, 15), hides_times=True))
    assert both.is_recovered_BT.nonzero()[:, 1].tolist() == [5, 5]
    frame = frame_of(*walk(1, 8), (8,))
    frame.loc[[0, 4, 7], ["lon_deg", "lat_deg"]] = torch.nan
    served = PointFrames(Trained(random_weights()), Params()).recover(frame)
    assert served["lon_deg"].isna().tolist() == [True] + [False] * 6 + [True]
    assert served["is_recovered"].tolist() == [False] * 4 + [True] + [False] * 3


@pytest.mark.parametrize("still", STILL)
def test_gaps_without_time_or_way_are_finite(still):
    model = random_weights().train()
    batch = masked(batch_of(*standing(still)), as_judged_often, 1)
    loss = model.gap_head.loss(batch, model.place)
    assert int(loss.count) > 0
    loss.mean.backward()
    grads = [value.grad for value in model.gap_head.parameters() if value.grad is not None]
    assert len(grads) > 5
    assert all(torch.isfinite(grad).all() for grad in grads)


# ------------------------------------------------------------------ loss


def test_the_miss_is_the_distance_of_what_is_recovered_in_the_unit_of_the_gap():
    model = random_weights()
    model.gap_head.unit_m_MG.copy_(torch.arange(1.0, 7.0))
    batch = masked(batch_of(*walk(3, 20)), JUDGED[3], 0)  # blocks of five: 2 + 0.32 units
    with torch.no_grad():
        loss, found = model.gap_head.loss(batch, model.place), model.recover(batch)
    off_m = haversine_m(found.lon_deg_BT, found.lat_deg_BT, batch.lon_deg_BT, batch.lat_deg_BT)[
        batch.is_target_BT
    ]
    unit_m = 3 + torch.log2(torch.tensor(5 / 4))
    expected = ((off_m**2 + 0.01).sqrt() - 0.1).sum() / unit_m
    assert int(batch.is_target_BT.sum()) == 15
    assert int(loss.count) == 3
    assert float(loss.total) == pytest.approx(float(expected) / 5, rel=1e-3)


def test_windows_count_alike_however_much_of_them_is_hidden():
    model, batch = random_weights(), masked(batch_of(*walk(3, 20)), JUDGED[3], 0)

    def windows_alike(batch):
        return model.gap_head.loss(batch, model.place)

    def points_alike(batch):
        loss = windows_alike(batch)
        return replace(loss, total=loss.total * batch.is_target_BT.sum())

    check_windows_count_alike(windows_alike, batch)
    with pytest.raises(AssertionError):
        check_windows_count_alike(points_alike, batch)


def test_forecasts_learn_from_what_was_there_before_the_masks():
    model, batch = random_weights(), batch_of(*walk(3, 20), num_pads=2)
    hidden = masked(batch, as_judged_often, 0)
    with torch.no_grad():
        plain, other = (model.forecast_loss(unmasked(one)).total for one in (batch, hidden))
    assert torch.equal(plain, other)


def test_training_beats_the_better_simple_path_of_turning_walks():
    torch.manual_seed(0)
    model = build("foundry", "tiny", WALKING)
    batch = batch_of(*walk(64, 24))
    model.gap_head.fit([[masked(batch, JUDGED[1], 0)]])
    model.place.fit(batch.lon_deg_BT.flatten(), batch.lat_deg_BT.flatten())
    optimiser = torch.optim.AdamW(model.gap_head.parameters(), lr=3e-3)
    for step in range(60):
        optimiser.zero_grad()
        lesson = masked(batch_of(*walk(64, 24, seed=step)), JUDGED[1], step)
        model.gap_head.loss(lesson, model.place).mean.backward()
        optimiser.step()
    model.eval()
    points = walk(64, 24, seed=999)
    hidden = masked(batch_of(*points), JUDGED[1], 7)
    with torch.no_grad():
        found = model.recover(hidden)
    asked = gaps(points)
    asked = replace(
        asked,
        lon_deg_BT=points[0],
        lat_deg_BT=points[1],
        shows_place_BT=hidden.shows_place_BT,
    )
    truth = replace(found, lon_deg_BT=points[0], lat_deg_BT=points[1])
    mean_m = [
        float(away_m(told, truth)[hidden.is_target_BT].mean())
        for told in (found, LINEAR.recover(asked), HERMITE.recover(asked))
    ]
    assert mean_m[0] < min(mean_m[1:])


def test_a_resumed_run_ends_alike(tmp_path):
    def made():
        torch.manual_seed(0)
        return build("foundry", "tiny", WALKING)

    check_a_resumed_run_ends_alike(made, as_judged_often, tmp_path)


def test_untrained_it_tells_the_blend_of_the_simple_paths():
    torch.manual_seed(0)
    model = build("foundry", "tiny", WALKING).eval()
    asked = Asked.of(gaps(walk(3, 16)).batch())
    head: GapHead = model.gap_head
    with torch.no_grad():
        told_m_NC = head(asked, model.place)
        blend_m_NC = head._blend(head._logits(asked), asked.at_N.path_m_BTPC)
    torch.testing.assert_close(told_m_NC, blend_m_NC)


# ------------------------------------------------------------------ clocks


ROWS = lists(lists(booleans(), min_size=12, max_size=12), min_size=2, max_size=2).map(torch.tensor)


@settings(max_examples=25, deadline=None)
@given(ROWS, ROWS)
def test_what_is_told_keeps_the_order_of_the_times_that_are_known(shows_place_BT, shows_time_BT):
    """Whatever is hidden: places without their times, times without their places, or both."""
    first_T = torch.arange(12) == 0
    shows = {"shows_place_BT": shows_place_BT | first_T, "shows_time_BT": shows_time_BT | first_T}
    asked = Asked.of(replace(gaps(walk(2, 12), ()), **shows).batch())
    around, found = asked.around, asked.recovered(asked.at_N.path_m_BTPC[:, 0])
    has_time_BT = asked.shown.shows_time_BT | around.has_clocks_BT
    for time_s_T, has_time_T in zip(found.time_s_BT, has_time_BT, strict=True):
        assert bool((time_s_T[has_time_T].diff() >= 0).all())
    is_same_BT = (around.start_BT.diff(dim=1) == 0) & (around.end_BT.diff(dim=1) == 0)
    assert bool((around.share_BT.diff(dim=1)[is_same_BT] >= 0).all())


def off_straight_m(longer):
    """How far points are told from the straight line of a gap that lasts so many times longer."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 16)
    time_s_BT = 10.0 * torch.arange(16).double().expand_as(time_s_BT).clone()
    time_s_BT[:, 4:6] = 30 + 20 * longer * torch.tensor([0.3, 1.0])
    time_s_BT[:, 6:] = time_s_BT[:, 5:6] + 10 * torch.arange(1, 11)
    asked = gaps((lon_deg_BT, lat_deg_BT, time_s_BT), (4, 9))
    found, straight = recover(random_weights(), asked), LINEAR.recover(asked)
    return away_m(found, straight)[:, [4, 9]]


@pytest.mark.parametrize("longer", [200, 1e5, 1e8])
def test_a_gap_far_wider_than_its_sides_is_crossed_straight(longer, monkeypatch):
    """Where something sped that way a day ago says nothing of where it was at night."""
    told_m = off_straight_m(longer)
    assert float(told_m[:, 0].max()) < 0.01
    assert float(told_m[:, 1].max()) > 0.1  # a gap beside it is told as ever
    assert float(off_straight_m(50)[:, 0].min()) > 1
    monkeypatch.setattr("model.families.foundry.around.LOST_INTERVALS", torch.inf)
    assert float(off_straight_m(longer)[:, 0].max()) > 1_000
