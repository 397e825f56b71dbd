"""Train: shards to a checkpoint. Killed at any moment and run again, it ends as if never killed."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from model.evaluation.judged_tasks import PATH_INFERENCE, RECOVER, judged_tasks
from model.families import VISITS, module_named, reads
from tasks.config.pipeline import PipelineConfig
from tasks.config.slices import TrainRules
from tasks.prepare.conventions import CALIBRATION_FILE, MEMORY_FILE, PLACES_FILE
from tasks.registry.initial_weights import digest_of, initial_digest, initial_model
from tasks.runtime.errors import ConfigError, DataError, Stopped
from tasks.runtime.machine import Machine
from tasks.runtime.progress import progress
from tasks.runtime.stage import Input, Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

if TYPE_CHECKING:
    from model.training.launch import Training
    from model.training.state import Progress

PLACES = "tasks.pretrain.places_table"  # by name, so that it is in no recipe of a training
COUNTED = ("steps", "epochs", "parameters", "best_step", "precision", "stopped")


class Part(NamedTuple):
    """The shards of a member of a corpus, how its data are read, and its share; 0 if held out."""

    config: PipelineConfig
    shards: Receipt
    share: float


def train(config: PipelineConfig, shards: Receipt, store: Store) -> Receipt:
    """The checkpoint of a model fitted on the train split of the shards."""
    licence = config.source_row.licence
    return trained(config.dataset, config, config.training, shards, store, licence)


def train_corpus(
    subject: str, config: PipelineConfig, parts: Sequence[Part], store: Store
) -> Receipt:
    """The checkpoint of a model fitted on the train splits of several shards, in their shares."""
    learned = [part for part in parts if part.share]
    members = tuple(one.config.learned(one.share) for one in learned)
    rules = config.training.model_copy(update={"members": members})
    licence = "; ".join(sorted({one.config.source_row.licence for one in learned}))
    return trained(subject, config, rules, [one.shards for one in learned], store, licence)


def trained(
    subject: str,
    config: PipelineConfig,
    rules: TrainRules,
    shards: Receipt | list[Receipt],
    store: Store,
    licence: str,
) -> Receipt:
    address = config.train.init
    inputs: dict[str, Input] = {"shards": shards}
    if address:
        store.prepare()
        inputs["init"] = initial_digest(address, store)
    if config.places.table:
        inputs["places"] = import_module(PLACES).named_places(config.places, store)
    job = TRAIN.job(
        subject,
        rules,
        inputs,
        store,
        licence=licence,
        source=address,
        modules=(module_named(config.model.family),),
    )
    return TRAIN(job)


def shards_in(job: Job[TrainRules]) -> list[Receipt]:
    """The shards of all members, one of each."""
    given = job.inputs["shards"]
    return [given] if isinstance(given, Receipt) else job.receipts("shards")


def build(draft: Path, job: Job[TrainRules]) -> Counts:
    """Fit the model in the resumable work folder, then put what it left there in the draft."""
    import torch

    from model.training.fit import Interrupted, TrainingError
    from model.training.launch import COURSE_FILE, InitError, output_files

    check_windows_fit(job.settings)
    for shards in shards_in(job):
        check_visits_fit(job.settings, job.store.verify(shards))
    torch.set_num_threads(Machine().num_threads)
    work = job.store.work(job.recipe.digest)
    try:
        with contextlib.ExitStack() as stack:
            init = stack.enter_context(initial_model(job.source, job.store)) if job.source else None
            if init is not None and digest_of(init) != job.inputs["init"]:
                raise ConfigError(f"{job.source} has just become another model; run again")
            run_shown(training_of(job, init), work)
    except InitError as error:
        raise ConfigError(f"train.init: {error}") from error
    except Interrupted as stop:
        raise Stopped(f"training was stopped at step {stop.step}; run again to go on") from stop
    except TrainingError as error:
        raise DataError(f"training stopped: {error}") from error
    for name in output_files(job.settings.model.family):
        shutil.copy(work / name, draft / name)
    # What is looked up, and what is told of journeys, where anything is.
    for name in (MEMORY_FILE, PLACES_FILE, CALIBRATION_FILE):
        if (work / name).exists():
            shutil.copy(work / name, draft / name)
    course = json.loads((draft / COURSE_FILE).read_text())
    job.store.drop_work(job.recipe.digest)
    return {
        **{name: course[name] for name in COUNTED},
        "tokens": course["num_tokens"],
        "best_validation_loss": round(course["best_validation_loss"], 6),
    }


def check_windows_fit(rules: TrainRules) -> None:
    """Refuse windows that could not be read whole, before anything is trained for them."""
    from model.families import FAMILIES

    model = rules.model
    family = FAMILIES[model.family]
    longest = family.presets[model.preset].max_points
    for window in (one.window for one in rules.members):
        recovers = {RECOVER, PATH_INFERENCE} & {*judged_tasks(family.tasks, window.tasks)}
        if recovers and window.num_points > longest:
            raise ConfigError(
                f"{model.family} {model.preset} reads at most {longest} points, and is asked to "
                f"recover windows of {window.num_points}; shorten window.num_context or "
                "window.num_horizon"
            )


def check_visits_fit(rules: TrainRules, shards: Path) -> None:
    """Refuse stored windows of more visits than the model reads."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from model.families import FAMILIES

    model = rules.model
    if reads(model.family) != VISITS:
        return
    longest = FAMILIES[model.family].presets[model.preset].max_points
    sizes = pq.read_table(shards / "windows.parquet", columns=["num_points"], partitioning=None)
    asked = pc.max(sizes["num_points"]).as_py() or 0
    if asked > longest:
        raise ConfigError(
            f"{model.family} {model.preset} reads at most {longest} visits, and is asked about "
            f"windows of {asked}; lower region.max_history to {longest - 1}"
        )


def run_shown(training: Training, work: Path) -> None:
    """Train, and show how far it has come."""
    from model.training.launch import run

    with progress("train", f"Training {training.family} {training.preset}") as tell:

        def show(now: Progress) -> None:
            tell(now.step / now.max_steps, f"step {now.step:,}, loss {now.loss:.3f}")

        run(training, work, show)


def training_of(job: Job[TrainRules], init: Path | None) -> Training:
    """The training on this machine: where its shards and its first weights lie."""
    from model.training.launch import Member, Training

    rules, where = job.settings, "" if init is None else str(init)
    members = tuple(
        Member(str(job.store.folder(one_of)), one.zone, one.share, one.is_personal, one.entity_kind)
        for one_of, one in zip(shards_in(job), rules.members, strict=True)
    )
    return Training(
        shards="",
        family=rules.model.family,
        preset=rules.model.preset,
        fit=replace(rules.fit, init=where, checkpoint_every_s=Machine().checkpoint_every_s),
        inputs=rules.model.inputs,
        corpus=members,
        tells_kinds=rules.model.kinds,
        places=str(job.folder("places")) if "places" in job.inputs else "",
    )


TRAIN = Stage("train", build, has_work=True)
