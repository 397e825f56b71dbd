"""Embeddings of time and place: numbers as waves whose frequencies say what is near.

Feed numbers of ordinary size: seconds since 1970 have steps of 128 in float32.

Shapes: V values, D width of one embedding, W frequencies, S scales, C coordinates (east, north),
K numbers of a calendar: sine and cosine of each cycle, H harmonics.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

NUM_DIRECTIONS = 3  # of Space2Vec, at 120 degrees


class LearnableFourier(nn.Module):
    """Each value as D cosines of learned frequency and phase: (..., V) to (..., V * D).

    As TrajFM and its descendants embed time: sqrt(1 / D) cos(w x + b), with w from 1 down to
    10^-9 at first, which spans minutes to years for whatever unit.
    """

    def __init__(self, num_values: int, width: int) -> None:
        super().__init__()
        first_D = 10.0 ** -torch.linspace(0, 9, width)
        self.frequency_VD = nn.Parameter(first_D.repeat(num_values, 1))
        self.phase_VD = nn.Parameter(torch.zeros(num_values, width))

    def forward(self, value_V: Tensor) -> Tensor:
        angle_VD = value_V.unsqueeze(-1) * self.frequency_VD + self.phase_VD
        return (torch.cos(angle_VD) / math.sqrt(angle_VD.shape[-1])).flatten(-2)


class SpanningWaves(nn.Module):
    """Each value as sines and cosines of learned frequency: (..., V) to (..., V * 2 * W).

    Wavelengths go from the shortest to the longest at first, both included. Choose them by the
    range of the values, and none is flat there; the sine tells a value from its opposite. What is
    learned is the logarithm of how much faster each wave is than at first, so that none turns over.
    """

    first_W: Tensor

    def __init__(self, num_values: int, num_waves: int, shortest: float, longest: float) -> None:
        super().__init__()
        if num_waves < 2 or not 0 < shortest < longest:
            raise ValueError(
                "needs at least 2 wavelengths, the first above 0 and below the last, not "
                f"{num_waves} from {shortest} to {longest}"
            )
        exponent_W = torch.linspace(math.log(shortest), math.log(longest), num_waves)
        self.register_buffer("first_W", 2 * math.pi / exponent_W.exp(), persistent=False)
        self.log_faster_VW = nn.Parameter(torch.zeros(num_values, num_waves))

    def forward(self, value_V: Tensor) -> Tensor:
        angle_VW = value_V.unsqueeze(-1) * (self.first_W * self.log_faster_VW.exp())
        return torch.cat([angle_VW.sin(), angle_VW.cos()], dim=-1).flatten(-2)


def harmonics(calendar_K: Tensor, num_harmonics: int) -> Tensor:
    """Waves once to `num_harmonics` times as fast as each cycle of a calendar: (..., K * H).

    With weights of a linear layer behind them they are a learned Fourier series of each component
    of time by itself, and whole numbers of waves fit into each cycle: the end is the beginning. A
    calendar that is hidden, all zeros, gives zeros.
    """
    sine, cosine = calendar_K.unflatten(-1, (-1, 2)).unbind(-1)
    once = torch.complex(cosine, sine)
    every = torch.stack([once**number for number in range(1, num_harmonics + 1)], dim=-1)
    return torch.stack([every.imag, every.real], dim=-1).flatten(-3)


class Time2Vec(nn.Module):
    """One line and D - 1 sines of a time, (...) to (..., D); Kazemi et al. 2019, equation 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frequency_D = nn.Parameter(torch.randn(width))
        self.phase_D = nn.Parameter(torch.randn(width))

    def forward(self, time: Tensor) -> Tensor:
        angle_D = time.unsqueeze(-1) * self.frequency_D + self.phase_D
        return torch.cat([angle_D[..., :1], torch.sin(angle_D[..., 1:])], dim=-1)


class Space2Vec(nn.Module):
    """A place as waves in three directions at log-spaced scales, (..., C) to (..., D).

    The grid cells of Mai et al. 2020, equation 4, then a linear layer. Wavelengths are
    2 pi times the scales, which go from `shortest_m` to `longest_m`, both included.
    """

    direction_3C: Tensor
    scale_m_S: Tensor

    def __init__(self, width: int, num_scales: int, shortest_m: float, longest_m: float) -> None:
        super().__init__()
        if num_scales < 2 or not 0 < shortest_m < longest_m:
            raise ValueError(
                "needs at least 2 scales, the first above 0 and below the last, not "
                f"{num_scales} from {shortest_m} to {longest_m} m"
            )
        angle_3 = torch.arange(NUM_DIRECTIONS, dtype=torch.float64) * (2 * math.pi / 3)
        direction_3C = torch.stack([angle_3.cos(), angle_3.sin()], dim=-1)
        ratio_S = torch.arange(num_scales, dtype=torch.float64) / (num_scales - 1)
        scale_m_S = shortest_m * (longest_m / shortest_m) ** ratio_S
        self.register_buffer("direction_3C", direction_3C, persistent=False)
        self.register_buffer("scale_m_S", scale_m_S, persistent=False)
        self.project = nn.Linear(2 * NUM_DIRECTIONS * num_scales, width)

    def grid(self, place_m_C: Tensor) -> Tensor:
        """The fixed waves (..., 6 S) of a place in float64: each cosine beside its sine."""
        along_m_3 = place_m_C.double() @ self.direction_3C.T
        angle_S3 = along_m_3.unsqueeze(-2) / self.scale_m_S.unsqueeze(-1)
        return torch.stack([angle_S3.cos(), angle_S3.sin()], dim=-1).flatten(-3)

    def forward(self, place_m_C: Tensor) -> Tensor:
        return torch.relu(self.project(self.grid(place_m_C).to(self.project.weight)))
