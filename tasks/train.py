"""Train: shards to a checkpoint. Killed at any moment and run again, it ends as if never killed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.config import PipelineConfig, TrainRules
from tasks.errors import DataError, Stopped
from tasks.progress import progress
from tasks.settings import Paths
from tasks.stage import Job, Stage
from tasks.store import Counts, Receipt, Store

if TYPE_CHECKING:
    from model.batch import Batch, Cursor
    from model.data import Shards
    from model.plan import Plan
    from model.training import FitConfig, FitResult, Progress

NORMALISER = "normaliser.json"
MAX_VALIDATION_BATCHES = 50
PREFETCHED_BATCHES = 2


def train(config: PipelineConfig, shards: Receipt, store: Store) -> Receipt:
    """The checkpoint of a model fitted on the train split of the shards."""
    job = TRAIN.job(
        config.dataset,
        config.training,
        {"shards": shards},
        store,
        licence=config.source_row.licence,
    )
    return TRAIN(job)


def build(draft: Path, job: Job[TrainRules]) -> Counts:
    """Fit the model in the resumable work folder, then put weights and settings in the draft."""
    import torch

    from model.training import Interrupted, TrainingError

    rules = job.settings
    job.store.verify(job.receipt("shards"))
    torch.set_num_threads(Paths().num_threads)
    work = job.store.work(job.recipe.digest)
    try:
        model, result = fitted(rules, job.folder("shards"), work)
    except Interrupted as stop:
        raise Stopped(f"training was stopped at step {stop.step}; run again to go on") from stop
    except TrainingError as error:
        raise DataError(f"training stopped: {error}") from error
    write_outputs(draft, job, model, result)
    job.store.drop_work(job.recipe.digest)
    return {
        "steps": result.steps,
        "epochs": result.epochs,
        "tokens": result.num_tokens,
        "parameters": sum(value.numel() for value in model.parameters()),
        "best_step": result.best_step,
        "best_validation_loss": round(result.best_validation_loss, 6),
        "stopped": result.stopped,
    }


def fitted(rules: TrainRules, folder: Path, work: Path) -> tuple[Any, FitResult]:
    """The model with its best weights, and how the run went."""
    import torch

    from model.data import Shards
    from model.encoding import Normaliser
    from model.families import build as build_model
    from model.training import fit

    shards = Shards.open(folder, rules.zone)
    normaliser = Normaliser.from_json(json.loads((folder / NORMALISER).read_text()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rules.seed)
        model = build_model(rules.model.family, rules.model.preset, normaliser)
    training, validation = (train_plan(shards, rules, split) for split in ("train", "validation"))
    with progress("train", f"Training {rules.model.family} {rules.model.preset}") as tell:

        def show(now: Progress) -> None:
            tell(now.step / now.max_steps, f"step {now.step:,}, loss {now.loss:.3f}")

        result = fit(
            model,
            lambda cursor: train_batches(training, cursor),
            lambda: validation_batches(validation),
            fit_config(rules),
            work,
            show,
        )
    return model, result


def train_plan(shards: Shards, rules: TrainRules, split: str) -> Plan:
    """How random crops of a split are drawn."""
    from model.plan import Plan

    fit = rules.fit
    return Plan.of(shards, split, rules.seed, fit.batch_size, fit.max_points, fit.batching)


def train_batches(plan: Plan, cursor: Cursor) -> Iterator[Batch]:
    """Random crops of the train split without end, from a cursor on, made ahead in a thread."""
    from model.data import made, planned

    return made(planned(plan, cursor), PREFETCHED_BATCHES)


def validation_batches(plan: Plan) -> Iterator[Batch]:
    """The same crops of the validation split at each call, a bounded number of them."""
    from model.data import made, planned

    return islice(made(planned(plan, num_epochs=1)), MAX_VALIDATION_BATCHES)


def fit_config(rules: TrainRules) -> FitConfig:
    from model.training import FitConfig

    fit = rules.fit
    return FitConfig(
        max_steps=fit.max_steps,
        learning_rate=fit.learning_rate,
        final_learning_rate=fit.learning_rate / 100,
        warmup_steps=fit.warmup_steps,
        weight_decay=fit.weight_decay,
        clip_norm=fit.max_gradient_norm,
        validate_every=fit.validate_every,
        patience=fit.patience,
        seed=rules.seed,
        checkpoint_every_s=Paths().checkpoint_every_s,
    )


def write_outputs(draft: Path, job: Job[TrainRules], model: Any, result: FitResult) -> None:
    """Weights, configuration, normaliser and the course of the run, all without a clock."""
    from model.checkpoint import save_weights
    from model.training import METRICS_FILE

    rules = job.settings
    save_weights(model, draft / "weights.safetensors")
    described = {**rules.model.model_dump(), "config": asdict(model.config), "zone": rules.zone}
    (draft / "config.json").write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    shutil.copy(job.folder("shards") / NORMALISER, draft / NORMALISER)
    shutil.copy(job.store.work(job.recipe.digest) / METRICS_FILE, draft / METRICS_FILE)
    course = {key: value for key, value in asdict(result).items() if key != "weights"}
    (draft / "training.json").write_text(json.dumps(course, indent=2, sort_keys=True) + "\n")


TRAIN = Stage("train", build)
