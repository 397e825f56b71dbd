"""Configuration of the network: its shape, and what its training leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class FoundryConfig:
    """Shape of the network.

    Of training, `share_placeless` of the rows are told no place, `share_forgetful` of the presents
    nothing of past trips, and `share_present` of the points are presents.
    """

    width: int = 96
    num_layers: int = 3
    num_components: int = 4
    max_points: int = 64
    dropout: float = 0.1
    has_place: bool = True
    share_placeless: float = 0.1
    has_memory: bool = True
    share_forgetful: float = 0.25
    share_present: float = 0.35

    def __post_init__(self) -> None:
        shares = ("dropout", "share_placeless", "share_forgetful")
        lowest = {"max_points": 4, "has_place": 0, "has_memory": 0, **dict.fromkeys(shares, 0)}
        for name in (field.name for field in fields(self)):
            if name != "share_present" and getattr(self, name) < (low := lowest.get(name, 1)):
                raise ValueError(f"{name} must be at least {low}, not {getattr(self, name)}")
        for name in shares:
            if getattr(self, name) >= 1:
                raise ValueError(f"{name} must be below 1, not {getattr(self, name)}")
        if not 0 < self.share_present <= 1:
            raise ValueError(f"share_present must be above 0 and at most 1: {self.share_present}")


PRESETS: Mapping[str, FoundryConfig] = {
    "tiny": FoundryConfig(width=48, num_layers=2, dropout=0.0),
    "small": FoundryConfig(),
}
