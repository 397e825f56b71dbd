"""Evaluation mode: dropout off for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off for a while; the mode of the model is then as before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
