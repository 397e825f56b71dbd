"""Denoiser: a bidirectional transformer that tells noise from steps, given what is known of them.

Blocks are the product's, and how much noise there is moves and stretches what their norms give
(adaptive norm, Peebles and Xie 2023). Points turn the heads by their place in the sequence.

Shapes: B rows, T points, F numbers of a step, U features, D model width, W seen vectors.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ...interface.batch import index_of
from ...layers.attention_masks import bidirectional_mask
from ...layers.position_encodings import angles_of, index_frequencies
from ...layers.transformer import Block, KeyValueCache, Transformer
from .diffusion import noise_of, signal_of
from .steps import NUM_AROUND, NUM_STEP, KnownSteps, compressed
from .ways import NUM_WAYS

FASTEST, SLOWEST = 16.0, 0.16  # waves of time, in radians from t = 0 to 1


class AdaptiveBlock(Block):
    """A block whose norms are moved and stretched; as the plain one before training."""

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__(width, num_heads, dropout)
        self.adapt = nn.Linear(width, 4 * width)
        nn.init.zeros_(self.adapt.weight)
        nn.init.zeros_(self.adapt.bias)

    def forward(
        self,
        x_BQD: Tensor,
        index_BQ: Tensor,
        mask_BQT: Tensor | None = None,
        cache: KeyValueCache | None = None,
        angle_BQP: Tensor | None = None,
        level_BQD: Tensor | None = None,
    ) -> Tensor:
        """`level_BQD` tells the noise of each point, or, with Q = 1, of all points of a row."""
        if level_BQD is None:
            return super().forward(x_BQD, index_BQ, mask_BQT, cache, angle_BQP)
        move, stretch, move_forward, stretch_forward = self.adapt(level_BQD).chunk(4, dim=-1)
        normed_BQD = self.norm_attention(x_BQD) * (1 + stretch) + move
        mixed_BQD = self.attention(normed_BQD, index_BQ, mask_BQT, cache, angle_BQP)
        x_BQD = x_BQD + self.dropout(mixed_BQD)
        return x_BQD + self._feed_forward(
            self.norm_forward(x_BQD) * (1 + stretch_forward) + move_forward
        )


class AdaptiveTransformer(Transformer):
    """The stack with such blocks."""

    def __init__(self, width: int, num_layers: int, num_heads: int, dropout: float) -> None:
        super().__init__(width, 0, num_heads, dropout)
        self.blocks.extend(AdaptiveBlock(width, num_heads, dropout) for _ in range(num_layers))

    def adapted(
        self, x_BTD: Tensor, mask_BTT: Tensor, angle_BTP: Tensor, level_BTD: Tensor
    ) -> Tensor:
        """States (B, T, D), computed as `Transformer.forward` does."""
        kind, is_lower = x_BTD.dtype, self.compute_dtype != torch.float32
        index_BT = index_of(x_BTD[..., 0])
        with torch.autocast(x_BTD.device.type, self.compute_dtype, enabled=is_lower):
            for block in self.blocks:
                x_BTD = block(x_BTD, index_BT, mask_BTT, None, angle_BTP, level_BTD)
        return cast(Tensor, self.norm(x_BTD.to(kind)))


class Denoiser(nn.Module):
    """v of noised steps.

    What the known points tell of a hidden step is no news: the network reads how far the noised
    step is from that guess, and tells how far v is from that of the guess: a number of its own, a
    share of the news, for that tells most where there is little noise, and a share of each way.
    Between two known places none of this moves their mean, which is known.
    """

    frequency_CP: Tensor

    def __init__(self, width: int, num_layers: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.features = nn.Linear(3 * NUM_STEP + NUM_AROUND + 2 * NUM_WAYS, width)
        self.level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        frequency_CP = index_frequencies(width // num_heads // 2)
        self.register_buffer("frequency_CP", frequency_CP, persistent=False)
        self.transformer = AdaptiveTransformer(width, num_layers, num_heads, dropout)
        self.tell = nn.Linear(width, (2 + NUM_WAYS) * NUM_STEP)
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)

    def forward(
        self, x_BTF: Tensor, time_BT: Tensor, known: KnownSteps, is_readable_BT: Tensor
    ) -> Tensor:
        """v (B, T, F) of the hidden numbers; `time_BT` may hold one time for a row (B, 1)."""
        time_BT1, hides_BTF = time_BT.unsqueeze(-1), known.hides_BTF
        news_BTF = (x_BTF - signal_of(time_BT1) * known.told_BTF).masked_fill(~hides_BTF, 0)
        ways_BTU = compressed(known.way_BTWF[..., :2]).flatten(-2)
        told_BTF = compressed(known.told_BTF)
        features = (news_BTF, told_BTF, hides_BTF.float(), known.around_BTU, ways_BTU)
        x_BTD = self.features(torch.cat(features, dim=-1))
        level_BTD = self.level(waves_of(time_BT, self.width))
        if known.control_BQD is not None:
            level_BTD = level_BTD + known.control_BQD
        mask_BTT = bidirectional_mask(is_readable_BT, known.sequence_BT)
        angle_BTP = angles_of(known.position_BT.unsqueeze(-1).double(), self.frequency_CP)
        hidden_BTD = self.transformer.adapted(x_BTD + level_BTD, mask_BTT, angle_BTP, level_BTD)
        seen_BTWF = torch.stack([torch.ones_like(news_BTF), news_BTF], dim=-2)
        seen_BTWF = torch.cat([seen_BTWF, known.way_BTWF], dim=-2)
        share_BTWF = self.tell(hidden_BTD).unflatten(-1, (-1, NUM_STEP))
        v_BTF = known.freed((share_BTWF * seen_BTWF).sum(-2))
        return v_BTF - noise_of(time_BT1) * known.told_BTF


def waves_of(time_BT: Tensor, width: int) -> Tensor:
    """Sines and cosines (B, T, D) of times, at log-spaced rates: all slow enough to be smooth."""
    place_P = torch.linspace(0, 1, width // 2, device=time_BT.device)
    rate_P = FASTEST * (SLOWEST / FASTEST) ** place_P
    angle_BTP = time_BT.unsqueeze(-1) * rate_P
    return torch.cat([angle_BTP.sin(), angle_BTP.cos()], dim=-1)
