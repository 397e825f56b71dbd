"""A model of visits with random weights as the registry would serve it, and visits as frames."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers.visit_worlds import begins_us, places_of, visits_of_law
from model.families import build
from model.features.places import NUM_SPECIAL
from model.interface.weights import save_weights


def stored_visit_model(folder: Path, noise: float = 0.1) -> Path:
    """Random weights, large enough for whatever is wired to show, as training would leave them."""
    torch.manual_seed(0)
    made = build("trajgpt", "tiny", places_of())
    with torch.no_grad():
        for value in made.parameters():
            value.add_(noise * torch.randn_like(value))
    save_weights(made, folder / "weights.safetensors")
    described = {"family": "trajgpt", "preset": "tiny", "config": asdict(made.config)}
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "places.json").write_text(json.dumps(places_of().to_json()))
    return folder


def frame_of_law(seed: int, num_rows: int, num_visits: int, name: str = "row") -> pd.DataFrame:
    """The visits that `write_shards_of_law` writes from a seed on, as a long frame."""
    region_BV, travel_s_BV, stay_s_BV = visits_of_law(seed, num_rows, num_visits)
    left_s_BV = np.cumsum(travel_s_BV, 1) + np.cumsum(stay_s_BV, 1)
    left_us_BV = begins_us(seed, num_rows) + np.round(left_s_BV * 1e6).astype(np.int64)
    arrived_us_BV = left_us_BV - np.round(stay_s_BV * 1e6).astype(np.int64)
    centres = torch.stack(places_of().degrees(*places_of().centres_m()), dim=-1).numpy()
    place_NC = centres[region_BV.ravel() + NUM_SPECIAL]
    return pd.DataFrame(
        {
            "entity_id": np.repeat([f"{name}-{9 - row}" for row in range(num_rows)], num_visits),
            "arrived_at": pd.to_datetime(arrived_us_BV.ravel(), unit="us", utc=True),
            "left_at": pd.to_datetime(left_us_BV.ravel(), unit="us", utc=True),
            "lon_deg": place_NC[:, 0],
            "lat_deg": place_NC[:, 1],
        }
    )
