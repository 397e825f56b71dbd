"""Time to skill: CPU seconds of training until forecasts are a tenth ahead of simple ones.

It is measured on validation windows, at the step of the gate, by a training beside the one that is
judged: with the same settings and seed, and so with the same weights at each step. A clock is no
content that comes again, so nothing else rests on this step.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from model.families import module_named
from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import Section
from tasks.config.slices import TrainRules
from tasks.config.suite import CPU_S_TO_SKILL
from tasks.pretrain.train import training_of
from tasks.runtime.machine import Machine
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

if TYPE_CHECKING:
    from model.data.shards import Shards
    from model.interface.answerer import Forecaster
    from model.interface.family import Model

GOAL = 0.1  # of the error of the best simple forecast
NUM_LOOKS = 30  # over the longest course
PACE_FILE = "pace.json"


class PaceRules(Section):
    """The training, and where its forecasts are compared."""

    train: TrainRules
    gate_horizon: int
    resolution: int
    zone: str
    seed: int


def time_to_skill(config: PipelineConfig, shards: Receipt, store: Store) -> Receipt:
    """The pace of a training of fresh weights on some shards."""
    asked = config.evaluate_rules
    rules = PaceRules(
        train=config.training,
        gate_horizon=asked.gate_horizon,
        resolution=asked.resolution,
        zone=asked.zone,
        seed=asked.seed,
    )
    job = PACE.job(
        config.dataset,
        rules,
        {"shards": shards},
        store,
        licence=config.source_row.licence,
        modules=(module_named(config.model.family),),
    )
    return PACE(job)


def build(draft: Path, job: Job[PaceRules]) -> Counts:
    """Train as far as the goal, and keep what it took."""
    import torch

    from model.data.shards import Shards
    from model.training.pace import paced

    torch.set_num_threads(Machine().num_threads)
    rules, place = job.settings, (job.recipe, job.settings.train, job.inputs, job.store)
    training = training_of(Job(*place, licence=job.licence), None)
    measure = skill_on_validation(Shards.open(job.folder("shards"), rules.zone), rules)
    every, work = max(1, training.fit.max_steps // NUM_LOOKS), draft / "work"
    work.mkdir()
    found = paced(training, measure, GOAL, every, work)
    shutil.rmtree(work)
    (draft / PACE_FILE).write_text(json.dumps(asdict(found), indent=2) + "\n")
    reached = found.reached or {}
    return {
        "steps": found.steps,
        "training_cpu_s": round(found.training_cpu_s, 3),
        "preparation_cpu_s": round(found.preparation_cpu_s, 3),
        "threads": torch.get_num_threads(),
        **({CPU_S_TO_SKILL: round(reached["cpu_s"], 3)} if reached else {}),
    }


def skill_on_validation(shards: Shards, rules: PaceRules) -> Callable[[Model], float]:
    """What tells the skill of a model over the best of the simple forecasts."""
    from model.baselines.forecast import CONSTANT_VELOCITY, CONSTANT_VELOCITY_3, LAST_POSITION
    from model.evaluation.lesson import Lesson
    from model.evaluation.metrics import ade_m, mean_over_windows
    from model.evaluation.skill import skill
    from model.inference.serving import Trained

    lesson = Lesson(shards, rules.resolution, rules.seed)
    windows = lesson.validation

    def error_m(forecaster: Forecaster) -> float:
        away_m_BH = windows.miss_m_BH(forecaster)
        return mean_over_windows(ade_m(away_m_BH, windows.is_target_BH, rules.gate_horizon))

    simple = LAST_POSITION, CONSTANT_VELOCITY, CONSTANT_VELOCITY_3, lesson.damped
    bar_m = min(map(error_m, simple))
    return lambda model: skill(error_m(Trained(model.eval())), bar_m)


PACE = Stage("pace", build)
