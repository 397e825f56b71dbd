"""Units: how far forecasts of a row are usually off, in which a loss counts metres.

Shapes: R rows, N presents, J points ahead.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_SHARE = 0.01  # of the way that is usual until then: nothing is told more finely


def own_units_m(
    miss_m_NJ: Tensor, reach_m_NJ: Tensor, is_target_NJ: Tensor, row_N: Tensor
) -> Tensor:
    """The mean miss of a simple forecast over the presents of each row (N, J), with a floor."""
    counts_NJ = is_target_NJ.to(miss_m_NJ.dtype)
    floored_m_NJ = (miss_m_NJ + LEAST_SHARE * reach_m_NJ) * counts_NJ
    totals = miss_m_NJ.new_zeros(2, int(row_N.max()) + 1, miss_m_NJ.shape[1])
    totals.index_add_(1, row_N, torch.stack([floored_m_NJ, counts_NJ]))
    unit_m_RJ = totals[0] / totals[1].clamp(min=1)
    return unit_m_RJ[row_N].clamp(min=1e-3)
