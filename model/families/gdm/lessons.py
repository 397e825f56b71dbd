"""Lessons of gdm: steps to be told from noise, what is known of them, and which of them count.

What a batch teaches is taught without controls, all of it. What they tell of some of its sequences
is a lesson beside it, with the same noise: whoever asks for nothing is made up by what has seen as
many trips as one that learns no controls.

Shapes: B rows, T points, Q points, or 1 for all of a row, F numbers of a step, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...earth.columns import Columns, joined
from .steps import KnownSteps


@dataclass(frozen=True)
class Lesson(Columns):
    """`clean_BTF` are the codes of the truth, `noise_BTF` is what is added by `time_BT`."""

    known: KnownSteps
    clean_BTF: Tensor
    noise_BTF: Tensor
    time_BT: Tensor
    is_scored_BTF: Tensor
    is_readable_BT: Tensor

    def beside(self, told_BQD: Tensor, is_told_BT: Tensor) -> Lesson:
        """This lesson, and below it the rows that controls tell of, where nothing else counts."""
        is_scored_BTF = self.is_scored_BTF & is_told_BT.unsqueeze(-1)
        known = replace(self.known, control_BQD=told_BQD)
        free = replace(self.known, control_BQD=torch.zeros_like(told_BQD))
        led = replace(self, known=known, is_scored_BTF=is_scored_BTF)
        return joined([replace(self, known=free), led.at(is_told_BT.any(1))])
