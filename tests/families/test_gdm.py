"""Promises of gdm, with random weights; each guard also catches a planted fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.gdm_guards import (
    REPAINTED,
    TINY,
    AbsolutePlace,
    BatchStatistics,
    HiddenAlone,
    HiddenFromZero,
    LevelsFromTheEnd,
    NoisedConditions,
    ReadsCenter,
    ReadsPads,
    TakesWhatItGave,
    TellsTheSumAlone,
    check_a_forecast_sees_no_future,
    check_a_row_stands_alone,
    check_both_sides_are_seen,
    check_errors_are_told_by_level,
    check_hidden_numbers_are_unseen,
    check_hidden_points_keep_their_positions,
    check_known_points_enter_clean,
    check_meridian_does_not_matter,
    check_recovered,
    check_repainting_sees_nothing_hidden,
    hidden_walks,
    random_weights,
    told,
)
from helpers.masked_guards import check_a_resumed_run_ends_alike, hiding_others
from helpers.walks import STARTED_US, WALKING, batch_of, context_of, walk, window_of

from model.families.gdm import network
from model.families.gdm.network import CONDITIONS, Gdm, start_or_some
from model.families.gdm.noise import training_noise
from model.families.gdm.steps import known_steps
from model.interface.batch import Cursor
from model.interface.contexts import Partial
from model.interface.masked_input import masked_input_of
from model.interface.masking import from_start, masked, places_of_segments, segments
from model.training.validation import validation_loss

GUARDS = [
    (check_hidden_numbers_are_unseen, ReadsCenter),
    (check_recovered, ReadsCenter),
    (check_repainting_sees_nothing_hidden, TakesWhatItGave),
    (check_repainting_sees_nothing_hidden, ReadsPads),
    (check_a_forecast_sees_no_future, ReadsPads),
    (check_both_sides_are_seen, HiddenAlone),
    (check_known_points_enter_clean, NoisedConditions),
    (check_hidden_points_keep_their_positions, HiddenFromZero),
    (check_a_row_stands_alone, BatchStatistics),
    (check_meridian_does_not_matter, AbsolutePlace),
    (check_errors_are_told_by_level, LevelsFromTheEnd),
]


@pytest.mark.parametrize(("check", "planted"), GUARDS)
def test_a_guard_holds_and_catches_its_fault(check, planted):
    check(random_weights())
    with pytest.raises(AssertionError):
        check(random_weights(planted))


# ------------------------------------------------------------------ guards


@pytest.mark.parametrize("config", [TINY, REPAINTED])
@pytest.mark.parametrize("draw", [*CONDITIONS, from_start])
def test_what_is_hidden_is_no_input(draw, config):
    """No path moves with a hidden place or time; what is known does count."""
    model, batch = random_weights(config=config), hidden_walks(draw, num_pads=3)
    before = told(model, batch)
    assert torch.equal(told(model, hiding_others(batch)), before)
    moved_BT = batch.lon_deg_BT + 1e-3 * (1 + torch.arange(batch.lon_deg_BT.shape[1]))
    assert not torch.equal(told(model, replace(batch, lon_deg_BT=moved_BT)), before)


@pytest.mark.parametrize("draw", [segments, from_start])
def test_sequences_of_a_packed_row_do_not_see_each_other(draw):
    """Wherever a sequence stands in its row, its steps, controls and losses are the same."""
    model = random_weights().train()
    first, second = walk(1, 12, seed=1), walk(1, 9, seed=2, lon_deg=20.0)
    alone = [batch_of(*points) for points in (first, second)]
    alone[1] = replace(alone[1], window_id_B=torch.tensor([1]))
    packed = replace(
        batch_of(*(torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))),
        sequence_BT=torch.tensor([[0] * 12 + [1] * 9]),
        window_id_BS=torch.tensor([[0, 1]]),
        calendar_BTK=torch.cat([batch.calendar_BTK for batch in alone], dim=1),
    )
    packed, *alone = (masked(batch, draw, 0) for batch in (packed, *alone))
    found = model.loss(packed)
    expected = [model.loss(batch) for batch in alone]
    assert int(found.count) == sum(int(loss.count) for loss in expected) > 0
    total = sum(loss.total for loss in expected)
    torch.testing.assert_close(found.total, total, rtol=1e-5, atol=1e-4)


# ------------------------------------------------------------------ loss


def test_the_loss_is_of_hidden_numbers_alone():
    model = random_weights()
    for draw in (places_of_segments, segments, from_start):
        batch = hidden_walks(draw)
        loss = model.loss(batch)
        hides_BTF = known_steps(masked_input_of(batch), model.code).hides_BTF
        assert int(loss.count) == int(hides_BTF.sum()) > 0
        assert bool(hides_BTF[..., 2].any()) == (draw is not places_of_segments)
        torch.testing.assert_close(sum(loss.parts.values()), loss.total.detach())
    time_B = training_noise(batch)[0][:, 0]
    reached = {f"noise_{int(10 * time)}" for time in time_B.clamp(max=0.99).tolist()}
    assert {name for name, part in loss.parts.items() if part > 0} == reached
    assert len(loss.parts) == 10
    observed = model.loss(batch_of(*walk(2, 6)))
    assert (float(observed.total.detach()), int(observed.count)) == (0.0, 0)


def check_errors_are_logged_by_level(model, caplog):
    caplog.clear()
    batch = masked(batch_of(*walk(24, 8)), from_start, 0)
    loss = validation_loss(model, [batch, batch], torch.device("cpu"), step=7)
    [told] = [record.getMessage() for record in caplog.records]
    head, _, parts = told.partition(": ")
    assert head == "validation loss at step 7"
    found = dict(part.split(" ") for part in parts.split(", "))
    assert [*found] == [f"noise_{level}" for level in range(10)]
    assert sum(map(float, found.values())) == pytest.approx(loss, rel=1e-2)


def test_errors_are_logged_by_level(caplog):
    caplog.set_level("INFO")
    check_errors_are_logged_by_level(random_weights(), caplog)
    with pytest.raises(ValueError, match="not enough values"):
        check_errors_are_logged_by_level(random_weights(TellsTheSumAlone), caplog)


@pytest.mark.parametrize("draw", [segments, from_start])
def test_pads_never_count(draw):
    model, points = random_weights().train(), walk(3, 12)
    plain, padded = (
        model.loss(masked(batch_of(*points, num_pads=num_pads), draw, 0)) for num_pads in (0, 5)
    )
    assert int(plain.count) == int(padded.count) > 0
    torch.testing.assert_close(padded.total, plain.total, rtol=1e-5, atol=1e-3)


def test_half_of_training_knows_the_start_alone():
    shown = [start_or_some(np.random.default_rng(seed), 12) for seed in range(400)]
    num_starts = sum(int((mask.shows_place_N | mask.shows_time_N).sum()) == 1 for mask in shown)
    assert 170 < num_starts < 250  # some forecasts begin behind the start, too


# ------------------------------------------------------------------ noise of training


def check_noise_is_of_the_window(model, draw=segments):
    """By seed, epoch and window: neither chance nor the batch has a say."""
    batch = replace(hidden_walks(draw), cursor=Cursor(2, 1))
    plain = model.loss(batch).total
    torch.manual_seed(99)
    assert torch.equal(model.loss(batch).total, plain)
    assert torch.equal(model.loss(replace(batch, cursor=Cursor(2, 5))).total, plain)
    rows = sum(model.loss(batch.part(row, row + 1)).total for row in (2, 0, 1))
    torch.testing.assert_close(rows, plain, rtol=1e-5, atol=1e-4)
    others = replace(batch, cursor=Cursor(3, 1)), replace(batch, seed=1)
    assert all(not torch.equal(model.loss(other).total, plain) for other in others)


def drawn_afresh(batch):
    """Fault: whatever comes next of torch's own stream."""
    return torch.rand(batch.is_pad_BT.shape), torch.randn(*batch.is_pad_BT.shape, 3)


@torch.no_grad()
def test_noise_is_of_the_window(monkeypatch):
    check_noise_is_of_the_window(random_weights())
    monkeypatch.setattr(network, "training_noise", drawn_afresh)
    with pytest.raises(AssertionError):
        check_noise_is_of_the_window(random_weights())


def test_a_training_run_goes_on_with_the_same_noise(tmp_path):
    check_a_resumed_run_ends_alike(lambda: Gdm(TINY, WALKING), start_or_some, tmp_path)


# ------------------------------------------------------------------ answers


def test_what_nothing_known_comes_before_is_not_told():
    batch = window_of(walk(2, 12), hidden=[0, 5, 11])
    with torch.no_grad():
        found = random_weights().recover(batch)
    assert found.is_recovered_BT.nonzero()[:, 1].tolist() == [5, 11, 5, 11]


@torch.no_grad()
def test_a_forecast_has_samples_and_keeps_given_times():
    model, points = random_weights(), walk(3, 12)
    context = context_of(*(value[:, :8] for value in points), [8, 5, 1])
    last_s_B1 = context.last_B1()[2]
    target_s_BH = last_s_B1 + 10 * torch.arange(1, 5)
    found = model.forecast(context, 4, target_s_BH, 6, seed=2)
    assert torch.equal(found.time_s_BH, target_s_BH)
    assert found.sample_lon_deg_BSH.shape == (3, 6, 4)
    assert (found.radius_p50_m_BH > 0).all()
    without = model.forecast(context, 4, None, 2, seed=2)
    steps = torch.cat([last_s_B1, without.time_s_BH], dim=1).diff(dim=1)
    assert (steps >= 0).all()
    assert torch.isfinite(without.sample_lat_deg_BSH).all()


@torch.no_grad()
def test_the_clock_of_a_lone_start_is_not_read():
    """So that generation needs none; behind two points the hour counts."""
    model, points = random_weights(), walk(2, 6)
    for counts, is_same in ([[1, 1], True], [[6, 6], False]):
        context = context_of(*points, counts)
        later = replace(context, started_us_B=context.started_us_B + 5 * 3_600_000_000)
        assert int(context.started_us_B[0]) == STARTED_US
        found = [
            told(model, Partial.of(one, 3, None).batch(), num_samples=0) for one in (context, later)
        ]
        assert torch.equal(*found) == is_same
