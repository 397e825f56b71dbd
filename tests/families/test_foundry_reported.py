"""Reported motion in foundry: told as a candidate, never of the future, and done without."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.served import frame_of
from helpers.walks import WALKING, batch_of, context_of, shaken, trained, walk

from model.earth.geometry import step_between
from model.families.foundry.config import FoundryConfig
from model.families.foundry.motion import STEEP, Motion
from model.families.foundry.network import Foundry
from model.inference.api import forecast
from model.inference.point_frames import PointFrames
from model.inference.serving import Params, Trained
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


def hearing(context: Context, reported_mps_BTC) -> Context:
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
    torch.testing.assert_close(moved_m(model, hearing(context, silent)), plain)
    mixed = reported_of(3, NUM_KNOWN)
    mixed[1] = torch.nan
    found = moved_m(model, hearing(context, mixed))
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
        for one in (context, hearing(context, reported_mps_BTC))
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
    trained(model, batch, 60)
    context = context_of(*(value[:, :16] for value in points))
    reported = hearing(context, velocity_mps_BTC[:, :16].float())
    expected_m = 10 * velocity_mps_BTC[:, 15]
    missed_m, silent_m = (
        (moved_m(model, one, 10.0)[:, 0] - expected_m).norm(dim=-1).mean()
        for one in (reported, context)
    )
    assert float(missed_m) < 0.25 * float(silent_m)


@pytest.mark.parametrize("mps", [52.6, 9e3])
def test_one_that_lies_at_rest_and_reports_a_speed_is_told_that_within_bounds(mps):
    """Its own speed is next to nothing, and what differs from it by a thousand times is no number
    that a network could read."""
    moving = moored(mps)
    assert moving.is_reported_RT[0, -1]
    assert float(moving.speed_mps_RT[0, -1]) < 0.01
    assert float(moving.seen().abs().max()) <= STEEP
    slow = moored(0.9 * STEEP * float(moving.speed_mps_RT[0, -1]))
    assert 0 < float((slow.seen() - moving.seen()).abs().max()) < STEEP  # below it is told as it is


@pytest.mark.parametrize("mps", [2e4, 3e38, torch.inf, torch.nan])
def test_what_nothing_on_earth_does_is_no_report(mps):
    silent, moving = moored(torch.nan), moored(mps)
    assert torch.equal(moving.seen(), silent.seen())
    assert torch.equal(moving.reported_mps_RTC, silent.reported_mps_RTC)


def moored(mps):
    """The motion of one that lies still for a quarter of an hour, and at last reports a speed."""
    time_s = 60 * torch.arange(15.0, dtype=torch.float64).unsqueeze(0)
    reported_mps = torch.zeros(1, 15, 2)
    reported_mps[0, -1, 0] = mps
    places_deg = torch.full_like(time_s, 10.0), torch.full_like(time_s, 50.0)
    return Motion.of(*places_deg, time_s, 60.0, 5.0, reported_mps)


def test_a_frame_with_speed_and_course_is_heard():
    """What is missing in both columns is as if they were not there."""
    served = Trained(shaken(Foundry, TINY))
    asked = PointFrames(served, Params(horizon=3, num_samples=0))
    frame = frame_of(*walk(3, 9), [9, 7, 8])
    told = frame.assign(speed_mps=7.0, course_deg=200.0)
    plain, found = asked.forecast(frame), asked.forecast(told)
    assert ((plain.lon_deg - found.lon_deg).abs() > 1e-7).all()
    silent = told.assign(speed_mps=float("nan"))
    columns = ["lon_deg", "lat_deg"]
    torch.testing.assert_close(
        *(torch.tensor(one[columns].to_numpy()) for one in (asked.forecast(silent), plain))
    )
    first = told.assign(course_deg=told.course_deg.where(told.trajectory_id == "walk-9"))
    mixed = asked.forecast(first)
    for one, alike in (("walk-9", found), ("walk-8", plain), ("walk-7", plain)):
        rows = (frame_[frame_.trajectory_id == one][columns] for frame_ in (mixed, alike))
        torch.testing.assert_close(*(torch.tensor(value.to_numpy()) for value in rows))


def test_a_deaf_model_answers_as_if_nothing_were_reported():
    served, context = Trained(shaken(Foundry, TINY)), context_of(*walk(3, NUM_KNOWN))
    reported = hearing(context, reported_of(3, NUM_KNOWN))
    deaf = served.deaf("without")
    plain, heard = (served.forecast(one, 4) for one in (context, reported))
    assert torch.equal(deaf.forecast(reported, 4).lon_deg_BH, plain.lon_deg_BH)
    assert not torch.equal(heard.lon_deg_BH, plain.lon_deg_BH)
    samples = (
        deaf.sampled_forecast(reported, 4, None, 5, 0),
        served.sampled_forecast(context, 4, None, 5, 0),
    )
    assert torch.equal(samples[0].sample_lon_deg_BSH, samples[1].sample_lon_deg_BSH)
    assert (deaf.name, deaf.tasks) == ("without", ("forecast",))


def trained_on_silence(family=Foundry):
    """A network after some steps of training in which nothing was reported."""
    torch.manual_seed(0)
    model = family(replace(TINY, journey_weight=0, gap_weight=0), WALKING)
    batch = batch_of(*walk(16, 16))
    return trained(model, batch, 10)


class TellsWhatItNeverLearnt(Foundry):
    """Its weights of reports begin by chance, as those of all else do."""

    def __init__(self, config, normaliser):
        super().__init__(config, normaliser)
        torch.nn.init.normal_(self.embed_point.weight)


def check_only_the_base_hears(model):
    rows = [
        rows_of_batch(replace(batch_of(*walk(3, 12)), reported_mps_BTC=reported))
        for reported in (None, reported_of(3, 12))
    ]
    plain, told = (model.encode(one) for one in rows)
    assert torch.equal(plain.hidden_ND, told.hidden_ND)
    assert not torch.equal(plain.told_NAK, told.told_NAK)


def test_a_network_that_never_heard_in_training_is_told_nothing_later():
    """Its base goes along with a report as far as that was right; random weights would not."""
    check_only_the_base_hears(trained_on_silence())
    with pytest.raises(AssertionError):
        check_only_the_base_hears(trained_on_silence(TellsWhatItNeverLearnt))
