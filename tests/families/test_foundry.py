"""What the foundry family promises, with random weights; each guard catches a planted fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.direct_guards import (
    NUM_TOLD,
    check_a_point_is_told_alike_whatever_else_is_asked,
    check_rows_are_independent,
)
from helpers.walks import STILL, WALKING, batch_of, context_of, shaken, standing, walk, window_of

from model.earth.geometry import haversine_m, step_between, step_from
from model.families import FAMILIES, build
from model.families.foundry.base import CANDIDATES, LEADS, Base, hats
from model.families.foundry.motion import LAGS, Motion
from model.families.foundry.network import AHEAD, BASE_WEIGHT, Foundry, FoundryConfig
from model.inference.api import forecast
from model.interface.sequence_rows import rows_of_batch, sequence_rows

TINY = FAMILIES["foundry"].presets["tiny"]
PLACELESS = replace(TINY, has_place=False)


def random_weights(family=Foundry, config=PLACELESS):
    return shaken(family, config, spread=0.05)


def hidden_of(model, batch):
    """All that is known of each point: its state, and what the base learnt in its window."""
    seen = model.encode(rows_of_batch(batch))
    return torch.cat([seen.hidden_ND, seen.told_NAK.flatten(-2)], dim=-1)


# ------------------------------------------------------------------ planted faults


class RelativeToLast(Foundry):
    """Leaks: shifts every state by where the window's last point lies."""

    def encode(self, rows):
        seen, lon_deg_RT = super().encode(rows), rows.lon_deg_RT
        away_RT1 = (lon_deg_RT[:, -1:] - lon_deg_RT).float().unsqueeze(-1)
        return replace(seen, hidden_ND=seen.hidden_ND + away_RT1)


class TooEarly(Foundry):
    """Leaks: candidates are weighed by what they miss after the present point."""

    def encode(self, rows):
        seen = super().encode(rows)
        return replace(seen, told_NAK=seen.told_NAK.roll(-1, dims=1))


class BatchStatistics(Foundry):
    """Leaks: normalises by the batch."""

    def encode(self, rows):
        seen = super().encode(rows)
        return replace(seen, hidden_ND=seen.hidden_ND - seen.hidden_ND.mean(dim=(0, 1)))


class AbsolutePlace(Foundry):
    """Knows where on Earth it is, though it was told no place."""

    def encode(self, rows):
        seen = super().encode(rows)
        lon_RT1 = rows.lon_deg_RT.float().unsqueeze(-1) / 180
        return replace(seen, hidden_ND=seen.hidden_ND + lon_RT1)


class KnowsMetres(Foundry):
    """Reads how fast things are in metres a second, and not in the window's own unit."""

    def encode(self, rows):
        seen = super().encode(rows)
        speed_RT1 = seen.motion.speed_mps_RT.unsqueeze(-1)
        return replace(seen, hidden_ND=seen.hidden_ND + speed_RT1)


class CountsSteps(Foundry):
    """Tells a point by its number among those that are asked."""

    def center(self, seen, elapsed_s_NJ):
        found = super().center(seen, elapsed_s_NJ)
        number_J1 = torch.arange(elapsed_s_NJ.shape[1]).float().unsqueeze(-1)
        return replace(found, moved_m_NJC=found.moved_m_NJC + number_J1)


# ------------------------------------------------------------------ guards


def check_future_is_unseen(model, changed):
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 14)
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
    torch.testing.assert_close(away, home, rtol=1e-3, atol=1e-3)


def check_no_unit_of_length_enters(model):
    """The same path a hundred times as long, from one point: the forecast is that as well."""
    factor = 100.0
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 12, lon_deg=0.0, lat_deg=0.0)
    lon_deg_BT, lat_deg_BT = lon_deg_BT - lon_deg_BT[:, :1], lat_deg_BT - lat_deg_BT[:, :1]
    target_s_BH = time_s_BT[:, -1:] + 10.0 * torch.arange(1, NUM_TOLD + 1)
    moved_m = []
    for size in (1.0, factor):
        context = context_of(size * lon_deg_BT, size * lat_deg_BT, time_s_BT)
        found = forecast(model, context, NUM_TOLD, target_s_BH)
        last_B1 = context.last_B1()[:2]
        steps = step_between(*last_B1, found.lon_deg_BH, found.lat_deg_BH)
        moved_m.append(torch.stack(steps) / size)
    away_m = (moved_m[1] - moved_m[0]).norm(dim=0)
    assert float((away_m / moved_m[0].norm(dim=0)).max()) < 0.02


@pytest.mark.parametrize("fault", [RelativeToLast, TooEarly])
def test_future_cannot_change_the_past(fault):
    for changed in (1, 6, 13):
        check_future_is_unseen(random_weights(), changed)
    with pytest.raises(AssertionError):
        check_future_is_unseen(random_weights(fault), 13)


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (check_rows_are_independent, BatchStatistics),
        (check_meridian_does_not_matter, AbsolutePlace),
        (check_no_unit_of_length_enters, KnowsMetres),
        (check_a_point_is_told_alike_whatever_else_is_asked, CountsSteps),
    ],
)
def test_a_guard_holds_and_catches_its_fault(check, fault):
    check(random_weights())
    with pytest.raises(AssertionError):
        check(random_weights(fault))


# ------------------------------------------------------------------ place


def test_with_a_place_the_same_motion_is_told_otherwise_elsewhere():
    model = random_weights(config=TINY)
    batch = batch_of(*walk(3, 12))
    model.fit_inputs([batch])
    with pytest.raises(AssertionError):
        check_meridian_does_not_matter(model)


def test_what_is_fitted_does_not_hang_on_chance():
    """In training mode as well, with whatever numbers chance has drawn before."""
    fitted = []
    for seed in range(2):
        model = build("foundry", TINY, WALKING).train()
        torch.manual_seed(seed)
        model.fit_inputs([batch_of(*walk(3, 12))])
        assert model.training
        fitted.append({name: value.clone() for name, value in model.named_buffers()})
    assert all(torch.equal(value, fitted[1][name]) for name, value in fitted[0].items())


def test_where_train_never_was_the_place_is_not_told():
    """Then a forecast is the same wherever that is; a plant tells every place."""
    model = random_weights(config=TINY)
    model.fit_inputs([batch_of(*walk(3, 12, lon_deg=-60.0, lat_deg=-20.0))])
    check_meridian_does_not_matter(model)
    model.place.is_known_XY.fill_(1)
    model.place.extent_m.fill_(1e7)
    with pytest.raises(AssertionError):
        check_meridian_does_not_matter(model)


@pytest.mark.parametrize("change", ["as in train", "slow", "drawn"])
def test_a_place_is_told_at_the_intervals_of_train_alone(change):
    """How many intervals ahead a place brings what depends on how long they are."""
    model = random_weights(config=TINY)
    batch = batch_of(*walk(3, 12))
    model.fit_inputs([batch])
    if change == "slow":
        batch = replace(batch, time_s_BT=100 * batch.time_s_BT)
    if change == "drawn":
        batch = replace(batch, stands_for_BT=torch.full_like(batch.time_s_BT, 0.5))
    told = hidden_of(model, batch)
    model.place.is_known_XY.fill_(0)
    # A first point shows no interval.
    is_same = torch.equal(told[:, 1:], hidden_of(model, batch)[:, 1:])
    assert is_same == (change != "as in train")


def test_places_of_train_and_those_beside_them_are_known():
    model = random_weights(config=TINY)
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 12)
    model.fit_inputs([batch_of(lon_deg_BT, lat_deg_BT, time_s_BT)])
    assert model.place.knows(lon_deg_BT, lat_deg_BT).all()
    assert model.place.knows(lon_deg_BT + 1e-5, lat_deg_BT - 1e-5).all()
    for away_deg in (0.05, 10.0, 180.0):
        assert not model.place.knows(lon_deg_BT + away_deg, lat_deg_BT).any()


def test_middle_and_extent_are_those_of_the_points_that_may_be_read():
    model = random_weights(config=TINY)
    batch = batch_of(*walk(3, 12), num_pads=5)  # pads hold nonsense
    model.fit_inputs([batch])
    lon_deg, lat_deg = model.place.middle_deg_C.tolist()
    assert (lon_deg, lat_deg) == (pytest.approx(8, abs=0.01), pytest.approx(50, abs=0.01))
    assert float(model.place.extent_m) < 500
    model.fit_loss([batch])
    assert (model.unit_m_MJ.diff() >= 0).all()


# ------------------------------------------------------------------ base


def steady(num_points, speed_mps=5.0, step_s=10.0):
    """A path due east along the equator at one speed."""
    time_s_BT = step_s * torch.arange(num_points, dtype=torch.float64).unsqueeze(0)
    zero_BT = torch.zeros_like(time_s_BT)
    return *step_from(zero_BT, zero_BT, speed_mps * time_s_BT, zero_BT), time_s_BT


def base_of(points, at, elapsed_s):
    """Where the untrained base puts the point after so many seconds (C)."""
    moved, base = Motion.of(*points, 10.0, 1.0), Base()
    told_RTAK = base.told(*points, moved)
    elapsed_s_NJ = torch.tensor([[elapsed_s]])
    with torch.no_grad():
        moved_m_NJC = base(moved.at(slice(None), at), told_RTAK[:, at], elapsed_s_NJ)
    return moved_m_NJC[0, 0], told_RTAK


@pytest.mark.parametrize("elapsed_s", [10.0, 70.0, 500.0])
def test_what_has_been_steady_is_carried_on(elapsed_s):
    moved_m_C, told_RTAK = base_of(steady(40), -1, elapsed_s)
    assert float(moved_m_C[0]) == pytest.approx(5 * elapsed_s, rel=0.01)
    assert float(moved_m_C[1]) == pytest.approx(0, abs=0.01)
    keeps = [place for place, (_, tau) in enumerate(CANDIDATES) if tau == torch.inf]
    assert told_RTAK[0, -1, :, keeps].max() < told_RTAK[0, -1, :, 0].min()


def test_what_trembles_about_a_place_stays():
    lon_deg_BT, lat_deg_BT, time_s_BT = steady(40, speed_mps=0.0)
    lon_deg_BT = lon_deg_BT + 1e-4 * (torch.arange(40) % 2)
    moved_m_C, _ = base_of((lon_deg_BT, lat_deg_BT, time_s_BT), -1, 300.0)
    assert float(moved_m_C.norm()) < 30  # the last step alone, carried on, leads 334 m away


@pytest.mark.parametrize("is_reported", [True, False])
def test_errors_of_candidates_are_those_of_a_slow_loop(is_reported):
    """Of each lead, over all points before that have as many known ones after them.

    A reported velocity is compared with those that are told from places.
    """
    points, at = walk(1, 16), 13
    reported_mps_RTC = torch.randn(1, 16, 2) if is_reported else None
    moved = Motion.of(*points, 10.0, 1.0, reported_mps_RTC)
    base = Base()
    told_AK = base.told(*points, moved)[0, at]
    for place, lead in enumerate(LEADS):
        misses_KN = []
        for origin in range(1, at - lead + 1):
            start = [value[0, origin] for value in points]
            end = [value[0, origin + lead] for value in points]
            true_m = torch.stack(step_between(*start[:2], *end[:2])).float()
            elapsed_s = torch.tensor([[float(end[2] - start[2])]])
            found_KC = base.moved_m(moved.at(slice(None), origin), elapsed_s)[0, 0]
            misses_KN.append(((found_KC - true_m).square().sum(-1) + 0.01).sqrt())
        mean_K = torch.stack(misses_KN).mean(0)
        expected_K = torch.log(mean_K / mean_K[:-1].mean())
        expected_K[-1] *= is_reported
        torch.testing.assert_close(told_AK[place], expected_K)


def test_velocities_are_those_of_the_lags():
    points, at = walk(1, 40), 36
    moved = Motion.of(*points, 10.0, 1.0)
    now = [value[0, at] for value in points]
    for place, lag in enumerate(LAGS):
        then = [value[0, at - lag] for value in points]
        back_m = torch.stack(step_between(*now[:2], *then[:2]))
        expected_C = (-back_m / (now[2] - then[2])).float()
        torch.testing.assert_close(moved.velocity_mps_RTLC[0, at, place], expected_C)


def test_hats_are_linear_between_knots_and_level_beyond():
    knot_A = torch.tensor([0.0, 1.0, 3.0])
    near = hats(torch.tensor([-2.0, 0.0, 0.25, 1.0, 2.0, 3.0, 9.0]), knot_A)
    torch.testing.assert_close(near.sum(-1), torch.ones(7))
    expected = torch.tensor([0.0, 0.0, 0.25, 1.0, 2.0, 3.0, 3.0])
    torch.testing.assert_close(near @ knot_A, expected)


# ------------------------------------------------------------------ loss


def test_untrained_it_tells_the_base():
    torch.manual_seed(0)
    model = build("foundry", "tiny", WALKING).eval()
    points = steady(20)
    target_s_BH = points[2][:, -1:] + 10.0 * torch.arange(1, NUM_TOLD + 1)
    found = forecast(model, context_of(*points), NUM_TOLD, target_s_BH)
    away_m = haversine_m(points[0][:, -1:], points[1][:, -1:], found.lon_deg_BH, found.lat_deg_BH)
    expected_m = 50.0 * torch.arange(1, NUM_TOLD + 1, dtype=torch.float64)
    torch.testing.assert_close(away_m[0], expected_m, rtol=0.02, atol=0.5)


@pytest.mark.parametrize("is_window", [False, True])
def test_the_miss_is_the_distance_of_each_forecast_in_its_unit(is_window):
    """Each target some points ahead of one that may be read, asked as a forecast would be."""
    model, points = random_weights(), walk(1, 11)
    model.unit_m_MJ.copy_(torch.arange(1.0, len(AHEAD) + 1))
    batch = window_of(points, hidden=range(7, 11)) if is_window else batch_of(*points)
    total, count = 0.0, 0
    for now in range(1, 7 if is_window else 11):
        for place, ahead in enumerate(AHEAD):
            then = now + ahead
            if then < 11 and bool(batch.is_target_BT[0, then]):
                context = context_of(*(value[:, : now + 1] for value in points))
                found = forecast(model, context, 1, points[2][:, then : then + 1])
                truth = points[0][0, then], points[1][0, then]
                away_m = haversine_m(found.lon_deg_BH[0, 0], found.lat_deg_BH[0, 0], *truth)
                total += (float((away_m**2 + 0.01).sqrt()) - 0.1) / (place + 1)
                count += 1
    loss = model.loss(batch)
    assert int(loss.count) == count >= 10
    assert float(loss.parts["miss"]) == pytest.approx(total, rel=1e-3)


def test_the_base_learns_to_be_right_alone_whatever_a_network_makes_of_it():
    """Its parameters have the gradient of its own miss, whatever a network adds."""
    model, batch = random_weights(), batch_of(*walk(4, 16))
    seen, (moved_m_NJC, elapsed_s_NJ, is_target_NJ) = model._presents(rows_of_batch(batch))
    alone_m_NJ = model._base_miss_m(seen, elapsed_s_NJ.float(), moved_m_NJC)
    expected = torch.autograd.grad(alone_m_NJ[is_target_NJ].sum(), model.base.bias_AK)[0]
    assert float(expected.abs().max()) > 0.01
    model.unit_m_MJ.fill_(1.0)
    found = torch.autograd.grad(model.forecast_loss(batch).total, model.base.bias_AK)[0]
    torch.testing.assert_close(found, BASE_WEIGHT * expected, rtol=1e-4, atol=1e-5)


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
        step_BTF=torch.full_like(batch.step_BTF, nonsense),
    )
    plain, loss = model.loss(batch), model.loss(spoilt)
    assert int(plain.count) > 20
    assert torch.equal(loss.total, plain.total)
    loss.total.backward()
    grads = [value.grad for value in model.parameters() if value.grad is not None]
    assert len(grads) > 10
    assert all(torch.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("still", STILL)
def test_steps_without_time_or_way_are_finite(still):
    """The distance of two equal places has no gradient, and what rests is as good as known."""
    model = random_weights().train()
    loss = model.loss(batch_of(*standing(still)))
    loss.mean.backward()
    assert torch.isfinite(loss.total)
    grads = [value.grad for value in model.parameters() if value.grad is not None]
    assert len(grads) > 20
    assert all(torch.isfinite(grad).all() for grad in grads)


def test_the_density_leaves_the_forecast_where_it_is():
    """Its gradient moves the head of the density alone."""
    model, batch = random_weights(), batch_of(*walk(4, 13))
    rows = rows_of_batch(batch)
    seen, (moved_m_NJC, elapsed_s_NJ, is_target_NJ) = model._presents(rows)
    center = model.center(seen, elapsed_s_NJ.float())
    at_P = is_target_NJ.nonzero(as_tuple=True)
    surprise = -model.density(seen, center, at_P).log_density(moved_m_NJC[at_P].float())
    surprise.sum().backward()
    moved = {name for name, value in model.named_parameters() if value.grad is not None}
    assert moved == {"density_head.project.weight", "density_head.project.bias"}


def test_a_batch_without_targets_costs_nothing():
    batch = batch_of(*walk(2, 5))
    nothing = replace(batch, is_target_BT=torch.zeros_like(batch.is_target_BT))
    with torch.no_grad():
        loss = random_weights().loss(nothing)
    assert (float(loss.total), int(loss.count), float(loss.mean)) == (0.0, 0, 0.0)


def test_training_beats_its_base_on_turning_walks():
    torch.manual_seed(0)
    model = build("foundry", "tiny", WALKING)
    batch = batch_of(*walk(32, 24))
    model.fit_inputs([batch])
    model.fit_loss([batch])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = model.eval().loss(batch).parts["miss"]
    model.train()
    for _ in range(40):
        optimiser.zero_grad()
        model.loss(batch).mean.backward()
        optimiser.step()
    assert float(model.eval().loss(batch).parts["miss"]) < 0.9 * float(first)


# ------------------------------------------------------------------ answers


def test_predicted_times_ascend_along_each_path():
    found = forecast(random_weights(), context_of(*walk(3, 8)), 30, num_samples=4, seed=1)
    assert (found.time_s_BH.diff(dim=1) >= 0).all()
    assert (found.sample_time_s_BSH.diff(dim=2) >= 0).all()
    assert not torch.equal(found.sample_time_s_BSH[:, 0], found.sample_time_s_BSH[:, 1])


def test_samples_spread_around_the_forecast():
    points = walk(3, 12)
    target_s_BH = points[2][:, -1:] + 10.0 * torch.arange(1, NUM_TOLD + 1)
    torch.manual_seed(0)
    model = build("foundry", "tiny", WALKING).eval()
    found = forecast(model, context_of(*points), NUM_TOLD, target_s_BH, num_samples=64)
    assert (found.radius_p50_m_BH < found.radius_p80_m_BH).all()
    assert (found.radius_p80_m_BH.diff(dim=1) > 0).all()


def test_one_point_alone_is_told_as_widely_as_things_usually_go():
    """It shows no motion, which is not the same as rest."""
    torch.manual_seed(0)
    model = build("foundry", "tiny", WALKING).eval()
    points = walk(2, 1)
    target_s_BH = points[2] + 10.0 * torch.arange(1, NUM_TOLD + 1)
    found = forecast(model, context_of(*points), NUM_TOLD, target_s_BH, num_samples=64)
    gone_m_H = WALKING.speed_scale_mps * 10.0 * torch.arange(1, NUM_TOLD + 1)
    assert (found.radius_p95_m_BH > gone_m_H / 4).all()
    assert (found.radius_p95_m_BH < gone_m_H * 20).all()


def test_a_longer_context_than_it_reads_counts_from_its_end():
    model = random_weights(config=replace(PLACELESS, max_points=12))
    points = walk(2, 20)
    cut = [value[:, 8:] for value in points]
    whole, last = (sequence_rows(context_of(*value).latest(12)) for value in (points, cut))
    for row in (whole, last):
        assert row.time_s_RT.shape[1] == 12
    found, expected = (forecast(model, context_of(*value), 3) for value in (points, cut))
    away_m = haversine_m(
        found.lon_deg_BH, found.lat_deg_BH, expected.lon_deg_BH, expected.lat_deg_BH
    )
    assert float(away_m.max()) < 0.05


# ------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0}, {"max_points": 2}, {"dropout": 1.0}, {"share_placeless": -0.1}],
)
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FoundryConfig(**wrong)


def test_presets_have_their_size():
    count = {
        name: sum(parameter.numel() for parameter in build("foundry", name, WALKING).parameters())
        for name in FAMILIES["foundry"].presets
    }
    assert count["tiny"] < 120_000
    assert 100_000 < count["small"] < 500_000
