"""Encoding probe: before a model is trained, the proof that its features keep places and times.

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
from tasks.runtime.errors import DataError
from tasks.runtime.machine import Machine
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

if TYPE_CHECKING:
    from model.interface.batch import Batch
from tasks.config.slices import ProbeRules

RECOVERY = "recovery.json"
NUM_BATCHES, BATCH_SIZE = 12, 64
COLUMNS = ("shown", "place p50", "p99", "time p50", "p99", "worse share p50", "p99")


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
    (draft / RECOVERY).write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    return {
        f"{name.replace(' ', '_')}_p99_share": round(one.p99_share, 6)
        for name, one in found.items()
    }


def crops(job: Job[ProbeRules], split: str) -> Iterator[Batch]:
    """Random crops of a split, as a model would be trained on."""
    from model.data.reading import Shards, read_batches

    rules = job.settings
    shards = Shards.open(job.folder("shards"), rules.zone)
    batches = read_batches(shards, split, rules.seed, BATCH_SIZE, rules.max_points)
    return islice(batches, NUM_BATCHES)


def recovery_cells(folder: Path) -> list[tuple[str, ...]]:
    """One row of text per variant, under `COLUMNS`."""
    found = json.loads((folder / RECOVERY).read_text())
    return [
        (
            name,
            f"{one['p50_m']:,.3g} m",
            f"{one['p99_m']:,.3g} m",
            f"{one['p50_s']:,.3g} s",
            f"{one['p99_s']:,.3g} s",
            f"{one['p50_share']:.3%}",
            f"{one['p99_share']:.3%}",
        )
        for name, one in found.items()
    ]


PROBE = Stage("probe", build)
