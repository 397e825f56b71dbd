"""Generation measure: what models that make trips up are judged by.

It is how well boosted trees tell their trips from real ones, an area under the ROC curve: 0.5 is
perfect. The bar is the best simple generator that copies nothing, and a model that copies train is
refused whatever its area. The starts, the weights and the seed give the bytes, so that a copy of
the model has the same area.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from model.evaluation.generation.generation_rows import (
    AUC,
    COPYING,
    SKILL,
    Row,
    bar_areas,
    copied_by,
    whole_rows,
)
from model.evaluation.judged_tasks import GENERATE
from tasks.config.slices import GenerationRules
from tasks.prepare.conventions import SPLITS
from tasks.release.gate_metrics import (
    GATE_SPLIT,
    CleanProcessCall,
    Evidence,
    NotReproduced,
    Unjudged,
    beside,
    write_groups,
)
from tasks.report.generation_tables import WORDS, of_split, read_generation, spelt
from tasks.report.markup import percent

if TYPE_CHECKING:
    from model.interface.trips import Trips

MOST_REJECTED = 0.01  # of what is made up may be no trip at all


@dataclass(frozen=True)
class GenerationMeasure:
    """The area of trees that shall tell made-up trips from those of the validation windows."""

    rules: GenerationRules
    name: ClassVar[str] = "AUC of made-up trips"
    tag: ClassVar[str] = "score_auc"
    bar_words: ClassVar[str] = "the best simple generator that copies nothing"

    @property
    def settings(self) -> Mapping[str, Any]:
        told = self.rules.model_dump(mode="json")
        names = ("num_context", "num_horizon", "num_generated", "resolution", "zone", "seed")
        return {"task": GENERATE, **{name: told[name] for name in names}}

    def told(self, error: float) -> str:
        return f"{error:.3f}"

    def told_interval(self, evidence: Evidence) -> str:
        between = f"{percent(evidence.low)} to {percent(evidence.high)}"
        return f"the 95 % interval of its skill is {between}"

    def errors(self, evaluated: Path) -> dict[str, float]:
        rows = gate_rows(evaluated)
        own = {row["model"] for row in rows if is_own_area(row)}
        return {name: whole_rows(rows, name)[AUC]["value"] for name in own} | bar_areas(rows)

    def evidence(self, evaluated: Path, family: str) -> Evidence:
        told = whole_rows(gate_rows(evaluated), family)
        if SKILL not in told:
            raise Unjudged(
                f"made-up trips of {GATE_SPLIT} were judged without a skill over simple "
                "generators, and a champion needs one; give more data"
            )
        row = told[SKILL]
        return Evidence(
            num_windows=row["num_trips"],
            num_entities=row["num_entities"],
            low=row["low"],
            high=row["high"],
            faults=faults_of(told),
            **beside(evaluated, family),
        )

    def batches(self, shards: Path, zone: str, model: Path) -> list[Starts]:
        """All starts at once: a trip is a function of its number, too."""
        from model.data.shards import Shards
        from model.evaluation.generation.made_up import read_trips
        from tasks.evaluate.generation import MOST_PAST

        trips = read_trips(Shards.open(shards, zone), SPLITS, MOST_PAST)
        real = trips[GATE_SPLIT].drawn(self.rules.num_generated, self.rules.seed)
        return [Starts(trips["train"], real)]

    def call(self, batches: list[Starts], scratch: Path) -> CleanProcessCall:
        [starts] = batches
        points = scratch / "starts.parquet"
        write_groups(points, [starts.rows()])
        choices = {"num_points": starts.num_points, "seed": self.rules.seed}
        return CleanProcessCall("generate_files", (points,), choices)

    def answered(self, answer: Path, batches: list[Starts]) -> float:
        from model.evaluation.generation.discriminator import told_by_trees
        from model.evaluation.generation.validity import sound
        from tasks.evaluate.generation import judge_of

        [starts] = batches
        kept = sound(starts.answered(answer))
        judge = judge_of(starts.train, starts.real, self.rules)
        size = max(judge.sizes(kept), default=0)
        told = kept.drawn(size, judge.seed), judge.test(size)
        areas = told_by_trees(*told, judge.ruler, judge.seed) if size else {}
        return areas[AUC].value() if areas else math.nan


@dataclass(frozen=True)
class Starts:
    """The real trips whose starts are given, and those of train beside them."""

    train: Trips
    real: Trips

    @property
    def num_points(self) -> int:
        return int((self.real.offset_R[1:] - self.real.offset_R[:-1]).max())

    def rows(self) -> pa.Table:
        """The first point of each trip, numbered as a trajectory of its own."""
        first_R, points = self.real.offset_R[:-1], self.real.points
        instant = pa.array(points.instant_us_N[first_R])
        return pa.table(
            {
                "trajectory_id": list(range(len(self.real))),
                "tracked_at": instant.cast(pa.timestamp("us", "UTC")),
                "lon_deg": points.lon_deg_N[first_R],
                "lat_deg": points.lat_deg_N[first_R],
            }
        )

    def answered(self, answer: Path) -> Trips:
        """What a model has written, as trips."""
        import numpy as np

        from model.interface.trips import Trips

        found = pq.read_table(answer, partitioning=None)
        if found.num_rows != len(self.real) * self.num_points:
            raise NotReproduced("a clean process answers another number of points")
        return Trips.of(
            np.full(len(self.real), self.num_points),
            found["tracked_at"].cast(pa.int64()).to_numpy(),
            found["lon_deg"].to_numpy(),
            found["lat_deg"].to_numpy(),
            self.real.entity_R,
        )


def gate_rows(evaluated: Path) -> list[Row]:
    """What was made up from the starts of the windows of the gate."""
    rows = of_split(read_generation(evaluated), GATE_SPLIT)
    if not any(is_own_area(row) for row in rows):
        raise Unjudged(
            f"no made-up trip was judged on {GATE_SPLIT}, and a model of this family is promoted "
            "by these; give more data"
        )
    return rows


def is_own_area(row: Row) -> bool:
    return bool(row["measure"] == AUC and not row["is_baseline"])


def faults_of(told: Mapping[str, Row]) -> tuple[str, ...]:
    """What speaks against a generator, however well its trips pass for real ones."""
    found = [
        f"it gives train away ({WORDS[name]} {spelt(told[name])}, real trips at most "
        f"{spelt(told[name], 'floor_high')})"
        for name in COPYING
        if name in copied_by(told)
    ]
    return (
        *found,
        *(
            f"{spelt(told[name])} of what it makes up is {WORDS[name]}"
            for name in ("off_sphere", "unordered")
            if name in told and told[name]["value"] > MOST_REJECTED
        ),
    )
