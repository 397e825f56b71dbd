"""Models of trajgpt: with random and with trained weights, sound and with planted faults.

The faults are those of the published code, which the names of the classes tell.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from helpers.visit_worlds import places_of, write_shards_of_law
from model.families.trajgpt.network import PRESETS, TrajGpt
from model.features.places import NUM_SPECIAL
from model.inference.serving import load_trained
from model.training.config import FitConfig
from model.training.launch import Training, run

TINY = PRESETS["tiny"]
NUM_VISITS = 24


def random_weights(family=TrajGpt):
    """Weights that are large enough for whatever is wired to show."""
    torch.manual_seed(0)
    model = family(TINY, places_of()).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model


@cache
def trained(num_steps, num_rows=3_000, learning_rate=7e-3):
    """A tiny model by the product's loader and engine; a short training takes a high rate."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spans = {"train": (0, num_rows), "validation": (900_000, 900_300)}
        write_shards_of_law(folder / "shards", spans, NUM_VISITS)
        config = FitConfig(
            max_steps=num_steps,
            max_points=NUM_VISITS,
            learning_rate=learning_rate,
            warmup_steps=20,
            validate_every=num_steps // 2,
        )
        training = Training(str(folder / "shards"), "trajgpt", "tiny", config)
        (folder / "work").mkdir()
        run(training, folder / "work")
        return load_trained(folder / "work").model


def with_trained_weights(family):
    model = family(TINY, places_of()).eval()
    model.load_state_dict(trained(40).state_dict())
    return model


# ------------------------------------------------------------------ planted faults


class TargetAmongInputs(TrajGpt):
    """The state before a visit knows when the visit begins and ends, and where exactly it is."""

    def encode(self, batch):
        sums_BV = (batch.arrived_s_BV + batch.left_s_BV + batch.east_m_BV).float() / 1e4
        return super().encode(batch) + sums_BV.roll(-1, dims=1).unsqueeze(-1)


class RegionIsNoInput(TrajGpt):
    """The heads of time are not told where the way leads."""

    def travel(self, hidden_ND, region_N, recalled):
        return super().travel(hidden_ND, torch.zeros_like(region_N), recalled)

    def stay(self, hidden_ND, arrivals, recalled):
        nowhere = replace(arrivals, region_N=torch.zeros_like(arrivals.region_N))
        return super().stay(hidden_ND, nowhere, recalled)


class RemembersTheFuture(TrajGpt):
    """Habits are read off all visits of a window, the asked one among them."""

    def told(self, hidden_BVD, tokens, is_told_BV):
        told = super().told(hidden_BVD, tokens, is_told_BV)
        past, row_N = self.past(hidden_BVD, tokens), torch.nonzero(is_told_BV)[:, 0]
        all_NV = {"is_whole_NV": past.is_whole_BV[row_N], "is_way_seen_NV": past.is_visit_BV[row_N]}
        return replace(told, recalled=replace(told.recalled, **all_NV))


class HalfOfTheState(TrajGpt):
    """The travel head reads a slice of the state."""

    def travel(self, hidden_ND, region_N, recalled):
        half = hidden_ND.clone()
        half[:, : TINY.width // 2] = 0
        return super().travel(half, region_N, recalled)


class QuarterOfTheState(TrajGpt):
    """The head of stays reads another slice."""

    def stay(self, hidden_ND, arrivals, recalled):
        quarter = hidden_ND.clone()
        quarter[:, : 3 * TINY.width // 4] = 0
        return super().stay(quarter, arrivals, recalled)


class ClipsLabels(TrajGpt):
    """What is judged is clipped like what is read."""

    def surprises(self, told, asked):
        most_s = self.places.max_elapsed_s
        clipped = {
            name: getattr(asked, name).clamp(max=most_s) for name in ("duration_s_N", "travel_s_N")
        }
        return super().surprises(told, replace(asked, **clipped))


class SpecialsTwice(TrajGpt):
    """The special ids are added to a vocabulary that holds them."""

    def __init__(self, config, places):
        super().__init__(config, places)
        num_ids, part = self.region.weight.shape
        self.region = torch.nn.Embedding(num_ids + NUM_SPECIAL, part)


class ChangesInPlace(TrajGpt):
    """A head adds to the state that the other heads read after it."""

    def travel(self, hidden_ND, region_N, recalled):
        hidden_ND += 0.1
        return super().travel(hidden_ND, region_N, recalled)


class ReadsPads(TrajGpt):
    """Statistics over the whole row, pads and all."""

    def encode(self, batch):
        hidden_BVD = super().encode(batch)
        return hidden_BVD - hidden_BVD.mean(dim=1, keepdim=True)


class BatchStatistics(TrajGpt):
    def encode(self, batch):
        hidden_BVD = super().encode(batch)
        return hidden_BVD - hidden_BVD.mean(dim=(0, 1))
