"""What the chemin family promises, with random weights; each guard also catches a planted fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.walks import STILL, WALKING, batch_of, shaken, standing, walk

from model.earth.geometry import haversine_m, step_from
from model.families import FAMILIES, build
from model.families.chemin.network import Chemin, CheminConfig
from model.interface.batch import scored_targets

TINY = FAMILIES["chemin"].presets["tiny"]
PLAIN = replace(TINY, inputs="plain")
OF_BOTH_INPUTS = pytest.mark.parametrize("config", [TINY, PLAIN], ids=["kinematic", "plain"])


def random_weights(family=Chemin, config=TINY):
    return shaken(family, config)


def hidden_of(model, batch):
    index_BT = torch.arange(batch.time_s_BT.shape[1]).expand(batch.time_s_BT.shape)
    points = batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT, batch.calendar_BTK
    return model.encode(*points, index_BT, batch.sequence_BT)[0]


def mean_step_m(model, batch, step_s=10.0):
    """The mean next step (B, T, C) after each point."""
    index_BT = torch.arange(batch.time_s_BT.shape[1]).expand(batch.time_s_BT.shape)
    points = batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT, batch.calendar_BTK
    hidden_BTD, velocity_BTLC = model.encode(*points, index_BT, batch.sequence_BT)
    return model.step_head(hidden_BTD, velocity_BTLC, torch.full(index_BT.shape, step_s)).mean()


# ------------------------------------------------------------------ planted faults


class RelativeToLast(Chemin):
    """Leaks: shifts every point's content by where the window's last point lies."""

    def encode(self, lon_deg_BT, *rest, **named):
        hidden_BTD, velocity = super().encode(lon_deg_BT, *rest, **named)
        return hidden_BTD + (lon_deg_BT[:, -1:] - lon_deg_BT).float().unsqueeze(-1), velocity


class BatchStatistics(Chemin):
    """Leaks: normalises by the batch, as the published code does."""

    def encode(self, *points, **named):
        hidden_BTD, velocity = super().encode(*points, **named)
        return hidden_BTD - hidden_BTD.mean(dim=(0, 1)), velocity


class AbsolutePlace(Chemin):
    """Knows where on Earth it is."""

    def encode(self, lon_deg_BT, *rest, **named):
        hidden_BTD, velocity = super().encode(lon_deg_BT, *rest, **named)
        return hidden_BTD + lon_deg_BT.float().unsqueeze(-1) / 180, velocity


# ------------------------------------------------------------------ guards


def check_future_is_unseen(model, changed):
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 12)
    before = hidden_of(model, batch_of(lon_deg_BT, lat_deg_BT, time_s_BT))
    lon_deg_BT[:, changed] += 0.01
    time_s_BT[:, changed] += 1.0
    after = hidden_of(model, batch_of(lon_deg_BT, lat_deg_BT, time_s_BT))
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert (before[:, changed:] != after[:, changed:]).any(-1).all()


def check_rows_are_independent(model):
    points = walk(4, 10)
    together = hidden_of(model, batch_of(*points))
    order = torch.tensor([2, 0, 3, 1])
    permuted = hidden_of(model, batch_of(*(value[order] for value in points)))
    torch.testing.assert_close(permuted, together[order], rtol=1e-4, atol=1e-5)
    for row in range(4):
        own = [value[row : row + 1] for value in points]
        alone = hidden_of(model, batch_of(*own))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)
        padded = hidden_of(model, batch_of(*own, num_pads=7))[:, :10]
        torch.testing.assert_close(padded[0], together[row], rtol=1e-4, atol=1e-5)


def check_meridian_does_not_matter(model):
    """8 degrees east, and across the date line."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 12)
    home = hidden_of(model, batch_of(lon_deg_BT, lat_deg_BT, time_s_BT))
    moved_deg_BT = lon_deg_BT + 180.0 - lon_deg_BT[:, 6:7]
    moved_deg_BT = torch.where(moved_deg_BT >= 180, moved_deg_BT - 360, moved_deg_BT)
    assert (moved_deg_BT.amax(1) - moved_deg_BT.amin(1) > 359).all()
    away = hidden_of(model, batch_of(moved_deg_BT, lat_deg_BT, time_s_BT))
    torch.testing.assert_close(away, home, rtol=1e-4, atol=1e-4)


def check_evaluation_is_pure(model):
    batch = batch_of(*walk(3, 12))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(model.loss(batch).total, model.loss(batch).total)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@OF_BOTH_INPUTS
@pytest.mark.parametrize("changed", [1, 6, 11])
def test_future_cannot_change_the_past(changed, config):
    check_future_is_unseen(random_weights(config=config), changed)
    with pytest.raises(AssertionError):
        check_future_is_unseen(random_weights(RelativeToLast, config), 11)


@OF_BOTH_INPUTS
def test_a_row_depends_on_itself_alone(config):
    check_rows_are_independent(random_weights(config=config))
    with pytest.raises(AssertionError):
        check_rows_are_independent(random_weights(BatchStatistics, config))


def test_the_date_line_is_no_border():
    check_meridian_does_not_matter(random_weights())
    with pytest.raises(AssertionError):
        check_meridian_does_not_matter(random_weights(AbsolutePlace))


def test_evaluation_is_pure():
    model = random_weights(config=replace(TINY, dropout=0.5))
    check_evaluation_is_pure(model)
    with pytest.raises(AssertionError):
        check_evaluation_is_pure(model.train())


@pytest.mark.parametrize("lat_deg", [-60.0, 0.0, 75.0])
def test_the_same_steps_elsewhere_give_the_same_errors(lat_deg):
    """Moved along a meridian the steps are equal, and the sphere bends a walk by centimetres."""
    model = random_weights()
    home, away = walk(3, 12, lat_deg=50.0), walk(3, 12, lon_deg=-120.0, lat_deg=lat_deg)
    error_m = []
    for points in (home, away):
        batch = batch_of(*points)
        error_m.append(mean_step_m(model, batch)[:, :-1] - batch.step_BTF[:, 1:, :2])
    torch.testing.assert_close(error_m[0], error_m[1], rtol=0, atol=0.05)
    assert error_m[0].abs().mean() > 1


# ------------------------------------------------------------------ loss


def test_the_target_is_not_an_input():
    """Where the next point lies changes its own loss alone, not what was predicted for it."""
    model = random_weights()
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(2, 6)
    before = batch_of(lon_deg_BT, lat_deg_BT, time_s_BT)
    lat_deg_BT[:, -1] += 0.001
    after = batch_of(lon_deg_BT, lat_deg_BT, time_s_BT)
    assert torch.equal(mean_step_m(model, before)[:, :-1], mean_step_m(model, after)[:, :-1])
    assert model.loss(before).total != model.loss(after).total


def test_pads_never_count():
    model = random_weights()
    points = walk(3, 9)
    plain, padded = model.loss(batch_of(*points)), model.loss(batch_of(*points, num_pads=5))
    assert int(plain.count) == int(padded.count) == 3 * 8
    torch.testing.assert_close(padded.total, plain.total, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(plain.mean * plain.count, plain.total)


@OF_BOTH_INPUTS
@pytest.mark.parametrize("nonsense", [float("nan"), -1e9])
def test_what_may_not_be_read_does_not_matter(nonsense, config):
    """Pads, and points that are not observed, may hold anything."""
    model = random_weights(config=config)
    batch = batch_of(*walk(3, 9), num_pads=4)
    is_observed_BT = batch.is_observed_BT.clone()
    is_observed_BT[:, 6:] = False
    batch = replace(batch, is_observed_BT=is_observed_BT)
    is_hidden_BT = ~is_observed_BT
    spoilt = replace(
        batch,
        lon_deg_BT=batch.lon_deg_BT.masked_fill(is_hidden_BT, nonsense),
        lat_deg_BT=batch.lat_deg_BT.masked_fill(is_hidden_BT, nonsense),
        time_s_BT=batch.time_s_BT.masked_fill(is_hidden_BT, nonsense),
        calendar_BTK=batch.calendar_BTK.masked_fill(is_hidden_BT.unsqueeze(-1), nonsense),
    )
    plain, loss = model.loss(batch), model.loss(spoilt)
    assert int(loss.count) == 3 * 6  # five inside, and the first one behind the observed
    assert torch.equal(loss.total, plain.total)
    loss.total.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_a_target_behind_a_hidden_point_is_not_scored():
    batch = batch_of(*walk(1, 8))
    is_observed_BT = batch.is_observed_BT.clone()
    is_observed_BT[:, 4:] = False
    scored = scored_targets(replace(batch, is_observed_BT=is_observed_BT))
    assert scored[0].tolist() == [False, True, True, True, True, False, False, False]


@OF_BOTH_INPUTS
def test_packed_rows_cost_what_their_sequences_cost(config):
    model = random_weights(config=config)
    first, second = walk(1, 6, seed=1), walk(1, 7, seed=2, lon_deg=20.0)
    alone = [model.loss(batch_of(*points)) for points in (first, second)]
    packed = batch_of(*(torch.cat(pair, dim=1) for pair in zip(first, second, strict=True)))
    packed = replace(packed, sequence_BT=torch.tensor([[0] * 6 + [1] * 7]))
    calendar = [batch_of(*points).calendar_BTK for points in (first, second)]
    packed = replace(packed, calendar_BTK=torch.cat(calendar, dim=1))
    loss = model.loss(packed)
    assert int(loss.count) == 5 + 6
    expected = alone[0].total + alone[1].total
    torch.testing.assert_close(loss.total, expected, rtol=1e-5, atol=1e-3)


@OF_BOTH_INPUTS
@pytest.mark.parametrize("still", STILL)
def test_steps_without_time_or_way_are_finite(still, config):
    model = random_weights(config=config).train()
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
    model = build("chemin", "tiny", WALKING)
    batch = batch_of(*walk(32, 16))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = float(model.loss(batch).mean.detach())
    for _ in range(30):
        optimiser.zero_grad()
        model.loss(batch).mean.backward()
        optimiser.step()
    assert float(model.loss(batch).mean.detach()) < first - 0.5


# ------------------------------------------------------------------ heads


def test_a_silent_head_goes_on_along_the_great_circle():
    model = build("chemin", "tiny", WALKING)
    with torch.no_grad():
        model.step_head.project.weight.zero_()
    away = torch.arange(8, dtype=torch.float64) * 20
    origin = torch.tensor(8.0, dtype=torch.float64), torch.tensor(50.0, dtype=torch.float64)
    lon_deg_T, lat_deg_T = step_from(*origin, away * 0.6, away * 0.8)
    points = [value.unsqueeze(0) for value in (lon_deg_T, lat_deg_T, 10 * away / 20)]
    step_m_TC = mean_step_m(model, batch_of(*points))[0].double().detach()
    ahead = step_from(lon_deg_T, lat_deg_T, *step_m_TC.unbind(-1))
    missed_m_T = haversine_m(ahead[0][:-1], ahead[1][:-1], lon_deg_T[1:], lat_deg_T[1:])
    assert float(missed_m_T[0]) == pytest.approx(20, abs=1e-3)  # one point tells no velocity
    assert float(missed_m_T[1:].max()) < 1e-3


# ------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    "wrong",
    [{"width": 30}, {"num_layers": 0}, {"max_points": 2}, {"dropout": 1.0}, {"inputs": "raw"}],
)
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CheminConfig(**wrong)


def test_presets_have_their_size():
    count = {
        name: sum(parameter.numel() for parameter in build("chemin", name, WALKING).parameters())
        for name in FAMILIES["chemin"].presets
    }
    assert count["tiny"] < 30_000
    assert 150_000 < count["small"] < 300_000


@pytest.mark.parametrize(("name", "preset"), [("unknown", "tiny"), ("chemin", "unknown")])
def test_unknown_names_are_refused(name, preset):
    with pytest.raises(ValueError, match="unknown"):
        build(name, preset, WALKING)
