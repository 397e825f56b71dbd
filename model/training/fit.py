"""Fit: one training run, which can be killed at any moment and ends as if it never was.

Everything that decides the trajectory (step, place in the data, weights, optimiser, random state,
best so far, patience) is in the checkpoint; the learning rate is a function of the step; the wall
clock decides only when a checkpoint is written. Validation judges, and the run keeps, the mean of
the weights where the configuration asks for one, else the weights themselves. What they are the
best in is the loss, or the error in metres that a judge finds, where there is one.

Where `torch.distributed` is up, ranks share each step: its gradient is the sum of all losses over
the number of all targets, so that it does not matter who computed which batch. Only the first rank
writes; all read its checkpoints, so that the work folder must be one that all can reach.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from ..interface.batch import Batch, Cursor
from ..interface.weights import (
    CheckpointError,
    CorruptCheckpoint,
    MismatchedCheckpoint,
    load_tensors,
    load_weights,
    restore_model,
    save_weights,
)
from .averaging import AveragedWeights
from .checkpoint import (
    Checkpoint,
    optimiser_tensors,
    restore_optimiser,
    sound_checkpoints,
    sweep,
    write_checkpoint,
)
from .config import FitConfig, Precision, learning_rate
from .isolation import cuda_devices, own_random_state, random_state, set_random_state, stop_signals
from .precision import computing_in, settled
from .ranks import Ranks
from .selection import Judge
from .state import (
    DATA_EXHAUSTED,
    EARLY_STOPPING,
    MAX_STEPS,
    METRICS_FILE,
    WEIGHTS_FILE,
    FitResult,
    FitState,
    Progress,
)
from .validation import NonFiniteLoss, TrainingError, device_of, offending_windows, validation_loss

logger = logging.getLogger(__name__)


class Interrupted(TrainingError):
    """A signal asked the run to stop; its checkpoint is saved, so that a next run goes on."""

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"training was asked to stop; checkpoint saved at step {step}")


def fit(
    model: nn.Module,
    make_train_batches: Callable[[Cursor], Iterator[Batch]],
    make_validation_batches: Callable[[], Iterable[Batch]],
    config: FitConfig,
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
    judge: Judge | None = None,
) -> FitResult:
    """Fit a model in a work folder, going on from the checkpoint that the folder may hold.

    The model needs `.loss(batch)` with `total` (sum over targets) and `count`. It trains on the
    device where its parameters are, and comes back in evaluation mode with the best weights. Ranks
    must be given batches of their own, equally many each, as the loader gives them.
    """
    batches = make_train_batches, make_validation_batches
    run = _Run(model, *batches, config, folder, on_progress, judge)
    seed = config.seed + run.ranks.rank
    # A caller that wants no gradients would otherwise get untrained weights without a word.
    with torch.inference_mode(False), torch.enable_grad():
        with own_random_state(run.device, seed, config.deterministic), stop_signals() as stop:
            return run.go(stop)


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


@dataclass
class _Run:
    """The parts of a run that live as long as it does."""

    model: nn.Module
    make_train_batches: Callable[[Cursor], Iterator[Batch]]
    make_validation_batches: Callable[[], Iterable[Batch]]
    config: FitConfig
    folder: Path
    on_progress: Callable[[Progress], None] | None
    judge: Judge | None = None
    saved_best_step: int = 0
    metrics: BinaryIO | None = None

    def __post_init__(self) -> None:
        self.device = device_of(self.model)
        self.ranks = Ranks.present(self.device)
        self.optimiser = make_optimiser(self.model, self.config)
        self.average = AveragedWeights(self.model, self.config.ema_decay)
        self.state = FitState()
        if self.config.accumulate % self.ranks.world:
            raise TrainingError(
                f"a step of {self.config.accumulate} batches cannot be shared by "
                f"{self.ranks.world} ranks: accumulate a multiple of their number"
            )

    def go(self, is_stopping: Callable[[], bool]) -> FitResult:
        self.is_stopping = is_stopping
        if self.ranks.is_first:
            sweep(self.folder / "best")
        if not self._restore():
            self.ranks.share_first(self.model)
            self.state.precision = self._precision()
        if self.state.stopped is None:
            with self._open_metrics() as self.metrics:
                self._train()
        return self._finish()

    def _precision(self) -> Precision:
        """What the first rank finds good, for all, and for whoever goes on from here."""
        is_lower = self.ranks.is_first and (
            settled(self.config.precision, self.model, self.device) == "bfloat16"
        )
        return "bfloat16" if any(self.ranks.agree(is_lower)) else "float32"

    @contextmanager
    def _open_metrics(self) -> Iterator[BinaryIO | None]:
        """The file of metrics, cut to what the state knows of; None on all but the first rank."""
        if not self.ranks.is_first:
            yield None
            return
        with (self.folder / METRICS_FILE).open("ab") as file:
            file.truncate(self.state.metrics_bytes)
            file.seek(self.state.metrics_bytes)
            yield file

    def _train(self) -> None:
        saved_at_s = time.monotonic()
        with closing(_closable(self.make_train_batches(self.state.cursor))) as batches:
            while self.state.stopped is None:
                self._advance(batches)
                age_s = time.monotonic() - saved_at_s
                is_due = self.ranks.is_first and age_s >= self.config.checkpoint_every_s
                is_stopping, is_due = self.ranks.agree(self.is_stopping(), is_due)
                if is_stopping or is_due:
                    self._save()
                    saved_at_s = time.monotonic()
                if is_stopping:
                    raise Interrupted(self.state.step)
        self._save()

    def _advance(self, batches: Iterator[Batch]) -> None:
        """One move: a validation that is due, or the end, or one more step."""
        state, config = self.state, self.config
        is_last = state.step >= config.max_steps
        is_due = is_last or state.step % config.validate_every == 0
        if state.step == 0 and not config.init:
            is_due = False
        if is_due and state.validated_step != state.step:
            self._validate()
        elif is_last:
            state.stopped = MAX_STEPS
        elif taken := self._taken(batches):
            self._step(taken)
        elif state.step == 0:
            raise TrainingError("no training batches")
        elif state.validated_step != state.step:
            self._validate()
        else:
            state.stopped = DATA_EXHAUSTED

    def _taken(self, batches: Iterator[Batch]) -> list[Batch]:
        """This rank's batches of one step: fewer where the epoch ends, or the data.

        A step goes over no border of epochs: ranks share out the rest of an epoch among them, so
        that this is what makes a step the same whatever their number.
        """
        taken = []
        for batch in islice(batches, self.config.accumulate // self.ranks.world):
            taken.append(batch)
            if batch.cursor.is_between_epochs:
                break
        return taken

    def _step(self, batches: list[Batch]) -> None:
        state, config = self.state, self.config
        rate = learning_rate(state.step, config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        sums = self._gradient(batches)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.max_gradient_norm)
        # All that is asked of the device, at once: each question waits for it.
        total, count, num_points, length = torch.cat([sums, norm.double().view(1)]).tolist()
        loss = total / max(count, 1)
        self._check_finite(loss, length, batches)  # before the weights are touched
        self.optimiser.step()
        state.step += 1
        self.average.take_in(state.step)
        state.num_tokens += int(num_points)
        state.cursor = batches[-1].cursor
        if state.step % config.log_every == 0 or state.step == config.max_steps:
            self._report(loss, length, rate)

    def _gradient(self, batches: list[Batch]) -> Tensor:
        """Fill in the gradient of the mean loss over the batches of all ranks.

        What comes back is the sum of losses, the number of targets and that of points.
        """
        self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        with computing_in(self.model, self.state.precision):
            for batch in batches:
                loss = self.model.loss(batch.to(self.device))  # type: ignore[operator]
                if loss.total.requires_grad:
                    loss.total.backward()
                sums[0] += loss.total.detach()
                sums[1] += loss.count
                sums[2] += batch.num_points
        self.ranks.add_gradients(self.model.parameters())
        sums = self.ranks.add(sums)
        for value in self.model.parameters():
            if value.grad is not None:
                value.grad /= sums[1].clamp(min=1).to(value.dtype)
        return sums

    def _check_finite(self, loss: float, norm: float, batches: list[Batch]) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        what = "gradient" if math.isfinite(loss) else "loss"
        named = offending_windows(self.model, batches, self.ranks)
        raise NonFiniteLoss(what, self.state.step + 1, named)

    def _report(self, loss: float, norm: float, rate: float) -> None:
        state = self.state
        line = {"step": state.step, "epoch": state.cursor.epoch, "num_tokens": state.num_tokens}
        self._write({**line, "loss": loss, "gradient_norm": norm, "learning_rate": rate})
        self._tell(loss)

    def _tell(self, loss: float) -> None:
        if self.on_progress is not None and self.ranks.is_first:
            self.on_progress(Progress(self.state.step, self.config.max_steps, loss))

    def _write(self, line: dict[str, Any]) -> None:
        if self.metrics is not None:
            self.metrics.write((json.dumps(line) + "\n").encode())

    def _validate(self) -> None:
        """Compare with the best so far; a run that is asked to stop leaves this for the next."""
        state = self.state
        with torch.random.fork_rng(cuda_devices(self.device)):
            loss = validation_loss(
                self.average.model,
                self.make_validation_batches(),
                self.device,
                self.is_stopping,
                state.step,
                self.ranks,
            )
            if loss is None:
                return
            error_m = self.judge(self.average.model, self.ranks) if self.judge else None
        state.validated_step = state.step
        found, best = (loss, state.best_loss) if error_m is None else (error_m, state.best_error_m)
        if best is None or found < best:
            path = self._best(state.step)
            state.best_sha256 = (
                save_weights(self.average.model, path) if self.ranks.is_first else ""
            )
            state.best_loss, state.best_error_m = loss, error_m
            state.best_step, state.num_stale = state.step, 0
        else:
            state.num_stale += 1
        if state.num_stale >= self.config.patience:
            state.stopped = EARLY_STOPPING
        told = {} if error_m is None else {"validation_error_m": error_m}
        self._write({"step": state.step, "validation_loss": loss, **told})
        self._tell(loss)

    def _best(self, step: int) -> Path:
        return self.folder / "best" / f"step-{step:08d}.safetensors"

    # Saving and resuming

    def _save(self) -> None:
        gathered = self.ranks.named_rows(random_state(self.device))
        if self.metrics is not None:
            self.metrics.flush()
            os.fsync(self.metrics.fileno())
            self.state.metrics_bytes = self.metrics.tell()
            tensors = {
                "model": self.model.state_dict(),
                "optimiser": optimiser_tensors(self.optimiser),
                "random": gathered,
                **self.average.tensors(),
            }
            state = {"config": self.config.deciding(), "run": self.state.to_json()}
            write_checkpoint(self.folder / "checkpoints", Checkpoint(tensors, state))
            self._prune_best()
        self.ranks.wait()  # whoever launched them ends all when the first one has ended

    def _prune_best(self) -> None:
        """Keep the best weights that one of the two kept checkpoints names."""
        kept = {self._best(self.saved_best_step), self._best(self.state.best_step)}
        for path in set((self.folder / "best").iterdir()) - kept:
            path.unlink()
        self.saved_best_step = self.state.best_step

    def _restore(self) -> bool:
        """Take up the newest checkpoint that is sound in all its parts, if there is one."""
        found = self._newest() if self.ranks.is_first else None
        if not any(self.ranks.agree(found is not None)):  # the others wait for the first here
            return False
        checkpoint = found or next(sound_checkpoints(self.folder / "checkpoints"))
        self.state = FitState.from_json(checkpoint.state["run"])
        self.saved_best_step = self.state.best_step
        restore_model(self.model, checkpoint.tensors["model"])
        self.average.restore(checkpoint.tensors)
        restore_optimiser(self.optimiser, checkpoint.tensors["optimiser"])
        states = self.ranks.own(checkpoint.tensors["random"])
        if states:  # a rank that was not there before keeps its seed
            set_random_state(self.device, states)
        self.ranks.wait()
        logger.info("training goes on from step %d", self.state.step)
        return True

    def _newest(self) -> Checkpoint | None:
        for checkpoint in sound_checkpoints(self.folder / "checkpoints"):
            if checkpoint.state["config"] != self.config.deciding():
                raise MismatchedCheckpoint(
                    "the work folder holds a run with another configuration; use a new folder"
                )
            if self._has_files_of(FitState.from_json(checkpoint.state["run"])):
                return checkpoint
        return None

    def _has_files_of(self, state: FitState) -> bool:
        metrics = self.folder / METRICS_FILE
        try:
            if state.best_loss is not None:
                load_tensors(self._best(state.best_step), state.best_sha256)
        except CorruptCheckpoint:
            return False
        return (metrics.stat().st_size if metrics.exists() else 0) >= state.metrics_bytes

    def _finish(self) -> FitResult:
        state, weights = self.state, self.folder / WEIGHTS_FILE
        if state.best_loss is None or state.stopped is None:
            raise CheckpointError("a run ended without a validation")
        self.ranks.wait()
        load_weights(self.model, self._best(state.best_step), state.best_sha256 or None)
        if self.ranks.is_first:
            save_weights(self.model, weights)
        self.model.eval()
        self.optimiser.zero_grad(set_to_none=True)
        return FitResult(
            steps=state.step,
            epochs=state.cursor.epoch,
            num_tokens=state.num_tokens,
            best_step=state.best_step,
            best_validation_loss=state.best_loss,
            precision=state.precision,
            stopped=state.stopped,
            weights=weights,
        )


def _closable(batches: Iterable[Batch]) -> Generator[Batch, None, None]:
    """The same batches; closing it closes what makes them, and ends a thread that works ahead."""
    yield from batches
