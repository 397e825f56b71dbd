"""Training configuration: how a model is fitted, and the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ..data.options import Batching, Draws, Reading

Precision = Literal["float32", "bfloat16", "auto"]
Selection = Literal["loss", "error"]

FINAL_DIVISOR = 100  # of the learning rate, at the last step


@dataclass(frozen=True)
class FitConfig:
    """How a model is fitted. All but the clock of checkpoints decides the result.

    A step takes the gradient of `accumulate` batches, whoever computes it: ranks share them.
    `init` is where the weights to begin with lie: they count as well, for they may be trained. They
    are fresh if it is empty.
    """

    init: str = ""
    max_steps: int = 600
    batch_size: int = 64
    accumulate: int = 1
    max_points: int = 40
    batching: Batching = "bucketed"
    precision: Precision = "float32"
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.05
    max_gradient_norm: float = 1.0
    ema_decay: float = 0.0  # of the mean of the weights that is judged and kept; 0: no mean
    select_by: Selection = "loss"  # what the kept weights are the best in, on validation
    validate_every: int = 50
    patience: int = 10  # validations without gain
    thinned: float = 0.0  # share of the rows that are thinned, made finer, and cut short
    finer: float = 0.0
    short: float = 0.0
    seed: int = 0
    log_every: int = 10
    deterministic: bool = False
    checkpoint_every_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("max_steps", "accumulate", "validate_every", "patience", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("learning_rate", "max_gradient_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
        for name in ("warmup_steps", "weight_decay", "seed", "checkpoint_every_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if not 0 <= self.ema_decay < 1:
            raise ValueError("ema_decay must be at least 0 and below 1")
        for name, known in (("precision", Precision), ("select_by", Selection)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name} must be one of: {', '.join(get_args(known))}")
        self.reading("train")

    @property
    def draws(self) -> Draws:
        """What rows of training become beside plain crops."""
        return Draws(self.thinned, self.finer, self.short)

    def reading(self, split: str) -> Reading:
        """How a split of the shards is read."""
        most = self.draws.num_read(self.max_points) if split == "train" else self.max_points
        return Reading(split, self.seed, self.batch_size, most, self.batching)

    def deciding(self) -> dict[str, Any]:
        """What a resumed run must share with the run that it resumes.

        Weights to begin with may lie elsewhere by then: the checkpoint holds what came of them.
        """
        values = {**asdict(self), "init": bool(self.init)}
        return {key: value for key, value in values.items() if key != "checkpoint_every_s"}


def learning_rate(step: int, config: FitConfig) -> float:
    """The rate of a step (from 0): linear warm-up, then half a cosine down to a hundredth."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    span = max(1, config.max_steps - config.warmup_steps)
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - config.warmup_steps) / span)))
    final = config.learning_rate / FINAL_DIVISOR
    return final + share * (config.learning_rate - final)
