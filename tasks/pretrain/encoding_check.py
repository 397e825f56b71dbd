"""Encoding check: before a model is trained, the proof that its features keep places and times.

It depends on the code of the encoding and on the shards, and so runs again when either changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.config.pipeline import PipelineConfig
from tasks.prepare.conventions import RECOVERY_FILE
from tasks.runtime.errors import DataError
from tasks.runtime.machine import Machine
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

if TYPE_CHECKING:
    from model.interface.batch import Batch
    from tasks.config.slices import ProbeRules

NUM_BATCHES, BATCH_SIZE = 12, 64


def probe_encoding(config: PipelineConfig, shards: Receipt, store: Store) -> Receipt:
    """How well a small network tells places and times from the features of a dataset's points."""
    rules = config.probe_rules
    licence = config.source_row.licence
    return PROBE(PROBE.job(config.dataset, rules, {"shards": shards}, store, licence=licence))


def build(draft: Path, job: Job[ProbeRules]) -> Counts:
    """Let the network learn on train and answer for validation; refuse what loses too much."""
    import torch

    from model.evaluation.encoding_probe import probe, refusals
    from model.features.normaliser import Normaliser

    torch.set_num_threads(Machine().num_threads)
    folder = job.folder("shards")
    normaliser = Normaliser.from_json(json.loads((folder / "normaliser.json").read_text()))
    learnt, judged = (list(crops(job, split)) for split in ("train", "validation"))
    found = probe(learnt, judged, normaliser, job.settings.seed)
    if reasons := refusals(found):
        raise DataError(f"the encoding loses places or times: {'; '.join(reasons)}")
    told = {name: asdict(recovery) for name, recovery in found.items()}
    (draft / RECOVERY_FILE).write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    return {
        f"{name.replace(' ', '_')}_p99_share": round(one.p99_share, 6)
        for name, one in found.items()
    }


def crops(job: Job[ProbeRules], split: str) -> Iterator[Batch]:
    """Random crops of a split, as a model would be trained on."""
    from model.data.options import Reading
    from model.data.reading import read_batches
    from model.data.shards import Shards

    rules = job.settings
    shards = Shards.open(job.folder("shards"), rules.zone)
    reading = Reading(split, rules.seed, BATCH_SIZE, rules.max_points)
    return islice(read_batches(shards, reading), NUM_BATCHES)


PROBE = Stage("probe", build)
