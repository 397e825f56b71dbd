"""What a forecast promises, with random weights."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from helpers.walks import STARTED_US, WALKING, context_of, walk

from model.earth.calendar import calendar_features
from model.earth.geometry import haversine_m, step_from
from model.families import FAMILIES
from model.families.chemin.network import Chemin
from model.inference import api
from model.inference.api import forecast

HORIZON = 6
TOLERANCE_M = 0.02  # float32 steps of some ten metres, added up over the horizon


def random_weights(family=Chemin, **changes):
    torch.manual_seed(5)
    config = replace(FAMILIES["chemin"].presets["tiny"], **changes)
    model = family(config, WALKING)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def model():
    return random_weights()


@pytest.fixture
def points():
    """Six walks of fourteen points."""
    return walk(6, 14)


@pytest.fixture
def target_time_s_BH(points):
    return points[2][:, -1:] + torch.arange(1, HORIZON + 1) * 7.5


def assert_same_places(one, other, tolerance_m=TOLERANCE_M):
    away_m = haversine_m(one.lon_deg_BH, one.lat_deg_BH, other.lon_deg_BH, other.lat_deg_BH)
    assert float(away_m.max()) < tolerance_m
    torch.testing.assert_close(one.time_s_BH, other.time_s_BH, rtol=0, atol=1e-3)
    if one.sample_lon_deg_BSH is not None:
        away_m = haversine_m(
            one.sample_lon_deg_BSH,
            one.sample_lat_deg_BSH,
            other.sample_lon_deg_BSH,
            other.sample_lat_deg_BSH,
        )
        assert float(away_m.max()) < 10 * tolerance_m


def rows(answer, index_B):
    """Some rows of a forecast."""
    picked = {field.name: getattr(answer, field.name) for field in fields(answer)}
    return replace(answer, **{k: v[index_B] for k, v in picked.items() if v is not None})


def uncached(model, points, target_time_s_BH):
    """The rollout without a cache: everything is read again for each new point."""
    lon_deg_BT, lat_deg_BT, time_s_BT = points
    for step in range(HORIZON):
        index_BT = torch.arange(time_s_BT.shape[1]).expand(time_s_BT.shape)
        instant_us_BT = STARTED_US + (time_s_BT * 1e6).round().long().numpy()
        calendar_BTK = torch.from_numpy(calendar_features(instant_us_BT, "UTC"))
        hidden, velocity = model.encode(lon_deg_BT, lat_deg_BT, time_s_BT, calendar_BTK, index_BT)
        next_s_B = target_time_s_BH[:, step]
        step_s_B = (next_s_B - time_s_BT[:, -1]).float()
        step_m_BC = model.step_head(hidden[:, -1], velocity[:, -1], step_s_B).mean().double()
        end = step_from(lon_deg_BT[:, -1], lat_deg_BT[:, -1], step_m_BC[:, 0], step_m_BC[:, 1])
        lon_deg_BT = torch.cat([lon_deg_BT, end[0].unsqueeze(1)], dim=1)
        lat_deg_BT = torch.cat([lat_deg_BT, end[1].unsqueeze(1)], dim=1)
        time_s_BT = torch.cat([time_s_BT, next_s_B.unsqueeze(1)], dim=1)
    return lon_deg_BT[:, -HORIZON:], lat_deg_BT[:, -HORIZON:]


@pytest.mark.parametrize("inputs", ["kinematic", "plain"])
def test_cached_rollout_equals_the_uncached(inputs, points, target_time_s_BH):
    model = random_weights(inputs=inputs)
    answer = forecast(model, context_of(*points), HORIZON, target_time_s_BH)
    with torch.no_grad():
        lon_deg_BH, lat_deg_BH = uncached(model, points, target_time_s_BH)
    away_m = haversine_m(answer.lon_deg_BH, answer.lat_deg_BH, lon_deg_BH, lat_deg_BH)
    assert float(away_m.max()) < TOLERANCE_M
    travelled_m = haversine_m(points[0][:, -1:], points[1][:, -1:], lon_deg_BH, lat_deg_BH)
    assert float(travelled_m.min()) > 1


class BatchStatistics(Chemin):
    """Leaks: normalises by the batch."""

    def encode(self, *points, **named):
        hidden_BQD, velocity = super().encode(*points, **named)
        return hidden_BQD - hidden_BQD.mean(dim=0), velocity


def check_contexts_are_independent(model, points, num_samples):
    """Contexts of different lengths: together, permuted, alone, and padded longer."""
    counts = [14, 3, 1, 9, 2, 14]
    together = forecast(model, context_of(*points, counts), HORIZON, None, num_samples)
    order = torch.tensor([3, 5, 0, 2, 4, 1])
    shuffled = context_of(*(value[order] for value in points), [counts[row] for row in order])
    permuted = forecast(model, shuffled, HORIZON, None, num_samples)
    assert_same_places(permuted, rows(together, order))
    for row, count in enumerate(counts):
        own = [value[row : row + 1] for value in points]
        bare = context_of(*(value[:, :count] for value in own))
        padded = context_of(*own, [count], nonsense=1e12)
        for context in (bare, padded):
            answer = forecast(model, context, HORIZON, None, num_samples)
            assert_same_places(answer, rows(together, slice(row, row + 1)))


@pytest.mark.parametrize("num_samples", [0, 3])
def test_a_context_depends_on_itself_alone(model, points, num_samples):
    check_contexts_are_independent(model, points, num_samples)
    with pytest.raises(AssertionError):
        check_contexts_are_independent(random_weights(BatchStatistics), points, num_samples)


def test_samples_with_tails_depend_on_their_context_alone(points):
    check_contexts_are_independent(random_weights(has_tails=True), points, 3)


def test_a_long_list_is_forecast_in_pieces(model, points, monkeypatch):
    whole = forecast(model, context_of(*points), HORIZON, num_samples=4)
    monkeypatch.setattr(api, "MAX_ROWS", 8)
    assert_same_places(forecast(model, context_of(*points), HORIZON, num_samples=4), whole)


def test_samples_follow_the_seed(model, points):
    context = context_of(*points)
    first, again, other = (
        forecast(model, context, HORIZON, num_samples=5, seed=seed) for seed in (1, 1, 2)
    )
    for field in fields(first):
        assert torch.equal(getattr(first, field.name), getattr(again, field.name))
    assert torch.equal(first.lon_deg_BH, other.lon_deg_BH)
    assert not torch.equal(first.sample_lon_deg_BSH, other.sample_lon_deg_BSH)


def test_forecasting_changes_neither_model_nor_context(points):
    model = random_weights()
    model.train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    context = context_of(*points)
    before = context.lon_deg_BT.clone()
    forecast(model, context, HORIZON, num_samples=2)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(context.lon_deg_BT, before)


def test_given_times_are_kept_and_later_ones_do_not_matter(model, points, target_time_s_BH):
    context = context_of(*points)
    answer = forecast(model, context, HORIZON, target_time_s_BH)
    assert torch.equal(answer.time_s_BH, target_time_s_BH)
    changed_s_BH = target_time_s_BH.clone()
    changed_s_BH[:, 3:] += 100
    later = forecast(model, context, HORIZON, changed_s_BH)
    assert torch.equal(answer.lon_deg_BH[:, :3], later.lon_deg_BH[:, :3])
    assert not torch.equal(answer.lon_deg_BH[:, 3:], later.lon_deg_BH[:, 3:])


def test_predicted_times_never_descend(model, points):
    answer = forecast(model, context_of(*points), HORIZON, num_samples=4)
    last_s_B1 = points[2][:, -1:]
    assert (torch.cat([last_s_B1, answer.time_s_BH], 1).diff(dim=1) >= 0).all()
    assert (answer.sample_time_s_BSH.diff(dim=-1) >= 0).all()


def test_radii_are_quantiles_of_the_samples(model, points):
    answer = forecast(model, context_of(*points), HORIZON, num_samples=200)
    away_m_BSH = haversine_m(
        answer.lon_deg_BH.unsqueeze(1),
        answer.lat_deg_BH.unsqueeze(1),
        answer.sample_lon_deg_BSH,
        answer.sample_lat_deg_BSH,
    )
    for radius_m_BH, share in (
        (answer.radius_p50_m_BH, 0.5),
        (answer.radius_p80_m_BH, 0.8),
        (answer.radius_p95_m_BH, 0.95),
    ):
        inside_BH = (away_m_BSH <= radius_m_BH.unsqueeze(1)).double().mean(1)
        torch.testing.assert_close(inside_BH, torch.full_like(inside_BH, share), rtol=0, atol=0.01)
    bare = forecast(model, context_of(*points), HORIZON)
    assert torch.isnan(bare.radius_p50_m_BH).all()
    assert bare.sample_lon_deg_BSH is None


@pytest.mark.parametrize("lon_deg", [0.0, 179.9995, -180.0, 180.0])
def test_the_meridian_does_not_matter(model, points, target_time_s_BH, lon_deg):
    """The answer moves with the walk, across the date line as well."""
    lon_deg_BT, lat_deg_BT, time_s_BT = points
    home = forecast(model, context_of(*points), HORIZON, target_time_s_BH)
    shift_deg = lon_deg - 8.0
    moved_deg_BT = torch.remainder(lon_deg_BT + shift_deg + 180, 360) - 180
    away = forecast(
        model, context_of(moved_deg_BT, lat_deg_BT, time_s_BT), HORIZON, target_time_s_BH
    )
    assert (away.lon_deg_BH >= -180).all()
    assert (away.lon_deg_BH < 180).all()
    assert_same_places(replace(home, lon_deg_BH=home.lon_deg_BH + shift_deg), away)


def test_a_walk_over_the_pole_goes_on(model):
    """Towards the pole, over it, and down the other side, each step as long as the others."""
    along_m_T = torch.arange(-10, 10, dtype=torch.float64) * 20.0 + 7.0
    pole = torch.tensor(0.0, dtype=torch.float64), torch.tensor(90.0, dtype=torch.float64)
    lon_deg_T, lat_deg_T = step_from(*pole, 0 * along_m_T, along_m_T)
    time_s_T = torch.arange(20, dtype=torch.float64) * 10
    with torch.no_grad():
        model.step_head.project.weight.zero_()
        model.step_head.project.bias.zero_()
        model.step_head.project.bias[:4] = 0.25  # the mean of the recent velocities
    parts = [value.unsqueeze(0) for value in (lon_deg_T, lat_deg_T, time_s_T)]
    context = context_of(*(value[:, :9] for value in parts))
    answer = forecast(model, context, 8, parts[2][:, 9:17])
    missed_m_H = haversine_m(
        answer.lon_deg_BH[0], answer.lat_deg_BH[0], lon_deg_T[9:17], lat_deg_T[9:17]
    )
    assert float(missed_m_H.max()) < 0.5


def test_one_point_and_repeated_points_are_enough(model):
    lon_deg_BT, lat_deg_BT, time_s_BT = (value[:, :1].expand(3, 5) for value in walk(3, 2))
    for count in (1, 5):
        context = context_of(lon_deg_BT, lat_deg_BT, time_s_BT, [count] * 3)
        given_s_BH = torch.zeros(3, HORIZON, dtype=torch.float64)
        for times in (None, given_s_BH):
            answer = forecast(model, context, HORIZON, times, num_samples=3)
            for field in fields(answer):
                assert torch.isfinite(getattr(answer, field.name)).all()


def test_of_a_long_context_the_latest_points_count(model):
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(2, 150)
    kept = model.config.max_points - HORIZON
    whole = context_of(lon_deg_BT, lat_deg_BT, time_s_BT, [150, 120])
    answer = forecast(model, whole, HORIZON)
    for row, count in enumerate([150, 120]):
        part = [
            value[row : row + 1, count - kept : count]
            for value in (lon_deg_BT, lat_deg_BT, time_s_BT)
        ]
        latest = forecast(model, context_of(*part), HORIZON)
        assert_same_places(latest, rows(answer, slice(row, row + 1)))


def reread(model, points, num_horizon):
    """The same rule slowly: a full window goes on with its latest half, and nothing is cached."""
    longest, places = model.config.max_points, [value.clone() for value in points]
    found = []
    for _ in range(num_horizon):
        lon_deg_BT, lat_deg_BT, time_s_BT = places
        index_BT = torch.arange(time_s_BT.shape[1]).expand(time_s_BT.shape)
        instant_us_BT = STARTED_US + (time_s_BT * 1e6).round().long().numpy()
        calendar_BTK = torch.from_numpy(calendar_features(instant_us_BT, "UTC"))
        hidden, velocity = model.encode(lon_deg_BT, lat_deg_BT, time_s_BT, calendar_BTK, index_BT)
        step_s_B = torch.full_like(time_s_BT[:, -1], 7.5)
        step = model.step_head(hidden[:, -1], velocity[:, -1], step_s_B.float()).mean().double()
        end = step_from(lon_deg_BT[:, -1], lat_deg_BT[:, -1], step[:, 0], step[:, 1])
        found.append([*end, time_s_BT[:, -1] + step_s_B])
        if time_s_BT.shape[1] == longest:
            places = [value[:, -(longest // 2 - 1) :] for value in places]
        places = [
            torch.cat([value, new.unsqueeze(1)], dim=1)
            for value, new in zip(places, found[-1], strict=True)
        ]
    return [torch.stack(column, dim=1) for column in zip(*found, strict=True)]


def test_past_its_window_a_rollout_goes_on_with_the_latest_half():
    """Cached equals uncached by the same rule, for rows that fill up at different steps."""
    torch.manual_seed(5)
    model = Chemin(replace(FAMILIES["chemin"].presets["tiny"], max_points=12), WALKING).eval()
    num_horizon, counts = 20, [6, 4, 2]
    points = walk(3, 6)
    times = torch.stack([points[2][row, count - 1] for row, count in enumerate(counts)])
    target_s_BH = times.unsqueeze(1) + 7.5 * torch.arange(1, num_horizon + 1)
    answer = forecast(model, context_of(*points, counts), num_horizon, target_s_BH)
    for row, count in enumerate(counts):
        own = [value[row : row + 1, :count] for value in points]
        with torch.no_grad():
            lon_deg_BH, lat_deg_BH, _ = reread(model, own, num_horizon)
        found = answer.lon_deg_BH[row], answer.lat_deg_BH[row]
        away_m_H = haversine_m(*found, lon_deg_BH[0], lat_deg_BH[0])
        assert float(away_m_H.max()) < 5 * TOLERANCE_M
    early = forecast(model, context_of(*points, counts), 8, target_s_BH[:, :8])
    away_m = haversine_m(
        early.lon_deg_BH,
        early.lat_deg_BH,
        *(value[:, :8] for value in (answer.lon_deg_BH, answer.lat_deg_BH)),
    )
    assert float(away_m.max()) < TOLERANCE_M


def test_a_horizon_beyond_the_longest_window_is_finite(model, points):
    answer = forecast(model, context_of(*points), 150)
    assert torch.isfinite(answer.lon_deg_BH).all()
    assert answer.lon_deg_BH.shape == (6, 150)


def test_impossible_requests_are_refused(model, points, target_time_s_BH):
    context = context_of(*points)
    with pytest.raises(ValueError, match="num_horizon"):
        forecast(model, context, 0)
    with pytest.raises(ValueError, match="descend"):
        forecast(model, context, HORIZON, target_time_s_BH.flip(1))
    with pytest.raises(ValueError, match="descend"):
        forecast(model, context, HORIZON, target_time_s_BH - 1000)
    with pytest.raises(ValueError, match="target times"):
        forecast(model, context, HORIZON, target_time_s_BH[:, :2])
    with pytest.raises(ValueError, match="at least one point"):
        replace(context, is_pad_BT=torch.ones_like(context.is_pad_BT))
    with pytest.raises(ValueError, match="finite"):
        replace(context, lat_deg_BT=context.lat_deg_BT * torch.nan)
    with pytest.raises(ValueError, match="descend"):
        replace(context, time_s_BT=context.time_s_BT.flip(1))
    is_pad_BT = torch.zeros_like(context.is_pad_BT)
    is_pad_BT[:, 5] = True
    with pytest.raises(ValueError, match="right"):
        replace(context, is_pad_BT=is_pad_BT)
