"""Checks that hold for every family alike, and what they ask."""

from __future__ import annotations

from dataclasses import fields, replace

import torch

from helpers.walks import WALKING, context_of, walk
from model.earth.geometry import haversine_m
from model.families import FAMILIES, FAMILIES_OF_POINTS, build
from model.inference.api import embed, forecast, generate_trips, recover, score, travel_time
from model.interface.contexts import Partial

COUNTS = [12, 3, 5, 9]
READERS = {
    "gru": ["recurrent"],
    "gdm": ["denoiser.features"],
    "foundry": ["embed_point", "journey_head.embed", "gap_head.embed"],
}


def random_weights(family):
    torch.manual_seed(5)
    model = build(family, "tiny", WALKING)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def gaps(points, counts):
    """Walks whose third point has neither place nor time."""
    partial = Partial.of(context_of(*points, counts), 0, None)
    hides_BT = torch.zeros_like(partial.is_pad_BT)
    hides_BT[:, 1] = True
    return replace(partial, shows_place_BT=~hides_BT, shows_time_BT=~hides_BT)


def trips(points, counts):
    """Walks whose times are hidden, all but the first."""
    partial = Partial.of(context_of(*points, counts), 0, None)
    shows_time_BT = torch.zeros_like(partial.is_pad_BT)
    shows_time_BT[:, 0] = True
    return replace(partial, shows_time_BT=shows_time_BT)


def asked(task, model, points, counts, first=0):
    """The answer to a small question of each task, as tensors with a row for each walk."""
    if task == "forecast":
        found = forecast(model, context_of(*points, counts), 5, num_samples=3, seed=2)
        return [getattr(found, entry.name) for entry in fields(found)]
    if task == "recover":
        found = recover(model, gaps(points, counts))
        starts = (value_BT[:, :1] for value_BT in points[:2])
        away_m_B3 = haversine_m(*starts, found.lon_deg_BT[:, :3], found.lat_deg_BT[:, :3])
        return [away_m_B3, found.time_s_BT[:, :3]]
    if task == "travel_time":
        found = travel_time(model, trips(points, counts))
        return [found.median_s_B, found.p10_s_B, found.p90_s_B]
    if task == "generate":
        starts = context_of(*(value[:, :1] for value in points))
        found = generate_trips(model, starts, 6, seed=2, first=first)
        return [getattr(found, entry.name) for entry in fields(found)]
    return [{"embed": embed, "score": score}[task](model, context_of(*points, counts))]


def with_memory(model):
    """Leaks: each question moves the network's states a little, for all that are asked later."""

    def remember(_, inputs, output):
        memory.add_(0.1)
        if isinstance(output, tuple):  # of a recurrent network, whose states come first
            return output[0] + memory, *output[1:]
        # Uneven, so that no norm behind it takes it away.
        return output + memory * torch.linspace(-1, 2, output.shape[-1])

    memory = torch.zeros(())
    for reader in READERS.get(model.family, ["transformer"]):
        model.get_submodule(reader).register_forward_hook(remember)
    return model


EVERY = [(name, task) for name in FAMILIES_OF_POINTS for task in FAMILIES[name].tasks]


def check_alone_and_in_a_batch(model, task):
    points = walk(len(COUNTS), max(COUNTS))
    together = asked(task, model, points, COUNTS)
    for row, count in enumerate(COUNTS):
        own = [value[row : row + 1] for value in points]
        for alone in (own, [value[:, :count] for value in own]):
            found = asked(task, model, alone, [count], first=row)
            for one, other in zip(found, together, strict=True):
                torch.testing.assert_close(one[0], other[row], rtol=1e-4, atol=2e-2)


def check_asking_changes_nothing(model, task):
    points = walk(len(COUNTS), max(COUNTS))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    first, again = (asked(task, model, points, COUNTS) for _ in range(2))
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)
        assert torch.isfinite(one).all()
