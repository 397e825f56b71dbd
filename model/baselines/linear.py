"""Linear residual: what velocities over several steps say beside damped velocity.

At each lead real weights, the same for east and north, stand on the velocities times the seconds
since. They are fitted on train by least absolute distance and drawn towards zero, where the
forecast is damped velocity itself; how strongly is chosen on validation.

Shapes: B windows, H horizon steps, L leads, F leads that are fitted, P weights, C coordinates (east
and north).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ..features.least_absolute import least_absolute
from ..interface.contexts import Context
from .forecast import ForecastBaseline
from .residual import ResidualForecast, at_leads, chosen, damped_m, leads, velocities_mps
from .windows import Windows

STRENGTHS = (math.inf, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
FITTED_LEADS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)  # and the last


def fitted_leads(num_leads: int) -> list[int]:
    """The leads at which weights are fitted: closest where they change most."""
    return [*(lead for lead in FITTED_LEADS if lead < num_leads), num_leads]


def between(weight_FP: Tensor, fitted: list[int]) -> Tensor:
    """Weights (L, P) at every lead, of those that were fitted."""
    lead_L = np.arange(1, fitted[-1] + 1)
    columns = [np.interp(lead_L, fitted, weight_F) for weight_F in weight_FP.T.numpy()]
    return torch.from_numpy(np.stack(columns, axis=1))


@dataclass(frozen=True, kw_only=True)
class LinearResidual(ResidualForecast):
    """Weights (L, P) on the velocities of `design_mps`."""

    weight_LP: Tensor
    name: ClassVar[str] = "linear_residual"

    @classmethod
    def design_mps(cls, context: Context) -> Tensor:
        """What is weighed, as velocities (B, P, C)."""
        return velocities_mps(context)

    @classmethod
    def fit(cls, train: Windows, validation: Windows, damped: ForecastBaseline) -> Self:
        """The strength, infinity among them, that validation likes best."""
        candidates = [cls(damped=damped, weight_LP=one) for one in cls.weights(train, damped)]
        return chosen(candidates, validation)

    @classmethod
    def weights(cls, train: Windows, damped: ForecastBaseline) -> Iterator[Tensor]:
        """Weights (L, P) for each of `STRENGTHS`.

        They are fitted at some leads on the targets that lie nearest to each. Between two of these
        weights change little and are interpolated.
        """
        context, elapsed_s_BH = train.context, train.elapsed_s_BH
        design_mps_BPC = cls.design_mps(context)
        wanted_m_BHC = train.moved_m_BHC - damped_m(damped, context, elapsed_s_BH)
        num_leads = elapsed_s_BH.shape[1]
        lead_BH = leads(context, elapsed_s_BH).clamp(max=num_leads).round().long()
        fitted = fitted_leads(num_leads)
        found = []
        for lead in fitted:
            window_N, step_N = torch.nonzero((lead_BH == lead) & train.is_target_BH, as_tuple=True)
            elapsed_s_N11 = elapsed_s_BH[window_N, step_N, None, None]
            design_m_NPC = design_mps_BPC[window_N] * elapsed_s_N11
            found.append(least_absolute(design_m_NPC, wanted_m_BHC[window_N, step_N], STRENGTHS))
        for weights in zip(*found, strict=True):
            yield between(torch.stack(weights), fitted)

    def residual_m(self, context: Context, elapsed_s_BH: Tensor) -> Tensor:
        weight_BHP = at_leads(self.weight_LP, leads(context, elapsed_s_BH))
        rate_mps_BHC = torch.einsum("bhp,bpc->bhc", weight_BHP, self.design_mps(context))
        return rate_mps_BHC * elapsed_s_BH[..., None]
