"""What the gru family promises, with random weights; each guard also catches a planted fault."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers.direct_guards import (
    check_a_point_is_told_alike_whatever_else_is_asked,
    check_rows_are_independent,
)
from helpers.walks import STILL, WALKING, batch_of, context_of, shaken, standing, walk, window_of

from model.families import FAMILIES, build
from model.families.gru.network import AHEAD, Gru, GruConfig
from model.features.point_features import steps_of
from model.inference.api import forecast
from model.interface.sequence_rows import rows_of_batch, sequence_rows
from model.layers.distributions import MIN_LOG_STEP_SCALE

TINY = FAMILIES["gru"].presets["tiny"]


def random_weights(family=Gru, config=TINY):
    return shaken(family, config)


def hidden_of(model, batch):
    return model.encode(rows_of_batch(batch))[0]


# ------------------------------------------------------------------ planted faults


class RelativeToLast(Gru):
    """Leaks: shifts every state by where the window's last point lies."""

    def encode(self, rows):
        hidden_RTD, velocity = super().encode(rows)
        lon_deg_RT = rows.lon_deg_RT
        return hidden_RTD + (lon_deg_RT[:, -1:] - lon_deg_RT).float().unsqueeze(-1), velocity


class BatchStatistics(Gru):
    """Leaks: normalises by the batch."""

    def encode(self, rows):
        hidden_RTD, velocity = super().encode(rows)
        return hidden_RTD - hidden_RTD.mean(dim=(0, 1)), velocity


class AbsolutePlace(Gru):
    """Knows where on Earth it is."""

    def encode(self, rows):
        hidden_RTD, velocity = super().encode(rows)
        return hidden_RTD + rows.lon_deg_RT.float().unsqueeze(-1) / 180, velocity


class ReadsOn(Gru):
    """Leaks: a packed row is read as one sequence, as a bare recurrent network would."""

    def loss(self, batch):
        return super().loss(replace(batch, sequence_BT=torch.zeros_like(batch.sequence_BT)))


class RollsOut(Gru):
    """Tells a point from the one told before it."""

    def _told(self, context, num_horizon, target_time_s_BH, noise):
        told = []
        for step in range(num_horizon):
            given_B1 = target_time_s_BH[:, step : step + 1]
            told.append(super()._told(context, 1, given_B1, noise))
            context = context.extended(*(value[:, 0] for value in told[-1]))
        return [torch.cat(parts, dim=-1) for parts in zip(*told, strict=True)]


# ------------------------------------------------------------------ guards


def check_future_is_unseen(model, changed):
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 12)
    before = hidden_of(model, batch_of(lon_deg_BT, lat_deg_BT, time_s_BT))
    lon_deg_BT[:, changed] += 0.01
    time_s_BT[:, changed] += 1.0
    after = hidden_of(model, batch_of(lon_deg_BT, lat_deg_BT, time_s_BT))
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert (before[:, changed:] != after[:, changed:]).any(-1).all()


def check_meridian_does_not_matter(model):
    """8 degrees east, and across the date line."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 12)
    home = hidden_of(model, batch_of(lon_deg_BT, lat_deg_BT, time_s_BT))
    moved_deg_BT = lon_deg_BT + 180.0 - lon_deg_BT[:, 6:7]
    moved_deg_BT = torch.where(moved_deg_BT >= 180, moved_deg_BT - 360, moved_deg_BT)
    assert (moved_deg_BT.amax(1) - moved_deg_BT.amin(1) > 359).all()
    away = hidden_of(model, batch_of(moved_deg_BT, lat_deg_BT, time_s_BT))
    torch.testing.assert_close(away, home, rtol=1e-4, atol=1e-4)


def check_sequences_of_a_row_do_not_meet(model):
    """A packed row costs what its sequences cost in rows of their own."""
    parts = [batch_of(*walk(1, 9, seed=1)), batch_of(*walk(1, 14, seed=2, lon_deg=20.0))]
    names = ("lon_deg_BT", "lat_deg_BT", "time_s_BT", "calendar_BTK", "is_target_BT")
    joined = {name: torch.cat([getattr(part, name) for part in parts], dim=1) for name in names}
    sequence_BT = torch.tensor([[0] * 9 + [1] * 14])
    blank = batch_of(*walk(1, 23))
    packed = model.loss(replace(blank, **joined, sequence_BT=sequence_BT))
    alone = [model.loss(part) for part in parts]
    assert int(packed.count) == sum(int(loss.count) for loss in alone)
    expected = sum(loss.total for loss in alone)
    torch.testing.assert_close(packed.total, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("changed", [1, 6, 11])
def test_future_cannot_change_the_past(changed):
    check_future_is_unseen(random_weights(), changed)
    with pytest.raises(AssertionError):
        check_future_is_unseen(random_weights(RelativeToLast), 11)


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (check_rows_are_independent, BatchStatistics),
        (check_meridian_does_not_matter, AbsolutePlace),
        (check_sequences_of_a_row_do_not_meet, ReadsOn),
        (check_a_point_is_told_alike_whatever_else_is_asked, RollsOut),
    ],
)
def test_a_guard_holds_and_catches_its_fault(check, fault):
    check(random_weights())
    with pytest.raises(AssertionError):
        check(random_weights(fault))


# ------------------------------------------------------------------ loss


@pytest.mark.parametrize("is_window", [False, True])
def test_the_loss_is_that_of_each_pair_told_from_a_context(is_window):
    """Each target some points ahead of one that may be read, asked as a forecast would be."""
    model, points = random_weights(), walk(1, 11)
    batch = window_of(points, hidden=range(7, 11)) if is_window else batch_of(*points)
    pairs = [
        (now, now + ahead)
        for now in range(7 if is_window else 11)
        for ahead in AHEAD
        if now + ahead < 11 and bool(batch.is_target_BT[0, now + ahead])
    ]
    total = torch.zeros(())
    for now, then in pairs:
        context = context_of(*(value[:, : now + 1] for value in points))
        hidden_BTD, velocity_BTLC = model.encode(sequence_rows(context))
        step_BTF = steps_of(*(value[:, [now, then]] for value in points))[:, 1].float()
        elapsed = model.elapsed_head(hidden_BTD[:, -1], torch.tensor([then - now]))
        step = model.place(hidden_BTD[:, -1], velocity_BTLC[:, -1], step_BTF[:, 2])
        surprise = -elapsed.log_density(torch.log(step_BTF[:, 2] + 1e-3))
        surprise = surprise - step.log_density(step_BTF[:, :2])
        total = total + (surprise + TINY.mean_weight * step.miss(step_BTF[:, :2])).sum()
    loss = model.loss(batch)
    assert int(loss.count) == len(pairs) >= 10
    torch.testing.assert_close(loss.total, total, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("nonsense", [float("nan"), -1e9])
def test_what_may_not_be_read_does_not_matter(nonsense):
    """Pads may hold anything, and so may points that are neither observed nor targets."""
    model = random_weights()
    batch = batch_of(*walk(4, 13), num_pads=4)
    is_observed_BT, is_target_BT = batch.is_observed_BT.clone(), batch.is_target_BT.clone()
    is_observed_BT[:, 9:] = False
    is_target_BT[:, 11:] = False
    batch = replace(batch, is_observed_BT=is_observed_BT, is_target_BT=is_target_BT)
    hides_BT = ~is_observed_BT & ~is_target_BT | batch.is_pad_BT
    spoilt = replace(
        batch,
        lon_deg_BT=batch.lon_deg_BT.masked_fill(hides_BT, nonsense),
        lat_deg_BT=batch.lat_deg_BT.masked_fill(hides_BT, nonsense),
        time_s_BT=batch.time_s_BT.masked_fill(hides_BT, nonsense),
        calendar_BTK=batch.calendar_BTK.masked_fill(~is_observed_BT.unsqueeze(-1), nonsense),
        step_BTF=torch.full_like(batch.step_BTF, nonsense),
    )
    plain, loss = model.loss(batch), model.loss(spoilt)
    assert int(plain.count) > 20
    assert torch.equal(loss.total, plain.total)
    loss.total.backward()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters())


@pytest.mark.parametrize("still", STILL)
def test_steps_without_time_or_way_are_finite(still):
    model = random_weights().train()
    loss = model.loss(batch_of(*standing(still)))
    loss.mean.backward()
    assert torch.isfinite(loss.total)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_a_batch_without_targets_costs_nothing():
    batch = batch_of(*walk(2, 5))
    nothing = replace(batch, is_target_BT=torch.zeros_like(batch.is_target_BT))
    with torch.no_grad():
        loss = random_weights().loss(nothing)
    assert (float(loss.total), int(loss.count), float(loss.mean)) == (0.0, 0, 0.0)


def test_training_learns_a_steady_walk():
    torch.manual_seed(0)
    model = build("gru", "tiny", WALKING)
    batch = batch_of(*walk(32, 16))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = float(model.loss(batch).mean.detach())
    for _ in range(30):
        optimiser.zero_grad()
        model.loss(batch).mean.backward()
        optimiser.step()
    assert float(model.loss(batch).mean.detach()) < first - 0.5


# ------------------------------------------------------------------ times


def test_untrained_it_tells_typical_intervals():
    model = build("gru", "tiny", WALKING)
    with torch.no_grad():
        model.elapsed_head.project.weight.zero_()
        found = model.elapsed_head(torch.zeros(len(AHEAD), TINY.width), torch.tensor(AHEAD))
    expected = [math.log(ahead * WALKING.step_s.p50) for ahead in AHEAD]
    torch.testing.assert_close(found.median(), torch.tensor(expected), rtol=0, atol=1e-3)
    assert (found.scale_M > MIN_LOG_STEP_SCALE).all()


def test_predicted_times_ascend_along_each_path():
    found = forecast(random_weights(), context_of(*walk(3, 8)), 30, num_samples=4, seed=1)
    assert (found.time_s_BH.diff(dim=1) >= 0).all()
    assert (found.sample_time_s_BSH.diff(dim=2) >= 0).all()
    assert not torch.equal(found.sample_time_s_BSH[:, 0], found.sample_time_s_BSH[:, 1])


# ------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"num_layers": 0}, {"max_points": 2}, {"mean_weight": -1}]
)
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GruConfig(**wrong)


def test_presets_have_their_size():
    count = {
        name: sum(parameter.numel() for parameter in build("gru", name, WALKING).parameters())
        for name in FAMILIES["gru"].presets
    }
    assert count["tiny"] < 30_000
    assert 100_000 < count["small"] < 300_000
