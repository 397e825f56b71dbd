"""How a model is fitted, and the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .precision import PRECISIONS, Precision


@dataclass(frozen=True)
class FitConfig:
    """How a model is fitted. All but the clock of checkpoints decides the result.

    A step takes the gradient of `num_accumulated` batches, whoever computes it: ranks share them.
    """

    max_steps: int = 1_000
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup_steps: int = 50
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    num_accumulated: int = 1
    precision: Precision = "float32"
    validate_every: int = 100
    validates_first: bool = False  # the weights that were given count as well: they may be trained
    patience: int | None = 5  # validations without gain; None never stops early
    log_every: int = 10
    seed: int = 0
    deterministic: bool = False
    checkpoint_every_s: float = 60.0

    def __post_init__(self) -> None:
        at_least_one = ("max_steps", "num_accumulated", "validate_every", "log_every")
        if any(getattr(self, name) < 1 for name in at_least_one):
            raise ValueError(f"{', '.join(at_least_one)} must be at least 1")
        if not 0 <= self.final_learning_rate <= self.learning_rate or self.learning_rate <= 0:
            raise ValueError("0 <= final_learning_rate <= learning_rate, and above 0, must hold")
        if min(self.warmup_steps, self.weight_decay, self.checkpoint_every_s, self.seed) < 0:
            raise ValueError("no step count, decay, interval or seed may be negative")
        if self.clip_norm <= 0 or (self.patience is not None and self.patience < 1):
            raise ValueError("clip_norm must be above 0 and patience at least 1")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of: {', '.join(PRECISIONS)}")

    def deciding(self) -> dict[str, Any]:
        """The fields that a resumed run must share with the run that it resumes."""
        return {key: value for key, value in asdict(self).items() if key != "checkpoint_every_s"}


def learning_rate(step: int, config: FitConfig) -> float:
    """The rate of a step (from 0): linear warm-up, then half a cosine down to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    span = max(1, config.max_steps - config.warmup_steps)
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - config.warmup_steps) / span)))
    return config.final_learning_rate + share * (config.learning_rate - config.final_learning_rate)
