"""Foundry asked about one motion that is sampled 1, 5, 10, 30 and 60 times as densely."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from helpers.arcs import SHIPS, STEP_S, Arcs
from helpers.walks import STARTED_US, batch_of, context_of

from model.data.draws import drawn
from model.data.options import Draws
from model.earth.geometry import step_between, step_from
from model.families import FAMILIES, build
from model.families.foundry.familiar import Envelope
from model.families.foundry.network import Foundry
from model.families.foundry.strides import STRIDES, stride_number
from model.features.point_features import motion_since
from model.inference.api import forecast
from model.inference.serving import Params, Trained, forecast_points
from model.interface.batch import Cursor
from model.interface.contexts import Context
from model.interface.evaluating import evaluating
from model.interface.flat_points import sorted_points

NUM_POINTS = 40
KNOWN_S = 1200.0
ASKED_S = STEP_S * torch.tensor([1, 5, 10, 20], dtype=torch.float64)
DENSER = (5, 10, 30, 60)
TOLERANCE = 0.1  # of the way that the object goes until then, on average


@cache
def trained(noise_m: float = 1.0) -> Foundry:
    """On a fix a minute, without a place: a ship that goes on leaves what training saw."""
    torch.manual_seed(0)
    shape = replace(
        FAMILIES["foundry"].presets["tiny"], has_place=False, has_memory=False, share_present=1.0
    )
    model: Foundry = build("foundry", shape, SHIPS)
    minutes = STEP_S * torch.arange(NUM_POINTS, dtype=torch.float64)
    batches = [batch_of(*Arcs(32, seed, noise_m).at(minutes)) for seed in range(8)]
    with evaluating(model):
        model.fit_inputs(batches)
        model.fit_loss(batches)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(150):
        optimiser.zero_grad()
        model.loss(batches[step % len(batches)]).mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.eval()


def denser(times, noise_m=1.0):
    """The last twenty minutes, sampled so much more densely than train, and the instants asked."""
    step_s = STEP_S / times
    instants = torch.arange(-KNOWN_S, step_s / 2, step_s, dtype=torch.float64)
    return Arcs(40, 99, noise_m).at(instants), KNOWN_S + ASKED_S.expand(40, -1)


def told_m(model, times, noise_m):
    """Where each is told to be (C, B, H), seen from where it was known to be last."""
    points, asked_s_BH = denser(times, noise_m)
    found = forecast(model, context_of(*points), len(ASKED_S), asked_s_BH.contiguous())
    last_B1 = (value[:, -1:] for value in points[:2])
    return torch.stack(step_between(*last_B1, found.lon_deg_BH, found.lat_deg_BH))


def check_sampling_does_not_matter(model, noise_m=1.0):
    way_m_BH = torch.from_numpy(Arcs(40, 99).speed_mps) * ASKED_S
    as_trained_m = told_m(model, 1, noise_m)
    for times in DENSER:
        away_m_BH = (told_m(model, times, noise_m) - as_trained_m).norm(dim=0)
        assert float((away_m_BH / way_m_BH).mean(0).max()) < TOLERANCE, times


def with_shortest_step(lon_deg_RT, lat_deg_RT, time_s_RT, index_RT, origin_RTL):
    """A plant: metres are divided by at least half the shortest step of train."""
    moved_m, lag_s = motion_since(lon_deg_RT, lat_deg_RT, time_s_RT, index_RT, origin_RTL)
    return moved_m, lag_s.clamp(min=SHIPS.step_s.p10 / 2)


def test_a_motion_is_told_alike_however_densely_it_is_sampled(monkeypatch):
    check_sampling_does_not_matter(trained())
    monkeypatch.setattr("model.families.foundry.motion.motion_since", with_shortest_step)
    with pytest.raises(AssertionError):
        check_sampling_does_not_matter(trained())


def test_noise_that_is_large_beside_a_step_is_borne(monkeypatch):
    """Five metres at a fix a second, where a ship goes seven: training has shown no such thing.

    A plant lets the network correct the simple forecast there, too.
    """
    check_sampling_does_not_matter(trained(5.0), 5.0)
    monkeypatch.setattr(Envelope, "trusts", lambda self, motion: torch.ones(len(motion.index_RT)))
    with pytest.raises(AssertionError):
        check_sampling_does_not_matter(trained(5.0), 5.0)


def test_a_network_is_trusted_at_any_interval_if_rows_showed_it_others():
    model = build("foundry", "tiny", SHIPS)
    minutes = STEP_S * torch.arange(NUM_POINTS, dtype=torch.float64)
    batch = replace(batch_of(*Arcs(8, 0).at(minutes)), cursor=Cursor(0, 1))
    model.fit_inputs([batch])
    motion = model.last(context_of(*(value[:, -20:] for value in denser(60)[0]))).motion
    for rows, is_trusted in ((batch, False), (drawn(batch, Draws(finer=1.0), 40, 0), True)):
        model.loss(rows)
        assert (model.envelope.trusts(motion) == is_trusted).all()


@pytest.mark.parametrize("plant", ["reads the last points alone", "reads every point"])
def test_a_long_context_is_read_with_strides(monkeypatch, plant):
    """Sixty-four points a second apart say nothing of a turn that takes minutes."""
    if plant == "reads every point":
        monkeypatch.setattr("model.families.foundry.strides.STRIDES", (1,))
    else:
        latest = Context.latest
        monkeypatch.setattr(Context, "latest", lambda known, most, stride=1: latest(known, most))
    with pytest.raises(AssertionError):
        check_sampling_does_not_matter(trained())


@pytest.mark.parametrize("step_s", [1.0, 60.0, 21_600.0])
def test_a_steady_ship_goes_on_at_its_speed(step_s):
    """Ten metres a second, from twenty fixes, whatever their interval."""
    time_s_1T = step_s * torch.arange(20, dtype=torch.float64).unsqueeze(0)
    zero_1T = torch.zeros_like(time_s_1T)
    points = *step_from(zero_1T, zero_1T, 10 * time_s_1T, zero_1T), time_s_1T
    asked_s_1H = time_s_1T[:, -1:] + step_s * torch.arange(1, 21)
    found = forecast(trained(), context_of(*points), 20, asked_s_1H)
    last_11 = (value[:, -1:] for value in points[:2])
    east_m_1H, north_m_1H = step_between(*last_11, found.lon_deg_BH, found.lat_deg_BH)
    expected_m_1H = 10 * step_s * torch.arange(1, 21).unsqueeze(0)
    away_1H = torch.stack([east_m_1H - expected_m_1H, north_m_1H]).norm(dim=0) / expected_m_1H
    assert float(away_1H.max()) < 0.1


def test_what_lies_far_ahead_is_told_from_fewer_points():
    """The least stride that brings it as near as asked, as long as enough points are left."""
    elapsed_s_BSH = torch.tensor([1.0, 20, 21, 600, 1e6]).expand(3, 1, 5)
    number_BSH = stride_number(elapsed_s_BSH, torch.ones(3), torch.tensor([2000, 30, 1]))
    found = [[STRIDES[number] for number in row] for row in number_BSH[:, 0].tolist()]
    assert found == [[1, 1, 3, 64, 64], [1, 1, 2, 2, 2], [1, 1, 1, 1, 1]]


def test_a_served_model_is_handed_what_it_can_read():
    """All of a long track, and not its last points alone."""
    points, asked_s_BH = denser(60)
    started_us_N = np.full(points[2].numel(), STARTED_US)
    instant_us_N = started_us_N + (points[2].numpy().ravel() * 1e6).round().astype(np.int64)
    number_N = np.repeat(np.arange(40), points[2].shape[1])
    lon_deg_N, lat_deg_N = (value_BT.numpy().ravel() for value_BT in points[:2])
    flat = sorted_points(number_N, instant_us_N, lon_deg_N, lat_deg_N)
    asked_us_RH = STARTED_US + (asked_s_BH.numpy() * 1e6).astype(np.int64)
    served = forecast_points(
        Trained(trained()), flat, Params(num_samples=0, horizon=len(ASKED_S)), asked_us_RH
    )
    asked = forecast(trained(), context_of(*points), len(ASKED_S), asked_s_BH.contiguous())
    np.testing.assert_allclose(served.lon_deg_RH, asked.lon_deg_BH.numpy(), atol=1e-7)
