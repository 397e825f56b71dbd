"""State of a training run: its progress, its result, and what it must remember to go on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..interface.batch import Cursor
from ..interface.weights import MismatchedCheckpoint
from .config import Precision

METRICS_FILE = "metrics.jsonl"
WEIGHTS_FILE = "weights.safetensors"
MAX_STEPS, EARLY_STOPPING, DATA_EXHAUSTED = "max_steps", "early_stopping", "data_exhausted"


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for whoever watches it."""

    step: int
    max_steps: int
    loss: float


@dataclass(frozen=True)
class FitResult:
    """What a finished run came to. `weights` holds the best ones, which the model now has."""

    steps: int
    epochs: int
    num_tokens: int
    best_step: int
    best_validation_loss: float
    precision: Precision
    stopped: str
    weights: Path


@dataclass
class FitState:
    """What JSON has to remember of a run, beside the tensors."""

    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    num_tokens: int = 0
    precision: Precision = "auto"
    metrics_bytes: int = 0
    validated_step: int = -1
    best_step: int = 0
    best_loss: float | None = None
    best_error_m: float | None = None  # where it is this that chooses the weights
    best_sha256: str = ""
    num_stale: int = 0  # validations since the best
    stopped: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "cursor": self.cursor.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FitState:
        if set(value) != {entry.name for entry in fields(cls)}:
            raise MismatchedCheckpoint("training state: other fields than this version's")
        return cls(**{**value, "cursor": Cursor.from_json(value["cursor"])})
