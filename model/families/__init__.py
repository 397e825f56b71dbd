"""Families by name: each is a module that is loaded when it is asked for, alone."""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..features.normaliser import Normaliser
    from ..features.places import Places
    from ..interface.family import Family

# Each module defines `FAMILY`. GPT-2 is none of them: it reads tokens and has no normaliser. The
# names stand in a data file, for a new one changes no recipe of the others. So do the tasks of
# each, whether it reads points or visits, its presets where it has more than the usual two, its own
# learning rate, where it has one, whether its weights know a place, whether its inputs have the
# scale of the window, and whether its forecasts say what is familiar, which are told without
# loading torch.
MODULES_FILE = Path(__file__).with_name("modules.json")
MODULES: dict[str, dict[str, Any]] = json.loads(MODULES_FILE.read_bytes())


class _Families(UserDict[str, Any]):
    """The families, loaded one by one."""

    def __getitem__(self, name: str) -> Family:
        listed = self.data[name]
        family: Family = import_module(f".{listed['module']}", __package__).FAMILY
        if list(family.tasks) != listed["tasks"]:
            raise ValueError(
                f"{MODULES_FILE.name} gives {name} the tasks {listed['tasks']}, its module "
                f"{list(family.tasks)}: make them agree"
            )
        return family


USUAL_PRESETS = ("tiny", "small")
POINTS, VISITS = "points", "visits"
FILES = {POINTS: "normaliser.json", VISITS: "places.json"}  # what was fitted for such inputs


def reads(name: str) -> str:
    """What the windows of a family are made of."""
    return str(MODULES[name].get("reads", POINTS))


def presets_of(name: str) -> tuple[str, ...]:
    """The sizes that a family has, from the least to the greatest."""
    return tuple(MODULES[name].get("presets", USUAL_PRESETS))


def learning_rate_of(name: str) -> float | None:
    """A family's own peak rate, for a training that is given none; None where it has none."""
    rate: float | None = MODULES[name].get("learning_rate")
    return rate


def remembers(name: str) -> bool:
    """Whether a family makes use of a memory of past trips, which lies beside its weights."""
    return bool(MODULES[name].get("remembers", False))


def knows_place(name: str) -> bool:
    """Whether weights of a family hold the middle of the places of train, whatever its inputs."""
    return bool(MODULES[name].get("knows_place", False))


def has_own_scale(name: str) -> bool:
    """Whether what a family reads is measured in the window's own speed and interval.

    Such a family can learn from several data sets at once.
    """
    return bool(MODULES[name].get("has_own_scale", False))


def tells_familiar(name: str) -> bool:
    """Whether forecasts of a family say if what is known is like something of train."""
    return bool(MODULES[name].get("tells_familiar", False))


def fitted_file(name: str) -> str:
    """Where shards, and a trained model, hold what was fitted on train for its inputs."""
    return FILES[reads(name)]


FAMILIES: Mapping[str, Family] = _Families(MODULES)


def read_fitted(folder: Path, name: str) -> Any:
    """What a family's model is made with, from shards or a trained model."""
    return FAMILIES[name].fitted.from_json(json.loads((folder / fitted_file(name)).read_bytes()))


FAMILIES_OF_POINTS = tuple(name for name in MODULES if reads(name) == POINTS)


def module_named(name: str) -> str:
    """The full name of a family's module, which no `import` statement shows."""
    return f"{__package__}.{MODULES[name]['module']}"


def tasks_of(name: str) -> tuple[str, ...]:
    """What a family serves, told without loading it; its first task is what it is made for."""
    return tuple(MODULES[name]["tasks"])


def build(
    name: str, preset_or_config: str | Mapping[str, Any] | Any, fitted: Normaliser | Places
) -> Any:
    """A model with fresh weights, from a preset's name, a configuration, or one read from JSON.

    `fitted` is what was fitted on train for its kind of input (`read_fitted`).
    """
    if name not in MODULES:
        raise ValueError(f"unknown family {name!r}, known are {sorted(MODULES)}")
    family = FAMILIES[name]
    config = preset_or_config
    if isinstance(preset_or_config, str):
        if preset_or_config not in family.presets:
            raise ValueError(f"unknown preset {preset_or_config!r}, known: {list(family.presets)}")
        config = family.presets[preset_or_config]
    elif isinstance(preset_or_config, Mapping):
        config = family.config(**preset_or_config)
    return family.model(config, fitted)
