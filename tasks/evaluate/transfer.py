"""Transfer: a registered model judged on the stored windows of other data, with nothing fitted.

Zero-shot: the model brings its weights and its normaliser, and sees of these data only what it is
asked. The baselines beside it are fitted on their train split, as ever.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from model.families import MODULES, module_named
from tasks.config.pipeline import DataConfig
from tasks.config.slices import EvaluateRules
from tasks.evaluate.evaluate import judge, trained_in
from tasks.registry.initial_weights import digest_of, initial_model
from tasks.runtime.errors import ConfigError
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

FLAG = "--model"


def transfer(config: DataConfig, address: str, shards: Receipt, store: Store) -> Receipt:
    """The errors of the model at an address, and of the baselines, on the windows of the shards."""
    store.prepare()
    with initial_model(address, store, FLAG) as folder:
        digest, family = digest_of(folder), family_of(folder, address)
    job = TRANSFER.job(
        config.dataset,
        config.evaluate_rules,
        {"shards": shards, "model": digest, "title": title_of(address, family)},
        store,
        licence=config.source_row.licence,
        source=address,
        modules=(module_named(family),),
    )
    return TRANSFER(job)


def build(draft: Path, job: Job[EvaluateRules]) -> Counts:
    with initial_model(job.source, job.store, FLAG) as folder:
        if digest_of(folder) != job.inputs["model"]:
            raise ConfigError(f"{job.source} has just become another model; run again")
        trained = replace(trained_in(folder), title=str(job.inputs["title"]))
    return judge(draft, job, trained)


def family_of(folder: Path, address: str) -> str:
    """The family that the weights are of."""
    family = str(json.loads((folder / "config.json").read_bytes()).get("family"))
    if family not in MODULES:
        raise ConfigError(
            f"model: {address} is of the family {family!r}, known are {', '.join(sorted(MODULES))}"
        )
    return family


def title_of(address: str, family: str) -> str:
    """What tables call the model: by its registered name, which says what it was trained on."""
    name = address.removeprefix("models:/").partition("@")[0].replace("/", " ")
    return name.removeprefix("trajfoundry-") if address.startswith("models:/") else family


TRANSFER = Stage("transfer", build)
