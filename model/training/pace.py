"""Pace of a training: the CPU seconds until its weights first reach a goal.

The training is run as it would be, and ends where the goal is reached. Charged is what steps take,
with the batches that are read for them; what comes before the end of the first step is preparation,
and neither validations nor the measure itself are charged.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..interface.family import Model
from ..interface.memory.joint import joint
from ..interface.weights import load_weights
from .launch import Training, first_model, remembered, run, shards_for
from .state import Progress

Measure = Callable[[Model], float]


class Reached(Exception):
    """Leaves a training whose weights are good enough."""


@dataclass
class Pace:
    """What a training took, and how good the weights were that it would have kept by then."""

    preparation_cpu_s: float = 0.0
    training_cpu_s: float = 0.0
    steps: int = 0
    course: list[dict[str, float]] = field(default_factory=list)
    reached: dict[str, float] | None = None


def paced(
    training: Training,
    measure: Measure,
    goal: float,
    every: int,
    folder: Path,
    clock_s: Callable[[], float] = time.process_time,
) -> Pace:
    """Run a training until its weights reach a goal, asked after every so many steps."""
    model = first_model(training)
    if not isinstance(model, Model):
        raise ValueError(f"{training.family} reads visits, and is not measured by its forecasts")
    if model.remembers:
        folders = [shards_for(member, model) for member in training.members]
        model.memory = joint([*remembered(training.members, folders)])
    # The course of the weights is the same, whatever is told and judged on the way.
    fit = replace(
        training.fit,
        log_every=1,
        validate_every=every,
        patience=training.fit.max_steps,
        checkpoint_every_s=math.inf,
    )
    watch = Watch(model, measure, goal, folder, clock_s)
    try:
        run(replace(training, fit=fit), folder, watch)
    except Reached:
        pass
    return watch.pace


class Watch:
    """The clock of a training, told of each step, and of each validation right behind its step."""

    def __init__(
        self,
        model: Model,
        measure: Measure,
        goal: float,
        folder: Path,
        clock_s: Callable[[], float],
    ) -> None:
        self.model, self.measure, self.goal, self.folder = model, measure, goal, folder
        self.clock_s, self.since_s, self.pace = clock_s, clock_s(), Pace()

    def __call__(self, now: Progress) -> None:
        took_s = self.clock_s() - self.since_s
        if now.step == self.pace.steps:
            self.look()
        elif now.step == 1:
            self.pace.preparation_cpu_s = took_s
        else:
            self.pace.training_cpu_s += took_s
        self.pace.steps = now.step
        self.since_s = self.clock_s()

    def look(self) -> None:
        """Measure the best weights so far, as validation sees them."""
        newest = max((self.folder / "best").glob("step-*.safetensors"))
        load_weights(self.model, newest)
        value = self.measure(self.model)
        told = {"step": self.pace.steps, "cpu_s": self.pace.training_cpu_s, "value": value}
        self.pace.course.append(told)
        if value >= self.goal:
            self.pace.reached = told
            raise Reached
