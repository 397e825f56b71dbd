"""Usefulness: what who learnt from made-up trips lacks beside who learnt from real ones.

All forecast the same stored windows, which none of them has seen. Skill is over damped velocity,
fitted on real trips, and what is lost is the difference of two skills, with an interval over the
entities of the windows, the same for both.

Shapes: B windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ...data.shards import Shards, window_index
from ...earth.arrays import Floats, Ints
from ...earth.geometry import haversine_m
from ...interface.answerer import Forecaster
from ..forecast_scores import read_forecast_windows
from ..judged_tasks import TIMES_GIVEN
from ..lesson import BATCH_SIZE, spread
from ..metrics import ade_m
from .comparison import Comparison
from .generation_rows import LEARNER_ERROR, LOST

MOST_WINDOWS = 1_000
REAL, AGAIN, BAR = "real", "real, another seed", "bar"


@dataclass(frozen=True)
class Usefulness:
    """The errors (B) of learners in the same windows, and the entity of each window.

    Two learnt from real trips, by different seeds, and the bar from none.
    """

    error_m_B: Mapping[str, Floats]
    group_B: Ints
    num_trips: int

    @classmethod
    def of(
        cls,
        learners: Mapping[str, Forecaster],
        shards: Shards,
        split: str,
        num_steps: int,
        num_trips: int,
    ) -> Usefulness:
        """Over the first steps of the windows of a split; of many windows, of some of them."""
        number = len(window_index(shards, split))
        read = read_forecast_windows(shards, split, BATCH_SIZE)
        told: dict[str, list[torch.Tensor]] = {name: [] for name in learners}
        entities: list[str] = []
        kept = spread(read, MOST_WINDOWS, number, lambda one: len(one[1].time_s_BH))
        for (stored, every), row_B in kept:
            windows = every.at(row_B)
            entities += [stored.entity_id_B[row] for row in row_B.tolist()]
            for name, learner in learners.items():
                found = windows.answered(learner, TIMES_GIVEN)
                away_m_BH = haversine_m(*found, windows.lon_deg_BH, windows.lat_deg_BH)
                told[name].append(ade_m(away_m_BH, windows.is_target_BH, num_steps))
        error_m_B = {name: torch.cat(parts).double().numpy() for name, parts in told.items()}
        is_told_B = np.isfinite(np.stack([*error_m_B.values()])).all(0)
        group_B = np.unique(np.array(entities)[is_told_B], return_inverse=True)[1]
        return cls({name: m_B[is_told_B] for name, m_B in error_m_B.items()}, group_B, num_trips)

    def measured(self, name: str) -> dict[str, Comparison]:
        """What is told of the trips of a name; nothing where nobody could learn from them."""
        if name not in self.error_m_B or not len(self.group_B):
            return {}
        error_B, real_B, bar_B = (self.error_m_B[one] for one in (name, REAL, BAR))

        def mean_m(weight_B: Floats, _: Floats) -> float:
            return float(weight_B @ error_B / weight_B.sum())

        def lost(weight_B: Floats, _: Floats) -> float:
            return float(weight_B @ (error_B - real_B) / (weight_B @ bar_B))

        return {
            LEARNER_ERROR: Comparison.of_one(mean_m, self.group_B, most=np.inf),
            LOST: Comparison.of_one(lost, self.group_B, least=-np.inf, most=np.inf),
        }
