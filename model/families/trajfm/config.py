"""Configuration of trajfm: the shape of its network, and which waves it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...layers.transformer import check_shape

PUBLISHED, SPANNING = "published", "spanning"


@dataclass(frozen=True)
class TrajFmConfig:
    """Shape of the network.

    `num_waves` counts the waves of each coordinate. Published ones are cosines; of those that span
    the window half are sines, and those of time have the harmonics of each cycle of the calendar
    beside them. Attention turns by wavelengths from `shortest_steps` typical steps to
    `longest_steps`, in metres and in seconds; with `learns_turns` these are where it begins.
    `mean_weight` scales the distance from the mean place, in units of the reach, beside its
    surprise, and `journey_weight` the mean surprise of durations beside the mean loss of points.
    """

    width: int = 96
    num_layers: int = 3
    num_heads: int = 4
    num_components: int = 4
    num_waves: int = 12
    max_points: int = 64
    dropout: float = 0.0
    mean_weight: float = 1.0
    journey_weight: float = 0.5
    has_tails: bool = False
    shortest_steps: float = 4.0
    longest_steps: float = 256.0
    place_waves: str = SPANNING
    time_waves: str = SPANNING
    learns_turns: bool = False

    def __post_init__(self) -> None:
        lowest = {"num_components": 1, "num_waves": 1, "max_points": 4}
        check_shape(self, **lowest, mean_weight=0, journey_weight=0)
        if self.width < 6 * self.num_heads:
            raise ValueError(f"width {self.width} must give each of num_heads 3 pairs or more")
        if not 0 < self.shortest_steps < self.longest_steps:
            raise ValueError(f"shortest_steps must be below {self.longest_steps} and above 0")
        for name in ("place_waves", "time_waves"):
            if (kind := getattr(self, name)) not in (PUBLISHED, SPANNING):
                raise ValueError(f"{name} must be {PUBLISHED} or {SPANNING}, not {kind!r}")
            if kind == SPANNING and (self.num_waves < 4 or self.num_waves % 2):
                raise ValueError(f"num_waves must be even and 4 or more, not {self.num_waves}")


PRESETS: Mapping[str, TrajFmConfig] = {
    "tiny": TrajFmConfig(width=32, num_layers=1, num_heads=2, num_waves=6),
    "small": TrajFmConfig(),
}
