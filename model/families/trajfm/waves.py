"""Waves of place and time: how a point is told, and by which wavelengths attention turns.

Published waves are cosines of frequencies from 1 down to a billionth, in typical steps: most are
flat over a window, and none tells three steps ahead from three steps back. Spanning ones are sines
and cosines whose wavelengths go from `shortest_steps` to twice the longest window.

Shapes: B windows, T points, K calendar features, V values, C coordinates (east, north, time), P
pairs of a head.
"""

from __future__ import annotations

from torch import Tensor, nn

from ...earth.calendar import NUM_CALENDAR
from ...features.normaliser import Normaliser
from ...layers.embeddings import LearnableFourier, SpanningWaves, harmonics
from ...layers.position_encodings import spatio_temporal_frequencies
from .config import SPANNING, TrajFmConfig

NUM_HARMONICS = 3  # of a week's days no more can be told apart


def place_waves(config: TrajFmConfig) -> nn.Module:
    """Of east and north, in typical steps."""
    return _waves(config.place_waves, 2, config)


def time_waves(config: TrajFmConfig) -> nn.Module:
    """Of the time since the window began, in typical steps."""
    return _waves(config.time_waves, 1, config)


def _waves(kind: str, num_values: int, config: TrajFmConfig) -> nn.Module:
    if kind == SPANNING:
        longest_steps = 2.0 * config.max_points
        return SpanningWaves(
            num_values, config.num_waves // 2, config.shortest_steps, longest_steps
        )
    return LearnableFourier(num_values, config.num_waves)


def num_clock_waves(config: TrajFmConfig) -> int:
    """Of weekday, hour, minute and second together."""
    return NUM_CALENDAR * (NUM_HARMONICS if config.time_waves == SPANNING else 1)


def clock_waves(calendar_BTK: Tensor, config: TrajFmConfig) -> Tensor:
    """Those of each cycle by itself (B, T, V); what is hidden tells nothing."""
    if config.time_waves == SPANNING:
        return harmonics(calendar_BTK, NUM_HARMONICS)
    return calendar_BTK


def turns_of(config: TrajFmConfig, normaliser: Normaliser) -> Tensor:
    """Radians (C, P) per metre and per second at first."""
    step_m, step_s = normaliser.extent_scale_m, normaliser.typical_step_s
    low, high = config.shortest_steps, config.longest_steps
    num_pairs = config.width // config.num_heads // 2
    return spatio_temporal_frequencies(
        num_pairs, low * step_m, high * step_m, low * step_s, high * step_s
    )
