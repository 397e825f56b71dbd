"""The guards of each family hold for trained weights too, and still catch the planted faults.

A fault gets the same weights as the sound network, so that it differs in its fault alone.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import test_chemin
import test_foundry
import test_gpt2
import test_gru
import test_masked_chemin
import test_patch
import test_trajfm
import torch
from helpers import gdm_guards
from helpers.interface import EVERY, check_alone_and_in_a_batch, check_asking_changes_nothing
from helpers.walks import WALKING, batch_of, walk
from torch import nn

from model.families import FAMILIES, FAMILIES_OF_POINTS, build
from model.families.gpt2.network import GPT2
from model.interface.masking import masked, places_of_middles, segments

NUM_STEPS = 60
GUARDS = {  # the check, what it asks besides a model, and the faults that it is for
    "gpt2": (test_gpt2, [("check_future_is_unseen", [6], ["BothWays"])]),
    "chemin": (
        test_chemin,
        [
            ("check_future_is_unseen", [11], ["RelativeToLast"]),
            ("check_rows_are_independent", [], ["BatchStatistics"]),
            ("check_meridian_does_not_matter", [], ["AbsolutePlace"]),
        ],
    ),
    "gru": (
        test_gru,
        [
            ("check_future_is_unseen", [11], ["RelativeToLast"]),
            ("check_rows_are_independent", [], ["BatchStatistics"]),
            ("check_meridian_does_not_matter", [], ["AbsolutePlace"]),
        ],
    ),
    "foundry": (
        test_foundry,
        [
            ("check_future_is_unseen", [13], ["RelativeToLast", "TooEarly"]),
            ("check_rows_are_independent", [], ["BatchStatistics"]),
            ("check_a_point_is_told_alike_whatever_else_is_asked", [], ["CountsSteps"]),
        ],
    ),
    "gdm": (
        gdm_guards,
        [
            ("check_hidden_numbers_are_unseen", [], ["ReadsCenter"]),
            ("check_recovered", [], ["ReadsCenter"]),
            ("check_repainting_sees_nothing_hidden", [], ["TakesWhatItGave", "ReadsPads"]),
            ("check_a_forecast_sees_no_future", [], ["ReadsPads"]),
            ("check_both_sides_are_seen", [], ["HiddenAlone"]),
            ("check_known_points_enter_clean", [], ["NoisedConditions"]),
            ("check_hidden_points_keep_their_positions", [], ["HiddenFromZero"]),
            ("check_errors_are_told_by_level", [], ["LevelsFromTheEnd"]),
            ("check_samples_differ", [], ["StartsAtZero"]),
            ("check_a_row_stands_alone", [], ["BatchStatistics"]),
            ("check_meridian_does_not_matter", [], ["AbsolutePlace"]),
        ],
    ),
    "patch": (
        test_patch,
        [
            ("check_patches_are_causal", [4], ["AddsLast", "ScalesByAll"]),
            ("check_rows_are_independent", [], ["BatchStatistics"]),
            ("check_meridian_does_not_matter", [], ["AbsolutePlace"]),
        ],
    ),
    "masked_chemin": (
        test_masked_chemin,
        [
            ("check_hidden_points_are_unseen", [test_masked_chemin.NUM_SCORED], ["ReadsCenter"]),
            ("check_both_sides_are_seen", [], ["Forward"]),
            ("check_a_row_stands_alone", [], ["BatchStatistics"]),
            ("check_meridian_does_not_matter", [], ["AbsolutePlace"]),
        ],
    ),
    "trajfm": (
        test_trajfm,
        [
            ("check_what_is_hidden_is_unseen", [segments], []),
            ("check_no_state_moves", [segments], ["Peeks"]),
            ("check_no_state_moves", [places_of_middles], ["PeeksAtSteps"]),
            ("check_both_sides_are_seen", [], ["Forward"]),
            ("check_horizon_does_not_matter", [], ["ReadsHidden"]),
            ("check_rows_are_independent", [], ["BatchStatistics"]),
            ("check_meridian_does_not_matter", [], ["AbsolutePlace"]),
        ],
    ),
}


@cache
def trained_weights(family: str) -> dict[str, Any]:
    """What a short training on walks, for gpt2 on counting, has made of fresh weights."""
    torch.manual_seed(5)
    model: Any = GPT2(test_gpt2.SHAPE) if family == "gpt2" else build(family, "tiny", WALKING)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for step in range(NUM_STEPS):
        optimiser.zero_grad()
        loss = model.loss(lesson(family, step)).mean
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])  # else nothing was learnt
    return model.state_dict()


def lesson(family: str, step: int) -> Any:
    if family == "gpt2":
        token_BT = test_gpt2.tokens(32, 1, seed=step) + torch.arange(12)
        return test_gpt2.batch_of(token_BT % test_gpt2.SHAPE.num_tokens)
    batch, draw = batch_of(*walk(32, 16, seed=step)), FAMILIES[family].draw
    return batch if draw is None else masked(batch, draw, step)


def trained(family: str, network: type[Any]) -> nn.Module:
    known = family != "gpt2"
    shape = (FAMILIES[family].presets["tiny"], WALKING) if known else (test_gpt2.SHAPE,)
    model: nn.Module = network(*shape).eval()
    model.load_state_dict(trained_weights(family))
    return model


def network_of(family: str) -> type[Any]:
    return GPT2 if family == "gpt2" else FAMILIES[family].model


@pytest.mark.parametrize(
    ("family", "guard"),
    [
        pytest.param(family, guard, id=f"{family}-{guard[0]}-{number}")
        for family, (_, guards) in GUARDS.items()
        for number, guard in enumerate(guards)
    ],
)
def test_guards_hold_and_catch_after_training(family, guard):
    module = GUARDS[family][0]
    name, arguments, faults = guard
    check = getattr(module, name)
    check(trained(family, network_of(family)), *arguments)
    for fault in faults:
        with pytest.raises(AssertionError):
            check(trained(family, getattr(module, fault)), *arguments)


def test_every_family_is_guarded():
    assert set(GUARDS) == {*FAMILIES_OF_POINTS, "gpt2"}


@pytest.mark.parametrize(("family", "task"), EVERY)
def test_answers_after_training_are_pure_and_independent(family, task):
    model = trained(family, network_of(family))
    check_alone_and_in_a_batch(model, task)
    check_asking_changes_nothing(model.train(), task)
