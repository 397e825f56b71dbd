"""What gdm promises, with random weights; each guard also catches a planted fault.

The faults are those of the published code, which the names of the planted classes tell.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from helpers.masked_guards import (
    astride_the_date_line,
    check_a_resumed_run_ends_alike,
    check_hidden_points_are_unseen,
    check_rows_are_independent,
    hiding_others,
)
from helpers.walks import (
    STARTED_US,
    STILL,
    WALKING,
    batch_of,
    context_of,
    shaken,
    standing,
    walk,
    window_of,
)
from safetensors.torch import load_file

from model.earth.geometry import haversine_m, step_between
from model.families.gdm import network
from model.families.gdm.denoiser import Denoiser
from model.families.gdm.diffusion import MAX_PASSES, shares_at
from model.families.gdm.network import CONDITIONS, PRESETS, Gdm, GdmConfig, start_or_some
from model.families.gdm.noise import training_noise
from model.families.gdm.paths import paths_of
from model.families.gdm.steps import KnownSteps, StepCode, known_steps, start_alone
from model.features.point_features import steps_of
from model.interface.batch import Cursor
from model.interface.contexts import Partial
from model.interface.masked_input import masked_input_of
from model.interface.masking import from_start, masked, places_of_segments, segments
from model.interface.weights import load_weights, save_weights

TINY = replace(PRESETS["tiny"], num_layers=1, num_passes=3)
REPAINTED = replace(TINY, conditioning="repainted", num_passes=6)


def random_weights(family=Gdm, config=TINY):
    return shaken(family, config, spread=0.1)


@torch.no_grad()
def told(model, batch, num_samples=2):
    """Where the mean path and the samples go (B, T, G, 3), in metres from a place, and when."""
    paths = model.paths(masked_input_of(batch), num_samples, seed=3)
    lon_deg, lat_deg, time_s = (value_BGT.transpose(1, 2) for value_BGT in paths)
    origin = lon_deg.new_tensor(8.0), lat_deg.new_tensor(50.0)
    return torch.stack([*step_between(*origin, lon_deg, lat_deg), time_s], dim=-1)


def hidden_walks(draw=segments, num_pads=0):
    return masked(batch_of(*walk(3, 14), num_pads=num_pads), draw, 0)


def captured(model, ask):
    """What the denoiser reads in each of its passes, (B, T, U)."""
    seen = []
    hook = model.denoiser.features.register_forward_hook(
        lambda part, given, _: seen.append(given[0])
    )
    with torch.no_grad():
        ask(model)
    hook.remove()
    return seen


# ------------------------------------------------------------------ planted faults


class Adding(Gdm):
    """Adds something to what the denoiser reads, of which no norm rids it."""

    added = 0.0

    def __init__(self, config, normaliser):
        super().__init__(config, normaliser)
        self.denoiser.features.register_forward_hook(
            lambda part, given, x: x + self.extra(x) * torch.linspace(-1, 1, x.shape[-1])
        )

    def extra(self, _):
        return self.added


class ReadsCenter(Adding):
    """Leaks: places relative to the middle of the whole window, hidden points and all."""

    def loss(self, batch):
        self.added = batch.lon_deg_BT.mean(1)[:, None, None].float()
        return super().loss(batch)

    def recover(self, batch):
        self.added = float(batch.lon_deg_BT.mean())
        return super().recover(batch)


class BatchStatistics(Adding):
    """Leaks: normalises by the batch."""

    def extra(self, x):
        return -x.mean(dim=(0, 1))


class AbsolutePlace(Adding):
    """Knows where on Earth it is."""

    def paths(self, shown, num_samples, seed):
        self.added = float(shown.lon_deg_BT[0, 0]) / 180
        return super().paths(shown, num_samples, seed)


class WithDenoiser(Gdm):
    """Has a faulty denoiser."""

    faulty = Denoiser

    def __init__(self, config, normaliser):
        super().__init__(config, normaliser)
        self.denoiser.__class__ = self.faulty


class NoisesAll(Denoiser):
    def forward(self, x_BTF, time_BT, known, is_readable_BT):
        all_BTF = (~known.is_pad_BT).unsqueeze(-1).expand_as(known.hides_BTF)
        return super().forward(x_BTF, time_BT, replace(known, hides_BTF=all_BTF), is_readable_BT)


class NoisedConditions(WithDenoiser):
    """What is known is noised like what is not: sampling holds it clean, training did not."""

    faulty = NoisesAll


class CountsHiddenFromZero(Denoiser):
    def forward(self, x_BTF, time_BT, known, is_readable_BT):
        is_hidden_BT = known.hides_BTF.any(-1)
        own_BT = torch.where(is_hidden_BT, is_hidden_BT.cumsum(1), (~is_hidden_BT).cumsum(1)) - 1
        return super().forward(x_BTF, time_BT, replace(known, position_BT=own_BT), is_readable_BT)


class HiddenFromZero(WithDenoiser):
    """Hidden points are decoded alone, from position 0 on."""

    faulty = CountsHiddenFromZero


class ReadsHiddenAlone(Denoiser):
    def forward(self, x_BTF, time_BT, known, is_readable_BT):
        is_hidden_BT = known.hides_BTF.any(-1)
        return super().forward(x_BTF, time_BT, known, is_readable_BT & is_hidden_BT)


class HiddenAlone(WithDenoiser):
    """Hidden points are decoded without the known ones before and behind them."""

    faulty = ReadsHiddenAlone


class ReadsPads(Adding):
    """Takes in what stands behind the known points: there the truth lay, cut off."""

    def forecast(self, context, *asked):
        self.added = float(context.lon_deg_BT.mean()) / 180
        return super().forecast(context, *asked)


class FreeLatents(Gdm):
    """Codes grow, and the noise beside them vanishes, as where a decoder alone trains them."""

    def fit_inputs(self, batches):
        super().fit_inputs(batches)
        self.code.spread_F /= 100


class StartsAtZero(Gdm):
    """Samples begin with zeros, and not with noise."""

    def _sampled_from_noise(self, noise_PBTF, known):
        return super()._sampled_from_noise(torch.zeros_like(noise_PBTF), known)


class AccordingReal(Gdm):
    """Samples begin with mean and deviation of real steps, as `--according_real` has it."""

    real = 0.0, 1.0

    def loss(self, batch):
        self.real = float(batch.step_BTF.mean()), float(batch.step_BTF.std())
        return super().loss(batch)

    def _sampled_from_noise(self, noise_PBTF, known):
        mean, deviation = self.real
        return super()._sampled_from_noise(mean + deviation * noise_PBTF, known)


class HeldClean(KnownSteps):
    """What is known is held clean at every level, where training has seen it noised."""

    def painted(self, x_BTF, time, noise_BTF):
        return super().painted(x_BTF, time, torch.zeros_like(noise_BTF))


# ------------------------------------------------------------------ steps


def fitted_code(points, family=Gdm):
    model = family(TINY, WALKING)
    model.fit_inputs([batch_of(*points, num_pads=3)])
    return model


def check_steps_have_unit_variance(family):
    points = walk(200, 12)
    code_BTF = fitted_code(points, family).code.encode(steps_of(*points)[:, 1:].float())
    torch.testing.assert_close(code_BTF.mean((0, 1)), torch.zeros(3).double(), rtol=0, atol=1e-7)
    variance_F = code_BTF.flatten(0, 1).var(0, correction=0)
    torch.testing.assert_close(variance_F, torch.ones(3).double())


def test_steps_of_train_have_unit_variance(caplog):
    caplog.set_level("INFO")
    check_steps_have_unit_variance(Gdm)
    assert "variance of steps: east 1.000, north 1.000, clock 1.000" in caplog.text
    with pytest.raises(AssertionError):
        check_steps_have_unit_variance(FreeLatents)


def test_before_they_are_fitted_typical_sizes_stand_in():
    code_BTF = StepCode(WALKING).encode(steps_of(*walk(200, 12))[:, 1:])
    variance = code_BTF.flatten(0, 1).var(0)
    assert ((variance > 0.2) & (variance < 5)).all()


def test_codes_are_steps_and_back():
    step_BTF = steps_of(*walk(3, 12))
    code = fitted_code(walk(20, 12)).code
    torch.testing.assert_close(code.decode(code.encode(step_BTF)), step_BTF, rtol=1e-9, atol=1e-9)
    assert float(code.decode(torch.full((3,), -1e3))[2]) == 0


@pytest.mark.parametrize("still", STILL)
def test_steps_without_time_or_way_are_finite(still):
    points = standing(still)
    model = fitted_code(points).train()
    for draw in (segments, from_start):
        loss = model.loss(masked(batch_of(*points), draw, 0))
        loss.mean.backward()
        assert torch.isfinite(loss.total)
        assert torch.isfinite(told(model, masked(batch_of(*points), draw, 0))).all()
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_what_is_known_of_steps():
    """Slowly: known steps as they are, hidden ones as even shares, by time where it is known."""
    points = walk(1, 8)
    batch = window_of(points, hidden=[3, 4])
    code = StepCode(WALKING)
    known = known_steps(masked_input_of(batch), code)
    assert known.hides_BTF.any(-1)[0].nonzero().flatten().tolist() == [3, 4, 5]
    assert not known.hides_BTF[..., 2].any()  # times are given
    found_TF = code.decode(known.told_BTF)[0]
    expected_TF = steps_of(*points)[0]
    for index in (1, 2, 6, 7):
        torch.testing.assert_close(found_TF[index], expected_TF[index], rtol=1e-4, atol=1e-3)
    lon_deg_T, lat_deg_T, time_s_T = (value[0] for value in points)
    chord_m = torch.stack(step_between(lon_deg_T[2], lat_deg_T[2], lon_deg_T[5], lat_deg_T[5]))
    for index in (3, 4, 5):
        share = (time_s_T[index] - time_s_T[index - 1]) / (time_s_T[5] - time_s_T[2])
        torch.testing.assert_close(found_TF[index, :2], share * chord_m, rtol=1e-4, atol=1e-3)


# ------------------------------------------------------------------ paths


def test_paths_meet_what_is_known():
    """Whatever the steps are: what is off at the end of a gap is taken off its steps alike."""
    batch = hidden_walks()
    shown = masked_input_of(batch)
    known = known_steps(shown, StepCode(WALKING))
    generator = torch.Generator().manual_seed(1)
    step_BTF = 20 * torch.rand(3, 14, 3, dtype=torch.float64, generator=generator)
    points = paths_of(step_BTF, shown, known)
    for value_BT, true_BT, shows_BT in zip(
        points,
        (batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT),
        (batch.shows_place_BT, batch.shows_place_BT, batch.shows_time_BT),
        strict=True,
    ):
        assert torch.equal(value_BT[shows_BT], true_BT[shows_BT])
    found_BTF = steps_of(*points)
    assert (found_BTF[..., 2] >= 0).all()
    off_BTC = (found_BTF - step_BTF)[..., :2]
    ratio_BT = found_BTF[..., 2] / step_BTF[..., 2]
    is_hidden_BT = known.hides_BTF[..., 0]
    num_compared = 0
    for row, point in is_hidden_BT.nonzero().tolist():
        if is_hidden_BT[row, point - 1] and not shown.shows_place_BT[row, point - 1]:
            one, other = off_BTC[row, point - 1], off_BTC[row, point]
            torch.testing.assert_close(one, other, rtol=0, atol=0.01)
            assert float(ratio_BT[row, point]) == pytest.approx(
                float(ratio_BT[row, point - 1]), rel=1e-4
            )
            num_compared += 1
    assert num_compared > 10


def check_recovered(model):
    batch = hidden_walks()
    found = model.recover(batch)
    assert torch.equal(found.is_recovered_BT, batch.is_target_BT)
    other = torch.where(batch.is_target_BT, 66.0, batch.lon_deg_BT)
    times = torch.where(batch.is_target_BT, 1e6, batch.time_s_BT)
    spoiled = model.recover(replace(batch, lon_deg_BT=other, time_s_BT=times))
    assert torch.equal(spoiled.lon_deg_BT, found.lon_deg_BT)
    assert torch.equal(spoiled.time_s_BT, found.time_s_BT)


@torch.no_grad()
def test_what_is_asked_is_no_part_of_the_answer():
    check_recovered(random_weights())
    with pytest.raises(AssertionError):
        check_recovered(random_weights(ReadsCenter))


def test_what_nothing_known_comes_before_is_not_told():
    batch = window_of(walk(2, 12), hidden=[0, 5, 11])
    with torch.no_grad():
        found = random_weights().recover(batch)
    assert found.is_recovered_BT.nonzero()[:, 1].tolist() == [5, 11, 5, 11]


# ------------------------------------------------------------------ guards


NUM_SCORED = 3 * 2 * 3  # steps to 3, to 8 and from 8, each east and north


def test_hidden_points_are_unseen():
    check_hidden_points_are_unseen(random_weights(), NUM_SCORED)
    with pytest.raises(AssertionError):
        check_hidden_points_are_unseen(random_weights(ReadsCenter), NUM_SCORED)


@pytest.mark.parametrize("config", [TINY, REPAINTED])
@pytest.mark.parametrize("draw", [*CONDITIONS, from_start])
def test_what_is_hidden_is_no_input(draw, config):
    """No path moves with a hidden place or time; what is known does count."""
    model, batch = random_weights(config=config), hidden_walks(draw, num_pads=3)
    before = told(model, batch)
    assert torch.equal(told(model, hiding_others(batch)), before)
    moved_BT = batch.lon_deg_BT + 1e-3 * (1 + torch.arange(batch.lon_deg_BT.shape[1]))
    assert not torch.equal(told(model, replace(batch, lon_deg_BT=moved_BT)), before)


@torch.no_grad()
def check_both_sides_are_seen(model):
    """Of known points, those beyond the ways included."""
    points = walk(3, 20)
    before = told(model, window_of(points, hidden=[9, 10]))
    for known in (0, 19):
        lon_deg_BT = points[0].clone()
        lon_deg_BT[:, known] += 1e-3
        after = told(model, window_of((lon_deg_BT, *points[1:]), hidden=[9, 10]))
        assert (before[:, 9:11] != after[:, 9:11]).any(-1).all(), known


def test_a_gap_sees_the_known_points_on_both_sides():
    check_both_sides_are_seen(random_weights())
    with pytest.raises(AssertionError):
        check_both_sides_are_seen(random_weights(HiddenAlone))


def check_known_points_enter_clean(model):
    """In training, at any level of noise, as in sampling: the same numbers."""
    batch = hidden_walks()
    asks = (
        lambda model: model.loss(batch),
        lambda model: model.loss(replace(batch, seed=1)),
        lambda model: model.sampled_code(
            known_steps(masked_input_of(batch), model.code), range(1), seed=0
        ),
    )
    seen = [part for ask in asks for part in captured(model, ask)]
    is_known_BT = ~known_steps(masked_input_of(batch), model.code).hides_BTF.any(-1)
    assert len(seen) == 2 + TINY.num_passes
    for part in seen[1:]:
        assert torch.equal(part[is_known_BT], seen[0][is_known_BT])
        assert not torch.equal(part[~is_known_BT], seen[0][~is_known_BT])


def test_known_points_enter_clean_at_every_level():
    check_known_points_enter_clean(random_weights())
    with pytest.raises(AssertionError):
        check_known_points_enter_clean(random_weights(NoisedConditions))


@torch.no_grad()
def check_what_is_repainted_is_noised(kind):
    """As much as the rest, at each level: what is known of steps, and the mean step of each gap."""
    model = random_weights(config=REPAINTED)
    shown = masked_input_of(window_of(walk(1, 14), hidden=[3, 4, 8]))
    known, alone = (known_steps(one, model.code) for one in (shown, start_alone(shown)))
    known = kind(**vars(known))
    seen = []
    plain = model._velocity
    model._velocity = lambda x_BTF, time, own: seen.append((time, x_BTF)) or plain(x_BTF, time, own)
    model.repainted_code(known, alone, range(400), seed=1)
    assert [round(time, 3) for time, _ in seen] == [1.0, 1.0, 0.667, 0.667, 0.333, 0.333]
    told_BTF = known.told_BTF
    for time, x_RTF in seen[2:]:
        signal, share = shares_at(time)
        noise_RTF = (x_RTF - signal * told_BTF) / share
        gap_RC = noise_RTF[:, 3:6, :2].sum(1) / 3**0.5
        for noise in (noise_RTF[:, [1, 2, 6, 7]], gap_RC):
            assert float(noise.std()) == pytest.approx(1, abs=0.1)
            assert float(noise.mean()) == pytest.approx(0, abs=0.1)


def test_what_is_repainted_is_noised_like_the_rest():
    check_what_is_repainted_is_noised(KnownSteps)
    with pytest.raises(AssertionError):
        check_what_is_repainted_is_noised(HeldClean)


def check_a_row_stands_alone(model):
    check_rows_are_independent(partial(told, model), rtol=1e-4, atol=2e-2)  # centimetres


def test_a_row_and_its_samples_depend_on_itself_alone():
    check_a_row_stands_alone(random_weights())
    with pytest.raises(AssertionError):
        check_a_row_stands_alone(random_weights(BatchStatistics))


@torch.no_grad()
def check_meridian_does_not_matter(model):
    points = walk(3, 12)
    moved, shift_deg_B1 = astride_the_date_line(points)
    home, away = (model.paths(masked_input_of(window_of(one)), 2, 3) for one in (points, moved))
    back_deg = away[0] - shift_deg_B1.unsqueeze(1)
    assert float(haversine_m(back_deg, away[1], *home[:2]).max()) < 0.05


def test_the_date_line_is_no_border():
    check_meridian_does_not_matter(random_weights())
    with pytest.raises(AssertionError):
        check_meridian_does_not_matter(random_weights(AbsolutePlace))


def even_line(hidden):
    """A straight even way: whichever points are hidden, all known ones look alike."""
    lat_deg_BT = (1e-4 * torch.arange(14.0, dtype=torch.float64)).unsqueeze(0)
    batch = window_of((torch.zeros_like(lat_deg_BT), lat_deg_BT, 1e5 * lat_deg_BT), hidden=hidden)
    return replace(batch, calendar_BTK=torch.zeros_like(batch.calendar_BTK))


def check_hidden_points_keep_their_positions(model):
    """A gap is told by where it lies among the known points, not by its own first point."""

    def told_of_gap(start):
        known = known_steps(masked_input_of(even_line([start, start + 1])), model.code)
        for value_BTX in (known.told_BTF, known.around_BTU):
            value_BTX[:, 0] = value_BTX[:, 1]  # the first point looks like the others, too
        x_BTF = torch.full_like(known.told_BTF, 0.5)
        v_BTF = model.denoiser(x_BTF, torch.tensor([[0.5]]), known, ~known.is_pad_BT)
        return v_BTF[0, start : start + 3]

    assert float((told_of_gap(3) - told_of_gap(8)).abs().max()) > 1e-4


@torch.no_grad()
def test_hidden_points_keep_their_positions():
    check_hidden_points_keep_their_positions(random_weights())
    with pytest.raises(AssertionError):
        check_hidden_points_keep_their_positions(random_weights(HiddenFromZero))


@pytest.mark.parametrize("draw", [segments, from_start])
def test_sequences_of_a_packed_row_do_not_see_each_other(draw):
    """Wherever a sequence stands in its row, its steps, controls and losses are the same."""
    model = random_weights().train()
    first, second = walk(1, 12, seed=1), walk(1, 9, seed=2, lon_deg=20.0)
    alone = [batch_of(*points) for points in (first, second)]
    alone[1] = replace(alone[1], window_id_B=torch.tensor([1]))
    packed = replace(
        batch_of(*(torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))),
        sequence_BT=torch.tensor([[0] * 12 + [1] * 9]),
        window_id_BS=torch.tensor([[0, 1]]),
        calendar_BTK=torch.cat([batch.calendar_BTK for batch in alone], dim=1),
    )
    packed, *alone = (masked(batch, draw, 0) for batch in (packed, *alone))
    found = model.loss(packed)
    expected = [model.loss(batch) for batch in alone]
    assert int(found.count) == sum(int(loss.count) for loss in expected) > 0
    total = sum(loss.total for loss in expected)
    torch.testing.assert_close(found.total, total, rtol=1e-5, atol=1e-4)


# ------------------------------------------------------------------ loss


def test_the_loss_is_of_hidden_numbers_alone():
    model = random_weights()
    for draw in (places_of_segments, segments, from_start):
        batch = hidden_walks(draw)
        loss = model.loss(batch)
        hides_BTF = known_steps(masked_input_of(batch), model.code).hides_BTF
        assert int(loss.count) == int(hides_BTF.sum()) > 0
        assert bool(hides_BTF[..., 2].any()) == (draw is not places_of_segments)
        torch.testing.assert_close(sum(loss.parts.values()), loss.total.detach())
    time_B = training_noise(batch)[0][:, 0]
    reached = {f"noise_{int(10 * time)}" for time in time_B.clamp(max=0.99).tolist()}
    assert {name for name, part in loss.parts.items() if part > 0} == reached
    assert len(loss.parts) == 10
    observed = model.loss(batch_of(*walk(2, 6)))
    assert (float(observed.total.detach()), int(observed.count)) == (0.0, 0)


def test_untrained_the_mean_error_is_that_of_telling_nothing():
    """Half of v is noise and half is the step; the weight takes a little of it."""
    points = walk(300, 8)
    model = fitted_code(points)
    loss = model.loss(masked(batch_of(*points), from_start, 0))
    assert 0.75 < float(loss.mean.detach()) < 1


@pytest.mark.parametrize("draw", [segments, from_start])
def test_pads_never_count(draw):
    model, points = random_weights().train(), walk(3, 12)
    plain, padded = (
        model.loss(masked(batch_of(*points, num_pads=num_pads), draw, 0)) for num_pads in (0, 5)
    )
    assert int(plain.count) == int(padded.count) > 0
    torch.testing.assert_close(padded.total, plain.total, rtol=1e-5, atol=1e-3)


def test_half_of_training_knows_the_start_alone():
    shown = [start_or_some(np.random.default_rng(seed), 12) for seed in range(400)]
    num_starts = sum(int((mask.shows_place_N | mask.shows_time_N).sum()) == 1 for mask in shown)
    assert 170 < num_starts < 250  # some forecasts begin behind the start, too


# ------------------------------------------------------------------ noise of training


def check_noise_is_of_the_window(model, draw=segments):
    """By seed, epoch and window: neither chance nor the batch has a say."""
    batch = replace(hidden_walks(draw), cursor=Cursor(2, 1))
    plain = model.loss(batch).total
    torch.manual_seed(99)
    assert torch.equal(model.loss(batch).total, plain)
    assert torch.equal(model.loss(replace(batch, cursor=Cursor(2, 5))).total, plain)
    rows = sum(model.loss(batch.part(row, row + 1)).total for row in (2, 0, 1))
    torch.testing.assert_close(rows, plain, rtol=1e-5, atol=1e-4)
    others = replace(batch, cursor=Cursor(3, 1)), replace(batch, seed=1)
    assert all(not torch.equal(model.loss(other).total, plain) for other in others)


def drawn_afresh(batch):
    """Fault: whatever comes next of torch's own stream."""
    return torch.rand(batch.is_pad_BT.shape), torch.randn(*batch.is_pad_BT.shape, 3)


@torch.no_grad()
def test_noise_is_of_the_window(monkeypatch):
    check_noise_is_of_the_window(random_weights())
    monkeypatch.setattr(network, "training_noise", drawn_afresh)
    with pytest.raises(AssertionError):
        check_noise_is_of_the_window(random_weights())


def test_a_training_run_goes_on_with_the_same_noise(tmp_path):
    check_a_resumed_run_ends_alike(lambda: Gdm(TINY, WALKING), start_or_some, tmp_path)


# ------------------------------------------------------------------ generation


@torch.no_grad()
def generated(model, num=3, num_points=9, seed=1, **start):
    found = model.generate(num, num_points, seed, **start)
    return torch.stack([found.lon_deg_NT, found.lat_deg_NT, found.time_s_NT], dim=-1)


def check_generation_reads_no_data(model, tmp_path):
    """The weights and the seed give the bytes, whatever the model has seen since."""
    before = generated(model)
    model.loss(batch_of(*walk(3, 12)))
    told(model, hidden_walks())
    torch.manual_seed(7)
    assert torch.equal(generated(model), before)
    save_weights(model, tmp_path / "weights.safetensors")
    fresh = type(model)(TINY, WALKING).eval()
    load_weights(fresh, tmp_path / "weights.safetensors")
    assert torch.equal(generated(fresh), before)


def test_generation_reads_no_data(tmp_path):
    model = random_weights()
    model.fit_inputs([batch_of(*walk(20, 12))])
    check_generation_reads_no_data(model, tmp_path)
    with pytest.raises(AssertionError):
        check_generation_reads_no_data(random_weights(AccordingReal), tmp_path)


def check_weights_are_plain(model, folder):
    """Safetensors, which run no code, and 32 bits for whatever is trained."""
    save_weights(model, folder / "weights.safetensors")
    stored = load_file(folder / "weights.safetensors")
    assert stored.keys() == model.state_dict().keys()
    assert {stored[name].dtype for name, _ in model.named_parameters()} == {torch.float32}


def test_weights_are_plain(tmp_path):
    check_weights_are_plain(random_weights(), tmp_path)
    with pytest.raises(AssertionError):
        check_weights_are_plain(random_weights().double(), tmp_path)


def check_samples_differ(model):
    found_NT3 = generated(model)
    assert torch.equal(found_NT3[:, 0], found_NT3[:1, 0].expand(3, 3))  # one start
    apart_m = haversine_m(
        *(found_NT3[[0, 0, 1], 1:, axis] for axis in (0, 1)),
        *(found_NT3[[1, 2, 2], 1:, axis] for axis in (0, 1)),
    )
    assert (apart_m > 0.1).all()


def test_samples_begin_in_noise():
    check_samples_differ(random_weights())
    with pytest.raises(AssertionError):
        check_samples_differ(random_weights(StartsAtZero))


def test_a_trajectory_is_a_function_of_its_number():
    model = random_weights()
    five = generated(model, num=5)
    torch.testing.assert_close(generated(model, num=2), five[:2], rtol=0, atol=1e-6)
    assert not torch.equal(generated(model, num=5, seed=2), five)
    assert (five[..., 2].diff(dim=1) >= 0).all()


def test_generation_begins_where_it_is_told_to():
    """By default in the middle of where train begins; a start moves all and changes nothing."""
    model = random_weights()
    points = walk(20, 12)
    model.fit_inputs([batch_of(*points)])
    at_home = generated(model)
    middle = torch.tensor([8.0, 50.0], dtype=torch.float64)
    torch.testing.assert_close(at_home[0, 0, :2], middle, rtol=0, atol=1e-9)
    away = generated(model, start_deg=(-20.0, 50.0))
    shift = torch.tensor([28.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(away + shift, at_home, rtol=0, atol=1e-9)


def test_each_trajectory_may_begin_at_a_place_of_its_own():
    """It depends on its number and its start alone."""
    model = random_weights()
    start_deg_NC = torch.tensor([[8.0, 50.0], [-20.0, 10.0], [179.9, -60.0]])
    found = generated(model, start_deg=start_deg_NC)
    torch.testing.assert_close(found[:, 0, :2], start_deg_NC.double(), rtol=0, atol=0)
    for number, start_deg in enumerate(start_deg_NC.tolist()):
        alone = generated(model, num=number + 1, start_deg=tuple(start_deg))[number]
        torch.testing.assert_close(found[number], alone, rtol=0, atol=1e-6)
    with pytest.raises(RuntimeError, match="expand"):
        generated(model, num=4, start_deg=start_deg_NC)


@pytest.mark.parametrize("config", list(PRESETS.values()))
def test_a_sample_takes_few_passes(config):
    model = Gdm(replace(config, width=16, num_layers=1, num_heads=2), WALKING)
    num_passes = len(captured(model, lambda model: model.generate(2, 4, 0)))
    assert num_passes == config.num_passes <= MAX_PASSES


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_passes": MAX_PASSES + 1},
        {"num_passes": 0},
        {"sampler": "euler"},
        {"conditioning": "hoped for"},
        {"eta": 0.5},
        {"sampler": "ddim", "eta": 1.5},
        {"eta": -0.1},
        {"guidance": -0.5},
    ],
)
def test_an_impossible_sampler_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)) + "|eta"):
        GdmConfig(**wrong)


def test_each_sampler_draws_its_own_paths():
    """DDIM, with and without fresh noise; fresh noise has its number as well."""
    configs = [replace(TINY, sampler="ddim", eta=eta) for eta in (0.0, 0.5)]
    plain, drawn = (generated(random_weights(config=config)) for config in configs)
    assert not torch.equal(plain[:, 1:], drawn[:, 1:])
    assert not torch.equal(plain, generated(random_weights()))
    again = generated(random_weights(config=configs[1]), num=2)
    torch.testing.assert_close(again, drawn[:2], rtol=0, atol=1e-6)


# ------------------------------------------------------------------ forecasts


@torch.no_grad()
def test_a_forecast_has_samples_and_keeps_given_times():
    model, points = random_weights(), walk(3, 12)
    context = context_of(*(value[:, :8] for value in points), [8, 5, 1])
    last_s_B1 = context.last_B1()[2]
    target_s_BH = last_s_B1 + 10 * torch.arange(1, 5)
    found = model.forecast(context, 4, target_s_BH, 6, seed=2)
    assert torch.equal(found.time_s_BH, target_s_BH)
    assert found.sample_lon_deg_BSH.shape == (3, 6, 4)
    assert (found.radius_p50_m_BH > 0).all()
    without = model.forecast(context, 4, None, 2, seed=2)
    steps = torch.cat([last_s_B1, without.time_s_BH], dim=1).diff(dim=1)
    assert (steps >= 0).all()
    assert torch.isfinite(without.sample_lat_deg_BSH).all()


@torch.no_grad()
def check_a_forecast_sees_no_future(model):
    points = [value[:, :10] for value in walk(3, 12)]
    one, other = (
        model.forecast(context_of(*points, [8, 5, 1], nonsense), 3, None, 4, 2)
        for nonsense in (66.0, -20.0)
    )
    assert torch.equal(one.sample_lon_deg_BSH, other.sample_lon_deg_BSH)
    assert torch.equal(one.time_s_BH, other.time_s_BH)


def test_a_forecast_sees_no_future():
    check_a_forecast_sees_no_future(random_weights())
    with pytest.raises(AssertionError):
        check_a_forecast_sees_no_future(random_weights(ReadsPads))


@torch.no_grad()
def test_the_clock_of_a_lone_start_is_not_read():
    """So that generation needs none; behind two points the hour counts."""
    model, points = random_weights(), walk(2, 6)
    for counts, is_same in ([[1, 1], True], [[6, 6], False]):
        context = context_of(*points, counts)
        later = replace(context, started_us_B=context.started_us_B + 5 * 3_600_000_000)
        assert int(context.started_us_B[0]) == STARTED_US
        found = [
            told(model, Partial.of(one, 3, None).batch(), num_samples=0) for one in (context, later)
        ]
        assert torch.equal(*found) == is_same
