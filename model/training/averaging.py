"""Averaged weights: the exponential moving mean of a model's weights over its steps."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..interface.weights import restore_model

GROUP = "average"  # of a checkpoint's tensors


class AveragedWeights:
    """The model that is judged and kept: one of mean weights, or without a decay the model itself.

    The first steps count alike, so that nothing of the weights before training stays in the mean.
    """

    def __init__(self, trained: nn.Module, decay: float) -> None:
        self.trained, self.decay = trained, decay
        self.model = copy.deepcopy(trained).requires_grad_(False) if decay else trained

    @torch.no_grad()
    def take_in(self, step: int) -> None:
        """Add the weights of a step (from 1) to the mean of the earlier ones."""
        if self.decay:
            share = max(1 - self.decay, 1 / step)
            pairs = zip(self.model.parameters(), self.trained.parameters(), strict=True)
            for mean, value in pairs:
                mean.lerp_(value, share)

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """What a checkpoint must hold beside the trained weights."""
        return {GROUP: self.model.state_dict()} if self.decay else {}

    def restore(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        if self.decay:
            restore_model(self.model, tensors[GROUP])
