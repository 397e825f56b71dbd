"""Transfer: a registered model, or a class of one's own, judged on the stored windows of any data.

Zero-shot, a registered model brings its weights and its normaliser, and sees of these data only
what it is asked; its radii stay as they were calibrated. Few-shot, it is also fine-tuned on a share
of the train entities, and calibrated on validation. A class of one's own learns from all of train.
The baselines beside them are fitted on train, as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from model.families import module_named
from tasks.config.pipeline import DataConfig, PipelineConfig
from tasks.config.slices import EvaluateRules
from tasks.evaluate.evaluate import judge, seen_counts, trained_in
from tasks.evaluate.local_model import EXAMPLE, is_local, local_model, source_digest, told_as_of
from tasks.evaluate.seen import SEEN_SHARE
from tasks.registry.initial_weights import REGISTERED, answering_digest, initial_model, kind_of
from tasks.runtime.errors import ConfigError
from tasks.runtime.stage import Input, Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

if TYPE_CHECKING:
    from model.inference.serving import Trained

FLAG = "--model"
NOTHING_TUNED: Mapping[float, Receipt] = MappingProxyType({})


def require_model(address: str) -> None:
    """Refuse what has no form of a model, before any data are made ready for it."""
    if is_local(address):
        source_digest(address)
    elif not address.startswith(REGISTERED) and not Path(address).expanduser().is_dir():
        raise ConfigError(
            f"model: {address} is no model; give a registered one, such as models:/NAME@champion, "
            f"a class of your own, such as {EXAMPLE}, or the folder of a trained model"
        )


def config_for(config: DataConfig, address: str, store: Store) -> PipelineConfig:
    """The configuration of data for the model at an address, whose family decides what is read."""
    given = {name: getattr(config, name) for name in DataConfig.model_fields}
    if not is_local(address):
        store.prepare()
        with initial_model(address, store, FLAG) as folder:
            given["model"] = {"family": kind_of(folder, address)["family"]}
    return PipelineConfig.model_validate(given)


def transfer(
    config: DataConfig,
    address: str,
    shards: Receipt,
    store: Store,
    learning: Receipt | None = None,
    tuned: Mapping[float, Receipt] = NOTHING_TUNED,
    title: str = "",
) -> Receipt:
    """The errors of what an address holds, and of the baselines, on the windows of the shards.

    A class of one's own is given the learning shards. Beside a registered model stand those that
    were made of it by fine-tuning, by the percent of the train entities that they have seen.
    """
    store.prepare()
    modules: tuple[str, ...] = ()
    if learning is not None:
        digest = source_digest(address)
        inputs: dict[str, Input] = {"learning": learning, "model": digest, "title": address}
    else:
        with initial_model(address, store, FLAG) as folder:
            family = kind_of(folder, address)["family"]
            name = title or title_of(address, family)
            inputs = {"model": answering_digest(folder), "title": name}
        modules = (module_named(family),)
        if tuned:
            inputs["few_shot"] = [f"{percent:g}" for percent in tuned]
            inputs["tuned"] = list(tuned.values())
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
        require_same(answering_digest(folder), job)
        first = replace(trained_in(folder), title=str(job.inputs["title"]))
        folders = [folder, *map(job.store.verify, tuned_receipts(job))]
        seen = max(
            (seen_counts(one, job) for one in folders), key=lambda one: one.get(SEEN_SHARE, 0)
        )
    tuned = tuned_models(job, first)
    models = [first, *other_memories(job, first), *tuned]
    return judge(draft, job, models, {one.name for one in tuned}) | seen


def other_memories(job: Job[EvaluateRules], first: Trained) -> list[Trained]:
    """The same weights without a memory, and with one of the train trips of the data here."""
    from model.data.memories import memory_of
    from model.data.shards import Shards

    if not getattr(first.model, "remembers", False):
        return []
    shards = Shards.open(job.folder("shards"), job.settings.zone)
    memory = memory_of(shards, simple=first.model.simple_mps)
    found = [first.remembering(memory, f"{first.name} with past trips here")]
    if first.model.memory is not None:
        found.append(first.remembering(None, f"{first.name} without memory"))
    return found


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
    return [
        replace(trained_in(job.store.verify(receipt)), title=f"{first.name} {percent} %")
        for receipt, percent in zip(
            tuned_receipts(job), job.inputs.get("few_shot", ()), strict=True
        )
    ]


def tuned_receipts(job: Job[EvaluateRules]) -> list[Receipt]:
    return job.receipts("tuned") if "tuned" in job.inputs else []


def title_of(address: str, family: str) -> str:
    """What tables call the model: by its registered name, which says what it was trained on."""
    name = address.removeprefix("models:/").partition("@")[0].replace("/", " ")
    return name.removeprefix("trajfoundry-") if address.startswith("models:/") else family


TRANSFER = Stage("transfer", build)
