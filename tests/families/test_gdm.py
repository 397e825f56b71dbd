"""What gdm promises, with random weights; each guard also catches a planted fault.

The faults are those of the published code, which the names of the planted classes tell.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.walks import (
    STARTED_US,
    STILL,
    WALKING,
    batch_of,
    context_of,
    shaken,
    spoilt,
    standing,
    walk,
    window_of,
)

from model.earth.geometry import haversine_m, step_between
from model.families.gdm import network
from model.families.gdm.denoiser import Denoiser
from model.families.gdm.diffusion import MAX_PASSES
from model.families.gdm.network import CONDITIONS, PRESETS, Gdm, GdmConfig, start_or_some
from model.families.gdm.paths import paths_of
from model.families.gdm.steps import StepCode, known_steps
from model.features.point_features import steps_of
from model.interface.batch import Cursor
from model.interface.contexts import Partial
from model.interface.masked_input import masked_input_of
from model.interface.masking import from_start, masked, places_of_segments, segments
from model.interface.weights import load_weights, save_weights
from model.training.config import FitConfig
from model.training.fit import fit

TINY = replace(PRESETS["tiny"], num_layers=1, num_passes=3)


def random_weights(family=Gdm, config=TINY):
    return shaken(family, config, spread=0.1)


@torch.no_grad()
def told(model, batch, num_samples=2):
    """Where the mean path and the samples go (B, G, T, 3), in metres from a place, and when."""
    lon_deg, lat_deg, time_s = model.paths(masked_input_of(batch), num_samples, seed=3)
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


class StartsAtZero(Gdm):
    """Samples begin with zeros, and not with noise."""

    def _sampled_from_noise(self, known, noise_PBTF):
        return super()._sampled_from_noise(known, torch.zeros_like(noise_PBTF))


class AccordingReal(Gdm):
    """Samples begin with mean and deviation of real steps, as `--according_real` has it."""

    real = 0.0, 1.0

    def loss(self, batch):
        self.real = float(batch.step_BTF.mean()), float(batch.step_BTF.std())
        return super().loss(batch)

    def _sampled_from_noise(self, known, noise_PBTF):
        mean, deviation = self.real
        return super()._sampled_from_noise(known, mean + deviation * noise_PBTF)


# ------------------------------------------------------------------ steps


def fitted_code(points):
    model = Gdm(TINY, WALKING)
    model.fit_inputs([batch_of(*points, num_pads=3)])
    return model


def test_steps_of_train_have_unit_variance(caplog):
    points = walk(200, 12)
    caplog.set_level("INFO")
    model = fitted_code(points)
    code_BTF = model.code.encode(steps_of(*points)[:, 1:].float())
    torch.testing.assert_close(code_BTF.mean((0, 1)), torch.zeros(3).double(), rtol=0, atol=1e-9)
    variance_F = code_BTF.flatten(0, 1).var(0, correction=0)
    torch.testing.assert_close(variance_F, torch.ones(3).double())
    assert "variance of steps: east 1.000, north 1.000, log seconds 1.000" in caplog.text


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


def check_hidden_points_are_unseen(model):
    """A hidden point that is not asked may hold anything: the loss of the others stays."""
    batch = window_of(walk(3, 12), num_pads=4)
    is_target_BT = batch.is_target_BT.clone()
    is_target_BT[:, 4] = False
    batch = replace(batch, is_target_BT=is_target_BT)
    plain = model.loss(batch)
    assert int(plain.count) == 3 * 2 * 3  # steps to 3, to 8 and from 8, each east and north
    for nonsense in (float("nan"), 66.0):
        assert torch.equal(model.loss(spoilt(batch, nonsense)).total, plain.total)


def test_hidden_points_are_unseen():
    check_hidden_points_are_unseen(random_weights())
    with pytest.raises(AssertionError):
        check_hidden_points_are_unseen(random_weights(ReadsCenter))


@pytest.mark.parametrize("draw", [*CONDITIONS, from_start])
def test_what_is_hidden_is_no_input(draw):
    """No path moves with a hidden place or time; what is known does count."""
    model, batch = random_weights(), hidden_walks(draw, num_pads=3)
    before = told(model, batch)
    other = replace(
        batch,
        lon_deg_BT=torch.where(batch.shows_place_BT, batch.lon_deg_BT, 66.0),
        time_s_BT=torch.where(batch.shows_time_BT, batch.time_s_BT, 1e6),
        calendar_BTK=torch.where(batch.shows_time_BT.unsqueeze(-1), batch.calendar_BTK, 9.0),
        step_BTF=torch.full_like(batch.step_BTF, float("nan")),
    )
    assert torch.equal(told(model, other), before)
    moved_BT = batch.lon_deg_BT + 1e-3 * (1 + torch.arange(batch.lon_deg_BT.shape[1]))
    assert not torch.equal(told(model, replace(batch, lon_deg_BT=moved_BT)), before)


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


def check_rows_are_independent(model):
    points = walk(4, 12)
    together = told(model, window_of(points))
    for row in range(4):
        own = [value[row : row + 1] for value in points]
        for num_pads in (0, 7):
            alone = told(model, window_of(own, num_pads))[0, :, :12]
            torch.testing.assert_close(alone, together[row], rtol=1e-4, atol=2e-2)


def test_a_row_and_its_samples_depend_on_itself_alone():
    check_rows_are_independent(random_weights())
    with pytest.raises(AssertionError):
        check_rows_are_independent(random_weights(BatchStatistics))


@torch.no_grad()
def check_meridian_does_not_matter(model):
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 12)
    home = model.paths(masked_input_of(window_of((lon_deg_BT, lat_deg_BT, time_s_BT))), 2, 3)
    shift_deg_B1 = 180.0 - lon_deg_BT[:, 6:7]
    moved_deg_BT = lon_deg_BT + shift_deg_B1
    moved_deg_BT = torch.where(moved_deg_BT >= 180, moved_deg_BT - 360, moved_deg_BT)
    assert (moved_deg_BT.amax(1) - moved_deg_BT.amin(1) > 359).all()
    away = model.paths(masked_input_of(window_of((moved_deg_BT, lat_deg_BT, time_s_BT))), 2, 3)
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


def test_sequences_of_a_packed_row_do_not_see_each_other():
    """Wherever a sequence stands in its row, its steps and their losses are the same."""
    model = random_weights()
    first, second = walk(1, 12, seed=1), walk(1, 9, seed=2, lon_deg=20.0)
    alone = [batch_of(*points) for points in (first, second)]
    alone[1] = replace(alone[1], window_id_B=torch.tensor([1]))
    packed = replace(
        batch_of(*(torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))),
        sequence_BT=torch.tensor([[0] * 12 + [1] * 9]),
        window_id_BS=torch.tensor([[0, 1]]),
        calendar_BTK=torch.cat([batch.calendar_BTK for batch in alone], dim=1),
    )
    packed, *alone = (masked(batch, segments, 0) for batch in (packed, *alone))
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
    assert len(loss.parts) == 10
    observed = model.loss(batch_of(*walk(2, 6)))
    assert (float(observed.total.detach()), int(observed.count)) == (0.0, 0)


def test_untrained_the_mean_error_is_that_of_telling_nothing():
    """Half of v is noise and half is the step; the weight takes a little of it."""
    points = walk(300, 8)
    model = fitted_code(points)
    loss = model.loss(masked(batch_of(*points), from_start, 0))
    assert 0.75 < float(loss.mean.detach()) < 1


def test_pads_never_count():
    model, points = random_weights(), walk(3, 12)
    plain, padded = (
        model.loss(masked(batch_of(*points, num_pads=num_pads), segments, 0)) for num_pads in (0, 5)
    )
    assert int(plain.count) == int(padded.count) > 0
    torch.testing.assert_close(padded.total, plain.total, rtol=1e-5, atol=1e-3)


def test_half_of_training_knows_the_start_alone():
    shown = [start_or_some(np.random.default_rng(seed), 12) for seed in range(400)]
    num_starts = sum(int((mask.shows_place_N | mask.shows_time_N).sum()) == 1 for mask in shown)
    assert 170 < num_starts < 250  # some forecasts begin behind the start, too


# ------------------------------------------------------------------ noise of training


def check_noise_is_of_the_window(model):
    """By seed, epoch and window: neither chance nor the batch has a say."""
    batch = replace(hidden_walks(), cursor=Cursor(2, 1))
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


class Stop(Exception):
    """Leaves a run in the middle, as a crash would."""


def masked_walks(cursor):
    """Six batches of masked walks, from a cursor on."""
    for number in range(cursor.batch, 6):
        batch = batch_of(*walk(4, 12, seed=number))
        window_id_B = 4 * number + batch.window_id_B
        batch = replace(batch, window_id_B=window_id_B, cursor=Cursor(0, number + 1))
        yield masked(batch, start_or_some, 0)


def fitted(folder, on_progress=None):
    torch.manual_seed(0)
    config = FitConfig(max_steps=6, warmup_steps=1, ema_decay=0.5, checkpoint_every_s=0)
    folder.mkdir(exist_ok=True)
    validation = [masked(batch_of(*walk(4, 12, seed=50)), segments, 0)]
    return fit(Gdm(TINY, WALKING), masked_walks, lambda: validation, config, folder, on_progress)


def test_a_training_run_goes_on_with_the_same_noise(tmp_path):
    def crash(progress):
        if progress.step == 6:
            raise Stop

    whole = fitted(tmp_path / "whole")
    with pytest.raises(Stop):
        fitted(tmp_path / "cut", crash)
    resumed = fitted(tmp_path / "cut")
    assert resumed.steps == whole.steps == 6
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()


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
        {"eta": 0.5},
        {"sampler": "ddim", "eta": 1.5},
        {"eta": -0.1},
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
