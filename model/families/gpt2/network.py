"""GPT-2: the reference decoder over tokens, as Radford et al. 2019 published it.

Token and learned position embedding, pre-norm blocks, a last norm, and a head that is the token
embedding again. Tokens are anything that can be counted: bytes of a text, regions of a trajectory.

Shapes: B rows, T tokens of a row, H new tokens, D model width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...interface.batch import Cursor, Rows, index_of
from ...interface.evaluating import evaluating
from ...interface.masking import Loss
from ...layers.transformer import BlockStyle, KeyValueCache, Transformer, check_shape

NUM_BYTES = 256
END = NUM_BYTES  # the token behind a text
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu": "gelu"}  # published name: ours
# What the published configuration may also say, with the only values that this network has.
FIXED: Mapping[str, Any] = {
    "n_inner": None,
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


@dataclass(frozen=True)
class GPT2Config:
    """Shape of the network."""

    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    num_positions: int = 1024
    num_tokens: int = 50_257
    dropout: float = 0.1
    activation: str = "gelu_tanh"
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_shape(self, width_divisor=1, num_positions=1, num_tokens=1)
        if self.activation not in ACTIVATIONS.values():
            raise ValueError(f"activation must be gelu or gelu_tanh, not {self.activation!r}")

    @classmethod
    def from_published(cls, published: Mapping[str, Any]) -> GPT2Config:
        """The shape, in the names of the published `config.json`; what this is not is refused."""
        for name, value in FIXED.items():
            if published.get(name, value) != value:
                raise ValueError(f"{name} = {published[name]!r} is not GPT-2 as published")
        dropouts = {
            published.get(name, 0.1) for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")
        }
        if len(dropouts) > 1:
            raise ValueError(f"one dropout for all parts is supported, not {sorted(dropouts)}")
        activation = published.get("activation_function", "gelu_new")
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation_function {activation!r}")
        return cls(
            width=published["n_embd"],
            num_layers=published["n_layer"],
            num_heads=published["n_head"],
            num_positions=published["n_positions"],
            num_tokens=published["vocab_size"],
            dropout=dropouts.pop(),
            activation=ACTIVATIONS[activation],
            epsilon=published.get("layer_norm_epsilon", 1e-5),
        )


PRESETS: Mapping[str, GPT2Config] = {
    "tiny": GPT2Config(32, 2, 2, num_positions=64, num_tokens=NUM_BYTES + 1, dropout=0.0),
    "small": GPT2Config(128, 4, 4, num_positions=256, num_tokens=NUM_BYTES + 1, dropout=0.0),
    "base": GPT2Config(),
}


@dataclass(frozen=True)
class TokenBatch(Rows):
    """Rows of tokens, padded on the right; every token but the first of a row is a target."""

    token_BT: Tensor
    is_pad_BT: Tensor
    window_id_B: Tensor
    cursor: Cursor = field(default_factory=Cursor)

    def window_ids(self, row: int) -> list[int]:
        """What stands in a row."""
        return [int(self.window_id_B[row])]

    @property
    def num_points(self) -> int:
        """Tokens that are not pads."""
        return int((~self.is_pad_BT).sum())


class GPT2(nn.Module):
    """The network: `forward` gives the logits of each next token, `loss` scores them."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.num_tokens, config.width)
        self.position = nn.Embedding(config.num_positions, config.width)
        self.dropout = nn.Dropout(config.dropout)
        style = BlockStyle(activation=config.activation, epsilon=config.epsilon)
        self.transformer = Transformer(
            config.width, config.num_layers, config.num_heads, config.dropout, style
        )
        self._initialise()

    def _initialise(self) -> None:
        """As published: deviation 0.02, and less where L layers add up twice to the residual."""
        residual = 0.02 / math.sqrt(2 * self.config.num_layers)
        for name, value in self.named_parameters():
            if name.endswith(("out.weight", "narrow.weight")):
                nn.init.normal_(value, std=residual)
            elif value.ndim == 2:
                nn.init.normal_(value, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(value)

    def encode(
        self, token_BQ: Tensor, index_BQ: Tensor, caches: list[KeyValueCache] | None = None
    ) -> Tensor:
        """Hidden state (B, Q, D) of tokens at their places, from their past."""
        x_BQD = self.dropout(self.token(token_BQ) + self.position(index_BQ))
        return self.transformer(x_BQD, index_BQ, caches=caches)

    def head(self, hidden_D: Tensor) -> Tensor:
        """Logits (..., V) of the next token."""
        return functional.linear(hidden_D, self.token.weight)

    def forward(self, token_BT: Tensor) -> Tensor:
        return self.head(self.encode(token_BT, index_of(token_BT)))

    def loss(self, batch: TokenBatch) -> Loss:
        """Surprise of each token but the first, given those before it, in nats."""
        token_BT = batch.token_BT.masked_fill(batch.is_pad_BT, 0)
        hidden_BTD = self.encode(token_BT, index_of(token_BT))
        is_target_BT = ~batch.is_pad_BT[:, 1:]
        logit_NV = self.head(hidden_BTD[:, :-1][is_target_BT])
        nll = functional.cross_entropy(logit_NV, token_BT[:, 1:][is_target_BT], reduction="sum")
        return Loss(nll, is_target_BT.sum())


def generate(
    model: GPT2,
    token_BT: Tensor,
    num_new: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    seed: int = 0,
) -> Tensor:
    """New tokens (B, H) behind each row: the likeliest ones at temperature 0, else draws.

    Only the `top_k` likeliest may be drawn. The draws of a row depend on the seed and on its place.
    """
    num_rows, num_known = token_BT.shape
    num_all = num_known + num_new
    if not 1 <= num_known <= num_all <= model.config.num_positions:
        longest = model.config.num_positions
        raise ValueError(f"{num_known} + {num_new} tokens; the model knows 1 to {longest} places")
    if temperature < 0 or (top_k is not None and top_k < 1):
        raise ValueError(f"temperature {temperature} or top_k {top_k} is below what has a meaning")
    draws = [np.random.default_rng((seed, row)).random((num_new, 1)) for row in range(num_rows)]
    uniform_HB1 = torch.from_numpy(np.stack(draws, axis=1)).to(token_BT.device)
    new: list[Tensor] = []
    with torch.inference_mode(), evaluating(model):
        caches = model.transformer.empty_caches(num_rows, num_all)
        token_BQ = token_BT
        for step in range(num_new):
            first = num_known + step - token_BQ.shape[1]
            index_Q = torch.arange(first, num_known + step, device=token_BT.device)
            hidden_BQD = model.encode(token_BQ, index_Q.expand_as(token_BQ), caches)
            logit_BV = model.head(hidden_BQD[:, -1])
            token_BQ = _next_token(logit_BV, uniform_HB1[step], temperature, top_k)
            new.append(token_BQ)
    return torch.cat(new, dim=1) if new else token_BT[:, :0]


def _next_token(
    logit_BV: Tensor, uniform_B1: Tensor, temperature: float, top_k: int | None
) -> Tensor:
    """One token a row (B, 1): the token whose share of (0, 1) holds the draw."""
    if temperature == 0:
        return logit_BV.argmax(-1, keepdim=True)
    if top_k is not None:
        kept_BV, token_BV = logit_BV.topk(min(top_k, logit_BV.shape[-1]))
    else:
        kept_BV, token_BV = logit_BV.sort(descending=True)
    share_BV = (kept_BV.double() / temperature).softmax(-1).cumsum(-1)
    rank_B1 = torch.searchsorted(share_BV, uniform_B1).clamp(max=share_BV.shape[-1] - 1)
    return token_BV.gather(-1, rank_B1)


def tokens_of(text: str) -> list[int]:
    """The bytes of a text in UTF-8, and the token that ends it."""
    return [*text.encode(), END]


def text_of(tokens: list[int]) -> str:
    """The text before the first end; bytes that are no text become a sign for that."""
    known = tokens[: tokens.index(END)] if END in tokens else tokens
    return bytes(known).decode(errors="replace")
