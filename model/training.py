"""One training run: it can be killed at any moment and ends as if it never was.

Everything that decides the trajectory (step, place in the data, weights, optimiser, random state,
best so far, patience) is in the checkpoint; the learning rate is a function of the step; the wall
clock decides only when a checkpoint is written.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from .batch import Batch, Cursor
from .checkpoint import (
    Checkpoint,
    CheckpointError,
    CorruptCheckpoint,
    MismatchedCheckpoint,
    load_tensors,
    load_weights,
    optimiser_tensors,
    restore_model,
    restore_optimiser,
    save_weights,
    sound_checkpoints,
    sweep,
    write_checkpoint,
)
from .isolation import cuda_devices, own_random_state, random_state, set_random_state, stop_signals

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
WEIGHTS_FILE = "weights.safetensors"
MAX_STEPS, EARLY_STOPPING, DATA_EXHAUSTED = "max_steps", "early_stopping", "data_exhausted"
MAX_NAMED_WINDOWS = 20


class TrainingError(RuntimeError):
    """A run that cannot go on."""


class NonFiniteLoss(TrainingError):
    """A loss or gradient that is not a number; names the step and the windows that gave it."""

    def __init__(self, what: str, step: int, window_ids: list[int]) -> None:
        self.what, self.step, self.window_ids = what, step, window_ids
        named = ", ".join(str(number) for number in window_ids[:MAX_NAMED_WINDOWS])
        more = ", ..." if len(window_ids) > MAX_NAMED_WINDOWS else ""
        super().__init__(f"{what} is not finite at step {step}, windows {named}{more}")


class Interrupted(TrainingError):
    """A signal asked the run to stop; its checkpoint is saved, so that a next run goes on."""

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"training was asked to stop; checkpoint saved at step {step}")


@dataclass(frozen=True)
class FitConfig:
    """How a model is fitted. All but the clock of checkpoints decides the result."""

    max_steps: int = 1_000
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup_steps: int = 50
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    validate_every: int = 100
    patience: int | None = 5  # validations without gain; None never stops early
    log_every: int = 10
    seed: int = 0
    deterministic: bool = False
    checkpoint_every_s: float = 60.0

    def __post_init__(self) -> None:
        at_least_one = ("max_steps", "validate_every", "log_every")
        if any(getattr(self, name) < 1 for name in at_least_one):
            raise ValueError(f"{', '.join(at_least_one)} must be at least 1")
        if not 0 <= self.final_learning_rate <= self.learning_rate or self.learning_rate <= 0:
            raise ValueError("0 <= final_learning_rate <= learning_rate, and above 0, must hold")
        if min(self.warmup_steps, self.weight_decay, self.checkpoint_every_s, self.seed) < 0:
            raise ValueError("no step count, decay, interval or seed may be negative")
        if self.clip_norm <= 0 or (self.patience is not None and self.patience < 1):
            raise ValueError("clip_norm must be above 0 and patience at least 1")

    def deciding(self) -> dict[str, Any]:
        """The fields that a resumed run must share with the run that it resumes."""
        return {key: value for key, value in asdict(self).items() if key != "checkpoint_every_s"}


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for whoever watches it."""

    step: int
    max_steps: int
    epoch: int
    num_tokens: int
    loss: float
    best_validation_loss: float | None


@dataclass(frozen=True)
class FitResult:
    """What a finished run came to. `weights` holds the best ones, which the model now has."""

    steps: int
    epochs: int
    num_tokens: int
    best_step: int
    best_validation_loss: float
    stopped: str
    weights: Path


@dataclass
class FitState:
    """What JSON has to remember of a run, beside the tensors."""

    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    num_tokens: int = 0
    metrics_bytes: int = 0
    validated_step: int = 0
    best_step: int = 0
    best_loss: float | None = None
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


def fit(
    model: nn.Module,
    make_train_batches: Callable[[Cursor], Iterator[Batch]],
    make_validation_batches: Callable[[], Iterable[Batch]],
    config: FitConfig,
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
) -> FitResult:
    """Fit a model in a work folder, going on from the checkpoint that the folder may hold.

    The model needs `.loss(batch)` with `total` (sum over targets) and `count`. It trains on the
    device where its parameters are, and comes back in evaluation mode with the best weights.
    """
    run = _Run(model, make_train_batches, make_validation_batches, config, folder, on_progress)
    with own_random_state(run.device, config.seed, config.deterministic), stop_signals() as stop:
        return run.go(stop)


def learning_rate(step: int, config: FitConfig) -> float:
    """The rate of a step (from 0): linear warm-up, then half a cosine down to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    span = max(1, config.max_steps - config.warmup_steps)
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - config.warmup_steps) / span)))
    return config.final_learning_rate + share * (config.learning_rate - config.final_learning_rate)


def make_optimiser(model: nn.Module, config: FitConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices only: biases, gains and single vectors have no size to limit."""
    trained = [value for value in model.parameters() if value.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [value for value in trained if value.ndim >= 2]},
        {"params": [value for value in trained if value.ndim < 2], "weight_decay": 0.0},
    ]
    is_fused = all(value.device.type in ("cpu", "cuda") for value in trained)
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=is_fused,
    )


def validation_loss(
    model: nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    is_stopping: Callable[[], bool] = lambda: False,
    step: int = 0,
) -> float | None:
    """Mean loss over all targets of all batches; None if it was asked to stop on the way."""
    total, count = 0.0, 0.0
    model.eval()
    with torch.no_grad():
        for batch in batches:
            if is_stopping():
                return None
            loss = model.loss(batch.to(device))  # type: ignore[operator]
            if not torch.isfinite(loss.total):
                raise NonFiniteLoss("validation loss", step, offending_windows(model, batch))
            total, count = total + float(loss.total), count + float(loss.count)
    if count == 0:
        raise TrainingError("no targets in the validation batches")
    return total / count


def offending_windows(model: nn.Module, batch: Batch) -> list[int]:
    """The windows whose loss alone is not finite; all of the batch where none is to blame."""
    device = _device_of(model)
    with torch.no_grad():
        rows = range(len(batch.window_id_B))
        blamed = [
            row
            for row in rows
            if not torch.isfinite(model.loss(batch.part(row, row + 1).to(device)).total)  # type: ignore[operator]
        ]
    return [number for row in blamed or rows for number in batch.window_ids(row)]


class _Run:
    """The parts of a run that live as long as it does."""

    def __init__(
        self,
        model: nn.Module,
        make_train_batches: Callable[[Cursor], Iterator[Batch]],
        make_validation_batches: Callable[[], Iterable[Batch]],
        config: FitConfig,
        folder: Path,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.model, self.config, self.folder = model, config, folder
        self.make_train_batches = make_train_batches
        self.make_validation_batches = make_validation_batches
        self.on_progress = on_progress
        self.device = _device_of(model)
        self.optimiser = make_optimiser(model, config)
        self.state = FitState()
        self.saved_best_step = 0
        self.is_stopping: Callable[[], bool] = lambda: False
        self.metrics: BinaryIO

    def go(self, is_stopping: Callable[[], bool]) -> FitResult:
        self.is_stopping = is_stopping
        sweep(self.folder / "checkpoints")
        sweep(self.folder / "best")
        self._restore()
        if self.state.stopped is None:
            with _opened_at(self.folder / METRICS_FILE, self.state.metrics_bytes) as self.metrics:
                self._train()
        return self._finish()

    def _train(self) -> None:
        saved_at_s = time.monotonic()
        with _closing(self.make_train_batches(self.state.cursor)) as batches:
            while self.state.stopped is None:
                self._advance(batches)
                if self.is_stopping():
                    self._save()
                    raise Interrupted(self.state.step)
                if time.monotonic() - saved_at_s >= self.config.checkpoint_every_s:
                    self._save()
                    saved_at_s = time.monotonic()
        self._save()

    def _advance(self, batches: Iterator[Batch]) -> None:
        """One move: a validation that is due, or the end, or one more step."""
        state, config = self.state, self.config
        is_last = state.step >= config.max_steps
        is_due = is_last or (state.step > 0 and state.step % config.validate_every == 0)
        if is_due and state.validated_step != state.step:
            self._validate()
        elif is_last:
            state.stopped = MAX_STEPS
        elif (batch := next(batches, None)) is not None:
            self._step(batch)
        elif state.step == 0:
            raise TrainingError("no training batches")
        elif state.validated_step != state.step:
            self._validate()
        else:
            state.stopped = DATA_EXHAUSTED

    def _step(self, batch: Batch) -> None:
        state, config = self.state, self.config
        rate = learning_rate(state.step, config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.model.loss(batch.to(self.device))  # type: ignore[operator]
        mean_loss: Tensor = loss.total / loss.count.clamp(min=1)
        mean_loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self._check_finite(mean_loss, norm, batch)  # before the weights are touched
        self.optimiser.step()
        state.step += 1
        state.num_tokens += batch.num_points
        state.cursor = batch.cursor
        if state.step % config.log_every == 0 or state.step == config.max_steps:
            self._report(float(mean_loss.detach()), float(norm), rate)

    def _check_finite(self, loss: Tensor, norm: Tensor, batch: Batch) -> None:
        if bool(torch.isfinite(loss.detach()) & torch.isfinite(norm)):
            return
        what = "gradient" if bool(torch.isfinite(loss.detach())) else "loss"
        raise NonFiniteLoss(what, self.state.step + 1, offending_windows(self.model, batch))

    def _report(self, loss: float, norm: float, rate: float) -> None:
        state = self.state
        line = {"step": state.step, "epoch": state.cursor.epoch, "num_tokens": state.num_tokens}
        self._write({**line, "loss": loss, "gradient_norm": norm, "learning_rate": rate})
        self._tell(loss)

    def _tell(self, loss: float) -> None:
        if self.on_progress is not None:
            state = self.state
            place = (state.step, self.config.max_steps, state.cursor.epoch, state.num_tokens)
            self.on_progress(Progress(*place, loss, state.best_loss))

    def _write(self, line: dict[str, Any]) -> None:
        self.metrics.write((json.dumps(line) + "\n").encode())

    def _validate(self) -> None:
        """Compare with the best so far; a run that is asked to stop leaves this for the next."""
        state = self.state
        with torch.random.fork_rng(cuda_devices(self.device)):
            loss = validation_loss(
                self.model,
                self.make_validation_batches(),
                self.device,
                self.is_stopping,
                state.step,
            )
        if loss is None:
            return
        state.validated_step = state.step
        if state.best_loss is None or loss < state.best_loss:
            state.best_sha256 = save_weights(self.model, self._best(state.step))
            state.best_loss, state.best_step, state.num_stale = loss, state.step, 0
        else:
            state.num_stale += 1
        if self.config.patience is not None and state.num_stale >= self.config.patience:
            state.stopped = EARLY_STOPPING
        self._write({"step": state.step, "validation_loss": loss})
        self._tell(loss)

    def _best(self, step: int) -> Path:
        return self.folder / "best" / f"step-{step:08d}.safetensors"

    # Saving and resuming

    def _save(self) -> None:
        self.metrics.flush()
        os.fsync(self.metrics.fileno())
        self.state.metrics_bytes = self.metrics.tell()
        tensors = {
            "model": self.model.state_dict(),
            "optimiser": optimiser_tensors(self.optimiser),
            "random": random_state(self.device),
        }
        state = {"config": self.config.deciding(), "run": self.state.to_json()}
        write_checkpoint(self.folder / "checkpoints", Checkpoint(tensors, state))
        self._prune_best()

    def _prune_best(self) -> None:
        """Keep the best weights that one of the two kept checkpoints names."""
        kept = {self._best(self.saved_best_step), self._best(self.state.best_step)}
        for path in set((self.folder / "best").iterdir()) - kept:
            path.unlink()
        self.saved_best_step = self.state.best_step

    def _restore(self) -> None:
        """Take up the newest checkpoint that is sound in all its parts, or start afresh."""
        for checkpoint in sound_checkpoints(self.folder / "checkpoints"):
            if checkpoint.state["config"] != self.config.deciding():
                raise MismatchedCheckpoint(
                    "the work folder holds a run with another configuration; use a new folder"
                )
            state = FitState.from_json(checkpoint.state["run"])
            if self._has_files_of(state):
                restore_model(self.model, checkpoint.tensors["model"])
                restore_optimiser(self.optimiser, checkpoint.tensors["optimiser"])
                set_random_state(self.device, checkpoint.tensors["random"])
                self.state, self.saved_best_step = state, state.best_step
                logger.info("training goes on from step %d", state.step)
                return

    def _has_files_of(self, state: FitState) -> bool:
        metrics = self.folder / METRICS_FILE
        if (metrics.stat().st_size if metrics.exists() else 0) < state.metrics_bytes:
            return False
        try:
            if state.best_loss is not None:
                load_tensors(self._best(state.best_step), state.best_sha256)
        except CorruptCheckpoint:
            return False
        return True

    def _finish(self) -> FitResult:
        state, weights = self.state, self.folder / WEIGHTS_FILE
        if state.best_loss is None or state.stopped is None:
            raise CheckpointError("a run ended without a validation")
        load_weights(self.model, self._best(state.best_step), state.best_sha256)
        save_weights(self.model, weights)
        self.model.eval()
        self.optimiser.zero_grad(set_to_none=True)
        return FitResult(
            steps=state.step,
            epochs=state.cursor.epoch,
            num_tokens=state.num_tokens,
            best_step=state.best_step,
            best_validation_loss=state.best_loss,
            stopped=state.stopped,
            weights=weights,
        )


@contextmanager
def _opened_at(path: Path, num_bytes: int) -> Iterator[BinaryIO]:
    """A file cut to its first bytes, to be written on from there."""
    with path.open("r+b" if path.exists() else "x+b") as file:
        file.truncate(num_bytes)
        file.seek(num_bytes)
        yield file


@contextmanager
def _closing(batches: Iterable[Batch]) -> Iterator[Iterator[Batch]]:
    """An iterator that ends with the block, and with it the thread that may work ahead for it."""
    iterator = iter(batches)
    try:
        yield iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
