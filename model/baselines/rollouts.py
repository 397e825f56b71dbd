"""Rollouts: trajectories of a model that forecasts, which begins at a start and goes on by itself.

A forecaster shares the noise of a sample among all contexts, so that trajectories would all be made
of the same draws. So a few contexts at a time are asked for as many samples, under a seed of their
own, and each keeps another one.

Shapes: N trajectories, T points, B contexts asked at once, S samples, H points of the horizon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..earth.columns import joined
from ..interface.answerer import Sampler
from ..interface.answers import Generated
from ..interface.contexts import Context

CONTEXTS_AT_ONCE = 16


@dataclass(frozen=True)
class Rollouts:
    """An answerer that generates by sampled forecasts from contexts of one point."""

    forecaster: Sampler
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("generate",)

    @property
    def name(self) -> str:
        return f"{self.forecaster.name}_rollouts"

    def generate(self, starts: Context, num_points: int, seed: int) -> Generated:
        firsts = range(0, len(starts.started_us_B), CONTEXTS_AT_ONCE)
        parts = [
            self._some(starts.at(slice(first, first + CONTEXTS_AT_ONCE)), num_points, (seed, first))
            for first in firsts
        ]
        return joined(parts)

    def _some(self, starts: Context, num_points: int, key: tuple[int, int]) -> Generated:
        seed = int(np.random.SeedSequence(key).generate_state(1)[0]) >> 1
        num_starts = len(starts.started_us_B)
        found = self.forecaster.sampled_forecast(starts, num_points - 1, None, num_starts, seed)

        def path(start_BT: Tensor, sample_BSH: Tensor | None) -> Tensor:
            if sample_BSH is None:
                raise ValueError(f"{self.forecaster.name} gave no samples of its forecast")
            own_BH = sample_BSH[torch.arange(num_starts), torch.arange(num_starts)]
            return torch.cat([start_BT.double(), own_BH.double()], dim=1)

        return Generated(
            path(starts.lon_deg_BT, found.sample_lon_deg_BSH),
            path(starts.lat_deg_BT, found.sample_lat_deg_BSH),
            path(starts.time_s_BT, found.sample_time_s_BSH),
        )
