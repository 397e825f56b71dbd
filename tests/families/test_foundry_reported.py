"""Reported motion in foundry: told as a candidate, never of the future, and done without."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.walks import WALKING, batch_of, context_of, shaken, walk

from model.earth.geometry import step_between
from model.families.foundry.config import FoundryConfig
from model.families.foundry.network import Foundry
from model.inference.api import forecast
from model.interface.contexts import Context
from model.interface.sequence_rows import rows_of_batch

TINY = FoundryConfig(width=16, num_layers=2, max_points=20, has_place=False)
NUM_KNOWN = 12


def reported_of(num_rows, num_points, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, num_points, 2, generator=generator)


def hidden_of(model, batch):
    return model.encode(rows_of_batch(batch)).hidden_ND


def moved_m(model, context, seconds=30.0):
    lon_deg_B1, lat_deg_B1, last_s_B1 = context.last_B1()
    found = forecast(model, context, 1, last_s_B1 + seconds)
    return torch.stack(step_between(lon_deg_B1, lat_deg_B1, found.lon_deg_BH, found.lat_deg_BH), -1)


def told(context: Context, reported_mps_BTC) -> Context:
    return replace(context, reported_mps_BTC=reported_mps_BTC)


class ReadsNextReport(Foundry):
    """Is told at each point what is reported at the next."""

    def encode(self, rows):
        return super().encode(replace(rows, reported_mps_RTC=rows.reported_mps_RTC.roll(-1, 1)))


def check_future_reports_are_unseen(model):
    batch = batch_of(*walk(3, 14))
    reported_mps_BTC = reported_of(3, 14)
    before = hidden_of(model, replace(batch, reported_mps_BTC=reported_mps_BTC))
    changed = reported_mps_BTC.clone()
    changed[:, 9] += 1.0
    after = hidden_of(model, replace(batch, reported_mps_BTC=changed))
    assert torch.equal(before[:, :9], after[:, :9])
    assert (before[:, 9] != after[:, 9]).any(-1).all()


def test_a_report_cannot_change_what_was_told_before_it():
    check_future_reports_are_unseen(shaken(Foundry, TINY))
    with pytest.raises(AssertionError):
        check_future_reports_are_unseen(shaken(ReadsNextReport, TINY))


def test_a_report_at_a_point_that_may_not_be_read_is_not_told():
    """Neither at points that are asked and not observed, nor at pads."""
    model = shaken(Foundry, TINY)
    batch = batch_of(*walk(3, 14), num_pads=2)
    is_observed_BT = batch.is_observed_BT.clone()
    is_observed_BT[:, 9:] = False
    reported_mps_BTC = reported_of(3, 16)
    batch = replace(batch, is_observed_BT=is_observed_BT, reported_mps_BTC=reported_mps_BTC)
    spoilt = reported_mps_BTC.clone()
    spoilt[:, 9:] = 1e6
    losses = [model.loss(one) for one in (batch, replace(batch, reported_mps_BTC=spoilt))]
    assert torch.equal(losses[0].total, losses[1].total)
    assert int(losses[0].count) > 10


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nothing_reported_is_as_if_nobody_could(value):
    """Whatever stands for what was not told; and beside others that are told, a row alike."""
    model, context = shaken(Foundry, TINY), context_of(*walk(3, NUM_KNOWN))
    plain = moved_m(model, context)
    silent = torch.full((3, NUM_KNOWN, 2), value)
    torch.testing.assert_close(moved_m(model, told(context, silent)), plain)
    mixed = reported_of(3, NUM_KNOWN)
    mixed[1] = torch.nan
    found = moved_m(model, told(context, mixed))
    torch.testing.assert_close(found[1], plain[1])
    assert (found[[0, 2]] != plain[[0, 2]]).any(-1).all()


def test_an_untrained_model_goes_on_as_reported_where_that_has_been_right():
    """Places jump about, what is reported is the true velocity: the base goes along with it."""
    num_points, speed_mps = 16, 5.0
    time_s_BT = 10.0 * torch.arange(num_points, dtype=torch.float64).unsqueeze(0)
    torch.manual_seed(3)
    east_m_BT = speed_mps * time_s_BT
    shaken_m_BT = 15.0 * torch.randn(1, num_points, dtype=torch.float64)
    lon_deg_BT = (east_m_BT + shaken_m_BT) / 111_195.0
    context = context_of(lon_deg_BT, torch.zeros_like(lon_deg_BT), time_s_BT)
    reported_mps_BTC = torch.tensor([speed_mps, 0.0]).expand(1, num_points, 2)
    model = Foundry(TINY, WALKING).eval()
    expected_m = torch.tensor([speed_mps * 100.0, 0.0]).double()
    without, found = (
        float((moved_m(model, one, 100.0)[0, 0] - expected_m).norm())
        for one in (context, told(context, reported_mps_BTC))
    )
    assert found < 0.5 * without


def test_in_training_some_rows_are_told_nothing():
    model = shaken(Foundry, replace(TINY, share_silent=0.5)).train()
    rows = rows_of_batch(replace(batch_of(*walk(200, 8)), reported_mps_BTC=reported_of(200, 8)))
    torch.manual_seed(0)
    is_told_RT = model.encode(rows).motion.is_reported_RT
    assert torch.equal(is_told_RT.any(1), is_told_RT.all(1))
    assert 70 < int(is_told_RT[:, 0].sum()) < 130
    assert bool(model.eval().encode(rows).motion.is_reported_RT.all())


def test_training_learns_what_a_report_is_worth():
    """Walks whose next step is what is reported, which no place tells: told, the miss is less."""
    torch.manual_seed(0)
    velocity_mps_BTC = 5 * torch.randn(64, 17, 2, dtype=torch.float64)
    moved_m_BTC = torch.nn.functional.pad((10 * velocity_mps_BTC[:, :-1]).cumsum(1), (0, 0, 1, 0))
    lon_deg_BT, lat_deg_BT = (moved_m_BTC / 111_195.0).unbind(-1)
    time_s_BT = 10.0 * torch.arange(17, dtype=torch.float64).expand(64, -1)
    points = lon_deg_BT, lat_deg_BT, time_s_BT
    model = Foundry(replace(TINY, share_silent=0.3, journey_weight=0, gap_weight=0), WALKING)
    batch = replace(batch_of(*points), reported_mps_BTC=velocity_mps_BTC.float())
    model.fit_inputs([batch])
    model.fit_loss([batch])
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch).mean.backward()
        optimizer.step()
    model.eval()
    context = context_of(*(value[:, :16] for value in points))
    reported = told(context, velocity_mps_BTC[:, :16].float())
    expected_m = 10 * velocity_mps_BTC[:, 15]
    missed_m, silent_m = (
        (moved_m(model, one, 10.0)[:, 0] - expected_m).norm(dim=-1).mean()
        for one in (reported, context)
    )
    assert float(missed_m) < 0.25 * float(silent_m)
