"""Windows that baselines are fitted on: what was known of each, and what came after.

Shapes: B windows, H horizon steps, C coordinates (east and north).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..earth.columns import Columns
from ..earth.geometry import haversine_m, step_between
from ..interface.contexts import Context

if TYPE_CHECKING:
    from ..interface.answerer import Forecaster


@dataclass(frozen=True)
class Windows(Columns):
    """Contexts and the points behind them; those that are no targets say nothing."""

    context: Context
    lon_deg_BH: Tensor
    lat_deg_BH: Tensor
    time_s_BH: Tensor
    is_target_BH: Tensor

    @property
    def elapsed_s_BH(self) -> Tensor:
        """Seconds since the last known point."""
        return self.time_s_BH - self.context.last_B1()[2]

    @property
    def moved_m_BHC(self) -> Tensor:
        """The way from the last known point to each target, in the plane that touches there."""
        lon_deg_B1, lat_deg_B1, _ = self.context.last_B1()
        moved_m = step_between(lon_deg_B1, lat_deg_B1, self.lon_deg_BH, self.lat_deg_BH)
        return torch.stack(moved_m, dim=-1)

    def at_some_steps(self, num_steps: int) -> Windows:
        """The same windows, asked at so many steps, evenly spread up to the last."""
        num_all = self.time_s_BH.shape[1]
        ends = torch.arange(1, num_steps + 1) * num_all / num_steps
        step_K = (ends.ceil().long() - 1).unique()
        columns = (self.lon_deg_BH, self.lat_deg_BH, self.time_s_BH, self.is_target_BH)
        return Windows(self.context, *(value_BH[:, step_K] for value_BH in columns))

    def mean_miss_m_H(self, forecaster: Forecaster) -> Tensor:
        """How far a forecaster is off at each step on average; NaN where a step has no target."""
        return self.miss_m_BH(forecaster).nanmean(dim=0)

    def miss_m_BH(self, forecaster: Forecaster) -> Tensor:
        """How far a forecaster is off; NaN where there is no target."""
        found = forecaster.forecast(self.context, self.time_s_BH.shape[1], self.time_s_BH)
        away_m_BH = haversine_m(
            found.lon_deg_BH, found.lat_deg_BH, self.lon_deg_BH, self.lat_deg_BH
        )
        return away_m_BH.masked_fill(~self.is_target_BH, torch.nan)
