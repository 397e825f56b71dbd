"""Transformer, top to bottom: attention with its cache, block, stack.

Positions are in `position_encodings.py`, masks in `attention_masks.py`.

Shapes: B rows, Q queried points, T points of the cache, D model width, H heads, K head width,
P pairs of numbers of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..earth.columns import Columns
from .position_encodings import rotate


@dataclass(frozen=True)
class BlockStyle:
    """What a block is made of.

    Norms are `layer` or `rms`. The feed-forward layer is `gelu`, `gelu_tanh` (GPT-2's
    approximation) or `swiglu`, the gated one of Shazeer 2020.
    """

    norm: str = "layer"
    activation: str = "gelu"
    has_bias: bool = True
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name, known in (("norm", NORMS), ("activation", ACTIVATIONS)):
            if (asked := getattr(self, name)) not in known:
                raise ValueError(f"unknown {name} {asked!r}, known are {sorted(known)}")


NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


def _swiglu(wide: Tensor) -> Tensor:
    gate, value = wide.chunk(2, dim=-1)
    return functional.silu(gate) * value


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "swiglu": _swiglu,
}
PLAIN = BlockStyle()
GATED = BlockStyle(norm="rms", activation="swiglu", has_bias=False)


def check_shape(config: Any, width_divisor: int = 2, **lowest: float) -> None:
    """Refuse a network of no size, heads that cannot share its width, or an impossible dropout.

    The width divides by `width_divisor` for each head, 2 where heads turn pairs of numbers;
    `lowest` are the lowest values of further fields.
    """
    for name, low in {"width": 1, "num_layers": 1, "num_heads": 1, **lowest}.items():
        if getattr(config, name) < low:
            raise ValueError(f"{name} must be at least {low}, not {getattr(config, name)}")
    divisor = width_divisor * config.num_heads
    if config.width % divisor:
        raise ValueError(f"width {config.width} must divide by {divisor}, for each of num_heads")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), not {config.dropout}")


@dataclass(frozen=True)
class KeyValueCache(Columns):
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


class Attention(nn.Module):
    """Multi-head attention, to the own and earlier points where no mask is given."""

    def __init__(self, width: int, num_heads: int, dropout: float, has_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width, bias=has_bias)
        self.out = nn.Linear(width, width, bias=has_bias)

    def forward(
        self,
        x_BQD: Tensor,
        index_BQ: Tensor,
        mask_BQT: Tensor | None,
        cache: KeyValueCache | None,
        angle_BQP: Tensor | None,
    ) -> Tensor:
        query_BHQK, key_BHTK, value_BHTK = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.qkv(x_BQD).chunk(3, dim=-1)
        )
        if angle_BQP is not None:
            query_BHQK, key_BHTK = rotate(query_BHQK, angle_BQP), rotate(key_BHTK, angle_BQP)
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
    """Attention, then a feed-forward layer, each added to its input."""

    def __init__(
        self, width: int, num_heads: int, dropout: float = 0.0, style: BlockStyle = PLAIN
    ) -> None:
        super().__init__()
        self.activate = ACTIVATIONS[style.activation]
        # A gated layer has three matrices for two, so two thirds of the width cost the same.
        is_gated = style.activation == "swiglu"
        inner = 8 * width // 3 if is_gated else 4 * width
        self.norm_attention = NORMS[style.norm](width, eps=style.epsilon)
        self.attention = Attention(width, num_heads, dropout, style.has_bias)
        self.norm_forward = NORMS[style.norm](width, eps=style.epsilon)
        self.widen = nn.Linear(width, 2 * inner if is_gated else inner, bias=style.has_bias)
        self.narrow = nn.Linear(inner, width, bias=style.has_bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_BQD: Tensor,
        index_BQ: Tensor,
        mask_BQT: Tensor | None = None,
        cache: KeyValueCache | None = None,
        angle_BQP: Tensor | None = None,
    ) -> Tensor:
        normed_BQD = self.norm_attention(x_BQD)
        mixed_BQD = self.attention(normed_BQD, index_BQ, mask_BQT, cache, angle_BQP)
        x_BQD = x_BQD + self.dropout(mixed_BQD)
        return x_BQD + self._feed_forward(self.norm_forward(x_BQD))

    def _feed_forward(self, x_BQD: Tensor) -> Tensor:
        return self.dropout(self.narrow(self.dropout(self.activate(self.widen(x_BQD)))))


class Transformer(nn.Module):
    """A stack of blocks, which begin with a norm, and a last norm behind them.

    Without caches the input is a whole row of points. With caches it is any set of new points,
    told apart by `index_BQ`. Without a mask each point reads itself and what comes before it.
    The blocks may compute in a lower precision; what they are given and give keeps its own.
    """

    compute_dtype = torch.float32

    def __init__(
        self,
        width: int,
        num_layers: int,
        num_heads: int,
        dropout: float = 0.0,
        style: BlockStyle = PLAIN,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.blocks = nn.ModuleList(
            Block(width, num_heads, dropout, style) for _ in range(num_layers)
        )
        self.norm = NORMS[style.norm](width, eps=style.epsilon)

    def forward(
        self,
        x_BQD: Tensor,
        index_BQ: Tensor,
        mask_BQT: Tensor | None = None,
        caches: list[KeyValueCache] | None = None,
        angle_BQP: Tensor | None = None,
    ) -> Tensor:
        if mask_BQT is None and caches is not None:
            mask_BQT = _cached_mask(index_BQ, caches)
        kind, is_lower = x_BQD.dtype, self.compute_dtype != torch.float32
        with torch.autocast(x_BQD.device.type, self.compute_dtype, enabled=is_lower):
            for layer, block in enumerate(self.blocks):
                cache = None if caches is None else caches[layer]
                x_BQD = block(x_BQD, index_BQ, mask_BQT, cache, angle_BQP)
        return self.norm(x_BQD.to(kind))

    def empty_caches(self, num_rows: int, num_slots: int) -> list[KeyValueCache]:
        """One empty cache per layer."""
        like_D = next(self.parameters())
        return [
            KeyValueCache.empty(num_rows, num_slots, like_D, self.num_heads) for _ in self.blocks
        ]


def _cached_mask(index_BQ: Tensor, caches: list[KeyValueCache]) -> Tensor:
    """Slots up to the own index: later ones are empty or hold pads not yet overwritten."""
    slot_T = torch.arange(caches[0].key_BHTK.shape[2], device=index_BQ.device)
    return slot_T <= index_BQ.unsqueeze(-1)
