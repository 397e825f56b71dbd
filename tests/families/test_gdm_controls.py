"""Controls of gdm: what lessons tell of them, what samples make of them, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.gdm_guards import TINY, captured, generated, hidden_walks, random_weights
from helpers.lawful import normaliser_of
from helpers.motion import points_reached
from helpers.visit_worlds import places_of
from helpers.walks import WALKING, batch_of, context_of, walk
from test_gdm import check_noise_is_of_the_window
from test_gdm_laws import learnt

from model.earth.geometry import haversine_m
from model.families import build
from model.families.gdm import controls, network
from model.families.gdm.controls import CONTROLS, ControlCode, extents_of_batch
from model.families.gdm.lessons import Lesson
from model.families.gdm.network import CONDITIONS, Gdm
from model.families.gdm.noise import drawn_controls
from model.inference import api, serving
from model.inference.visit_frames import VisitFrames
from model.inference.visit_serving import VisitParams
from model.interface.batch import Cursor
from model.interface.masking import endings, from_start, masked
from model.training.config import FitConfig

NEAR = 2e-5  # degrees and seconds: two metres, twenty microseconds


def extents(lon_deg_BT, lat_deg_BT, time_s_BT):
    """Metres along the path and seconds (B) from the first point to the last."""
    ends = (
        value_BT[:, part]
        for part in (slice(-1), slice(1, None))
        for value_BT in (lon_deg_BT, lat_deg_BT)
    )
    return haversine_m(*ends).sum(1), time_s_BT[:, -1] - time_s_BT[:, 0]


# ------------------------------------------------------------------ planted faults


class TellsAlways(ControlCode):
    """Leaks: sums of steps are told where some of these are known, and the others judged."""

    def taught(self, known, batch, step_BTF, has_BTF, share):
        everything_BTF = torch.ones_like(known.hides_BTF)
        return super().taught(
            replace(known, hides_BTF=everything_BTF & (known.position_BT > 0).unsqueeze(-1)),
            batch,
            step_BTF,
            everything_BTF,
            share,
        )


class TellsInPlace(Lesson):
    """What is told stands in the place of the lesson without controls."""

    def beside(self, told_BQD, is_told_BT):
        return replace(self, known=replace(self.known, control_BQD=told_BQD))


class SaysNothingAloud(ControlCode):
    """What is not asked is told as the mean of train."""

    def forward(self, asked_BQK, num_steps_BQ):
        return super().forward(torch.where(asked_BQK > 0, asked_BQK, 100.0), num_steps_BQ)


class ReadsTheBatch(ControlCode):
    """Each is told how long the others are to be."""

    def forward(self, asked_BQK, num_steps_BQ):
        return super().forward(
            asked_BQK.nanmean(0, keepdim=True).expand_as(asked_BQK), num_steps_BQ
        )


def with_faulty(kind):
    model = random_weights()
    model.control_code.__class__ = kind
    return model


# ------------------------------------------------------------------ lessons


def behind_two(generator, num_points):
    """An ending with two points known, or more."""
    while True:
        mask = endings(generator, num_points)
        if mask.shows_place_N.sum() > 1:
            return mask


@torch.no_grad()
def check_controls_are_of_starts_alone(model):
    """Where more is known than the start, a lesson is the same with and without controls."""
    for draw in (*(one for one in CONDITIONS if one is not endings), behind_two):
        batch = hidden_walks(draw)
        assert torch.equal(model.train().loss(batch).total, model.eval().loss(batch).total), draw
    batch = hidden_walks(from_start)
    assert not torch.equal(model.train().loss(batch).total, model.eval().loss(batch).total)


def test_controls_are_of_starts_alone():
    check_controls_are_of_starts_alone(random_weights())
    with pytest.raises(AssertionError):
        check_controls_are_of_starts_alone(with_faulty(TellsAlways))


@torch.no_grad()
def check_every_lesson_is_learnt_free(model):
    """What controls tell of is learnt once more, beside the same without them."""
    model.denoiser.tell.weight.zero_()  # with and without controls v is told alike
    batch = masked(batch_of(*walk(9, 14)), from_start, 0)
    is_told_B = drawn_controls(batch, len(CONTROLS), model.config.share_told).any(-1).any(1)
    assert 0 < is_told_B.sum() < 9
    for row, is_told in enumerate(is_told_B.tolist()):
        one = batch.part(row, row + 1)
        free, both = model.eval().loss(one), model.train().loss(one)
        assert int(both.count) == (1 + is_told) * int(free.count)
        torch.testing.assert_close(both.total, (1 + is_told) * free.total)


def test_every_lesson_is_learnt_without_controls(monkeypatch):
    check_every_lesson_is_learnt_free(random_weights())
    monkeypatch.setattr(network, "Lesson", TellsInPlace)
    with pytest.raises(AssertionError):
        check_every_lesson_is_learnt_free(random_weights())


def test_who_learns_no_controls_has_none():
    """The lessons are what they were, and a control is refused."""
    model, batch = random_weights(config=replace(TINY, share_told=0.0)), hidden_walks(from_start)
    assert torch.equal(model.train().loss(batch).total, model.eval().loss(batch).total)
    with pytest.raises(ValueError, match="these weights have learnt no controls"):
        generated(model, controls={"length_m": 150.0})


def test_what_is_not_asked_for_is_not_summed():
    """A hidden point that is no target may hold anything, and takes the controls with it."""
    model, batch = random_weights(), hidden_walks(from_start)
    is_target_BT = batch.is_target_BT.clone()
    is_target_BT[:, 5] = False
    batch = replace(batch, is_target_BT=is_target_BT)
    spoilt = replace(batch, lon_deg_BT=torch.where(is_target_BT, batch.lon_deg_BT, math.nan))
    spoilt.lon_deg_BT[:, 0] = batch.lon_deg_BT[:, 0]
    with torch.no_grad():
        expected = model.eval().loss(batch).total
        assert torch.equal(model.train().loss(spoilt).total, expected)


@torch.no_grad()
def test_what_is_judged_is_told_nothing(monkeypatch):
    """Neither answers nor judged losses have controls: the code of them is not even asked."""
    model, asked = random_weights(), []
    model.control_code.register_forward_hook(lambda *call: asked.append(call))
    points, starts = walk(3, 12), context_of(*(value[:, :1] for value in walk(3, 12)))
    api.forecast(model.train(), context_of(*points), 3, num_samples=2)
    api.forecast(model, starts, 3, num_samples=2)
    model.recover(hidden_walks())
    serving.Trained(model).generate(starts, 5, 0)  # as it is judged
    model.eval().loss(hidden_walks(from_start))
    assert not asked
    serving.Trained(model).generate(starts, 5, 0, length_m=100.0)
    assert len(asked) == 1


def many_walks():
    whole = batch_of(*walk(50, 4))
    return [
        replace(whole, window_id_B=torch.arange(first, first + 50)) for first in range(0, 2_000, 50)
    ]


def test_half_of_lessons_know_no_control():
    """A tenth at the least; of the controls neither minds the other."""
    is_told_NK = torch.cat([drawn_controls(batch, 2, 0.3)[:, 0] for batch in many_walks()])
    for length, duration in ((0, 0), (0, 1), (1, 0), (1, 1)):
        is_so_N = (is_told_NK == torch.tensor([bool(length), bool(duration)])).all(1)
        expected = 0.3 ** (length + duration) * 0.7 ** (2 - length - duration)
        assert float(is_so_N.double().mean()) == pytest.approx(expected, abs=0.05)
    assert float((~is_told_NK).all(1).double().mean()) > 0.1
    batch = many_walks()[0]
    later = drawn_controls(replace(batch, cursor=Cursor(3, 1)), 2, 0.3)
    assert not torch.equal(later, drawn_controls(batch, 2, 0.3))


@torch.no_grad()
def test_controls_are_drawn_by_the_window(monkeypatch):
    check_noise_is_of_the_window(random_weights().train(), from_start)
    monkeypatch.setattr(
        controls,
        "drawn_controls",
        lambda batch, num, _: torch.rand(*batch.is_pad_BT.shape, num) < 0.5,
    )
    with pytest.raises(AssertionError):
        check_noise_is_of_the_window(random_weights().train(), from_start)


# ------------------------------------------------------------------ what is fitted


def test_extents_are_those_of_paths():
    points = walk(5, 12)
    found_NK, num_steps_N = extents_of_batch(batch_of(*points, num_pads=3))
    expected_NK = torch.stack(extents(*points), dim=-1)
    torch.testing.assert_close(found_NK, expected_NK, rtol=1e-5, atol=1e-3)
    assert num_steps_N.tolist() == [11.0] * 5


def test_what_is_fitted_is_of_train_alone():
    """Range, mean and deviation of logarithms; lessons and samples leave them as they are."""
    points = walk(200, 12)
    model = Gdm(TINY, WALKING)
    model.fit_inputs(
        [batch_of(*(value[part] for value in points)) for part in (slice(90), slice(90, 200))]
    )
    code = model.control_code
    extent_NK = torch.stack(extents(*points), dim=-1)
    for value_K, expected_K in (
        (code.least_K, extent_NK.amin(0)),
        (code.most_K, extent_NK.amax(0)),
    ):
        torch.testing.assert_close(value_K, expected_K, rtol=1e-6, atol=1e-3)
    log_NK = extent_NK.log()
    torch.testing.assert_close(code.center_KU[:, 0], log_NK.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        code.spread_KU[:, 0], log_NK.std(0, correction=0).clamp(min=0.1), rtol=1e-6, atol=1e-6
    )
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.train().loss(masked(batch_of(*walk(9, 20, seed=3)), from_start, 0))
    generated(model, controls={"length_m": 150.0})
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_whoever_stands_still_has_no_length():
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(4, 6)
    still = [value[:, :1].expand(4, 6) for value in (lon_deg_BT, lat_deg_BT)]
    model = Gdm(TINY, WALKING).train()
    model.fit_inputs([batch_of(*still, time_s_BT)])
    assert float(model.control_code.center_KU[0, 0]) == 0
    assert torch.isfinite(model.loss(masked(batch_of(*still, time_s_BT), from_start, 0)).total)
    assert torch.isfinite(generated(model, controls={"length_m": 5.0})).all()


# ------------------------------------------------------------------ samples


def guided(weight, model=None, **asked):
    model = model or random_weights()
    model.config = replace(model.config, guidance=weight)
    return generated(model, **asked)


def check_without_controls_nothing_changes(model):
    """Bytes are what they were, whatever the weight; beside rows with controls they stay."""
    free = guided(1.0, model)
    for weight in (0.0, 2.5):
        assert torch.equal(guided(weight, model), free)
        assert torch.equal(
            guided(weight, model, controls={"length_m": torch.full((3,), math.nan)}), free
        )
        asked = {"length_m": torch.tensor([math.nan, 150.0, math.nan])}
        found = guided(weight, model, controls=asked)
        torch.testing.assert_close(found[[0, 2]], free[[0, 2]], rtol=0, atol=NEAR)


def test_without_controls_nothing_changes():
    check_without_controls_nothing_changes(random_weights())
    with pytest.raises(AssertionError):
        check_without_controls_nothing_changes(with_faulty(SaysNothingAloud))


def test_fresh_weights_are_as_without_controls():
    fresh = Gdm(TINY, WALKING).eval()
    torch.nn.init.normal_(fresh.denoiser.tell.weight, std=0.1)
    assert torch.equal(generated(fresh, controls={"length_m": 150.0}), generated(fresh))


def test_each_control_is_read_and_counts_by_the_weight():
    model = random_weights()
    free = guided(0.0, model)
    both = {"length_m": 150.0, "duration_s": 80.0}
    told = {"length_m": 150.0}, {"duration_s": 80.0}, both
    found = [guided(1.0, model, controls=asked) for asked in told]
    for one in (*found, guided(1.0, model, controls={"length_m": 300.0})):
        assert not torch.equal(one, free)
    assert len({float(one[0, -1, 0]) for one in found}) == 3
    torch.testing.assert_close(guided(0.0, model, controls=both), free, rtol=0, atol=NEAR)
    assert not torch.equal(guided(2.0, model, controls=both), found[2])


def test_guidance_takes_the_network_twice_at_once():
    """As it was learnt, once."""
    for weight, num_rows in ((1.0, 3), (1.5, 6)):
        asked = partial(guided, weight, controls={"length_m": 150.0})
        passes = captured(random_weights(), asked)
        assert [len(part) for part in passes] == [num_rows] * TINY.num_passes


@torch.no_grad()
def check_a_controlled_row_stands_alone(model, weight):
    """It is a function of its number, its start and its controls."""
    start_deg_NC = torch.tensor([[8.0, 50.0], [-20.0, 10.0], [170.0, -60.0]])
    length_m_N = torch.tensor([100.0, 400.0, 150.0])
    whole = guided(weight, model, start_deg=start_deg_NC, controls={"length_m": length_m_N})
    for row in range(3):
        asked = {"length_m": float(length_m_N[row])}
        alone = guided(weight, model, num=1, start_deg=start_deg_NC[row], first=row, controls=asked)
        torch.testing.assert_close(alone[0], whole[row], rtol=0, atol=NEAR)
    assert torch.equal(whole[:, 0, :2], start_deg_NC.double())


@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_a_controlled_row_stands_alone(weight):
    check_a_controlled_row_stands_alone(random_weights(), weight)
    with pytest.raises(AssertionError):
        check_a_controlled_row_stands_alone(with_faulty(ReadsTheBatch), weight)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"length_m": -5.0}, r"length_m must be from .* to .*, not -5"),
        ({"length_m": 0}, r"length_m must be from .* not 0"),
        ({"length_m": math.inf}, "not inf"),
        ({"duration_s": math.nan}, "duration_s must be from .* not nan"),
        ({"length_m": torch.tensor([100.0, 1e9, math.nan])}, "length_m must be from .* not 1e"),
        ({"duration_s": 1.0}, "duration_s must be from .* not 1$"),
        ({"length_m": torch.ones(2)}, "one number, or one for each of 3 starts"),
    ],
)
def test_a_control_that_cannot_be_is_refused(asked, said):
    model = random_weights()
    model.fit_inputs([batch_of(*walk(20, 12))])
    starts = context_of(*(value[:, :1] for value in walk(3, 12)))
    with pytest.raises(ValueError, match=said):
        api.generate_trips(model, starts, 5, **asked)


def test_the_range_is_that_of_train():
    """A third of the least and three times the most, and not a hair beyond."""
    model = random_weights()
    points = walk(20, 12)
    model.fit_inputs([batch_of(*points)])
    length_m_N = extents_of_batch(batch_of(*points))[0][:, 0]
    for end, beyond in ((float(length_m_N.min()) / 3, 0.99), (float(length_m_N.max()) * 3, 1.01)):
        assert model.control_code.asked({"length_m": end}, 1)[0, 0] == end
        with pytest.raises(ValueError, match="length_m must be from"):
            model.control_code.asked({"length_m": end * beyond}, 1)


def test_who_has_no_controls_says_so(monkeypatch):
    monkeypatch.setattr(Gdm, "controls", ())
    starts = context_of(*(value[:, :1] for value in walk(3, 12)))
    with pytest.raises(ValueError, match="gdm cannot be told 'length_m' of what it makes up"):
        api.generate_trips(random_weights(), starts, 5, length_m=100.0)
    with pytest.raises(ValueError, match="no control 'speed_mps'; there are: length_m, duration_s"):
        generated(random_weights(), controls={"speed_mps": 1.0})
    assert CONTROLS == api.CONTROLS  # of one name


def test_a_family_of_visits_says_so():
    trained = serving.Trained(build("trajgpt", "tiny", places_of()))
    starts = pd.DataFrame({"entity_id": ["a"], "arrived_at": "2024-05-01T08:00Z", "length_m": 5.0})
    with pytest.raises(ValueError, match="trajgpt cannot be told 'length_m' of what it makes up"):
        VisitFrames(trained, VisitParams()).generate(starts, controls='{"num_visits": 3}')


# ------------------------------------------------------------------ a law

NUM_LESSONS, NUM_POINTS = 2_048, 4


def straight(num, seed):
    """Straight even lines, each as long and as slow as it likes."""
    rng = np.random.default_rng(seed)
    heading_N, log_m_N, log_s_N = rng.standard_normal((3, num)) * [[0.3], [0.5], [0.4]]
    step_m_N, step_s_N = 100 * np.exp(log_m_N), 10 * np.exp(log_s_N)
    step_NTF = np.zeros((num, NUM_POINTS, 3))
    own_NF = step_m_N * np.sin(heading_N), step_m_N * np.cos(heading_N), step_s_N
    step_NTF[:, 1:] = np.stack(own_NF, axis=-1)[:, None]
    origin_N = torch.zeros(num, dtype=torch.float64)
    return points_reached(origin_N, origin_N, origin_N, torch.from_numpy(step_NTF))


def straight_model(max_steps):
    points = straight(NUM_LESSONS, 0)
    torch.manual_seed(0)
    config = replace(TINY, num_passes=8, share_told=0.5)
    model = Gdm(config, normaliser_of(points)).train()
    whole = batch_of(*points)
    model.fit_inputs([whole])
    whole = replace(whole, window_id_B=torch.arange(NUM_LESSONS))
    firsts = range(0, NUM_LESSONS, 64)
    parts = [masked(whole.part(row, row + 64), from_start, 0) for row in firsts]

    def batches(step):
        return replace(parts[step % len(parts)], cursor=Cursor(step // len(parts), 1))

    config = FitConfig(
        max_steps=max_steps, warmup_steps=20, learning_rate=2e-2, ema_decay=1 - 10 / max_steps
    )
    return learnt(model, batches, config)


@torch.no_grad()
def errors(model, names):
    """How far off, in the median, and by the mean of logarithms, metres and seconds of 300 are."""
    asked = dict(zip(CONTROLS, extents(*straight(300, 1)), strict=True))
    told = {name: asked[name] for name in names}
    found = model.generate(300, NUM_POINTS, 3, controls=told)
    reached = extents(found.lon_deg_NT, found.lat_deg_NT, found.time_s_NT)
    ratios = (one_N / asked[name] for name, one_N in zip(CONTROLS, reached, strict=True))
    return {
        name: (float(ratio_N.log().abs().median().exp()) - 1, float(ratio_N.median()) - 1)
        for name, ratio_N in zip(CONTROLS, ratios, strict=True)
    }


def check_controls_are_met(model, most, of_free):
    """In the median within `most`, and `of_free` of what it is without controls."""
    free = errors(model, ())
    for names in (CONTROLS, CONTROLS[:1], CONTROLS[1:]):
        told = errors(model, names)
        for name in names:
            error, bias = told[name]
            assert error < most, (names, told)
            assert error < of_free * free[name][0], (names, told, free)
            assert abs(bias) < most / 2, (names, told)


def test_lines_are_as_long_as_they_are_asked_to_be():
    model = straight_model(60)
    check_controls_are_met(model, 0.25, 0.5)
    torch.nn.init.zeros_(model.control_code.tell[2].weight)  # nobody tells the denoiser
    with pytest.raises(AssertionError):
        check_controls_are_met(model, 0.25, 0.5)
