"""What trajfm promises of its waves: none is flat, time has a direction, cycles close."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers.walks import WALKING, batch_of, shaken, walk
from hypothesis import given
from hypothesis import strategies as st

from model.families import FAMILIES, build
from model.families.trajfm.config import PUBLISHED, SPANNING, TrajFmConfig
from model.families.trajfm.network import TrajFm
from model.families.trajfm.waves import NUM_HARMONICS, place_waves, time_waves
from model.interface.masking import any_task, masked
from model.interface.weights import MismatchedCheckpoint, load_weights, save_weights
from model.layers.embeddings import harmonics

TINY = FAMILIES["trajfm"].presets["tiny"]
PLAIN = replace(TINY, place_waves=PUBLISHED, time_waves=PUBLISHED, learns_turns=False)
SPANS = replace(TINY, place_waves=SPANNING, time_waves=SPANNING, learns_turns=False)
CROP_POINTS = 40  # of training, where nothing else is said
CYCLES = (7, 24, 60)


def calendar(place, cycle):
    """Sine and cosine of a place in a cycle."""
    turn = 2 * math.pi * torch.as_tensor(place, dtype=torch.float64) / cycle
    return torch.stack([turn.sin(), turn.cos()], dim=-1)


def waves_of_hour(place):
    return harmonics(calendar(place, 24), NUM_HARMONICS)


# ------------------------------------------------------------------ elapsed time and place


def check_no_wave_is_flat(waves):
    """Over the steps of a crop each moves by a tenth of what lies between its bottom and top."""
    told_TV = waves(torch.arange(CROP_POINTS).float().unsqueeze(-1))
    span_V = told_TV.amax(0) - told_TV.amin(0)
    assert float(span_V.detach().min()) > 0.2


def check_time_has_a_direction(waves):
    for steps in (1.0, 3.0, 20.0):
        ahead, back = (waves(torch.tensor([sign * steps])) for sign in (1, -1))
        assert float((ahead - back).detach().abs().max()) > 0.1


@pytest.mark.parametrize("check", [check_no_wave_is_flat, check_time_has_a_direction])
@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_waves_of_time_span_a_window_and_published_ones_do_not(check, preset):
    config = FAMILIES["trajfm"].presets[preset]
    check(time_waves(replace(config, time_waves=SPANNING)))
    with pytest.raises(AssertionError):
        check(time_waves(replace(config, time_waves=PUBLISHED)))


def test_east_is_not_west():
    here, there = torch.tensor([3.0, 2.0]), torch.tensor([-3.0, 2.0])
    spanning, published = place_waves(SPANS), place_waves(PLAIN)
    assert not torch.equal(spanning(here), spanning(there))
    assert torch.equal(published(here), published(there))


# ------------------------------------------------------------------ cycles


def check_a_cycle_closes(waves):
    """Just before the end of a day all is as just after its beginning."""
    late, early = waves(24 - 1e-6), waves(1e-6)
    assert torch.equal(waves(24.0).round(decimals=9), waves(0.0).round(decimals=9))
    torch.testing.assert_close(late, early, rtol=0, atol=1e-5)


def test_a_day_ends_as_it_begins():
    check_a_cycle_closes(waves_of_hour)

    def one_and_a_half_times_as_fast(hour):
        sine, cosine = calendar(hour, 24)
        return torch.cos(1.5 * (torch.atan2(sine, cosine) % (2 * math.pi)))

    with pytest.raises(AssertionError):
        check_a_cycle_closes(one_and_a_half_times_as_fast)


@given(cycle=st.sampled_from(CYCLES), place=st.floats(0, 60), turns=st.integers(-3, 3))
def test_waves_of_a_cycle_are_sines_and_cosines(cycle, place, turns):
    """Whatever whole cycles lie between: by their angles, one after the other."""
    found = harmonics(calendar(place + turns * cycle, cycle), 3).tolist()
    expected = [
        wave(2 * math.pi * number * place / cycle)
        for number in (1, 2, 3)
        for wave in (math.sin, math.cos)
    ]
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("cycle", CYCLES)
def test_no_wave_of_a_cycle_is_flat(cycle):
    told_NV = harmonics(calendar(torch.arange(cycle), cycle), NUM_HARMONICS)
    assert float((told_NV.amax(0) - told_NV.amin(0)).min()) > 0.8


def test_a_clock_that_is_hidden_tells_nothing():
    assert not bool(harmonics(torch.zeros(2, 8), NUM_HARMONICS).any())


# ------------------------------------------------------------------ what is learnt


def gradients(config):
    model = shaken(TrajFm, config).train()
    for seed in range(3):
        model.loss(masked(batch_of(*walk(16, 20, seed)), any_task, seed)).mean.backward()
    return {name: value.grad for name, value in model.named_parameters()}


def test_frequencies_are_learnt():
    found = gradients(SPANS)
    for name in ("place_waves.log_faster_VW", "time_waves.log_faster_VW"):
        assert bool((found[name] != 0).all()), name


def test_turns_are_learnt_by_choice():
    assert bool((gradients(replace(SPANS, learns_turns=True))["log_faster_P"] != 0).all())
    assert "log_faster_P" not in gradients(SPANS)


def test_learnt_turns_begin_with_those_that_are_fixed():
    batch = masked(batch_of(*walk(3, 20)), any_task, 0)
    fixed = shaken(TrajFm, SPANS)
    learnt = TrajFm(replace(SPANS, learns_turns=True), WALKING).eval()
    learnt.load_state_dict({"log_faster_P": learnt.log_faster_P, **fixed.state_dict()})
    assert torch.equal(learnt.loss(batch).total, fixed.loss(batch).total)
    with torch.no_grad():
        learnt.log_faster_P += 0.5
    assert not torch.equal(learnt.loss(batch).total, fixed.loss(batch).total)


# ------------------------------------------------------------------ versions


@pytest.mark.parametrize(
    ("ours", "theirs", "named"),
    [
        (SPANS, PLAIN, "frequency_VD"),
        (PLAIN, SPANS, "log_faster_VW"),
        (replace(SPANS, learns_turns=True), SPANS, "log_faster_P"),
    ],
)
def test_weights_of_another_choice_are_refused_by_name(ours, theirs, named, tmp_path):
    save_weights(build("trajfm", theirs, WALKING), tmp_path / "weights.safetensors")
    with pytest.raises(MismatchedCheckpoint, match=named):
        load_weights(build("trajfm", ours, WALKING), tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    "wrong",
    [{"time_waves": "none"}, {"place_waves": ""}, {"time_waves": SPANNING, "num_waves": 5}],
)
def test_impossible_waves_are_refused(wrong):
    with pytest.raises(ValueError, match=r"waves"):
        TrajFmConfig(**wrong)
