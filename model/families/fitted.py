"""Fitted inputs: what train tells of each kind of input, which travels with the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..features.normaliser import Normaliser
from . import VISITS, fitted_file, reads


def read_fitted(folder: Path, family: str) -> Any:
    """What a family's model is made with: its normaliser, or its places."""
    stored = json.loads((folder / fitted_file(family)).read_bytes())
    if reads(family) != VISITS:
        return Normaliser.from_json(stored)
    # Whoever serves points needs no cells.
    from ..features.places import Places

    return Places.from_json(stored)
