"""Training steps of `gdm` and `trajgpt`, both `small`, and trips that gdm makes up.

Each in a process of its own, on random walks and on visits of a made-up law. A token is a point or
a visit.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from bench_clock import Clock, main
from bench_loader import NORMALISER
from bench_training import full_batch, stepping
from helpers.visit_worlds import batch_of_visits, places_of, visits_of_law
from torch import Tensor

from model.families.gdm.network import PRESETS as GDM
from model.families.gdm.network import Gdm, start_or_some
from model.families.trajgpt.network import PRESETS as TRAJGPT
from model.families.trajgpt.network import TrajGpt
from model.interface.masking import masked

NUM_ROWS, NUM_POINTS, NUM_VISITS = 64, 50, 32
NUM_STEPS = 10
NUM_MADE = 200


def loss_of(model: Any, batch: Any) -> Tensor:
    mean: Tensor = model.loss(batch).mean
    return mean


def steps(clock: Clock, model: Any, batch: Any, num_tokens: int) -> None:
    """The seconds of one optimiser step, after one that is not timed."""
    step = stepping(model, loss_of)
    step(batch)
    with clock.measure("step") as answers:
        for _ in range(NUM_STEPS):
            step(batch)
    clock.share("step", NUM_STEPS)
    answers["tokens"] = num_tokens
    answers["weights"] = sum(weight.numel() for weight in model.parameters())


def gdm(clock: Clock) -> None:
    batch = masked(full_batch(NUM_ROWS, NUM_POINTS), start_or_some, 0)
    steps(clock, Gdm(GDM["small"], NORMALISER), batch, NUM_ROWS * NUM_POINTS)


def trajgpt(clock: Clock) -> None:
    batch = batch_of_visits(*visits_of_law(0, NUM_ROWS, NUM_VISITS))
    steps(clock, TrajGpt(TRAJGPT["small"], places_of()), batch, NUM_ROWS * NUM_VISITS)


@torch.no_grad()
def made_up(clock: Clock) -> None:
    """Trips from the network's noise; the number of its passes is that of its configuration."""
    model = Gdm(GDM["small"], NORMALISER).eval()
    with clock.measure("made-up") as answers:
        made = model.generate(NUM_MADE, NUM_POINTS, seed=0)
    answers |= {"trips": len(made.lon_deg_NT), "passes": model.config.num_passes}


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("TRAJFOUNDRY_BENCH_THREADS", "1")))
    main({"gdm-small": gdm, "trajgpt-small": trajgpt, "gdm-made-up": made_up})
