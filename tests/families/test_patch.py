"""What patch promises, with random weights; each guard also catches a planted fault."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.motion import points_reached
from helpers.walks import STILL, WALKING, batch_of, context_of, shaken, standing, walk
from hypothesis import given
from hypothesis import strategies as st

from model.earth.geometry import from_heading, haversine_m, step_between, step_from, to_heading
from model.families import FAMILIES, build
from model.families.patch.network import Patch, PatchConfig
from model.families.patch.patching import cut, moved_until, steps_in
from model.features.normaliser import Normaliser
from model.features.point_features import steps_of
from model.inference.api import forecast, score
from model.interface.sequence_rows import rows_of_batch, sequence_rows
from model.layers.heads import DECILES, log_density_at, value_at

TINY = FAMILIES["patch"].presets["tiny"]
K = TINY.num_patch


def random_weights(family=Patch, config=TINY, normaliser=WALKING):
    return shaken(family, config, normaliser, spread=0.1)


def told(model, points, elapsed_s=None):
    """Centers and quantiles (B, P, J, C, 1 + Q) behind each patch, and of log seconds."""
    patches = cut(sequence_rows(context_of(*points)), model.config.num_patch)
    hidden_BPD, moved = model.encode(patches)
    shape = hidden_BPD.shape[:2]
    row_N, patch_N = (
        grid.flatten() for grid in torch.meshgrid(*map(torch.arange, shape), indexing="ij")
    )
    hidden_ND, moved = hidden_BPD[row_N, patch_N], moved.at(row_N, patch_N)
    if elapsed_s is not None:
        elapsed_s = elapsed_s.expand(len(row_N), -1)
    place = model.place_head(hidden_ND, moved, elapsed_s)
    numbers = torch.cat([place.center_m_NJC.unsqueeze(-1), place.away_m_NJCQ], dim=-1)
    return numbers.unflatten(0, shape), model.time_head(hidden_ND).unflatten(0, shape)


# ------------------------------------------------------------------ planted faults


class AddsLast(Patch):
    """Leaks: adds the last input patch to every output, as an old version of CheminTF did."""

    def encode(self, patches):
        hidden_RPD, moved = super().encode(patches)
        last_R1F = steps_in(patches)[:, -K:].norm(dim=1, keepdim=True).to(hidden_RPD)
        return hidden_RPD + last_R1F[..., :1], moved


class ScalesByAll(Patch):
    """Leaks: one scale for the whole window, taken over all of it, as in RevIN."""

    def encode(self, patches):
        hidden_RPD, moved = super().encode(patches)
        scale_m_RP = moved.scale_m_RP[:, -1:].expand_as(moved.scale_m_RP)
        return hidden_RPD, replace(moved, scale_m_RP=scale_m_RP)


class BatchStatistics(Patch):
    """Leaks: normalises by the batch."""

    def encode(self, patches):
        hidden_RPD, moved = super().encode(patches)
        return hidden_RPD - hidden_RPD.mean(dim=(0, 1)), moved


class SeesCompass(Patch):
    """Knows where north is: sees its own heading."""

    def encode(self, patches):
        hidden_RPD, moved = super().encode(patches)
        return hidden_RPD + moved.heading[..., :1].to(hidden_RPD), moved


class DrawsByCompass(Patch):
    """Draws east and north apart, as patch once did."""

    def __init__(self, config, normaliser):
        super().__init__(config, normaliser)
        self.place_head.register_forward_hook(
            lambda head, given, told: replace(
                told, heading_N1C=torch.tensor([1.0, 0.0]).expand_as(told.heading_N1C)
            )
        )


class AbsolutePlace(Patch):
    """Knows where on Earth it is."""

    def encode(self, patches):
        hidden_RPD, moved = super().encode(patches)
        return hidden_RPD + patches.ends(patches.lon_deg_RS).unsqueeze(-1).float() / 180, moved


# ------------------------------------------------------------------ causality


def check_patches_are_causal(model, changed):
    """A later patch changes nothing that is told behind an earlier one, its scale included."""
    points = walk(3, 5 * K)
    before = told(model, points)
    lon_deg_BT, lat_deg_BT, time_s_BT = (value.clone() for value in points)
    lon_deg_BT[:, changed * K + 1] += 0.01
    time_s_BT[:, changed * K + 1] += 1.0
    after = told(model, (lon_deg_BT, lat_deg_BT, time_s_BT))
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one[:, :changed], other[:, :changed])
        assert (one[:, changed:] != other[:, changed:]).flatten(2).any(-1).all()


@pytest.mark.parametrize("changed", [1, 3, 4])
def test_a_patch_is_the_unit_of_causality(changed):
    check_patches_are_causal(random_weights(), changed)
    for fault in (AddsLast, ScalesByAll):
        with pytest.raises(AssertionError):
            check_patches_are_causal(random_weights(fault), 4)


def test_within_a_patch_all_of_it_counts():
    model, points = random_weights(), walk(2, 2 * K)
    before = told(model, points)[0]
    for slot in range(K, 2 * K):
        moved_BT = points[0].clone()
        moved_BT[:, slot] += 1e-3
        after = told(model, (moved_BT, *points[1:]))[0]
        assert torch.equal(before[:, 0], after[:, 0])
        assert not torch.equal(before[:, 1], after[:, 1])


@pytest.mark.parametrize("nonsense", [float("nan"), -1e9])
def test_what_may_not_be_read_does_not_matter(nonsense):
    model = random_weights()
    batch = batch_of(*walk(4, 13), num_pads=4)
    is_observed_BT = batch.is_observed_BT.clone()
    is_observed_BT[:, 9:] = False
    is_target_BT = batch.is_target_BT.clone()
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


# ------------------------------------------------------------------ scales


def check_scale_is_of_the_past(num_points):
    """Slowly: the root mean square of the steps so far, in sequences of any length."""
    points = walk(2, num_points)
    patches = cut(sequence_rows(context_of(*points)), K)
    found = moved_until(patches, steps_in(patches), WALKING)
    lead = -num_points % K
    step_m_BT = steps_of(*points)[..., :2].norm(dim=-1).numpy()
    floor_m = 0.05 * WALKING.extent_scale_m
    for patch in range((num_points + lead) // K):
        num_seen = (patch + 1) * K - lead
        square = (step_m_BT[:, 1:num_seen] ** 2).mean(axis=1) if num_seen > 1 else None
        expected = [WALKING.extent_scale_m] * 2 if square is None else np.sqrt(square + floor_m**2)
        np.testing.assert_allclose(found.scale_m_RP[:, patch].numpy(), expected, rtol=1e-9)


@given(st.integers(1, 23))
def test_the_scale_is_of_the_past(num_points):
    check_scale_is_of_the_past(num_points)


def test_ten_times_as_fast_is_told_ten_times_as_far():
    """Of a dataset whose steps are ten times as long, the same network tells the same."""
    points = walk(3, 12, lat_deg=0.0)
    step_BTF = steps_of(*points)
    step_BTF[..., :2] *= 10
    faster = points_reached(*(value[:, 0] for value in points), step_BTF)
    stored = WALKING.to_json()
    for name in ("speed_mps", "step_m"):
        stored[name] = {key: 10 * value for key, value in stored[name].items()}
    slow, fast = random_weights(), random_weights(normaliser=Normaliser.from_json(stored))
    place, time = told(slow, points)
    far, same = told(fast, faster)
    torch.testing.assert_close(far, 10 * place, rtol=1e-3, atol=0.1)
    torch.testing.assert_close(same, time, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ rows


def check_rows_are_independent(model):
    """Contexts of every length: in a batch, alone, and padded longer."""
    counts = [12, 3, 1, 9, 4, 7]
    points = walk(6, 12)
    together = forecast(model, context_of(*points, counts), 6, num_samples=3)
    for row, count in enumerate(counts):
        own = [value[row : row + 1] for value in points]
        bare = context_of(*(value[:, :count] for value in own))
        padded = context_of(*own, [count], nonsense=1e12)
        for context in (bare, padded):
            answer = forecast(model, context, 6, num_samples=3)
            away_m_SH = haversine_m(
                answer.sample_lon_deg_BSH[0],
                answer.sample_lat_deg_BSH[0],
                together.sample_lon_deg_BSH[row],
                together.sample_lat_deg_BSH[row],
            )
            assert float(away_m_SH.max()) < 0.05
            torch.testing.assert_close(
                answer.time_s_BH[0], together.time_s_BH[row], rtol=1e-5, atol=1e-3
            )


def test_a_row_depends_on_itself_alone():
    check_rows_are_independent(random_weights())
    with pytest.raises(AssertionError):
        check_rows_are_independent(random_weights(BatchStatistics))


def test_pads_never_count():
    model, points = random_weights(), walk(3, 11)
    plain, padded = model.loss(batch_of(*points)), model.loss(batch_of(*points, num_pads=5))
    assert int(plain.count) == int(padded.count) > 0
    torch.testing.assert_close(padded.total, plain.total, rtol=1e-5, atol=1e-3)


def test_packed_rows_cost_what_their_sequences_cost():
    model = random_weights()
    first, second = walk(1, 9, seed=1), walk(1, 14, seed=2, lon_deg=20.0)
    alone = [batch_of(*points) for points in (first, second)]
    packed = batch_of(*(torch.cat(pair, dim=1) for pair in zip(first, second, strict=True)))
    packed = replace(
        packed,
        sequence_BT=torch.tensor([[0] * 9 + [1] * 14]),
        calendar_BTK=torch.cat([batch.calendar_BTK for batch in alone], dim=1),
        is_target_BT=torch.cat([batch.is_target_BT for batch in alone], dim=1),
    )
    expected = sum(model.loss(batch).total for batch in alone)
    torch.testing.assert_close(model.loss(packed).total, expected, rtol=1e-5, atol=1e-3)


def test_training_cuts_at_every_point():
    """Windows whose numbers differ are cut elsewhere, and all their targets are counted."""
    batch = batch_of(*walk(1, 12))
    ends = set()
    for window in range(K):
        rows = rows_of_batch(replace(batch, window_id_B=torch.tensor([window])))
        patches = cut(rows, K, rows.window_R % K)
        slots = patches.is_point_RS[0].cumsum(0)[K - 1 :: K]
        ends |= set(slots.tolist())
    assert set(range(1, 13)) <= ends


def check_meridian_does_not_matter(model):
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 12)
    home = told(model, (lon_deg_BT, lat_deg_BT, time_s_BT))[0]
    moved_deg_BT = lon_deg_BT + 180.0 - lon_deg_BT[:, 6:7]
    moved_deg_BT = torch.where(moved_deg_BT >= 180, moved_deg_BT - 360, moved_deg_BT)
    assert (moved_deg_BT.amax(1) - moved_deg_BT.amin(1) > 359).all()
    away = told(model, (moved_deg_BT, lat_deg_BT, time_s_BT))[0]
    torch.testing.assert_close(away, home, rtol=1e-3, atol=0.05)


def test_the_date_line_is_no_border():
    check_meridian_does_not_matter(random_weights())
    with pytest.raises(AssertionError):
        check_meridian_does_not_matter(random_weights(AbsolutePlace))


def turned(points, pivot, angle):
    """Points turned to the left about another one."""
    lon_deg, lat_deg = (value.unsqueeze(-1) for value in pivot)
    away_m = torch.stack(step_between(lon_deg, lat_deg, *points[:2]), dim=-1)
    by = torch.tensor([math.cos(angle), math.sin(angle)]).double()
    return *step_from(lon_deg, lat_deg, *from_heading(away_m, by).unbind(-1)), *points[2:]


def stretched(points, factor, num_still):
    """A walk as seen from its last point, so much wider, then standing there for some points."""
    pivot = points[0][:, -1:], points[1][:, -1:]
    wide = step_from(*pivot, *(factor * way_m for way_m in step_between(*pivot, *points[:2])))
    time_s = torch.cat([points[2], points[2][:, -1:] + 9 + torch.arange(num_still)], dim=1)
    return *(torch.cat([way, way[:, -1:].expand(-1, num_still)], 1) for way in wide), time_s


def check_turning_turns_the_forecast(model, angle, num_still=0):
    """About the last point known, and about any other, on walks and on steps of 50 km."""
    for factor in (1.0, 3_000.0):
        points = stretched(walk(4, 13, lat_deg=55.0), factor, num_still)
        last = points[0][:, -1], points[1][:, -1]
        plain = forecast(model, context_of(*points), 7, num_samples=5)
        for pivot in (last, (last[0] + 1, last[1] - 1)):
            found = forecast(model, context_of(*turned(points, pivot, angle)), 7, num_samples=5)
            for name in ("{}_BH", "sample_{}_BSH"):
                expected, ends = (
                    [getattr(one, name.format(part)).flatten(1) for part in ("lon_deg", "lat_deg")]
                    for one in (plain, found)
                )
                away_m = haversine_m(*turned(expected, pivot, angle), *ends)
                assert float(away_m.max()) < 0.05 * factor
            torch.testing.assert_close(
                found.radius_p80_m_BH, plain.radius_p80_m_BH, rtol=1e-3, atol=0.05
            )


@pytest.mark.parametrize(("angle", "num_still"), [(0.7, 0), (math.pi / 2, 2), (-2.5, 0)])
def test_turning_a_trajectory_turns_its_forecast_and_its_samples(angle, num_still):
    check_turning_turns_the_forecast(random_weights(), angle, num_still)
    for fault in (SeesCompass, DrawsByCompass):
        with pytest.raises(AssertionError):
            check_turning_turns_the_forecast(random_weights(fault), angle, num_still)


@pytest.mark.parametrize("still", STILL)
def test_steps_without_time_or_way_are_finite(still):
    model = random_weights().train()
    loss = model.loss(batch_of(*standing(still)))
    loss.mean.backward()
    assert torch.isfinite(loss.total)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


# ------------------------------------------------------------------ quantiles


def test_quantiles_are_in_order():
    place, time = told(random_weights(), walk(3, 12), torch.arange(1.0, 9.0) * 10)
    assert place.shape[2] == 8
    assert (place[..., 1:].diff(dim=-1) > 0).all()
    assert (time.diff(dim=-1) > 0).all()


@given(st.integers(0, 1000))
def test_values_of_draws_have_their_density(seed):
    """The density integrates to one, and a decile of draws is the decile."""
    torch.manual_seed(seed)
    level_Q = torch.tensor(DECILES)
    quantile_Q = torch.randn(1).double() + torch.rand(len(DECILES)).double().add(0.1).cumsum(0)
    deviate_Q = torch.special.ndtri(level_Q).double()
    for deviate, quantile in zip(deviate_Q, quantile_Q, strict=True):
        found = value_at(quantile_Q, level_Q.double(), deviate, 0.0)
        torch.testing.assert_close(found, quantile, rtol=0, atol=1e-6)
    value_N = torch.linspace(-40, 60, 20_001, dtype=torch.float64)
    log_density_N = log_density_at(
        quantile_Q.expand(len(value_N), -1), level_Q.double(), value_N, 1e-3
    )
    mass_N = log_density_N.exp() * (value_N[1] - value_N[0])
    assert float(mass_N.sum()) == pytest.approx(1, abs=0.02)
    below = float(mass_N[value_N <= quantile_Q[2]].sum())
    assert below == pytest.approx(0.3, abs=0.02)


# ------------------------------------------------------------------ tasks


def test_later_times_do_not_matter():
    model, points = random_weights(), walk(3, 10)
    target_s_BH = points[2][:, -1:] + 7.5 * torch.arange(1, 13)
    whole = forecast(model, context_of(*points), 12, target_s_BH)
    assert torch.equal(whole.time_s_BH, target_s_BH)
    later_s_BH = target_s_BH.clone()
    later_s_BH[:, 5:] += 60
    later = forecast(model, context_of(*points), 12, later_s_BH)
    begun = forecast(model, context_of(*points), 5, target_s_BH[:, :5])
    for other in (later, begun):
        assert torch.equal(whole.lon_deg_BH[:, :5], other.lon_deg_BH[:, :5])
    assert not torch.equal(whole.lon_deg_BH[:, 5:], later.lon_deg_BH[:, 5:])


def test_a_long_horizon_goes_on_from_what_was_told():
    """Slowly: in two requests, the second of which has the first one's points as context."""
    model, points = random_weights(), walk(2, 10)
    told_once = model.config.num_told
    target_s_BH = points[2][:, -1:] + 7.5 * torch.arange(1, told_once + 8)
    whole = forecast(model, context_of(*points), told_once + 7, target_s_BH)
    first = forecast(model, context_of(*points), told_once, target_s_BH[:, :told_once])
    grown = [
        torch.cat([value, more], dim=1)
        for value, more in zip(
            points, (first.lon_deg_BH, first.lat_deg_BH, first.time_s_BH), strict=True
        )
    ]
    second = forecast(model, context_of(*grown), 7, target_s_BH[:, told_once:])
    away_m = haversine_m(
        whole.lon_deg_BH[:, told_once:],
        whole.lat_deg_BH[:, told_once:],
        second.lon_deg_BH,
        second.lat_deg_BH,
    )
    assert float(away_m.max()) < 0.1


def test_predicted_times_never_descend():
    points = walk(3, 9)
    answer = forecast(random_weights(), context_of(*points), 30, num_samples=4)
    assert (torch.cat([points[2][:, -1:], answer.time_s_BH], 1).diff(dim=1) >= 0).all()
    assert (answer.sample_time_s_BSH.diff(dim=-1) >= 0).all()


@torch.no_grad()
def test_a_score_is_the_surprise_of_each_step_given_its_past():
    """Slowly: for each point the context that ends before it."""
    model, points = random_weights(), walk(2, 7)
    found = score(model, context_of(*points, [7, 3]))
    step_BTF = steps_of(*points)
    for row, count in enumerate((7, 3)):
        total = 0.0
        for end in range(1, count):
            hidden, moved = model.read_last(context_of(*(v[row : row + 1, :end] for v in points)))
            step = step_BTF[row : row + 1, end]
            place = model.place_head(hidden, moved, step[:, 2:])
            away = to_heading(step[:, :2] - place.center_m_NJC[:, 0], moved.heading)
            log_s = torch.log(step[:, 2] + 1e-3).float()
            total -= float(log_density_at(place.away_m_NJCQ[:, 0], model.level_Q, away, 0.1).sum())
            time = model.time_head(hidden)[:, 0]
            total -= float(log_density_at(time, model.level_Q, log_s, 0.01).sum())
        assert float(found[row]) == pytest.approx(total / (count - 1), rel=1e-4)


def test_training_learns_a_steady_walk():
    torch.manual_seed(0)
    model = build("patch", "tiny", WALKING)
    batch = batch_of(*walk(32, 16))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = float(model.loss(batch).mean.detach())
    for _ in range(30):
        optimiser.zero_grad()
        model.loss(batch).mean.backward()
        optimiser.step()
    assert float(model.loss(batch).mean.detach()) < 0.8 * first


# ------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    "wrong",
    [{"width": 30}, {"num_layers": 0}, {"num_patch": 0}, {"max_points": 2}, {"dropout": 1.0}],
)
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PatchConfig(**wrong)


def test_presets_have_their_size():
    count = {
        name: sum(parameter.numel() for parameter in build("patch", name, WALKING).parameters())
        for name in FAMILIES["patch"].presets
    }
    assert count["tiny"] < 50_000
    assert 200_000 < count["small"] < 3_000_000
