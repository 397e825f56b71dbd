"""The families of points by name: what each is built from and which tasks it serves.

`gpt2` is not among them: it reads tokens, has no normaliser, and is built directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..encoding import Normaliser
from ..objectives import Draw, segments
from . import chemin, masked_chemin, patch, trajfm

Model = chemin.Chemin | masked_chemin.MaskedChemin | trajfm.TrajFm | patch.Patch
Config = chemin.CheminConfig | trajfm.TrajFmConfig | patch.PatchConfig


@dataclass(frozen=True)
class Family:
    """One file of this package.

    `tasks` are what `inference.py` may ask of it; the first is what it is judged on, and asked
    where nothing else is said. `draw` is how its training hides points;
    None, where it learns from whole windows.
    """

    model: type[Any]
    config: type[Any]
    presets: Mapping[str, Any]
    tasks: tuple[str, ...]
    draw: Draw | None = None


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "chemin": Family(
            chemin.Chemin, chemin.CheminConfig, chemin.PRESETS, ("forecast", "embed", "score")
        ),
        "masked_chemin": Family(
            masked_chemin.MaskedChemin,
            chemin.CheminConfig,
            chemin.PRESETS,
            ("recover", "embed"),
            segments,
        ),
        "trajfm": Family(
            trajfm.TrajFm,
            trajfm.TrajFmConfig,
            trajfm.PRESETS,
            ("forecast", "recover", "travel_time", "embed", "score"),
            trajfm.any_task,
        ),
        "patch": Family(
            patch.Patch, patch.PatchConfig, patch.PRESETS, ("forecast", "embed", "score")
        ),
    }
)


def build(
    name: str,
    preset_or_config: str | Config | Mapping[str, Any],
    normaliser: Normaliser,
) -> Model:
    """A model with fresh weights, from a preset's name, a configuration, or one read from JSON."""
    if name not in FAMILIES:
        raise ValueError(f"unknown family {name!r}, known are {sorted(FAMILIES)}")
    family = FAMILIES[name]
    if isinstance(preset_or_config, str):
        if preset_or_config not in family.presets:
            raise ValueError(f"unknown preset {preset_or_config!r}, known: {list(family.presets)}")
        config = family.presets[preset_or_config]
    elif isinstance(preset_or_config, Mapping):
        config = family.config(**preset_or_config)
    else:
        config = preset_or_config
    model: Model = family.model(config, normaliser)
    return model
