"""Generation: trips that a model makes up, judged beside those of simple generators.

All are asked from the starts, place and time, of the same windows of the split that is judged,
which no generator was fitted on: what they answer is judged against those windows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.baselines.generators import IndependentSteps, MarkovWalk, ResampledTrain
from model.baselines.rollouts import Rollouts
from model.evaluation.generation.comparison import NUM_RESAMPLES
from model.evaluation.generation.generation_rows import AUC, LOST, SKILL, whole_rows
from model.evaluation.generation.generation_scores import (
    GENERATION_TABLE,
    Samples,
    generation_scores,
)
from model.evaluation.generation.generation_table import Judge, Losses, RealTrips
from model.evaluation.generation.made_up import made_up, read_trips
from model.evaluation.generation.member_losses import losses_of
from model.evaluation.generation.usefulness import AGAIN, BAR, REAL, Usefulness
from model.evaluation.generation.validity import rejected, sound
from model.evaluation.lesson import Lesson
from tasks.config.slices import GenerationRules
from tasks.evaluate.learners import learner_of
from tasks.prepare.conventions import GENERATION_FILE, SPLITS
from tasks.runtime.progress import progress
from tasks.runtime.stage import Job
from tasks.runtime.store import Counts

if TYPE_CHECKING:
    from model.inference.serving import Trained
    from model.interface.answerer import Generator
    from model.interface.trips import Trips

MOST_PAST = 100_000  # trips of train that copies are looked for among
MOST_TAUGHT = 2_000  # that a learner is given
NOISE_M = 50.0  # of the trips of train that are drawn again and moved
CITY_RESOLUTION, CITY_CELL_M = 8, 1_000.0  # of H3: about as wide as this
STEP = math.sqrt(7)  # of a cell to one of the next resolution


def judge_generation(draft: Path, job: Job[Any], trained: Trained) -> Counts:
    """Write the table of what a model and the generators make up, of validation and of test."""
    from model.data.shards import Shards

    rules: GenerationRules = job.settings
    shards = Shards.open(job.folder("shards"), rules.zone)
    trips = read_trips(shards, SPLITS, MOST_PAST)
    train, judged = trips.pop("train"), trips
    generators = [trained, *fitted_generators(train, rules)]
    learners = learners_of(generators, train, job, draft) if rules.learner_steps else {}
    if REAL in learners:
        generators.append(Rollouts(learners[REAL]))
        learners |= {BAR: Lesson(shards, rules.resolution, rules.seed).damped}
    losses_R = losses_of(trained.model, train, rules.zone, rules.seed)
    rows: list[dict[str, Any]] = []
    counts: Counts = {}
    bar = None
    with progress("evaluate", f"Judging what {trained.name} makes up") as tell:
        for number, (split, whole) in enumerate(judged.items()):
            tell(number / len(judged), split)
            real = whole.drawn(rules.num_generated, rules.seed)
            losses = Losses(losses_R, losses_of(trained.model, real, rules.zone, rules.seed))
            made = samples_of(generators, train, real, rules)
            samples = Samples(trained.name, made, losses)
            if BAR in learners:
                asked = shards, split, rules.gate_horizon, min(MOST_TAUGHT, len(train))
                samples = replace(samples, usefulness=Usefulness.of(learners, *asked))
            rows += generation_scores(samples, judge_of(train, real, rules), split, bar)
            bar = bar or bar_in(rows)
            counts |= counts_of(samples.trips[trained.name], rows, split, trained.name)
    table = pa.Table.from_pylist(rows, GENERATION_TABLE)
    pq.write_table(table, draft / GENERATION_FILE, compression="zstd", write_page_checksum=True)
    return counts


def fitted_generators(train: Trips, rules: GenerationRules) -> list[Generator]:
    """Those that begin where they are told to, fitted on train."""
    return [IndependentSteps.fit(train), MarkovWalk.fit(train, cells_m(rules)[0])]


def learners_of(
    generators: Sequence[Generator], train: Trips, job: Job[Any], draft: Path
) -> dict[str, Any]:
    """Who learnt from trips of train, by two seeds, and from those made up from their starts."""
    rules: GenerationRules = job.settings
    taught = train.drawn(MOST_TAUGHT, rules.seed)
    made = samples_of(generators, train, taught, rules)
    lessons = {REAL: taught, AGAIN: taught, **{name: sound(one) for name, one in made.items()}}
    where = job.folder("shards"), rules.zone, rules.learner_steps
    found: dict[str, Any] = {}
    with progress("evaluate", "Learning from trips") as tell:
        for number, (name, trips) in enumerate(lessons.items()):
            tell(number / len(lessons), name)
            learner = learner_of(trips, *where, rules.seed + (name == AGAIN), draft)
            found |= {name: learner} if learner else {}
    return found


def samples_of(
    generators: Sequence[Generator], train: Trips, real: Trips, rules: GenerationRules
) -> Mapping[str, Trips]:
    """What each makes up, by its name, and trips of train that are drawn again."""
    again = ResampledTrain(train), ResampledTrain(train, NOISE_M)
    return {
        **{one.name: made_up(one, real, rules.zone, rules.seed) for one in generators},
        **{one.name: one.generate(len(real), rules.seed) for one in again},
    }


def judge_of(train: Trips, real: Trips, rules: GenerationRules) -> Judge:
    told = RealTrips(train, real, rules.zone, rules.max_speed_mps, cells_m(rules))
    num_resamples = min(NUM_RESAMPLES, rules.num_bootstrap)
    return Judge(told, rules.seed, num_resamples, rules.discriminator_steps)


def cells_m(rules: GenerationRules) -> tuple[float, float]:
    """Half and twice as wide as the cells that places of the data set are told by, in metres."""
    width_m = CITY_CELL_M * STEP ** (CITY_RESOLUTION - rules.resolution)
    return float(f"{width_m / 2:.2g}"), float(f"{2 * width_m:.2g}")


def bar_in(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The bar that validation has told, if it has."""
    return next((row["bar"] for row in rows if row["measure"] == SKILL), None)


def counts_of(sample: Trips, rows: Sequence[dict[str, Any]], split: str, model: str) -> Counts:
    """How many trips were made up, rejected by fault and judged, and the headline of the rest."""
    faults = {f"{split}_generate_{name}": count for name, count in rejected(sample).items()}
    counts: Counts = {
        f"{split}_generate_trips": len(sample),
        **faults,
        f"{split}_generate_judged": len(sample) - sum(faults.values()),
    }
    told = whole_rows([row for row in rows if row["split"] == split], model)
    named = {"auc": AUC, "skill": SKILL, "skill_lost": LOST, "copied_share": "copied_share"}
    return counts | {
        f"{split}_generate_{name}": round(told[measure]["value"], 4)
        for name, measure in named.items()
        if measure in told
    }
