"""The families of points by name: what each is built from and which tasks it serves.

`gpt2` is not among them: it reads tokens, has no normaliser, and is built directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..encoding import Normaliser
from . import chemin, masked_chemin

Model = chemin.Chemin | masked_chemin.MaskedChemin


@dataclass(frozen=True)
class Family:
    """One file of this package."""

    model: type[Model]
    config: type[chemin.CheminConfig]
    presets: Mapping[str, chemin.CheminConfig]
    tasks: tuple[str, ...]


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "chemin": Family(chemin.Chemin, chemin.CheminConfig, chemin.PRESETS, ("forecast",)),
        "masked_chemin": Family(
            masked_chemin.MaskedChemin, chemin.CheminConfig, chemin.PRESETS, ("recover",)
        ),
    }
)


def build(
    name: str,
    preset_or_config: str | chemin.CheminConfig | Mapping[str, Any],
    normaliser: Normaliser,
) -> Model:
    """A model with fresh weights, from a preset's name, a configuration, or one read from JSON."""
    if name not in FAMILIES:
        raise ValueError(f"unknown family {name!r}, known are {sorted(FAMILIES)}")
    family = FAMILIES[name]
    if isinstance(preset_or_config, str):
        if preset_or_config not in family.presets:
            raise ValueError(f"unknown preset {preset_or_config!r}, known: {list(family.presets)}")
        return family.model(family.presets[preset_or_config], normaliser)
    if isinstance(preset_or_config, Mapping):
        return family.model(family.config(**preset_or_config), normaliser)
    return family.model(preset_or_config, normaliser)
