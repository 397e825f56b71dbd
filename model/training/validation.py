"""Validation loss: the loss on held-out data, and which windows make it no number.

Every rank scores batches of its own; what they find is added up before anyone goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn

from ..interface.batch import Batch
from .ranks import Ranks

MAX_NAMED_WINDOWS = 20

logger = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """A run that cannot go on."""


class NonFiniteLoss(TrainingError):
    """A loss or gradient that is not a number; names the step and the windows that gave it."""

    def __init__(self, what: str, step: int, window_ids: list[int]) -> None:
        self.what, self.step, self.window_ids = what, step, window_ids
        named = ", ".join(str(number) for number in window_ids[:MAX_NAMED_WINDOWS])
        more = ", ..." if len(window_ids) > MAX_NAMED_WINDOWS else ""
        super().__init__(f"{what} is not finite at step {step}, windows {named}{more}")


def validation_loss(
    model: nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    is_stopping: Callable[[], bool] = lambda: False,
    step: int = 0,
    ranks: Ranks = Ranks(),
) -> float | None:
    """Mean loss over all targets of all batches and ranks; None if asked to stop on the way.

    Of a corpus it is the mean over its members, so that the largest does not choose the weights.
    What its parts are, over the batches of the first rank, is logged.
    """
    is_stopped = False
    sums: dict[int, tuple[float, float]] = {}  # total and count of each member
    parts: dict[str, float] = {}
    named: list[int] = []
    model.eval()
    with torch.no_grad():
        for batch in batches:
            is_stopped = is_stopping()
            if is_stopped or named:
                break
            loss = model.loss(batch.to(device))  # type: ignore[operator]
            if not torch.isfinite(loss.total):
                named = offending_windows(model, [batch])
            total, count = sums.get(batch.cursor.last, (0.0, 0.0))
            sums[batch.cursor.last] = total + float(loss.total), count + float(loss.count)
            for name, part in getattr(loss, "parts", {}).items():
                parts[name] = parts.get(name, 0.0) + float(part)
    if named := ranks.gather(named):
        raise NonFiniteLoss("validation loss", step, named)
    if any(ranks.agree(is_stopped)):
        return None
    num_targets = sum(count for _, count in sums.values())
    if ranks.is_first and parts and num_targets:
        told = ", ".join(f"{name} {part / num_targets:.4g}" for name, part in parts.items())
        logger.info("validation loss at step %d: %s", step, told)
    return mean_over_members(sums, ranks)


def mean_over_members(sums: Mapping[int, tuple[float, float]], ranks: Ranks) -> float:
    """The mean of the means of members, from the total and the count of each on this rank."""
    members = sorted(set(ranks.gather(sorted(sums))))
    own_M2 = [sums.get(member, (0.0, 0.0)) for member in members] or [(0.0, 0.0)]
    total_M, count_M = ranks.add(torch.tensor(own_M2, dtype=torch.float64)).unbind(1)
    if not count_M.all():
        raise TrainingError("no targets in the validation batches")
    return float((total_M / count_M).mean())


def offending_windows(
    model: nn.Module, batches: Sequence[Batch], ranks: Ranks = Ranks()
) -> list[int]:
    """The windows whose loss alone is not finite; all of the batches where none is to blame."""
    device = device_of(model)
    rows = [(batch, row) for batch in batches for row in range(len(batch.window_id_B))]
    with torch.no_grad():
        blamed = [
            (batch, row)
            for batch, row in rows
            if not torch.isfinite(model.loss(batch.part(row, row + 1).to(device)).total)  # type: ignore[operator]
        ]
    found, every = (
        ranks.gather([number for batch, row in chosen for number in batch.window_ids(row)])
        for chosen in (blamed, rows)
    )
    return found or every


def device_of(model: nn.Module) -> torch.device:
    """The device where a model's parameters are."""
    return next(model.parameters()).device
