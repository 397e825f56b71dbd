"""Attention masks (B, Q, T): true where a query may read a point.

Every point may read itself, also one that no other may read: no query is left with nothing.

Shapes: B rows, Q queries and T points, which are the same here.
"""

from __future__ import annotations

import torch
from torch import Tensor


def causal_mask(sequence_BT: Tensor | None) -> Tensor | None:
    """Own and earlier points of the own sequence.

    None where each row is one sequence: `transformer.Attention` then takes the faster plain causal
    mask of torch.
    """
    if sequence_BT is None or bool((sequence_BT == sequence_BT[:, :1]).all()):
        return None
    return _is_same(sequence_BT).tril()


def bidirectional_mask(is_readable_BT: Tensor, sequence_BT: Tensor | None = None) -> Tensor:
    """All readable points of the own sequence."""
    mask_BQT = is_readable_BT.unsqueeze(-2).expand(*is_readable_BT.shape, -1)
    if sequence_BT is not None:
        mask_BQT = mask_BQT & _is_same(sequence_BT)
    num_points, device = is_readable_BT.shape[-1], is_readable_BT.device
    return mask_BQT | torch.eye(num_points, dtype=torch.bool, device=device)


def _is_same(sequence_BT: Tensor) -> Tensor:
    return sequence_BT.unsqueeze(-1) == sequence_BT.unsqueeze(-2)
