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
    return mask_BQT | _itself(is_readable_BT)


def prefix_mask(is_prefix_BT: Tensor, is_readable_BT: Tensor) -> Tensor:
    """The whole prefix, and behind it the own past too."""
    return span_mask((~is_prefix_BT).long(), is_readable_BT)


def span_mask(span_BT: Tensor, is_readable_BT: Tensor) -> Tensor:
    """What is known, and of the spans filled in so far all before, and the own one up to itself.

    Points of span 0 are known and read each other; spans 1, 2, ... are filled in that order, each
    from left to right (Du et al. 2022, GLM). They lie in their places; nothing is moved.
    """
    asked_BQ1, read_B1T = span_BT.unsqueeze(-1), span_BT.unsqueeze(-2)
    is_past_BQT = (asked_BQ1 == read_B1T) & torch.ones_like(_itself(span_BT)).tril()
    is_filled_BQT = (read_B1T == 0) | (read_B1T < asked_BQ1) | is_past_BQT
    return (is_filled_BQT & is_readable_BT.unsqueeze(-2)) | _itself(span_BT)


def _is_same(sequence_BT: Tensor) -> Tensor:
    return sequence_BT.unsqueeze(-1) == sequence_BT.unsqueeze(-2)


def _itself(value_BT: Tensor) -> Tensor:
    num_points = value_BT.shape[-1]
    return torch.eye(num_points, dtype=torch.bool, device=value_BT.device)
