"""Units: how far forecasts of a row are usually off, in which a loss counts metres.

Shapes: R rows, N presents, J points ahead.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ...interface.batch import Batch
from .motion import LEAST_M

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


def by_member(batches: Iterable[Batch]) -> list[list[Batch]]:
    """The batches of each member of a corpus, in the order of the members."""
    found: dict[int, list[Batch]] = {}
    for batch in batches:
        found.setdefault(batch.cursor.last, []).append(batch)
    return [found[member] for member in sorted(found)]


def unit_m_of(misses: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The mean error (J) of some simple forecast, with a floor of 1 % of the mean step.

    Of each batch it is told how far that is off, how far the truth went, and what is asked, (N, J).
    In this unit an error counts alike, whether storms or people make it.
    """
    total_3J = sum(
        torch.stack([miss_m_NJ * is_asked_NJ, moved_m_NJ * is_asked_NJ, is_asked_NJ.float()]).sum(1)
        for miss_m_NJ, moved_m_NJ, is_asked_NJ in misses
    )
    off_m_J, moved_m_J, count_J = torch.as_tensor(total_3J).unbind()
    count_J = count_J.clamp(min=1)
    least_m = max(LEAST_M, LEAST_SHARE * float(moved_m_J[0] / count_J[0]))
    return (off_m_J / count_J).cummax(0).values.clamp(min=least_m)
