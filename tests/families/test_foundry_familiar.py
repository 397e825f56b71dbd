"""What foundry calls familiar: ships like those of train, and no bicycle at a fix a second."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.arcs import SHIPS, STEP_S, Arcs
from helpers.walks import batch_of, context_of, walk

from model.families import FAMILIES, FAMILIES_OF_POINTS, build, tells_familiar
from model.families.foundry.familiar import STRANGE, signs_of
from model.inference.api import is_familiar
from model.inference.point_frames import PointFrames
from model.inference.serving import Params, Trained
from tasks.release.bundle import answer_of

MINUTES = STEP_S * torch.arange(40, dtype=torch.float64)
SECONDS = torch.arange(20, dtype=torch.float64)


def fitted(has_place=False):
    """A model of ships at a fix a minute; nothing is trained, for the envelope needs none."""
    shape = replace(FAMILIES["foundry"].presets["tiny"], has_place=has_place)
    model = build("foundry", shape, SHIPS).eval()
    model.fit_inputs([batch_of(*Arcs(48, seed).at(MINUTES)) for seed in range(4)])
    return model


def known(num_points=20):
    """Ships that train did not see."""
    return context_of(*(value[:, :num_points] for value in Arcs(200, 99).at(MINUTES)))


def bicycles():
    """Their way in a second, at a fix a second, on the roads beside those ships."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(50, 20, lon_deg=0.0, lat_deg=48.0)
    return context_of(lon_deg_BT, lat_deg_BT, SECONDS.expand(time_s_BT.shape))


def check_a_bicycle_is_no_ship(model):
    assert float(is_familiar(model, known()).double().mean()) > 0.96
    assert not is_familiar(model, bicycles()).any()


@pytest.mark.parametrize("plant", ["a wide envelope", "no interval"])
def test_ships_are_familiar_and_bicycles_are_not(monkeypatch, plant):
    model = fitted()
    check_a_bicycle_is_no_ship(model)
    if plant == "a wide envelope":
        model.envelope.most.fill_(torch.inf)
    else:
        monkeypatch.setattr(
            "model.families.foundry.familiar.signs_of", lambda motion: 0 * signs_of(motion)
        )
        model = fitted()
    with pytest.raises(AssertionError):
        check_a_bicycle_is_no_ship(model)


@pytest.mark.parametrize("change", ["interval", "speed", "noise", "turn"])
def test_each_sign_is_judged(change):
    lon_deg_BT, lat_deg_BT, time_s_BT = Arcs(50, 99).at(MINUTES)
    rng = np.random.default_rng(0)
    if change == "interval":
        time_s_BT = 600 * time_s_BT  # speeds are less, too
    elif change == "speed":
        lon_deg_BT = lon_deg_BT + torch.linspace(0, 3, 40)
    elif change == "noise":
        lat_deg_BT = lat_deg_BT + torch.from_numpy(rng.normal(0, 0.01, lat_deg_BT.shape))
    else:
        lon_deg_BT = lon_deg_BT + 0.01 * torch.sin(torch.arange(40) / 2)
    context = context_of(lon_deg_BT, lat_deg_BT, time_s_BT)
    assert float(is_familiar(fitted(), context).double().mean()) < 0.1


def test_of_the_windows_of_train_few_are_strange():
    model = fitted()
    batch = batch_of(*Arcs(48, 0).at(MINUTES))
    shares = [
        is_familiar(
            model,
            context_of(batch.lon_deg_BT[:, :n], batch.lat_deg_BT[:, :n], batch.time_s_BT[:, :n]),
        )
        for n in range(6, 40)
    ]
    assert float(torch.cat(shares).double().mean()) == pytest.approx(1 - STRANGE, abs=0.01)


def test_elsewhere_is_not_familiar_to_a_model_that_knows_a_place():
    context = known()
    away = replace(context, lon_deg_BT=context.lon_deg_BT + 100)
    assert float(is_familiar(fitted(), away).double().mean()) > 0.96
    assert not is_familiar(fitted(has_place=True), away).any()
    assert float(is_familiar(fitted(has_place=True), context).double().mean()) > 0.9


@pytest.mark.parametrize("num_points", [1, 2, 4])
def test_too_little_is_not_called_strange(num_points):
    assert is_familiar(fitted(), known(num_points)).all()


@pytest.mark.parametrize("family", [name for name in FAMILIES_OF_POINTS if name != "gdm"])
def test_a_forecast_frame_says_it_of_the_families_that_can(family):
    if "forecast" not in FAMILIES[family].tasks:
        return
    model = fitted() if family == "foundry" else build(family, "tiny", SHIPS).eval()
    frame = pd.DataFrame(
        {
            "trajectory_id": np.repeat(["ship", "bicycle"], 20),
            "tracked_at": pd.to_datetime(np.r_[0:1200:60, 0:20], unit="s", utc=True),
            "lon_deg": np.r_[0.004 * np.arange(20), 1e-5 * np.arange(20)],
            "lat_deg": 48.0,
        }
    )
    found = PointFrames(Trained(model), Params(horizon=2, num_samples=4)).forecast(frame)
    assert list(found) == list(answer_of("forecast", family))
    if tells_familiar(family):
        assert found["is_familiar"].tolist() == [True, True, False, False]
    else:
        assert is_familiar(model, known()) is None
