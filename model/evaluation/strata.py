"""Strata of windows: by what they are like, to see where a model gains and where a line does.

Each stratum parts the windows of a split, by thirds of a measure or by a fact; equal values stay
together, so that there may be fewer parts than three. At rest, where a context keeps within 50 m of
its last point, a model is held against staying there: any other motion is the receiver's noise.

Shapes: N windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

MEASURES = ("interval_s", "speed_mps", "has_stop", "is_at_rest", "turn_rad", "num_history")
AT_REST = "context: at rest"
BARS = {AT_REST: "last_position"}  # what is to be beaten there, instead of the best baseline
# Of next visits: what is known before the visit that is asked, in these units.
HISTORY_LENGTH, LAST_STAY = "history", "last stay"
UNITS = {HISTORY_LENGTH: "visits before", LAST_STAY: "h"}
Part = tuple[str, NDArray[np.bool_]]


def parts_of(folder: Path, split: str, window_id: Sequence[int]) -> Iterator[Part]:
    """(`stratum: part`, its windows), in the order of these windows of forecasts."""
    index = pq.read_table(
        folder / "windows.parquet",
        columns=["window_id", *MEASURES, "is_seen"],
        filters=[("split", "=", split), ("task", "=", "forecast")],
        partitioning=None,
    )
    place = pc.index_in(pa.array(window_id, pa.int64()), value_set=index["window_id"])
    index = index.take(place)
    measures = {name: index[name].to_numpy() for name in MEASURES}
    has_stop = measures["has_stop"].astype(bool)
    turn_deg = np.degrees(measures["turn_rad"])
    yield from thirds("sampling interval", measures["interval_s"], "s")
    yield from thirds("mean speed", measures["speed_mps"], "m/s")
    is_at_rest = measures["is_at_rest"].astype(bool)
    for name, chosen in ((AT_REST, is_at_rest), ("context: under way", ~is_at_rest)):
        if chosen.any():
            yield name, chosen
    if has_stop.any():
        yield "stop or turn: with a stop", has_stop
    for name, chosen in thirds("stop or turn", turn_deg[~has_stop], "degrees turned"):
        moving = np.zeros_like(has_stop)
        moving[~has_stop] = chosen
        yield name, moving
    yield from thirds("history", measures["num_history"], "points before")
    is_seen = index["is_seen"].to_numpy().astype(bool)
    for part, chosen in (("known to train", is_seen), ("not known to train", ~is_seen)):
        if chosen.any():
            yield f"region: {part}", chosen


def parts_by(measures: Mapping[str, Sequence[float]]) -> Iterator[Part]:
    """(`stratum: part`, its windows) of each measure."""
    for name, values in measures.items():
        yield from thirds(name, np.array(values), UNITS[name])


def thirds(stratum: str, values: NDArray[Any], unit: str) -> Iterator[Part]:
    """Windows parted at the thirds of their values, the lowest first; parts without one are out."""
    if not len(values):
        return
    edges = np.unique(np.quantile(values, [1 / 3, 2 / 3], method="inverted_cdf"))
    edges = edges[edges < values.max()]
    number = np.searchsorted(edges, values, side="left")
    *texts, largest = (
        f"{edge:,.0f}" if edge >= 100 else f"{edge:.3g}" for edge in (*edges, values.max())
    )
    if texts:
        between = [f"{low} to {high}" for low, high in pairwise(texts)]
        names = [f"up to {texts[0]}", *between, f"over {texts[-1]}"]
    else:
        names = [f"all up to {largest}"]
    for place, name in enumerate(names):
        yield f"{stratum}: {name} {unit}", number == place
