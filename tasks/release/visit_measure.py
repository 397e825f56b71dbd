"""Visit measure: what models of visits are judged by, the surprise of the next visit in nats.

It is the sum of three means, as a loss is: of the region, of the travel to it in seconds, and of
the stay there in seconds, each over the windows where it is known. The bar is made of the best
baseline of each. A unit of time moves all of them alike, so models are told apart by a difference,
never by a quotient.

Shapes: B windows, V visits, E entities, R resamples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.evaluation.judged_tasks import ASKED_AS, NEXT_REGION, NEXT_STAY, NEXT_TRAVEL
from model.evaluation.score_table import ALL, Row, chosen_rows
from model.families import FILES, VISITS
from tasks.prepare.conventions import WINDOW_ERRORS_FILE
from tasks.registry.model_code import BUNDLE
from tasks.release.gate_metrics import (
    GATE_SPLIT,
    WINDOWS_AT_ONCE,
    CleanProcessCall,
    Evidence,
    NotReproduced,
    Unjudged,
    beside,
    write_groups,
)
from tasks.report.error_tables import read_scores
from tasks.runtime.errors import DataError

if TYPE_CHECKING:
    from model.data.reading import WindowBatch
    from model.features.places import Places

TASK = ASKED_AS[NEXT_REGION]
PARTS = (NEXT_REGION, NEXT_TRAVEL, NEXT_STAY)
COLUMNS = ("region_nats", "travel_nats", "stay_nats")
NUM_RESAMPLES = 1_000


@dataclass(frozen=True)
class VisitMeasure:
    """The mean surprise of next visits: of all that is told of them."""

    name: ClassVar[str] = "NLL of the next visit"
    tag: ClassVar[str] = "score_nll"
    bar_words: ClassVar[str] = "the best simple baselines of its region, travel and stay"
    settings: ClassVar[Mapping[str, Any]] = MappingProxyType({"task": TASK, "metric": "nll"})

    def told(self, error: float) -> str:
        return f"{error:,.3f} nats"

    def told_interval(self, evidence: Evidence) -> str:
        between = f"{evidence.low:+.3f} to {evidence.high:+.3f} nats"
        return f"the 95 % interval of its gain is {between}"

    def errors(self, evaluated: Path) -> dict[str, float]:
        rows = {task: surprises_of(evaluated, task) for task in PARTS}
        told = [task for task in PARTS if rows[task]]
        if NEXT_REGION not in told:
            raise Unjudged(
                f"no next visit of {GATE_SPLIT} was judged, and a model of visits is promoted by "
                "these; give more data"
            )
        bars = {task: best_of(rows[task]) for task in told}
        found = {
            row["model"]: sum(value_of(rows[task], row["model"]) for task in told)
            for row in rows[NEXT_REGION]
            if not row["is_baseline"]
        }
        bar = sum(value_of(rows[task], bars[task]) for task in told)
        return found | {listed([*dict.fromkeys(bars.values())]): bar}

    def evidence(self, evaluated: Path, family: str) -> Evidence:
        gains, entity_id_B = [], np.array([], object)
        for task in PARTS:
            rows = surprises_of(evaluated, task)
            if not rows:
                continue
            model, entity_id_B = window_surprises(evaluated, task, family)
            bar, _ = window_surprises(evaluated, task, best_of(rows))
            if not len(model) == len(bar) > 0:
                raise DataError(f"{family} was judged without the surprise of each window")
            gains.append(bar - model)
        low, high = gain_interval(gains, entity_id_B)
        return Evidence(
            num_windows=len(entity_id_B),
            num_entities=len(set(entity_id_B)),
            low=low,
            high=high,
            **beside(evaluated, family),
        )

    def batches(self, shards: Path, zone: str, model: Path) -> list[ToldWindows]:
        """The windows, told by the places of the model: by no others it can be compared."""
        from model.data.reading import read_windows
        from model.data.visits import VisitShards

        places = places_in(model / BUNDLE)
        if places.cells != places_in(shards).cells:
            raise NotReproduced(
                "it knows other regions, so that its surprise answers another question"
            )
        opened = VisitShards.open(shards, zone, places)
        found = list(read_windows(opened, GATE_SPLIT, WINDOWS_AT_ONCE, task=TASK))
        return [ToldWindows(windows, places) for windows in found]

    def call(self, batches: list[ToldWindows], scratch: Path) -> CleanProcessCall:
        """Each window as an entity; what is asked is how much its last visit surprises."""
        visits = scratch / "visits.parquet"
        write_groups(visits, [shown_visits(one) for one in batches])
        return CleanProcessCall("surprise_files", (visits,))

    def answered(self, answer: Path, batches: list[ToldWindows]) -> float:
        found = pq.read_table(answer, columns=list(COLUMNS), partitioning=None)
        is_seen_B = np.concatenate([one.is_way_seen_B for one in batches])
        if len(found) != len(is_seen_B):
            raise NotReproduced("a clean process answers another number of visits")
        region_B, travel_B, stay_B = (found[name].to_numpy() for name in COLUMNS)
        travel_B = travel_B[is_seen_B]
        travel = float(travel_B.mean()) if len(travel_B) else 0.0
        return float(region_B.mean()) + travel + float(stay_B.mean())


VISIT_MEASURE = VisitMeasure()


# Scores -----------------------------------------------------------------------------------------


def surprises_of(evaluated: Path, task: str) -> list[Row]:
    """The mean surprise of everyone, on what the gate compares; none where nobody told any."""
    told = {"split": GATE_SPLIT, "task": task, "mask": ALL, "stratum": ALL, "metric": "nll"}
    return chosen_rows(read_scores(evaluated), **told)


def listed(names: list[str]) -> str:
    """Names as a sentence has them."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def best_of(rows: list[Row]) -> str:
    """The baseline with the least surprise."""
    rivals = [(row["value"], row["model"]) for row in rows if row["is_baseline"]]
    if not rivals:
        raise DataError("next visits were judged without a baseline; evaluate again")
    return str(min(rivals)[1])


def value_of(rows: list[Row], model: str) -> float:
    return float(next(row["value"] for row in rows if row["model"] == model))


def window_surprises(evaluated: Path, task: str, model: str) -> tuple[np.ndarray, np.ndarray]:
    """The surprise (B) of each window, NaN where nothing is known, and whose window it is (B)."""
    asked = {"split": GATE_SPLIT, "task": task, "metric": "nll", "model": model}
    errors = pq.read_table(
        evaluated / WINDOW_ERRORS_FILE,
        filters=[(name, "=", value) for name, value in asked.items()],
        partitioning=None,
    ).sort_by("window_id")
    return errors["value"].to_numpy(), errors["entity_id"].to_numpy()


def gain_interval(gain_TB: list[np.ndarray], entity_id_B: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap of a sum of means of gains, whole entities drawn with replacement.

    It is paired: each gain is of one window, of the model over the bar.
    """
    from model.evaluation.metrics import INTERVAL, resamples

    entities, entity_B = np.unique(entity_id_B, return_inverse=True)
    total_TE, count_TE = [], []
    for gain_B in gain_TB:
        is_told_B = ~np.isnan(gain_B)
        own, weight = entity_B[is_told_B], gain_B[is_told_B]
        total_TE.append(np.bincount(own, weight, minlength=len(entities)))
        count_TE.append(np.bincount(own, minlength=len(entities)))
    found = []
    for drawn_RE in resamples(len(entities), 0, NUM_RESAMPLES):
        gain_R = np.zeros(len(drawn_RE))
        for total_E, count_E in zip(total_TE, count_TE, strict=True):
            count_R = count_E[drawn_RE].sum(1)
            gain_R += total_E[drawn_RE].sum(1) / np.maximum(count_R, 1)
        found.append(gain_R)
    low, high = np.quantile(np.concatenate(found), INTERVAL)
    return float(low), float(high)


# Rows -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToldWindows:
    """Stored windows of visits, and the places by which they are told."""

    windows: WindowBatch
    places: Places

    @property
    def is_way_seen_B(self) -> np.ndarray:
        """Whether the travel to the last visit is known."""
        batch = self.windows.batch
        last_B1 = (~batch.is_pad_BV).sum(1, keepdim=True) - 1
        known_B: np.ndarray = batch.is_travel_known_BV.gather(1, last_B1)[:, 0].numpy()
        return known_B


def places_in(folder: Path) -> Places:
    from model.features.places import Places

    return Places.from_json(json.loads((folder / FILES[VISITS]).read_bytes()))


def shown_visits(told: ToldWindows) -> pa.Table:
    """The visits of each window as a long table, the window as its entity.

    A visit is told by the centre of its region, for the model knows no more of it.
    """
    batch = told.windows.batch
    is_shown_BV = ~batch.is_pad_BV
    started_us_B1 = told.windows.started_us_B.unsqueeze(1)
    window_id_BV = batch.window_id_B.unsqueeze(1).expand_as(is_shown_BV)
    lon_deg_BV, lat_deg_BV = told.places.degrees(batch.east_m_BV, batch.north_m_BV)

    def instant(seconds_BV: Any) -> pa.Array:
        instant_us_BV = started_us_B1 + (seconds_BV * 1e6).round().long()
        return pa.array(instant_us_BV[is_shown_BV].numpy()).cast(pa.timestamp("us", "UTC"))

    return pa.table(
        {
            "entity_id": window_id_BV[is_shown_BV].numpy(),
            "arrived_at": instant(batch.arrived_s_BV),
            "left_at": instant(batch.left_s_BV),
            "lon_deg": lon_deg_BV[is_shown_BV].numpy(),
            "lat_deg": lat_deg_BV[is_shown_BV].numpy(),
            "is_censored": batch.is_censored_BV[is_shown_BV].numpy(),
            "is_way_seen": batch.is_way_seen_BV[is_shown_BV].numpy(),
        }
    )
