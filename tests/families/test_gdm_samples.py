"""Samples of gdm: from weights and seed alone, by each sampler, in few passes of the network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.gdm_guards import (
    REPAINTED,
    TINY,
    AccordingReal,
    HeldClean,
    StartsAtZero,
    captured,
    check_samples_differ,
    generated,
    hidden_walks,
    random_weights,
    told,
)
from helpers.walks import WALKING, batch_of, walk, window_of
from safetensors.torch import load_file

from model.families.gdm.diffusion import MAX_PASSES, shares_at
from model.families.gdm.network import PRESETS, Gdm, GdmConfig
from model.families.gdm.steps import KnownSteps, known_steps, start_alone
from model.interface.masked_input import masked_input_of
from model.interface.weights import load_weights, save_weights


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
        {"share_told": 1.1},
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
