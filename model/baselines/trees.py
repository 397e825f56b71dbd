"""Boosted trees: what gradient boosting sees in the last velocities beside damped velocity.

Trees read velocities along and across the heading and answer in the same axes, so that a turned
trajectory is forecast turned, and a moved one moved.

Shapes: B windows, H horizon steps, N samples, F features, C coordinates (along and across).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..earth.geometry import from_heading, heading_of, to_heading
from ..interface.contexts import Context
from .forecast import ForecastBaseline
from .one_thread import one_thread
from .residual import ResidualForecast, chosen, damped_m, leads, velocities_mps
from .windows import Windows

NUM_SAMPLES = 15_000  # of windows and steps: a second or two, whatever the size of the data
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
OPTIONS = {"max_iter": 30, "learning_rate": 0.2, "max_leaf_nodes": 15, "min_samples_leaf": 50}


@dataclass(frozen=True, kw_only=True)
class BoostedTrees(ResidualForecast):
    """Two ensembles: the missing speed along the heading, and across it."""

    trees: tuple[Any, Any]
    name: ClassVar[str] = "boosted_trees"

    @classmethod
    def fit(
        cls, train: Windows, validation: Windows, damped: ForecastBaseline, seed: int
    ) -> BoostedTrees:
        """Fitted by least absolute error; validation says how much of it is believed."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        context, elapsed_s_BH = train.context, train.elapsed_s_BH
        missing_m_BHC = train.moved_m_BHC - damped_m(damped, context, elapsed_s_BH)
        rate_mps_BHC = missing_m_BHC / elapsed_s_BH[..., None]
        rate_mps_BHC = to_heading(rate_mps_BHC, _heading(context)[:, None].expand_as(rate_mps_BHC))
        sample = torch.nonzero((train.is_target_BH & (elapsed_s_BH > 0)).flatten())[:, 0]
        sample = sample[:: -(-len(sample) // NUM_SAMPLES) or 1]
        feature_NF = features(context, elapsed_s_BH).flatten(0, 1)[sample].numpy()
        rate_mps_NC = rate_mps_BHC.flatten(0, 1)[sample].numpy()
        weight_N = elapsed_s_BH.flatten()[sample].numpy()  # of a speed's error in metres
        with one_thread():
            trees = [
                HistGradientBoostingRegressor(
                    loss="absolute_error", early_stopping=False, random_state=seed, **OPTIONS
                ).fit(feature_NF, rate_mps_N, weight_N)
                for rate_mps_N in rate_mps_NC.T
            ]
        whole = cls(damped=damped, trees=(trees[0], trees[1]))
        candidates = [
            replace(whole, share_L=share * torch.ones_like(whole.share_L)) for share in SHARES
        ]
        return chosen(candidates, validation)

    def residual_m(self, context: Context, elapsed_s_BH: Tensor) -> Tensor:
        feature_NF = features(context, elapsed_s_BH).flatten(0, 1).numpy()
        with one_thread():
            told = [torch.from_numpy(one.predict(feature_NF)) for one in self.trees]
        rate_mps_BHC = torch.stack(told, -1).view(*elapsed_s_BH.shape, 2)
        heading_BHC = _heading(context)[:, None].expand_as(rate_mps_BHC)
        return from_heading(rate_mps_BHC, heading_BHC) * elapsed_s_BH[..., None]


def features(context: Context, elapsed_s_BH: Tensor) -> Tensor:
    """Seconds since, lead, and velocities along and across the heading (B, H, F)."""
    velocity_mps_BKC = velocities_mps(context)
    heading_BKC = _heading(context)[:, None].expand_as(velocity_mps_BKC)
    motion_BF = to_heading(velocity_mps_BKC, heading_BKC).flatten(1)
    # The last step has nothing across its own heading but rounding, which trees would read.
    motion_BF = torch.cat([motion_BF[:, :1], motion_BF[:, 2:]], dim=1)
    motion_BHF = motion_BF[:, None].expand(-1, elapsed_s_BH.shape[1], -1)
    when_BHF = torch.stack([elapsed_s_BH, leads(context, elapsed_s_BH)], dim=-1)
    return torch.cat([when_BHF, motion_BHF], dim=-1)


def _heading(context: Context) -> Tensor:
    """The unit vector (B, C) of the last step's velocity."""
    return heading_of(velocities_mps(context, (1,))[:, 0])
