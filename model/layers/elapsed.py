"""Elapsed seconds: a head that tells how long it is until a point some steps ahead.

Shapes: N presents, D model width.
"""

from __future__ import annotations

from torch import Tensor

from ..features.normaliser import Normaliser
from .distributions import GaussianMixture
from .heads import NumberHead


class ElapsedHead(NumberHead):
    """p(log seconds) until a point ahead: a mixture around that many intervals.

    Intervals are those that are usual in train, or `pace_s`, those of the present's own past.
    """

    def __init__(self, width: int, num_components: int, normaliser: Normaliser) -> None:
        super().__init__(width, num_components, 2.0, num_codes=1)
        self.normaliser = normaliser

    def forward(
        self, hidden_ND: Tensor, ahead_N: Tensor, pace_s_N: Tensor | None = None
    ) -> GaussianMixture:
        log_ahead_N1 = ahead_N.float().log().unsqueeze(-1)
        center_N1 = self.normaliser.log_step_center + log_ahead_N1
        if pace_s_N is not None:
            center_N1 = pace_s_N.log().unsqueeze(-1) + log_ahead_N1
        return self.around(center_N1, self.normaliser.log_step_scale, hidden_ND, log_ahead_N1)
