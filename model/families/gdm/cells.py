"""Cells: the diffusion over cells of a grid, as TrajGDM was published, beside the one over metres.

A sequence of cells, evenly in time, becomes one of vectors; they are noised, and a denoiser tells
P(cell) at each place. The mean of the vectors is what it takes for clean, from which v follows; at
the end the nearest vector counts. Each cell has a vector of its own, of norm 1, that is never
trained: where a decoder alone trains them, as in the published code, they grow until the noise
beside them vanishes. Known cells enter clean and flagged, in training as in sampling, and all cells
are told in one pass, each at its place. No pipeline asks it.

Shapes: B rows, T points, S samples, E numbers of a cell, R cells, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...interface.batch import index_of
from ...interface.masking import Loss
from ...layers.attention_masks import bidirectional_mask
from ...layers.position_encodings import angles_of, index_frequencies
from ...layers.transformer import check_shape
from .denoiser import AdaptiveTransformer, waves_of
from .diffusion import dpm_solver, noise_of, noised, shares_at, signal_of, weight_of
from .noise import sample_noise

SEED = 0  # of the vectors
MIN_VARIANCE = 1e-3  # of noise, which errors and distances are told in


@dataclass(frozen=True)
class CellConfig:
    """Number of cells, numbers of each, and the shape of the network."""

    num_cells: int
    num_numbers: int = 64
    width: int = 128
    num_layers: int = 6
    num_heads: int = 4
    dropout: float = 0.0
    num_passes: int = 20

    def __post_init__(self) -> None:
        check_shape(self, num_cells=1, num_numbers=1, num_passes=1)


class CellDiffusion(nn.Module):
    """The network: `loss` teaches it to tell noise from cells, `filled` draws what is unknown."""

    vector_RE: Tensor
    frequency_CP: Tensor

    def __init__(self, config: CellConfig) -> None:
        super().__init__()
        self.config, width, size = config, config.width, config.num_numbers
        drawn_RE = torch.randn(
            config.num_cells, size, generator=torch.Generator().manual_seed(SEED)
        )
        self.register_buffer("vector_RE", functional.normalize(drawn_RE, dim=-1))
        self.features = nn.Linear(3 * (size + 1), width)  # of a place, and of those beside it
        self.level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        frequency_CP = index_frequencies(width // config.num_heads // 2)
        self.register_buffer("frequency_CP", frequency_CP, persistent=False)
        self.transformer = AdaptiveTransformer(
            width, config.num_layers, config.num_heads, config.dropout
        )
        self.tell = nn.Linear(width, size)

    def log_probability(self, x_BTE: Tensor, time_B1: Tensor, is_known_BT: Tensor) -> Tensor:
        """log P(cell) (B, T, R), by Bayes' rule: the network tells what is likely at each place.

        What is noised there tells by how near it is to the vector of each cell. The network reads
        the mean of the vectors by that alone: noise as it stands would be as large for all of them.
        """
        share_B11 = noise_of(time_B1).square().clamp(min=MIN_VARIANCE).unsqueeze(-1)
        near_BTR = signal_of(time_B1).unsqueeze(-1) / share_B11 * x_BTE @ self.vector_RE.T
        is_known_BT1 = is_known_BT.unsqueeze(-1)
        told_BTE = torch.where(is_known_BT1, x_BTE, near_BTR.softmax(-1) @ self.vector_RE)
        seen_BTE = torch.cat([told_BTE, is_known_BT1.float()], dim=-1)
        before_BTE, after_BTE = (functional.pad(seen_BTE, (0, 0, *by)) for by in ((1, -1), (-1, 1)))
        x_BTD = self.features(torch.cat([seen_BTE, before_BTE, after_BTE], dim=-1))
        level_B1D = self.level(waves_of(time_B1, self.config.width))
        mask_BTT = bidirectional_mask(torch.ones_like(is_known_BT))
        place_BT1 = index_of(is_known_BT).unsqueeze(-1).double()
        angle_BTP = angles_of(place_BT1, self.frequency_CP)
        hidden_BTD = self.transformer.adapted(x_BTD + level_B1D, mask_BTT, angle_BTP, level_B1D)
        return (self.tell(hidden_BTD) @ self.vector_RE.T + near_BTR).log_softmax(-1)

    def loss(
        self, cell_BT: Tensor, is_known_BT: Tensor, time_B1: Tensor, noise_BTE: Tensor
    ) -> Loss:
        """Of unknown cells: the weighted error of v, and the surprise of the cell in its place."""
        clean_BTE, time_B11 = self.vector_RE[cell_BT], time_B1.unsqueeze(-1)
        x_BTE = noised(clean_BTE, noise_BTE, time_B11)
        x_BTE = torch.where(is_known_BT.unsqueeze(-1), clean_BTE, x_BTE)
        found_BTR = self.log_probability(x_BTE, time_B1, is_known_BT)
        miss_BTE = found_BTR.exp() @ self.vector_RE - clean_BTE  # of v, times the share of noise
        variance_B1 = noise_of(time_B1).square().clamp(min=MIN_VARIANCE)
        error_BT = weight_of(time_B1) / variance_B1 * miss_BTE.square().sum(-1)
        surprise_BT = -found_BTR.gather(-1, cell_BT.unsqueeze(-1)).squeeze(-1)
        parts = {
            name: value_BT.masked_fill(is_known_BT, 0).sum()
            for name, value_BT in (("velocity", error_BT), ("cell", surprise_BT))
        }
        return Loss.of((~is_known_BT).sum(), parts)

    @torch.no_grad()
    def filled(self, cell_BT: Tensor, is_known_BT: Tensor, numbers: range, seed: int) -> Tensor:
        """Cells (S, B, T): each sample, by its number, is drawn beside what is known of each row.

        What an unknown cell holds is not read.
        """
        num_samples, shape = len(numbers), cell_BT.shape
        known_BT1 = is_known_BT.repeat(num_samples, 1).unsqueeze(-1)
        clean_BTE = self.vector_RE[cell_BT.masked_fill(~is_known_BT, 0)].repeat(num_samples, 1, 1)
        noise_STE = sample_noise(numbers, shape[1], 1, seed, self.config.num_numbers)[0]
        noise_BTE = noise_STE.to(clean_BTE).repeat_interleave(shape[0], dim=0)

        def velocity(x_BTE: Tensor, time: float) -> Tensor:
            (signal, share), time_11 = shares_at(time), x_BTE.new_full((1, 1), time)
            shown_BTE = torch.where(known_BT1, clean_BTE, x_BTE)
            found_BTR = self.log_probability(shown_BTE, time_11, known_BT1[..., 0])
            return (signal * x_BTE - found_BTR.exp() @ self.vector_RE) / share

        found_BTE = dpm_solver(velocity, noise_BTE, self.config.num_passes)
        found_BT = (found_BTE @ self.vector_RE.T).argmax(-1).unflatten(0, (num_samples, -1))
        return torch.where(is_known_BT, cell_BT, found_BT)

    def generate(self, num: int, num_points: int, seed: int) -> Tensor:
        """Sequences (S, T) of which nothing is known, from weights and seed alone."""
        nothing_1T = torch.zeros(1, num_points, dtype=torch.long, device=self.vector_RE.device)
        return self.filled(nothing_1T, nothing_1T.bool(), range(num), seed)[:, 0]
