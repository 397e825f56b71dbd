"""A model small enough to train in a test, and runs of it that are killed at a chosen call.

As a script it runs in processes of its own: one that is never killed, and for each kill point one
that is killed there and one that goes on in the same folder.
"""

from __future__ import annotations

import functools
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from model.data.draws import drawn
from model.data.reading import read_batches, read_windows
from model.data.shards import Shards
from model.interface.batch import Batch, Cursor
from model.training.config import FitConfig
from model.training.fit import FitResult, fit

CONFIG = FitConfig(
    max_steps=12,
    batch_size=4,
    max_points=16,
    learning_rate=3e-3,
    warmup_steps=3,
    weight_decay=0.01,
    validate_every=4,
    patience=3,
    log_every=1,
    checkpoint_every_s=0.0,
)

READING = CONFIG.reading("train")


@dataclass(frozen=True)
class ToyLoss:
    """Sum over targets, and their count."""

    total: Tensor
    count: Tensor


class Toy(nn.Module):
    """Predicts each step from the one before; its dropout needs the random state."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.inner = nn.Linear(3, 16)
        self.outer = nn.Linear(16, 2)
        self.dropout = nn.Dropout(0.2)
        with torch.no_grad():
            for value in self.parameters():
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))

    def loss(self, batch: Batch) -> ToyLoss:
        """Squared error of the next step, in units of a hundred metres."""
        scaled_BTF = batch.step_BTF / 100
        hidden = self.dropout(torch.tanh(self.inner(scaled_BTF[:, :-1])))
        error_BT = (self.outer(hidden) - scaled_BTF[:, 1:, :2]).square().sum(dim=-1)
        is_target_BT = batch.is_target_BT[:, 1:]
        return ToyLoss((error_BT * is_target_BT).sum(), is_target_BT.sum())


def run(
    shards: Shards,
    folder: Path,
    config: FitConfig = CONFIG,
    model: nn.Module | None = None,
    on_progress: Callable | None = None,
) -> FitResult:
    """Fit the toy on shards in a work folder."""

    def batches(cursor: Cursor) -> Iterator[Batch]:
        read = read_batches(shards, config.reading("train"), start=cursor)
        if not config.draws.are_any:
            return read
        return (drawn(one, config.draws, config.max_points, config.seed) for one in read)

    return fit(
        Toy() if model is None else model,
        batches,
        lambda: (part.batch for part in read_windows(shards, "validation", 8, num_context=20)),
        config,
        folder,
        on_progress,
    )


def outcome(folder: Path) -> dict[str, bytes]:
    """What two equal runs share byte for byte once they are finished."""
    names = ["weights.safetensors", "metrics.jsonl"]
    newest = max((folder / "checkpoints").iterdir())
    files = [*(folder / name for name in names), *sorted(newest.iterdir())]
    return {path.name: path.read_bytes() for path in files}


def kill_at(owner: object, operation: str, number: int) -> None:
    """Kill this process at the n-th call of an operation, before it happens."""
    original, calls = getattr(owner, operation), []

    @functools.wraps(original)
    def counted(*args, **options):
        calls.append(operation)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)

    setattr(owner, operation, counted)


def in_child(action: Callable[[], object]) -> int:
    """Run in a forked process; its wait status (9 when it was killed)."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


KILL_POINTS = [
    *((torch.optim.AdamW, "step", number) for number in (1, 7)),
    *((os, "fsync", number) for number in (1, 6, 23, 48)),
    *((pathlib.Path, "rename", number) for number in (1, 2, 9)),
    *((pathlib.Path, "replace", number) for number in (3, 40)),
]


def main(root: Path, shards: Shards) -> None:
    """Print one line for each kill point whose run does not end as the unkilled one."""
    torch.set_num_threads(1)
    # What a first run imports and compiles costs seconds: once here, not once a child.
    run(shards, root / "whole")
    for place, (owner, operation, number) in enumerate(KILL_POINTS):
        folder = root / f"killed-{place}"

        def killed(owner=owner, operation=operation, number=number, folder=folder):
            kill_at(owner, operation, number)
            run(shards, folder)

        if in_child(killed) != signal.SIGKILL:
            print(f"{operation} {number}: was not reached")
        if in_child(lambda folder=folder: run(shards, folder)) != 0:
            print(f"{operation} {number}: did not go on")
        elif outcome(folder) != outcome(root / "whole"):
            print(f"{operation} {number}: ends differently")
    print("done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Shards.open(Path(sys.argv[2])))
