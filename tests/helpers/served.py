"""Models with random weights as the registry would serve them, and walks as frames to ask about."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from helpers.walks import STARTED_US, WALKING, shaken
from model.families import FAMILIES, build
from model.interface.weights import save_weights


def stored(folder: Path, family: str, is_shaken: bool = False) -> Path:
    """Random weights in a folder, as the training stage would have left them."""
    torch.manual_seed(1)
    if is_shaken:
        made = shaken(FAMILIES[family].model, FAMILIES[family].presets["tiny"])
    else:
        made = build(family, "tiny", WALKING)
    save_weights(made, folder / "weights.safetensors")
    described = {"family": family, "preset": "tiny", "config": asdict(made.config)}
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "normaliser.json").write_text(json.dumps(WALKING.to_json()))
    return folder


def served_from(bundle: Path) -> Any:
    """The registered model's own object, loaded as MLflow loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own parts while it is imported
        from tasks.release.pyfunc_entry import TrajectoryModel

    model = TrajectoryModel()
    model.load_context(SimpleNamespace(artifacts={"bundle": str(bundle)}))
    return model


def frame_of(
    lon_deg_BT: Tensor, lat_deg_BT: Tensor, time_s_BT: Tensor, lengths: Sequence[int]
) -> pd.DataFrame:
    """The first points of each walk in one long frame, walk-9 before walk-8 and so on."""
    rows = [
        {
            "trajectory_id": f"walk-{9 - number}",
            "tracked_at": pd.Timestamp(
                STARTED_US + round(float(time_s_BT[number, point]) * 1e6), unit="us", tz="UTC"
            ),
            "lon_deg": float(lon_deg_BT[number, point]),
            "lat_deg": float(lat_deg_BT[number, point]),
        }
        for number, length in enumerate(lengths)
        for point in range(length)
    ]
    return pd.DataFrame(rows)
