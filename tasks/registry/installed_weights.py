"""Installed weights: those of the wheel `trajfoundry-weights`, which needs no registry."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from tasks.runtime.errors import ConfigError, DataError

WEIGHTS = "weights"  # the address of the model that is installed
DISTRIBUTION, MODULE = "trajfoundry-weights", "trajfoundry_weights"


def installed_weights() -> Any:
    """The model of the wheel, asked as a registered one is."""
    require_installed()
    try:
        return importlib.import_module(MODULE).load()
    except ValueError as error:
        raise DataError(f"--model {WEIGHTS}: {error}") from error


def require_installed() -> None:
    """Refuse to go on without the wheel, and say where it comes from."""
    if importlib.util.find_spec(MODULE) is None:
        raise ConfigError(
            f"--model {WEIGHTS}: {DISTRIBUTION} is not installed; pip install its wheel, which "
            "trajfoundry weights builds, or give --model models:/NAME@candidate"
        )
