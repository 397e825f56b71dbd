"""Transfer: a registered model, or a class of one's own, judged on the stored windows of any data.

Zero-shot, a registered model brings its weights and its normaliser, and sees of these data only
what it is asked. Few-shot, it is also fine-tuned on a share of the train entities. A class of one's
own learns from all of train. The baselines beside them are fitted on train, as ever.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.families import MODULES, module_named
from tasks.config.pipeline import DataConfig, PipelineConfig
from tasks.config.sections import ModelConfig, TrainConfig
from tasks.config.slices import EvaluateRules
from tasks.evaluate.evaluate import judge, trained_in
from tasks.evaluate.local_model import is_local, local_model, source_digest, told_as_of
from tasks.prepare.learning_shards import WHOLE_PERCENT, learning_shards
from tasks.pretrain.train import train
from tasks.registry.initial_weights import digest_of, initial_model
from tasks.runtime.errors import ConfigError
from tasks.runtime.stage import Input, Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

if TYPE_CHECKING:
    from model.inference.serving import Trained

FLAG = "--model"
# Few entities are learned by heart in few steps: validation stops it before.
FINE_TUNING = {
    "max_steps": 200,
    "learning_rate": 3e-4,
    "warmup_steps": 10,
    "validate_every": 20,
    "patience": 5,
}


def transfer(
    config: DataConfig,
    address: str,
    shards: Receipt,
    store: Store,
    few_shot: Sequence[float] = (),
) -> Receipt:
    """The errors of what an address holds, and of the baselines, on the windows of the shards.

    With percents, a registered model is also fine-tuned on these shares of the train entities, and
    each of the models that come of it is judged beside it.
    """
    store.prepare()
    if is_local(address):
        if few_shot:
            raise ConfigError(
                "few_shot: a class of your own learns from all of train; leave it out"
            )
        learning = learning_shards(config, shards, WHOLE_PERCENT, store)
        digest = source_digest(address)
        inputs: dict[str, Input] = {"learning": learning, "model": digest, "title": address}
        modules: tuple[str, ...] = ()
    else:
        with initial_model(address, store, FLAG) as folder:
            family, preset = facts_of(folder, address)
            inputs = {"model": digest_of(folder), "title": title_of(address, family)}
        modules = (module_named(family),)
        if few_shot:
            began = fine_tuning(config, address, family, preset)
            inputs["few_shot"] = [f"{percent:g}" for percent in few_shot]
            inputs["tuned"] = [
                train(began, learning_shards(config, shards, percent, store), store)
                for percent in few_shot
            ]
    job = TRANSFER.job(
        config.dataset,
        config.evaluate_rules,
        {"shards": shards} | inputs,
        store,
        licence=config.source_row.licence,
        source=address,
        modules=modules,
    )
    return TRANSFER(job)


def build(draft: Path, job: Job[EvaluateRules]) -> Counts:
    if is_local(job.source):
        return judge_local(draft, job)
    with initial_model(job.source, job.store, FLAG) as folder:
        require_same(digest_of(folder), job)
        first = replace(trained_in(folder), title=str(job.inputs["title"]))
    return judge(draft, job, [first, *tuned_models(job, first)])


def judge_local(draft: Path, job: Job[EvaluateRules]) -> Counts:
    from model.data.shards import Shards

    require_same(source_digest(job.source), job)
    learning = Shards.open(job.store.verify(job.receipt("learning")), job.settings.zone)
    made = local_model(job.source, learning, job.settings.seed)
    with told_as_of(job.source):
        return judge(draft, job, [made])


def require_same(digest: str, job: Job[EvaluateRules]) -> None:
    if digest != job.inputs["model"]:
        raise ConfigError(f"{job.source} has just become another model; run again")


def tuned_models(job: Job[EvaluateRules], first: Trained) -> list[Trained]:
    """The models that were fine-tuned, each named by its share of the train entities."""
    if "tuned" not in job.inputs:
        return []
    return [
        replace(trained_in(job.store.verify(receipt)), title=f"{first.name} {percent} %")
        for receipt, percent in zip(job.receipts("tuned"), job.inputs["few_shot"], strict=True)
    ]


def fine_tuning(config: DataConfig, address: str, family: str, preset: str) -> PipelineConfig:
    """A short training of the same shape, which begins with the weights at the address."""
    given = {name: getattr(config, name) for name in type(config).model_fields}
    given |= {
        "model": ModelConfig.model_validate({"family": family, "preset": preset}),
        "train": TrainConfig.model_validate({"init": address} | FINE_TUNING),
    }
    return PipelineConfig.model_validate(given)


def facts_of(folder: Path, address: str) -> tuple[str, str]:
    """The family that the weights are of, and its preset."""
    told = json.loads((folder / "config.json").read_bytes())
    family = str(told.get("family"))
    if family not in MODULES:
        raise ConfigError(
            f"model: {address} is of the family {family!r}, known are {', '.join(sorted(MODULES))}"
        )
    return family, str(told.get("preset"))


def title_of(address: str, family: str) -> str:
    """What tables call the model: by its registered name, which says what it was trained on."""
    name = address.removeprefix("models:/").partition("@")[0].replace("/", " ")
    return name.removeprefix("trajfoundry-") if address.startswith("models:/") else family


TRANSFER = Stage("transfer", build)
