"""Errors by what windows are like: where a model gains, and where a straight line does as well.

Each stratum parts the windows of a split, by thirds of a measure or by a fact; equal values stay
together, so that there may be fewer parts than three.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.config.judged_tasks import TIMES_GIVEN

MEASURES = ("interval_s", "speed_mps", "has_stop", "turn_rad", "num_history")
Part = tuple[str, str, NDArray[np.bool_]]


def strata_rows(
    errors: Path, windows: Path, split: str, step: int, family: str
) -> list[dict[str, Any]]:
    """One row per part of a stratum: its windows, the model's error and the best baseline's."""
    index = pq.read_table(
        windows,
        columns=["window_id", "entity_id", *MEASURES, "is_seen"],
        filters=[("split", "=", split), ("task", "=", "forecast")],
    ).sort_by("window_id")
    ade_m = errors_of(errors, split, step, index["window_id"])
    entity_id = np.array(index["entity_id"].to_pylist())
    rows = []
    for stratum, part, chosen in parts_of(index):
        means_m = {model: float(values_m[chosen].mean()) for model, values_m in ade_m.items()}
        model_m = means_m.pop(family)
        best, best_m = min(means_m.items(), key=lambda item: (item[1], item[0]))
        rows.append(
            {
                "stratum": stratum,
                "part": part,
                "num_windows": int(chosen.sum()),
                "num_entities": len(set(entity_id[chosen])),
                "ade_m": model_m,
                "baseline": best,
                "baseline_m": best_m,
                "skill": 1 - model_m / best_m if best_m else float("nan"),
            }
        )
    return rows


def errors_of(
    errors: Path, split: str, step: int, window_id: pa.ChunkedArray
) -> dict[str, NDArray[np.float64]]:
    """The mean displacement of each forecaster, times given, in the order of these windows."""
    asked = [("split", "=", split), ("track", "=", TIMES_GIVEN), ("horizon_steps", "=", step)]
    table = pq.read_table(errors, columns=["window_id", "model", "ade_m"], filters=asked)
    found = {}
    for model in sorted(set(table["model"].to_pylist())):
        part = table.filter(pc.equal(table["model"], model))
        place = pc.index_in(window_id, value_set=part["window_id"])
        found[model] = part["ade_m"].take(place).to_numpy()
    return found


def parts_of(index: pa.Table) -> Iterator[Part]:
    """(stratum, part, its windows)."""
    measures = {name: index[name].to_numpy() for name in MEASURES}
    has_stop = measures["has_stop"].astype(bool)
    turn_deg = np.degrees(measures["turn_rad"])
    yield from thirds("sampling interval", measures["interval_s"], "s")
    yield from thirds("mean speed", measures["speed_mps"], "m/s")
    if has_stop.any():
        yield "stop or turn", "with a stop", has_stop
    for _, part, chosen in thirds("stop or turn", turn_deg[~has_stop], "degrees turned"):
        moving = np.zeros_like(has_stop)
        moving[~has_stop] = chosen
        yield "stop or turn", part, moving
    yield from thirds("history", measures["num_history"], "points before")
    is_seen = index["is_seen"].to_numpy().astype(bool)
    for part, chosen in (("known to train", is_seen), ("not known to train", ~is_seen)):
        if chosen.any():
            yield "region", part, chosen


def thirds(stratum: str, values: NDArray[Any], unit: str) -> Iterator[Part]:
    """Windows parted at the thirds of their values, the lowest first; parts without one are out."""
    if not len(values):
        return
    edges = np.unique(np.quantile(values, [1 / 3, 2 / 3], method="inverted_cdf"))
    edges = edges[edges < values.max()]
    number = np.searchsorted(edges, values, side="left")
    texts = [f"{edge:,.0f}" if edge >= 100 else f"{edge:.3g}" for edge in edges]
    if texts:
        between = [f"{low} to {high}" for low, high in pairwise(texts)]
        names = [f"up to {texts[0]}", *between, f"over {texts[-1]}"]
    else:
        names = [f"all up to {values.max():,.3g}"]
    for place, name in enumerate(names):
        yield stratum, f"{name} {unit}", number == place
