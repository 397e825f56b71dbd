"""Kalman baselines: filterpy's numbers, exact where their assumption holds, the same anywhere."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from filterpy.kalman import IMMEstimator, KalmanFilter, rts_smoother
from hypothesis import given, settings
from hypothesis import strategies as st

from model.baselines.forecast import CONSTANT_VELOCITY, predicted_time_s
from model.baselines.kalman import Bank, Motion
from model.baselines.kalman_fit import (
    Whole,
    fitted_filters,
    fitted_smoothers,
    with_gaps,
)
from model.baselines.kalman_forecast import KalmanForecast
from model.baselines.kalman_smoother import KalmanRecovery, middle_known, smoothed
from model.baselines.recovery import LINEAR
from model.earth.geometry import haversine_m, step_from
from model.interface.contexts import Context, Partial

STEP_S, FIX_M = 30.0, 12.0
PRIOR = (100.0, 100.0, 10.0)  # little enough for digits to last through an inverse
VAGUE = (1e9, 1e9, 1e9)
NEAR = {"rtol": 1e-5, "atol": 1e-2}  # metres: the digits of degrees, grown by the horizon
VELOCITY, ACCELERATION = Motion(0.3), Motion(0.02, has_acceleration=True)
LEFT, RIGHT = Motion(0.3, turn_rad=0.2), Motion(0.3, turn_rad=-0.2)
ALONE = {"velocity": VELOCITY, "turn": LEFT, "acceleration": ACCELERATION}
BANKS = {
    **{name: Bank((motion,), STEP_S, FIX_M) for name, motion in ALONE.items()},
    "turns": Bank((VELOCITY, LEFT, RIGHT), STEP_S, FIX_M, 8.0),
    "mixture": Bank((VELOCITY, LEFT, RIGHT, ACCELERATION), STEP_S, FIX_M, 8.0),
}
EVERY = tuple(KalmanForecast(name, bank) for name, bank in BANKS.items())
SMOOTHERS = tuple(
    KalmanRecovery(name, BANKS[name]) for name in ("velocity", "turn", "acceleration")
)


# Tracks -----------------------------------------------------------------------------------------


def fixes(num_tracks=3, num_points=15, seed=0):
    """Places (B, T, C) of random walks, irregular times (B, T), and which are told."""
    generator = np.random.default_rng(seed)
    shape = (num_tracks, num_points)
    place_m = generator.normal(0, 60, (*shape, 2)).cumsum(1).cumsum(1) * 0.3
    time_s = generator.uniform(5, 70, shape).cumsum(1)
    is_fix = generator.random(shape) < 0.7
    is_fix[:, 0] = True
    return torch.from_numpy(place_m), torch.from_numpy(time_s), torch.from_numpy(is_fix)


def context_of(place_m_BTC, time_s_BT, lon_deg=10.0, lat_deg=50.0) -> Context:
    """Tracks on the sphere, seen from the frame of one place."""
    start = [torch.full_like(time_s_BT, value) for value in (lon_deg, lat_deg)]
    places = step_from(*start, *place_m_BTC.unbind(-1))
    started_us_B = torch.zeros(len(time_s_BT), dtype=torch.int64)
    return Context(
        *places, time_s_BT, started_us_B, "UTC", torch.zeros_like(time_s_BT, dtype=torch.bool)
    )


def partial_of(context: Context, is_known_BT, times_given=True) -> Partial:
    shows_time_BT = torch.ones_like(is_known_BT) if times_given else is_known_BT
    whole = Partial.of(context, 0, None)
    return replace(whole, shows_place_BT=is_known_BT, shows_time_BT=shows_time_BT)


def even(num_tracks, num_points, step_s=STEP_S):
    return torch.arange(num_points, dtype=torch.float64).expand(num_tracks, -1) * step_s


def away_m(one, other):
    return haversine_m(one.lon_deg_BH, one.lat_deg_BH, other.lon_deg_BH, other.lat_deg_BH)


# filterpy ---------------------------------------------------------------------------------------


def matrices(motion: Motion, elapsed_s: float, size: int):
    """Transition and noise of a motion written out axis by axis, in filterpy's real numbers."""
    steps, turn = elapsed_s / STEP_S, motion.turn_rad
    transition, noise = np.zeros((size, size)), np.zeros((size, size))
    transition[:2, :2] = np.eye(2)
    if turn:
        sine, cosine = math.sin(turn * steps), math.cos(turn * steps)
        transition[:2, 2:4] = np.array([[sine, cosine - 1], [1 - cosine, sine]]) / turn
        transition[2:4, 2:4] = [[cosine, -sine], [sine, cosine]]
    else:
        transition[:2, 2:4], transition[2:4, 2:4] = steps * np.eye(2), np.eye(2)
    if motion.has_acceleration:
        transition[:2, 4:], transition[2:4, 4:] = steps**2 / 2 * np.eye(2), steps * np.eye(2)
        transition[4:, 4:] = np.eye(2)
        powers = [
            [steps**5 / 20, steps**4 / 8, steps**3 / 6],
            [steps**4 / 8, steps**3 / 3, steps**2 / 2],
            [steps**3 / 6, steps**2 / 2, steps],
        ]
    else:
        powers = [[steps**3 / 3, steps**2 / 2], [steps**2 / 2, steps]]
    known = 2 * len(powers)
    noise[:known, :known] = np.kron(powers, np.eye(2)) * motion.drive * FIX_M**2
    return transition, noise


def peer(motion: Motion, size: int, place_m) -> KalmanFilter:
    found = KalmanFilter(dim_x=size, dim_z=2)
    found.x = np.array([*place_m, *[0.0] * (size - 2)])
    variances = [*PRIOR[:2], PRIOR[2] if motion.has_acceleration else 0.0][: size // 2]
    found.P = FIX_M**2 * np.diag(np.repeat(variances, 2))
    found.H, found.R = np.eye(2, size), FIX_M**2 * np.eye(2)
    return found


def set_step(peers, motions, elapsed_s):
    for one, motion in zip(peers, motions, strict=True):
        one.F, one.Q = matrices(motion, elapsed_s, len(one.x))


@pytest.mark.parametrize("name", ALONE)
def test_states_and_covariances_are_those_of_filterpy(name):
    bank, (place_m, time_s, is_fix) = replace(BANKS[name], prior=PRIOR), fixes()
    beliefs = list(bank.followed(place_m, time_s, is_fix, place_m[:, 0]))
    smooth_BTS, smooth_BTSS = smoothed(bank, place_m, time_s, is_fix)
    for track in range(len(place_m)):
        oracle = peer(ALONE[name], 2 * bank.num_derivatives, place_m[track, 0].numpy())
        steps_s = np.diff(time_s[track].numpy(), prepend=float(time_s[track, 0]))
        states, covariances, moves, noises = [], [], [], []
        for place, elapsed_s in enumerate(steps_s):
            set_step([oracle], [ALONE[name]], elapsed_s)
            moves.append(oracle.F)
            noises.append(oracle.Q)
            oracle.predict()
            oracle.update(place_m[track, place].numpy() if is_fix[track, place] else None)
            states.append(oracle.x.copy())
            covariances.append(oracle.P.copy())
            belief = beliefs[place]
            assert_near(belief.state_BMS[track, 0], oracle.x)
            assert_near(belief.covariance_BMSS[track, 0], oracle.P)
        # filterpy leads from a place to the next with the matrices of the former.
        told = rts_smoother(
            np.array(states), np.array(covariances), [*moves[1:], None], [*noises[1:], None]
        )
        assert_near(smooth_BTS[track], told[0])
        assert_near(smooth_BTSS[track], told[1])


@pytest.mark.parametrize("name", ["turns", "mixture"])
def test_mixtures_are_those_of_filterpy(name):
    bank, (place_m, time_s, is_fix) = replace(BANKS[name], prior=PRIOR), fixes(seed=1)
    is_fix = torch.ones_like(is_fix)
    beliefs = list(bank.followed(place_m, time_s, is_fix, place_m[:, 0]))
    steps_BT = time_s.diff(dim=1, prepend=time_s[:, :1])
    num = len(bank.motions)
    for track in range(len(place_m)):
        start = place_m[track, 0].numpy()
        peers = [peer(motion, 2 * bank.num_derivatives, start) for motion in bank.motions]
        estimator = IMMEstimator(peers, [1 / num] * num, bank.change(steps_BT[track])[0].numpy())
        for place in range(place_m.shape[1]):
            elapsed_s = float(steps_BT[track, place])
            stays = math.exp(-elapsed_s / (STEP_S * bank.sojourn_steps))
            lead(estimator, stays * np.eye(num) + (1 - stays) / num)
            set_step(peers, bank.motions, elapsed_s)
            estimator.predict()
            estimator.update(place_m[track, place].numpy())
            assert_mixed(beliefs[place].at(slice(track, track + 1)), estimator)
        # Onwards without a fix.
        last_s = time_s[track, -1:]
        ahead_s = last_s + torch.tensor([[20.0, 75.0]])
        told = list(bank.foretold(beliefs[-1].at(slice(track, track + 1)), last_s, ahead_s))
        for belief, elapsed_s in zip(told, (20.0, 55.0), strict=True):
            stays = math.exp(-elapsed_s / (STEP_S * bank.sojourn_steps))
            lead(estimator, stays * np.eye(num) + (1 - stays) / num)
            set_step(peers, bank.motions, elapsed_s)
            estimator.mu = estimator.cbar.copy()
            estimator.predict()
            assert_mixed(belief, estimator)


def lead(estimator, change):
    """filterpy takes one matrix for all steps: here each has its own."""
    estimator.M = change
    estimator._compute_mixing_probabilities()


def assert_mixed(belief, estimator):
    assert_near(belief.mean_BS()[0], estimator.x)
    assert_near(belief.covariance_BSS()[0], estimator.P)
    assert_near(belief.weight_BM[0], estimator.mu)


def assert_near(found, expected):
    """To 1e-8 of the largest number among those of a kind."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found.numpy() - expected).max() <= 1e-8 * max(1.0, np.abs(expected).max())


def test_a_smoother_of_several_motions_is_refused():
    place_m, time_s, is_fix = fixes()
    with pytest.raises(ValueError, match="a smoother knows one motion"):
        smoothed(BANKS["mixture"], place_m, time_s, is_fix)


# Exactness --------------------------------------------------------------------------------------


def curves(name: str, time_s_BT, velocity_mps=(14.0, -6.0)):
    """Places (B, T, C) of steady motion of a kind."""
    velocity, turn_radps = complex(*velocity_mps), LEFT.turn_rad / STEP_S
    moved = {
        "velocity": velocity * time_s_BT,
        "turn": velocity * (torch.exp(1j * turn_radps * time_s_BT) - 1) / (1j * turn_radps),
        "acceleration": velocity * time_s_BT + complex(0.02, 0.01) / 2 * time_s_BT**2,
    }[name]
    return torch.view_as_real(moved)


@pytest.mark.parametrize("name", ALONE)
def test_steady_motion_is_forecast_exactly_in_the_limit_of_no_noise(name):
    time_s = fixes(2, 20, 3)[1]
    whole_m = curves(name, time_s)
    # Seen from the last known point: a plane on which the track was drawn.
    context = context_of(whole_m[:, :12] - whole_m[:, 11:12], time_s[:, :12])
    motion = replace(ALONE[name], drive=1e-9)
    one = KalmanForecast(name, Bank((motion,), STEP_S, 1e-6, prior=VAGUE))
    found = one.forecast(context, 8, time_s[:, 12:])
    truth = context_of(whole_m[:, 12:] - whole_m[:, 11:12], time_s[:, 12:])
    error_m = haversine_m(found.lon_deg_BH, found.lat_deg_BH, truth.lon_deg_BT, truth.lat_deg_BT)
    assert float(error_m.max()) < 0.01
    # Planted fault: another motion than the track's own is more than a hundred metres off.
    if name != "velocity":
        other = KalmanForecast("velocity", Bank((replace(VELOCITY, drive=1e-9),), STEP_S, 1e-6))
        assert float(away_m(other.forecast(context, 8, time_s[:, 12:]), found).max()) > 100


@pytest.mark.parametrize("name", ALONE)
def test_steady_motion_is_recovered_exactly_in_the_limit_of_no_noise(name):
    _, time_s, is_known = fixes(2, 15, 4)
    is_known[:, [1, 2, 9]] = True
    whole_m = curves(name, time_s)
    center_B1 = middle_known(is_known)
    center_m = whole_m.gather(1, center_B1.unsqueeze(-1).expand(-1, -1, 2))
    context = context_of(whole_m - center_m, time_s)
    motion = replace(ALONE[name], drive=1e-9)
    found = KalmanRecovery(name, Bank((motion,), STEP_S, 1e-6, prior=VAGUE)).recover(
        partial_of(context, is_known)
    )
    error_m = haversine_m(
        found.lon_deg_BT, found.lat_deg_BT, context.lon_deg_BT, context.lat_deg_BT
    )
    assert float(error_m.max()) < 0.01


def test_a_mixture_turns_with_a_turn_and_goes_straight_with_a_line():
    time_s = even(1, 30)
    for name, other in (("turn", "velocity"), ("velocity", "turn")):
        whole_m = curves(name, time_s)
        context = context_of(whole_m[:, :20] - whole_m[:, 19:20], time_s[:, :20])
        truth = context_of(whole_m[:, 20:] - whole_m[:, 19:20], time_s[:, 20:])
        bank = replace(BANKS["turns"], fix_m=1.0, sojourn_steps=1e4)
        errors_m = [
            float(
                haversine_m(told.lon_deg_BH, told.lat_deg_BH, truth.lon_deg_BT, truth.lat_deg_BT)[
                    0, -1
                ]
            )
            for told in (
                KalmanForecast("turns", bank).forecast(context, 10, time_s[:, 20:]),
                KalmanForecast(other, BANKS[other]).forecast(context, 10, time_s[:, 20:]),
            )
        ]
        assert errors_m[0] < 0.05 * errors_m[1]


# Invariance -------------------------------------------------------------------------------------


@settings(max_examples=5, deadline=None)
@given(
    place=st.tuples(st.floats(-180, 180), st.floats(-90, 90)),
    angle=st.floats(0, 2 * math.pi),
    seed=st.integers(0, 1_000),
)
def test_moving_and_turning_a_track_moves_and_turns_its_forecast(place, angle, seed):
    place_m, time_s, _ = fixes(1, 12, seed)
    place_m = place_m - place_m[:, -1:]
    ahead_s = time_s[:, -1:] + even(1, 6)
    turned = torch.polar(torch.ones(()).double(), torch.tensor(angle).double())
    turned_m = torch.view_as_real(torch.view_as_complex(place_m.contiguous()) * turned)
    for one in EVERY:
        seen_m, deviation_m = one.moved_m(context_of(place_m, time_s, 0.0, 0.0), ahead_s)
        other_m, other_deviation_m = one.moved_m(context_of(turned_m, time_s, 0.0, 0.0), ahead_s)
        expected = torch.view_as_complex(seen_m.contiguous()) * turned
        torch.testing.assert_close(torch.view_as_complex(other_m.contiguous()), expected, **NEAR)
        torch.testing.assert_close(other_deviation_m, deviation_m, **NEAR)
        # Near a pole the frame of a place turns with its longitude: distances alone stay.
        moved_m, _ = one.moved_m(context_of(place_m, time_s, *place), ahead_s)
        torch.testing.assert_close(moved_m.norm(dim=-1), seen_m.norm(dim=-1), **NEAR)


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_a_forecast_is_the_same_alone_and_padded_in_a_batch(one):
    place_m, time_s, _ = fixes(4, 12)
    context, ahead_s = context_of(place_m, time_s), time_s[:, -1:] + even(4, 6)
    counts = torch.tensor([12, 3, 1, 7])
    is_pad = torch.arange(12) >= counts[:, None]
    spoiled = {
        name: getattr(context, name).masked_fill(is_pad, torch.nan)
        for name in ("lon_deg_BT", "lat_deg_BT", "time_s_BT")
    }
    together = one.forecast(replace(context, **spoiled, is_pad_BT=is_pad), 6, ahead_s)
    for row, count in enumerate(counts.tolist()):
        columns = {name: getattr(context, name)[[row], :count] for name in spoiled}
        single = replace(
            context, **columns, started_us_B=torch.zeros(1).long(), is_pad_BT=is_pad[[row], :count]
        )
        alone = one.forecast(single, 6, ahead_s[[row]])
        assert float(away_m(alone, together.at([row])).max()) < 1e-6
        torch.testing.assert_close(alone.radius_p80_m_BH, together.radius_p80_m_BH[[row]])


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_no_step_is_told_by_later_target_times(one):
    place_m, time_s, _ = fixes(2, 10)
    context, ahead_s = context_of(place_m, time_s), time_s[:, -1:] + even(2, 6)
    later_s = ahead_s.clone()
    later_s[:, 3:] += 500
    first, second = (one.forecast(context, 6, times) for times in (ahead_s, later_s))
    assert torch.equal(first.at(slice(None), slice(3)).lon_deg_BH, second.lon_deg_BH[:, :3])
    assert not torch.equal(first.lon_deg_BH[:, 3:], second.lon_deg_BH[:, 3:])


def test_a_belief_is_not_told_by_later_fixes():
    place_m, time_s, is_fix = fixes(2, 10)
    later_m = place_m.clone()
    later_m[:, 6:] += 1_000
    for bank in BANKS.values():
        one, other = (
            [belief.state_BMS for belief in bank.followed(places, time_s, is_fix, place_m[:, 0])]
            for places in (place_m, later_m)
        )
        assert all(torch.equal(*pair) for pair in zip(one[:6], other[:6], strict=True))
        assert not torch.equal(one[-1], other[-1])


@pytest.mark.parametrize("times_given", [True, False])
@pytest.mark.parametrize("one", SMOOTHERS, ids=lambda one: one.name)
def test_hidden_values_and_pads_have_no_effect(one, times_given):
    place_m, time_s, is_known = fixes(4, 12)
    is_known[0] = False
    is_known[1, :3] = False
    is_known[2] = torch.arange(12) == 5
    asked = partial_of(context_of(place_m, time_s), is_known, times_given)
    shown = (asked.shows_place_BT, asked.shows_place_BT, asked.shows_time_BT)
    columns = {
        name: torch.nn.functional.pad(
            getattr(asked, name).masked_fill(~is_shown_BT, torch.nan), (0, 3), value=torch.nan
        )
        for name, is_shown_BT in zip(("lon_deg_BT", "lat_deg_BT", "time_s_BT"), shown, strict=True)
    }
    masks = {
        name: torch.nn.functional.pad(getattr(asked, name), (0, 3))
        for name in ("shows_place_BT", "shows_time_BT")
    }
    is_pad_BT = (torch.arange(15) >= 12).expand(4, 15)
    blind = one.recover(replace(asked, **columns, **masks, is_pad_BT=is_pad_BT))
    plain = one.recover(asked)
    for name in ("lon_deg_BT", "lat_deg_BT"):
        seen, expected = getattr(blind, name)[:, :12], getattr(plain, name)
        assert bool(expected[0].isnan().all())
        assert bool(seen[0].isnan().all())
        assert bool(seen[1:].isfinite().all())
        torch.testing.assert_close(seen[1:], expected[1:], rtol=0, atol=1e-11)
    assert not bool(blind.is_recovered_BT[:, 12:].any())
    alone = one.recover(asked.part(1, 2))
    torch.testing.assert_close(alone.lon_deg_BT, plain.lon_deg_BT[1:2], rtol=0, atol=1e-11)


def test_with_the_ends_alone_constant_velocity_is_the_straight_line():
    place_m, time_s, is_known = fixes(3, 12)
    asked = partial_of(context_of(place_m, time_s), end_mask(is_known))
    found, line = SMOOTHERS[0].recover(asked), LINEAR.recover(asked)
    away = haversine_m(found.lon_deg_BT, found.lat_deg_BT, line.lon_deg_BT, line.lat_deg_BT)
    # The prior holds a velocity back by a millionth.
    assert float(away.max()) < 1e-4 * float(place_m.abs().max())


def end_mask(is_known_BT):
    slot_T = torch.arange(is_known_BT.shape[1])
    return ((slot_T == 0) | (slot_T == slot_T[-1])).expand_as(is_known_BT)


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_equal_instants_and_single_points_have_an_answer(one):
    place_m = fixes(1, 6)[0]
    time_s = torch.tensor([[0.0, 0, 0, 30, 30, 30]], dtype=torch.float64)
    found = one.forecast(context_of(place_m, time_s), 3, torch.tensor([[30.0, 30, 60]]).double())
    assert bool(found.lon_deg_BH.isfinite().all())
    assert bool(found.radius_p80_m_BH.isfinite().all())
    single = context_of(place_m[:, :1], time_s[:, :1])
    still = one.forecast(single, 2, torch.tensor([[30.0, 60]]).double())
    assert still.lon_deg_BH[0].tolist() == pytest.approx([float(single.lon_deg_BT)] * 2)
    assert found.sample_lon_deg_BSH is None


def test_times_are_predicted_where_none_are_given():
    place_m, time_s, _ = fixes(2, 10)
    context = context_of(place_m, time_s)
    found = EVERY[0].forecast(context, 4)
    assert torch.equal(found.time_s_BH, predicted_time_s(context, 4))


# Fit --------------------------------------------------------------------------------------------


def noisy(num_tracks=100, fix_m=FIX_M, drive=0.3, seed=0) -> Whole:
    """Constant velocity disturbed as the filter assumes, and noisy fixes of it."""
    generator = torch.Generator().manual_seed(seed)
    moves, noise = matrices(Motion(drive), STEP_S, 4)
    root = np.linalg.cholesky(noise / FIX_M**2 * fix_m**2)
    state = torch.randn((num_tracks, 4), generator=generator, dtype=torch.float64) * 100
    places = []
    for _ in range(30):
        places.append(state[:, :2])
        draw = torch.randn((num_tracks, 4), generator=generator, dtype=torch.float64)
        state = state @ torch.from_numpy(moves).T + draw @ torch.from_numpy(root).T
    place_m = torch.stack(places, 1)
    place_m += fix_m * torch.randn(place_m.shape, generator=generator, dtype=torch.float64)
    time_s = even(num_tracks, 30)
    track = context_of(place_m - place_m[:, 19:20], time_s)
    context = track.part(0, None, 20)
    after = (track.lon_deg_BT, track.lat_deg_BT, track.time_s_BT)
    ahead = [value[:, 20:] for value in after]
    return Whole.of(context, *ahead, torch.ones_like(ahead[0], dtype=torch.bool))


@pytest.fixture(scope="module")
def fitted():
    return {one.name: one for one in fitted_filters(noisy())}


def test_the_noise_of_a_planted_process_is_found(fitted):
    (motion,) = fitted["kalman_velocity"].bank.motions
    assert 0.1 < motion.drive < 1
    assert fitted["kalman_velocity"].bank.fix_m == pytest.approx(FIX_M, rel=0.15)
    assert fitted["kalman_velocity"].bank.step_s == STEP_S
    windows = noisy(seed=1)
    errors_m = {name: windows.error_m(one) for name, one in fitted.items()}
    told = CONSTANT_VELOCITY.forecast(windows.context, 10, windows.time_s_BH)
    plain_m = haversine_m(
        told.lon_deg_BH, told.lat_deg_BH, windows.lon_deg_BH, windows.lat_deg_BH
    ).mean()
    assert errors_m["kalman_velocity"] < 0.95 * float(plain_m)
    assert errors_m["kalman_velocity"] < errors_m["kalman_acceleration"]


def test_radii_hold_half_and_four_fifths_of_other_windows(fitted):
    windows = noisy(seed=1)
    for one in fitted.values():
        told = one.forecast(windows.context, 10, windows.time_s_BH)
        away = haversine_m(told.lon_deg_BH, told.lat_deg_BH, windows.lon_deg_BH, windows.lat_deg_BH)
        for radius_m_BH, share in ((told.radius_p50_m_BH, 0.5), (told.radius_p80_m_BH, 0.8)):
            assert float((away <= radius_m_BH).double().mean()) == pytest.approx(share, abs=0.05)


def test_the_smoother_beats_a_line_through_noise():
    windows = noisy(drive=0.01)
    asked, truth = with_gaps(noisy(drive=0.01, seed=1))

    def error_m(one):
        told = one.recover(asked)
        away = haversine_m(told.lon_deg_BT, told.lat_deg_BT, truth.lon_deg_BT, truth.lat_deg_BT)
        return float(away[told.is_recovered_BT].mean())

    velocity, acceleration = fitted_smoothers(windows)
    assert [velocity.name, acceleration.name] == ["rts_velocity", "rts_acceleration"]
    # The truth is noisy itself: 15 m on average no one can tell.
    assert error_m(velocity) - 15 < 0.75 * (error_m(LINEAR) - 15)
    assert error_m(acceleration) < error_m(LINEAR)


def test_what_stands_still_is_fitted_too():
    windows = noisy(12)
    still = replace(
        windows,
        context=replace(
            windows.context,
            lon_deg_BT=torch.full_like(windows.context.lon_deg_BT, 10.0),
            lat_deg_BT=torch.full_like(windows.context.lat_deg_BT, 50.0),
        ),
        lon_deg_BH=torch.full_like(windows.lon_deg_BH, 10.0),
        lat_deg_BH=torch.full_like(windows.lat_deg_BH, 50.0),
    )
    for one in fitted_filters(still):
        assert still.error_m(one) < 1e-3
        assert all(math.isfinite(radius) for radius in one.radii)


def test_windows_without_all_steps_are_left_out():
    windows = noisy(12)
    columns = windows.lon_deg_BH, windows.lat_deg_BH, windows.time_s_BH
    is_target = torch.ones_like(windows.time_s_BH, dtype=torch.bool)
    is_target[::2, 4:] = False
    assert len(Whole.of(windows.context, *columns, is_target).time_s_BH) == 6
    with pytest.raises(ValueError, match="no window of 10 steps to fit Kalman filters on"):
        Whole.of(windows.context, *columns, is_target & False)
