"""Configuration of foundry: the shape of its networks, and how its tasks are mixed in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class FoundryConfig:
    """Shape of the network.

    Of training, `share_placeless` of the rows are told no place, `share_silent` no motion that was
    reported, `share_kindless` not what moves, `share_forgetful` of the presents nothing of past
    trips, and `share_present` of the points are presents. `kinds` are all that it can be told of
    what moves. Of named places the texts are `num_text` numbers, 0 for a network without them; in
    `share_nameless` of the rows none is looked up.
    The mean surprise of a journey's duration counts `journey_weight` times as much as the mean miss
    of a forecast, that of a hidden point `gap_weight` times.
    """

    width: int = 96
    num_layers: int = 3
    num_components: int = 4
    max_points: int = 64
    dropout: float = 0.1
    has_place: bool = True
    share_placeless: float = 0.1
    share_silent: float = 0.3
    kinds: tuple[str, ...] = ()
    share_kindless: float = 0.3
    num_text: int = 0
    share_nameless: float = 0.3
    has_memory: bool = True
    share_forgetful: float = 0.5
    share_present: float = 0.35
    journey_weight: float = 0.1
    gap_weight: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))  # JSON has lists
        untold = ("placeless", "silent", "kindless", "nameless", "forgetful")
        shares = ("dropout", *(f"share_{one}" for one in untold))
        weights = ("journey_weight", "gap_weight", "share_present")
        free = (*shares, *weights, "has_place", "has_memory", "num_text")
        lowest = {"max_points": 4, **dict.fromkeys(free, 0)}
        for name in (field.name for field in fields(self) if field.name != "kinds"):
            if getattr(self, name) < (low := lowest.get(name, 1)):
                raise ValueError(f"{name} must be at least {low}, not {getattr(self, name)}")
        for name in shares:
            if getattr(self, name) >= 1:
                raise ValueError(f"{name} must be below 1, not {getattr(self, name)}")
        if not 0 < self.share_present <= 1:
            raise ValueError(f"share_present must be above 0 and at most 1: {self.share_present}")


PRESETS: Mapping[str, FoundryConfig] = {
    "tiny": FoundryConfig(width=48, num_layers=2, dropout=0.0),
    "small": FoundryConfig(),
    "base": FoundryConfig(width=256, num_layers=6),
}
