"""The transformer, top to bottom: positions, attention with its cache, block, stack.

Shapes: B rows, Q queried points, T points of the cache, D model width, H heads, K head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


def sinusoidal_positions(num_positions: int, width: int) -> Tensor:
    """Sine and cosine of each index at log-spaced wavelengths, (num_positions, width).

    Vaswani et al. 2017, section 3.5: even columns are sines, odd columns cosines.
    """
    index = torch.arange(num_positions, dtype=torch.float64).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(1e4) / width))
    waves = torch.stack([torch.sin(index * rate), torch.cos(index * rate)], dim=-1)
    return waves.flatten(1).float()


@dataclass(frozen=True)
class KeyValueCache:
    """Keys and values of one layer, preallocated; `write` fills the slots of each row in place."""

    key_BHTK: Tensor
    value_BHTK: Tensor

    @classmethod
    def empty(cls, num_rows: int, num_slots: int, like: Tensor, num_heads: int) -> KeyValueCache:
        shape = (num_rows, num_heads, num_slots, like.shape[-1] // num_heads)
        return cls(like.new_zeros(shape), like.new_zeros(shape))

    def write(self, index_BQ: Tensor, key_BHQK: Tensor, value_BHQK: Tensor) -> None:
        slot_BHQK = index_BQ[:, None, :, None].expand_as(key_BHQK)
        self.key_BHTK.scatter_(2, slot_BHQK, key_BHQK)
        self.value_BHTK.scatter_(2, slot_BHQK, value_BHQK)

    def repeat_rows(self, times: int) -> KeyValueCache:
        """A cache in which each row stands `times` times, next to itself."""
        return KeyValueCache(
            self.key_BHTK.repeat_interleave(times, 0), self.value_BHTK.repeat_interleave(times, 0)
        )


class CausalAttention(nn.Module):
    """Multi-head attention to the own and earlier points."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x_BQD: Tensor, mask_BQT: Tensor | None, cache: KeyValueCache | None, index_BQ: Tensor
    ) -> Tensor:
        query_BHQK, key_BHTK, value_BHTK = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.qkv(x_BQD).chunk(3, dim=-1)
        )
        if cache is not None:
            cache.write(index_BQ, key_BHTK, value_BHTK)
            key_BHTK, value_BHTK = cache.key_BHTK, cache.value_BHTK
        mixed_BHQK = functional.scaled_dot_product_attention(
            query_BHQK,
            key_BHTK,
            value_BHTK,
            attn_mask=None if mask_BQT is None else mask_BQT.unsqueeze(1),
            is_causal=mask_BQT is None,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(mixed_BHQK.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """Pre-norm block: attention, then a feed-forward layer, each added to its input."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = CausalAttention(width, num_heads, dropout)
        self.norm_forward = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x_BQD: Tensor, mask_BQT: Tensor | None, cache: KeyValueCache | None, index_BQ: Tensor
    ) -> Tensor:
        mixed_BQD = self.attention(self.norm_attention(x_BQD), mask_BQT, cache, index_BQ)
        x_BQD = x_BQD + self.dropout(mixed_BQD)
        wide = functional.gelu(self.widen(self.norm_forward(x_BQD)))
        return x_BQD + self.dropout(self.narrow(self.dropout(wide)))


class Transformer(nn.Module):
    """A causal stack of blocks with a last norm.

    Without caches the input is a whole sequence; `sequence_BQ` then separates the sequences of a
    packed row. With caches it is any set of new points, told apart by `index_BQ`.
    """

    def __init__(self, width: int, num_layers: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.blocks = nn.ModuleList(Block(width, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        x_BQD: Tensor,
        index_BQ: Tensor,
        sequence_BQ: Tensor | None = None,
        caches: list[KeyValueCache] | None = None,
    ) -> Tensor:
        mask_BQT = _packed_mask(sequence_BQ) if caches is None else _cached_mask(index_BQ, caches)
        for layer, block in enumerate(self.blocks):
            x_BQD = block(x_BQD, mask_BQT, None if caches is None else caches[layer], index_BQ)
        return self.norm(x_BQD)

    def empty_caches(self, num_rows: int, num_slots: int) -> list[KeyValueCache]:
        """One empty cache per layer."""
        like = self.norm.weight
        return [KeyValueCache.empty(num_rows, num_slots, like, self.num_heads) for _ in self.blocks]


def _packed_mask(sequence_BQ: Tensor | None) -> Tensor | None:
    """Causal within each sequence; None, the faster plain causal mask, where rows hold one each."""
    if sequence_BQ is None or bool((sequence_BQ == sequence_BQ[:, :1]).all()):
        return None
    is_same_BQQ = sequence_BQ.unsqueeze(-1) == sequence_BQ.unsqueeze(-2)
    return is_same_BQQ.tril()


def _cached_mask(index_BQ: Tensor, caches: list[KeyValueCache]) -> Tensor:
    """Slots up to the own index: later ones are empty or hold pads not yet overwritten."""
    slot_T = torch.arange(caches[0].key_BHTK.shape[2], device=index_BQ.device)
    return slot_T <= index_BQ.unsqueeze(-1)
