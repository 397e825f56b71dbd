"""Family `trajgpt`: the network, with the questions that are answered by drawing from it.

Shapes: B windows, V visits.
"""

from __future__ import annotations

from torch import Tensor

from ...features.places import Places
from ...interface.controls import Controls
from ...interface.family import Family
from ...interface.infilling import FilledGap
from ...interface.visit_batch import VisitBatch
from .filling import fill
from .generation import generate
from .network import PRESETS, TrajGpt, TrajGptConfig


class DrawnTrajGpt(TrajGpt):
    """The network, which fills gaps and makes sequences up."""

    def infill(
        self,
        shown: VisitBatch,
        is_gap_BV: Tensor,
        started_us_B: Tensor,
        num_samples: int,
        seed: int,
        zone: str,
    ) -> list[list[FilledGap]]:
        """The gaps of each window, filled; a gap lies behind each visit that `is_gap_BV` names."""
        return fill(self, shown, is_gap_BV, started_us_B, num_samples, seed, zone)

    def generate(self, controls: Controls, num: int, seed: int) -> VisitBatch:
        """So many sequences (B, V) that keep the controls."""
        return generate(self, controls, num, seed)


TASKS = ("next_visit", "infill", "generate")
FAMILY = Family(DrawnTrajGpt, TrajGptConfig, PRESETS, TASKS, fitted=Places)
