"""Steps of gdm: their codes, what is known of them, and the paths that they make."""

from __future__ import annotations

import pytest
import torch
from helpers.gdm_guards import TINY, FreeLatents, hidden_walks, told
from helpers.walks import STILL, WALKING, batch_of, standing, walk, window_of

from model.earth.geometry import step_between
from model.families.gdm.network import Gdm
from model.families.gdm.paths import paths_of
from model.families.gdm.steps import StepCode, known_steps
from model.features.point_features import steps_of
from model.interface.masked_input import masked_input_of
from model.interface.masking import from_start, masked, segments


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


def test_untrained_the_mean_error_is_that_of_telling_nothing():
    """Half of v is noise and half is the step; the weight takes a little of it."""
    points = walk(300, 8)
    model = fitted_code(points)
    loss = model.loss(masked(batch_of(*points), from_start, 0))
    assert 0.75 < float(loss.mean.detach()) < 1
