"""Position encodings (positional encoding): sinusoids that are added, and rotary angles of heads.

Rotary positions (Su et al. 2021) turn each pair of numbers of a query and of a key by angles that
are linear in the position, so that their product depends on the difference of positions alone.

Shapes: B rows, Q points, H heads, K head width, P = K / 2 pairs, C coordinates of a position.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SPACE_AND_TIME = 3  # coordinates: east, north, time


def sinusoidal_positions(num_positions: int, width: int) -> Tensor:
    """Sine and cosine of each index at log-spaced wavelengths, (num_positions, width).

    Vaswani et al. 2017, section 3.5: even columns are sines, odd columns cosines.
    """
    index = torch.arange(num_positions, dtype=torch.float64).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(1e4) / width))
    waves = torch.stack([torch.sin(index * rate), torch.cos(index * rate)], dim=-1)
    return waves.flatten(1).float()


def index_frequencies(num_pairs: int, base: float = 1e4) -> Tensor:
    """Radians per index of each pair, (1, P) in float64: base^(-2p / K)."""
    return base ** (-torch.arange(num_pairs, dtype=torch.float64) / num_pairs).unsqueeze(0)


def spatio_temporal_frequencies(
    num_pairs: int, shortest_m: float, longest_m: float, shortest_s: float, longest_s: float
) -> Tensor:
    """Radians per metre east, per metre north and per second of each pair, (3, P) in float64.

    Each pair turns with one coordinate. East and north have the same wavelengths, so that neither
    direction is known better; time has the pairs that are left.
    """
    if num_pairs < SPACE_AND_TIME:
        raise ValueError(f"three coordinates need at least 3 pairs, not {num_pairs}")
    num_space = num_pairs // SPACE_AND_TIME
    space_P = _log_spaced(num_space, shortest_m, longest_m)
    time_P = _log_spaced(num_pairs - 2 * num_space, shortest_s, longest_s)
    return torch.block_diag(space_P, space_P, time_P)


def _log_spaced(num: int, shortest: float, longest: float) -> Tensor:
    """Radians per unit of wavelengths from the shortest to the longest."""
    if not 0 < shortest <= longest:
        raise ValueError(f"wavelengths must ascend from above 0, not {shortest} to {longest}")
    wavelength = torch.logspace(math.log10(shortest), math.log10(longest), num, dtype=torch.float64)
    return 2 * math.pi / wavelength


def angles_of(position_BQC: Tensor, frequency_CP: Tensor) -> Tensor:
    """The angle (B, Q, P) by which each pair turns.

    Positions come in float64 and relative to something near: the sine of a million radians has
    few right digits in float32.
    """
    return position_BQC @ frequency_CP


def rotate(vector_BHQK: Tensor, angle_BQP: Tensor) -> Tensor:
    """Each pair of neighbouring numbers, turned by its angle; the same in every head."""
    cosine, sine = (wave(angle_BQP).unsqueeze(1).to(vector_BHQK) for wave in (torch.cos, torch.sin))
    even, odd = vector_BHQK.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)
