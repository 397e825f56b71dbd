"""Guards of gdm, for random and for trained weights, and the faults that they are for.

The faults are those of the published code, which the names of the planted classes tell.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from helpers.masked_guards import (
    astride_the_date_line,
    check_hidden_points_are_unseen,
    check_rows_are_independent,
)
from helpers.walks import batch_of, context_of, shaken, walk, window_of
from model.earth.geometry import haversine_m, step_between
from model.families.gdm.denoiser import Denoiser
from model.families.gdm.diffusion import shares_at
from model.families.gdm.network import PRESETS, Gdm
from model.families.gdm.noise import training_noise
from model.families.gdm.steps import KnownSteps, known_steps
from model.features.point_features import steps_of
from model.interface.masked_input import masked_input_of
from model.interface.masking import from_start, masked, segments

TINY = replace(PRESETS["tiny"], num_layers=1, num_passes=3)
REPAINTED = replace(TINY, conditioning="repainted", num_passes=6)
NUM_SCORED = 3 * 2 * 3  # steps to 3, to 8 and from 8, each east and north


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


@torch.no_grad()
def generated(model, num=3, num_points=9, seed=1, **start):
    found = model.generate(num, num_points, seed, **start)
    return torch.stack([found.lon_deg_NT, found.lat_deg_NT, found.time_s_NT], dim=-1)


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


class PaintsAll(KnownSteps):
    """Paints what is hidden too."""

    def painted(self, x_BTF, time, noise_BTF):
        signal, share = shares_at(time)
        return signal * self.told_BTF + share * noise_BTF


class TakesWhatItGave(Gdm):
    """Takes the truth from what it was given, as the published runner without training does."""

    def recover(self, batch):
        step_BTF = steps_of(batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT)
        self.truth_BTF = self.code.encode(step_BTF).float()
        return super().recover(batch)

    def repainted_code(self, known, *asked):
        whole = PaintsAll(**vars(replace(known, told_BTF=self.truth_BTF)))
        return super().repainted_code(whole, *asked)


class LevelsFromTheEnd(Gdm):
    """Tells the error of little noise as that of all noise."""

    def loss(self, batch):
        loss = super().loss(batch)
        return replace(loss, parts=dict(zip(loss.parts, [*loss.parts.values()][::-1], strict=True)))


class TellsTheSumAlone(Gdm):
    def loss(self, batch):
        return replace(super().loss(batch), parts={})


# ------------------------------------------------------------------ guards


def check_hidden_numbers_are_unseen(model):
    check_hidden_points_are_unseen(model, NUM_SCORED)


@torch.no_grad()
def check_recovered(model):
    """What is asked is no part of the answer."""
    batch = hidden_walks()
    found = model.recover(batch)
    assert torch.equal(found.is_recovered_BT, batch.is_target_BT)
    other = torch.where(batch.is_target_BT, 66.0, batch.lon_deg_BT)
    times = torch.where(batch.is_target_BT, 1e6, batch.time_s_BT)
    spoiled = model.recover(replace(batch, lon_deg_BT=other, time_s_BT=times))
    assert torch.equal(spoiled.lon_deg_BT, found.lon_deg_BT)
    assert torch.equal(spoiled.time_s_BT, found.time_s_BT)


def check_repainting_sees_nothing_hidden(model):
    """The same of an answer by the network that is told of the start alone, and repainted."""
    model.config = replace(model.config, conditioning="repainted", num_passes=6)
    check_recovered(model)
    check_a_forecast_sees_no_future(model)


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
    assert len(seen) == 2 + model.config.num_passes
    for part in seen[1:]:
        assert torch.equal(part[is_known_BT], seen[0][is_known_BT])
        assert not torch.equal(part[~is_known_BT], seen[0][~is_known_BT])


def check_a_row_stands_alone(model):
    check_rows_are_independent(partial(told, model), rtol=1e-4, atol=2e-2)  # centimetres


@torch.no_grad()
def check_meridian_does_not_matter(model):
    points = walk(3, 12)
    moved, shift_deg_B1 = astride_the_date_line(points)
    home, away = (model.paths(masked_input_of(window_of(one)), 2, 3) for one in (points, moved))
    back_deg = away[0] - shift_deg_B1.unsqueeze(1)
    assert float(haversine_m(back_deg, away[1], *home[:2]).max()) < 0.05


def even_line(hidden):
    """A straight even way: whichever points are hidden, all known ones look alike."""
    lat_deg_BT = (1e-4 * torch.arange(14.0, dtype=torch.float64)).unsqueeze(0)
    batch = window_of((torch.zeros_like(lat_deg_BT), lat_deg_BT, 1e5 * lat_deg_BT), hidden=hidden)
    return replace(batch, calendar_BTK=torch.zeros_like(batch.calendar_BTK))


@torch.no_grad()
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


def check_samples_differ(model):
    found_NT3 = generated(model)
    assert torch.equal(found_NT3[:, 0], found_NT3[:1, 0].expand(3, 3))  # one start
    apart_m = haversine_m(
        *(found_NT3[[0, 0, 1], 1:, axis] for axis in (0, 1)),
        *(found_NT3[[1, 2, 2], 1:, axis] for axis in (0, 1)),
    )
    assert (apart_m > 0.1).all()


@torch.no_grad()
def check_a_forecast_sees_no_future(model):
    points = [value[:, :10] for value in walk(3, 12)]
    one, other = (
        model.forecast(context_of(*points, [8, 5, 1], nonsense), 3, None, 4, 2)
        for nonsense in (66.0, -20.0)
    )
    assert torch.equal(one.sample_lon_deg_BSH, other.sample_lon_deg_BSH)
    assert torch.equal(one.time_s_BH, other.time_s_BH)


@torch.no_grad()
def check_errors_are_told_by_level(model):
    """Each window's error counts at the tenth of its own level of noise, from little to all."""
    batch = masked(batch_of(*walk(24, 8)), from_start, 0)
    level_B = (10 * training_noise(batch)[0][:, 0]).long().clamp(max=9).tolist()
    assert len({*level_B}) > 6
    found = model.loss(batch).parts
    expected = {f"noise_{level}": torch.zeros(()) for level in range(10)}
    for row, level in enumerate(level_B):
        expected[f"noise_{level}"] += model.loss(batch.part(row, row + 1)).total
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
