"""Plain inputs of chemin: places and instants as they are, and what they can and cannot tell."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from helpers.walks import WALKING, batch_of, shaken, walk
from test_chemin import PLAIN, TINY, mean_step_m

from model.families import build
from model.families.chemin.masked import MaskedChemin
from model.families.chemin.network import Chemin
from model.families.chemin.plain import PlainInputs
from model.interface.batch import index_of


def seen_of(batch):
    """What plain inputs say of every point, fitted to the batch."""
    inputs = PlainInputs(WALKING)
    inputs.fit([batch])
    index_BT = index_of(batch.is_pad_BT)
    return inputs(batch.lon_deg_BT, batch.lat_deg_BT, batch.calendar_BTK, index_BT)


def answers(config, points):
    return mean_step_m(shaken(Chemin, config), batch_of(*points)).detach()


# ------------------------------------------------------------------ what is seen


def test_a_moved_walk_gets_another_answer_from_plain_inputs_alone():
    """Along the circle of latitude every step stays as it was."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 12)
    home, away = ((lon_deg_BT + moved_deg, lat_deg_BT, time_s_BT) for moved_deg in (0.0, 20.0))
    torch.testing.assert_close(answers(TINY, home), answers(TINY, away), rtol=0, atol=1e-3)
    assert (answers(PLAIN, home) - answers(PLAIN, away)).abs().amin((1, 2)).max() > 0.1


def test_a_point_is_seen_by_itself_alone():
    """Nor is there motion in what the head damps and turns: it is the same for all."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 12)
    batch = batch_of(lon_deg_BT, lat_deg_BT, time_s_BT)
    order_T = torch.arange(11, -1, -1)
    turned = {name: value[:, order_T] for name, value in batch.columns().items() if "_BT" in name}
    before, after = seen_of(batch), seen_of(replace(batch, **turned))
    torch.testing.assert_close(after.spatial_BQS, before.spatial_BQS[:, order_T])
    assert torch.equal(after.temporal_BQM, batch.calendar_BTK[:, order_T])
    assert torch.equal(before.temporal_BQM, batch.calendar_BTK)
    assert before.velocity_mps_BQLC.unique(dim=0).shape[0] == 1
    assert before.velocity_mps_BQLC[0].unique(dim=0).shape[0] == 1


def test_the_four_winds_blow_at_the_typical_speed_and_cancel_out():
    wind_LC = seen_of(batch_of(*walk(1, 3))).velocity_mps_BQLC[0, 0]
    torch.testing.assert_close(wind_LC.norm(dim=-1), torch.full((4,), WALKING.speed_scale_mps))
    torch.testing.assert_close(wind_LC.sum(0), torch.zeros(2), rtol=0, atol=1e-6)


def test_a_silent_head_stays():
    model = build("chemin", PLAIN, WALKING)
    with torch.no_grad():
        model.step_head.project.weight.zero_()
        step_m_BTC = mean_step_m(model, batch_of(*walk(3, 12)))
    assert float(step_m_BTC.abs().max()) < 1e-4


# ------------------------------------------------------------------ scales


def test_places_are_scaled_by_the_train_points_without_pads():
    points = walk(3, 12)
    seen = seen_of(batch_of(*points, num_pads=4)).spatial_BQS[:, :12]
    for axis in range(2):
        value_BT = points[axis].numpy()
        expected = (value_BT - value_BT.mean()) / value_BT.std()
        np.testing.assert_allclose(seen[..., axis].numpy(), expected, atol=1e-5)


def test_what_a_float32_of_degrees_loses_is_seen():
    """Ten centimetres on the other side of the Earth, among walks that are some 100 m wide."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 12, lon_deg=-179.0)
    lon_deg_BT[:, 1] = lon_deg_BT[:, 0] + 1e-6
    assert torch.equal(lon_deg_BT[:, 0].float(), lon_deg_BT[:, 1].float())
    seen = seen_of(batch_of(lon_deg_BT, lat_deg_BT, time_s_BT)).spatial_BQS
    apart = (seen[:, 1, 0] - seen[:, 0, 0]).double()
    torch.testing.assert_close(
        apart, (1e-6 / lon_deg_BT.std(correction=0)).expand(3), rtol=0.01, atol=0
    )


def test_what_never_moves_has_a_scale():
    still = torch.full((2, 5), 7.0, dtype=torch.float64)
    seen = seen_of(batch_of(still, still, walk(2, 5)[2]))
    assert torch.equal(seen.spatial_BQS, torch.zeros(2, 5, 2))


# ------------------------------------------------------------------ learning


def test_only_plain_inputs_learn_what_a_place_does():
    """In the west all go 33 m north, in the east as far south, and one point must tell."""
    torch.manual_seed(0)
    start = torch.tensor([7.9, 8.1], dtype=torch.float64).unsqueeze(1).expand(2, 2)
    lat_deg_BT = torch.tensor([[50.0, 50.0003], [50.0, 49.9997]], dtype=torch.float64)
    time_s_BT = torch.tensor([[0.0, 10.0]] * 2, dtype=torch.float64)
    batch = batch_of(start, lat_deg_BT, time_s_BT)
    model = build("chemin", PLAIN, WALKING)
    model.fit_inputs([batch])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        model.loss(batch).mean.backward()
        optimiser.step()
    west_m, east_m = mean_step_m(model, batch)[:, 0, 1].tolist()
    assert (west_m, east_m) == pytest.approx((33, -33), abs=10)
    west_m, east_m = mean_step_m(shaken(Chemin, TINY), batch)[:, 0, 1].tolist()
    assert west_m == pytest.approx(east_m, abs=1e-3)


# ------------------------------------------------------------------ configuration


def test_without_a_word_of_inputs_a_model_is_as_before():
    """As of a configuration that was stored before there was a choice."""
    before = {key: value for key, value in asdict(TINY).items() if key != "inputs"}
    states = []
    for config in (before, "tiny"):
        torch.manual_seed(0)
        states.append(build("chemin", config, WALKING).state_dict())
    assert not any(name.startswith("plain") for name in states[0])
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    assert states[0].keys() == states[1].keys()


def test_the_masked_family_has_none():
    with pytest.raises(ValueError, match="masked_chemin has no plain inputs"):
        MaskedChemin(PLAIN, WALKING)
