"""What lies around a hidden point, against slow searches and plane geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.walks import WALKING, batch_of, walk, window_of
from hypothesis import given
from hypothesis import strategies as st

from model.earth.geometry import haversine_m, step_from
from model.families.chemin.gap import KNOWN_LAGS, gap_around, log_odds_of, time_s_of
from model.families.chemin.masked import MaskedChemin
from model.families.chemin.network import PRESETS
from model.interface.masked_input import masked_input_of, neighbours
from model.interface.masking import masked, segments

TINY = PRESETS["tiny"]


@given(st.data())
def test_neighbours_equal_a_slow_search(data):
    num_points = data.draw(st.integers(1, 12))
    is_known = data.draw(st.lists(st.booleans(), min_size=num_points, max_size=num_points))
    border = data.draw(st.integers(0, num_points))
    sequence = [0] * border + [1] * (num_points - border)
    before, after = neighbours(torch.tensor([is_known]), torch.tensor([sequence]))
    for point in range(num_points):
        own = [k for k in range(num_points) if is_known[k] and sequence[k] == sequence[point]]
        assert int(before[0, point]) == max((k for k in own if k < point), default=-1)
        assert int(after[0, point]) == min((k for k in own if k > point), default=-1)


def test_times_come_back_from_their_log_odds():
    batch = window_of(walk(3, 12))
    gap = gap_around(masked_input_of(batch), WALKING).at(batch.is_target_BT)
    time_s_N = batch.time_s_BT[batch.is_target_BT]
    found = time_s_of(log_odds_of(time_s_N, gap), gap)
    torch.testing.assert_close(found, time_s_N, rtol=0, atol=1e-6)
    for extreme in (-50.0, 50.0):
        edge_N = time_s_of(torch.full_like(time_s_N, extreme), gap)
        assert ((edge_N >= gap.time_s_BT) & (edge_N <= gap.time_s_BT + gap.gap_s_BT)).all()


def silent(model):
    with torch.no_grad():
        for head in (model.time_head, model.place_head):
            head.project.weight.zero_()
    return model


def test_a_silent_model_goes_along_the_great_circle():
    """Evenly in time where it is given; over the date line and near a pole."""
    torch.manual_seed(0)
    model = silent(MaskedChemin(TINY, WALKING))
    away_m_T = torch.tensor([0, 900, 1_000, 2_500, 4_000, 4_100], dtype=torch.float64)
    for lon_deg, lat_deg in ((8.0, 50.0), (179.99, 0.0), (30.0, 89.99)):
        origin = torch.tensor(lon_deg).double(), torch.tensor(lat_deg).double()
        lon_deg_T, lat_deg_T = step_from(*origin, away_m_T * 0.6, away_m_T * 0.8)
        points = [value.unsqueeze(0) for value in (lon_deg_T, lat_deg_T, away_m_T / 7)]
        found = model.recover(window_of(points, hidden=[2, 3]))
        places = found.lon_deg_BT[0], found.lat_deg_BT[0], lon_deg_T, lat_deg_T
        assert float(haversine_m(*places).max().detach()) < 0.01  # float32 of 4 km
        assert torch.equal(found.time_s_BT, points[2])


def test_a_silent_model_spaces_hidden_times_evenly():
    torch.manual_seed(0)
    model = silent(MaskedChemin(TINY, WALKING))
    with torch.no_grad():
        model.time_head.project.bias.zero_()
    lon_deg_BT, lat_deg_BT, _ = walk(2, 12)
    time_s_BT = 10 * torch.arange(12, dtype=torch.float64).expand(2, 12)
    batch = masked(batch_of(lon_deg_BT, lat_deg_BT, time_s_BT), segments, 0)
    assert not batch.shows_time_BT.all()
    found_s_BT = model.recover(batch).time_s_BT
    torch.testing.assert_close(found_s_BT, time_s_BT, rtol=0, atol=1e-2)


def test_a_silent_model_keeps_the_velocities_at_both_ends():
    torch.manual_seed(0)
    model = silent(MaskedChemin(TINY, WALKING))
    batch = window_of(walk(3, 12), hidden=[6])
    gap = gap_around(masked_input_of(batch), WALKING).at(batch.is_target_BT)
    hidden_ND = torch.zeros(3, TINY.width)
    moment_s = 0.01 * gap.gap_s_BT
    start_s, end_s = gap.time_s_BT + moment_s, gap.time_s_BT + gap.gap_s_BT - moment_s
    with torch.no_grad():
        start_m, end_m = (
            model.place_head(hidden_ND, gap, time_s).mean() for time_s in (start_s, end_s)
        )
    moment_s_N1 = moment_s.unsqueeze(-1)
    leaving_NC = (gap.chord_m_BTC - end_m) / moment_s_N1
    mean_NC, first_NC, last_NC = gap.velocity_mps_BTVC[:, [0, 1, 1 + len(KNOWN_LAGS)]].unbind(-2)
    torch.testing.assert_close(start_m / moment_s_N1, first_NC, rtol=0, atol=0.05)
    torch.testing.assert_close(leaving_NC, last_NC, rtol=0, atol=0.05)
    assert float((first_NC - mean_NC).abs().max()) > 0.2


def test_velocities_are_those_of_the_steps_beside_the_gap():
    """Slowly, in the plane, which a walk of some hundred metres does not leave."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(1, 12)
    batch = window_of((lon_deg_BT, lat_deg_BT, time_s_BT))
    gap = gap_around(masked_input_of(batch), WALKING)
    scale_m = np.array([np.cos(np.radians(50.0)), 1.0]) * np.radians(1) * 6_371_008.8
    place_m_TC = np.stack([lon_deg_BT[0].numpy(), lat_deg_BT[0].numpy()], axis=1) * scale_m
    time_s_T = time_s_BT[0].numpy()
    sides = [(2, 5), (1, 2), (0, 2), (5, 6), (5, 7)]
    for number, (start, end) in enumerate(sides):
        expected = (place_m_TC[end] - place_m_TC[start]) / (time_s_T[end] - time_s_T[start])
        found, pace_m_C = (
            motion_BTVC[0, 3, number].numpy()
            for motion_BTVC in (gap.velocity_mps_BTVC, gap.pace_m_BTVC)
        )
        by_points_m_C = (place_m_TC[end] - place_m_TC[start]) / (end - start)
        np.testing.assert_allclose(pace_m_C, by_points_m_C, rtol=0, atol=1e-2)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("lon_deg", "lat_deg"), [(8.0, 50.0), (179.9, 0.0), (30.0, 89.95)])
def test_on_a_great_circle_at_even_speed_the_velocities_are_equal(lon_deg, lat_deg):
    """Over the date line and past the pole, where the frames of the two ends differ most."""
    origin = torch.tensor(lon_deg).double(), torch.tensor(lat_deg).double()
    away_m_T = 2_500 * torch.arange(12, dtype=torch.float64)
    lon_deg_T, lat_deg_T = step_from(*origin, away_m_T * 0.6, away_m_T * 0.8)
    points = [value.unsqueeze(0) for value in (lon_deg_T, lat_deg_T, away_m_T / 7)]
    gap = gap_around(masked_input_of(window_of(points)), WALKING)
    mean_TC, *others_TC = gap.velocity_mps_BTVC[0, 1:-1].unbind(-2)
    torch.testing.assert_close(mean_TC.norm(dim=-1), torch.full((10,), 7.0).double())
    for other_TC in others_TC:
        torch.testing.assert_close(other_TC, mean_TC, rtol=0, atol=1e-6)
