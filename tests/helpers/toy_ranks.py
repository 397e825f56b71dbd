"""What two ranks do to the toy, run by torchrun: `toy_ranks.py SHARDS FOLDER` prints its findings.

Several runs in one pair of processes, for starting those is what costs.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from helpers.toy_training import CONFIG, READING, Toy, outcome
from model.data.reading import read_batches
from model.data.shards import Shards
from model.training import fit as fit_module
from model.training.fit import FitResult, Interrupted, NonFiniteLoss, fit
from model.training.launch import join_ranks
from model.training.ranks import Ranks

SHARED = replace(CONFIG, accumulate=2)


def quiet_toy() -> Toy:
    """A toy without chance, so that ranks and their number may be compared."""
    toy = Toy()
    toy.dropout.p = 0.0
    return toy


class Poisoned(Toy):
    """Its loss is no number for the windows it is told."""

    def __init__(self, window_ids: list[int]) -> None:
        super().__init__()
        self.window_ids = torch.tensor(window_ids)

    def loss(self, batch):
        loss = super().loss(batch)
        is_bad = torch.isin(batch.window_id_B, self.window_ids).any()
        return replace(loss, total=loss.total * math.nan) if is_bad else loss


def run_shared(
    shards: Shards,
    folder: Path,
    model: torch.nn.Module,
    ranks: Ranks = Ranks(),
    on_step: Callable[[int], None] = lambda step: None,
    config: fit_module.FitConfig = SHARED,
) -> FitResult:
    """Fit on this rank's share; `on_step` is told of each batch that this rank takes."""

    def batches(cursor):
        own = read_batches(shards, READING, start=cursor, rank=ranks.rank, world=ranks.world)
        for number, batch in enumerate(own):
            on_step(number)
            yield batch

    def validation():
        return read_batches(
            shards,
            replace(READING, split="validation"),
            num_epochs=1,
            rank=ranks.rank,
            world=ranks.world,
        )

    return fit(model, batches, validation, config, folder)


def mean_of_means(self: Any, batches: list[Any]) -> torch.Tensor:
    """What averaging gradients as such would give."""
    self.model.train()
    self.optimiser.zero_grad(set_to_none=True)
    losses = [self.model.loss(batch) for batch in batches]
    for loss in losses:
        (loss.total / loss.count.clamp(min=1) / len(batches) / self.ranks.world).backward()
    self.ranks.add_gradients(self.model.parameters())
    total, count = (
        sum(float(getattr(loss, n).detach()) for loss in losses) for n in ("total", "count")
    )
    num_points = sum(batch.num_points for batch in batches)
    return self.ranks.add(torch.tensor([total, count, num_points], dtype=torch.float64))


def findings(shards: Shards, root: Path) -> dict[str, Any]:
    ranks = Ranks.present(torch.device("cpu"))
    found: dict[str, Any] = {}

    # Equal weights on both, though only the first began with the right ones.
    model = quiet_toy() if ranks.is_first else Toy(seed=9)
    model.dropout.p = 0.0
    result = run_shared(shards, root / "shared", model, ranks)
    mine = torch.cat([value.detach().flatten() for value in model.parameters()])
    found["ranks_agree"] = all(torch.equal(mine, other) for other in ranks.rows(mine))
    found["result"] = [result.steps, result.num_tokens, result.epochs, result.best_step]
    found["validation_loss"] = result.best_validation_loss

    # With dropout, a rank's own random state counts; one of them alone is asked to stop.
    run_shared(shards, root / "whole", Toy(), ranks)

    def ask(number: int) -> None:
        if ranks.rank == 1 and number == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped_at = -1
    try:
        run_shared(shards, root / "stopped", Toy(), ranks, ask)
    except Interrupted as stop:
        stopped_at = stop.step
    found["stopped_at"] = ranks.gather([stopped_at])
    run_shared(shards, root / "stopped", Toy(seed=5), ranks)
    if ranks.is_first:
        found["same_as_whole"] = outcome(root / "stopped") == outcome(root / "whole")

    # A window of the second rank alone.
    own = read_batches(shards, READING, rank=ranks.rank, world=ranks.world)
    bad = ranks.gather([int(next(own).window_id_B[0])])[1]
    try:
        run_shared(shards, root / "bad", Poisoned([bad]), ranks)
    except NonFiniteLoss as error:
        found["named"] = error.window_ids
        found["bad"] = bad
    one = replace(SHARED, accumulate=1)
    try:
        run_shared(shards, root / "one", Toy(), ranks, config=one)
    except fit_module.TrainingError as error:
        found["refused"] = str(error)

    # The planted fault: the mean of the ranks' means, whatever the number of their targets.
    with_fault = root / "faulty"
    original = fit_module._Run._gradient
    fit_module._Run._gradient = mean_of_means  # type: ignore[method-assign]
    run_shared(shards, with_fault, quiet_toy(), ranks)
    fit_module._Run._gradient = original  # type: ignore[method-assign]
    return found


def main(shards: Shards, root: Path) -> None:
    torch.set_num_threads(1)
    join_ranks()
    found = findings(shards, root)
    if distributed.get_rank() == 0:
        (root / "found.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Shards.open(Path(sys.argv[1])), Path(sys.argv[2]))
