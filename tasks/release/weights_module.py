"""Trained weights of Trajectory Foundry: `load().forecast(frame)` tells where things go next.

`FOLDER` holds safetensors and JSON; its `card.md` says what they were trained on, under which
licences, and how far they can be trusted. The code that asks them is trajfoundry's.
"""

from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "weights"


def load() -> Any:
    """The model, checked; each of its tasks is a method that takes a frame of points."""
    try:
        from model.inference.shipped import load_shipped
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("model"):
            raise
        raise ModuleNotFoundError(
            "trajfoundry_weights holds weights and no code: pip install trajfoundry", name="model"
        ) from error
    return load_shipped(FOLDER)
