"""Place frames: named places as callers have them, read into the table that a model looks up.

Shapes: P places, V numbers of a text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from . import serving
from .frames import as_frame, numbers, rows


def named_places_of(
    frame: pd.DataFrame, own: serving.NamedPlaces | None, num_numbers: int
) -> serving.NamedPlaces | None:
    """The table of a frame, whose texts are told and whose reach is as in the own one."""
    if not len(frame):
        return own and own.emptied()
    way, reach_m = (serving.LETTERS, 0.0) if own is None else (own.way, own.reach_m)
    names = ["text"] if way == serving.LETTERS else [f"v{one}" for one in range(num_numbers)]
    told = in_order(as_frame(frame, ("lon_deg", "lat_deg", *names), "places"))
    place_deg = told["lon_deg"].to_numpy(), told["lat_deg"].to_numpy()
    if not serving.checked_places(*place_deg).all():
        raise ValueError("lon_deg and lat_deg are missing in some row of places")
    return serving.NamedPlaces(*place_deg, vectors_of(told[names]), way, reach_m)


def in_order(places: pd.DataFrame) -> pd.DataFrame:
    """Places as texts and numbers, in the order that their content decides.

    So stands a table that was trained with: of many places at one spot the first few are told.
    """
    told = {
        name: [str(one) for one in places[name].mask(places[name].isna(), "")]
        if name == "text"
        else numbers(places[name], "numbers" if name[0] == "v" else "decimal degrees")
        for name in places.columns
    }
    return pd.DataFrame(told).sort_values([*told], ignore_index=True)


def vectors_of(told: pd.DataFrame) -> Any:
    """The vectors (P, V) of places: of what is written of them, or the numbers that they have."""
    if "text" in told.columns:
        return serving.text_vectors(told["text"].tolist())
    value_PV = told.to_numpy()
    num_bad = int((~(np.abs(value_PV) <= np.finfo(np.float32).max)).any(axis=1).sum())  # NaN is not
    if num_bad:
        raise ValueError(
            f"{told.columns[0]} to {told.columns[-1]} must be finite numbers: in {num_bad} of "
            f"{rows(len(told))} of places some are not"
        )
    return value_PV.astype(np.float32)
