"""Validation loss: the loss on held-out data, and which windows make it no number.

Every rank scores batches of its own; what they find is added up before anyone goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

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

    What its parts are, over the batches of the first rank, is logged.
    """
    total, count, is_stopped = 0.0, 0.0, False
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
            total, count = total + float(loss.total), count + float(loss.count)
            for name, part in getattr(loss, "parts", {}).items():
                parts[name] = parts.get(name, 0.0) + float(part)
    if named := ranks.gather(named):
        raise NonFiniteLoss("validation loss", step, named)
    if any(ranks.agree(is_stopped)):
        return None
    if ranks.is_first and parts and count:
        told = ", ".join(f"{name} {part / count:.4g}" for name, part in parts.items())
        logger.info("validation loss at step %d: %s", step, told)
    total, count = ranks.add(torch.tensor([total, count], dtype=torch.float64)).tolist()
    if count == 0:
        raise TrainingError("no targets in the validation batches")
    return total / count


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
