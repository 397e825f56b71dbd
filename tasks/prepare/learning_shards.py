"""Learning shards: train and validation alone, of all entities or of a few, without any of test.

A model that is fine-tuned on a few entities learns from these, and so does a class of one's own:
what they are judged on is not in the folder that they are given. A smaller share is part of each
larger one.

    1 % of 318 train entities are 4; those of 5 % are these 4 and 12 more.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.families import FILES
from tasks.config.pipeline import DataConfig
from tasks.config.slices import LearningRules
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

LEARNT_SPLITS = ("train", "validation")
WHOLE_PERCENT = 100.0


def learning_shards(config: DataConfig, shards: Receipt, percent: float, store: Store) -> Receipt:
    """The shards of a share of the train and of the validation entities, at least one of each."""
    rules = LearningRules(percent=percent, seed=config.seed)
    licence = config.source_row.licence
    job = LEARNING.job(config.dataset, rules, {"shards": shards}, store, licence=licence)
    return LEARNING(job)


def build(draft: Path, job: Job[LearningRules]) -> Counts:
    """Copy the rows of the drawn entities, row group by row group, and their windows."""
    folder, counts, windows = job.folder("shards"), Counts(), []
    for split in LEARNT_SPLITS:
        files = sorted(folder.glob(f"{split}-[0-9]*.parquet"))
        drawn = drawn_entities(entities_of(files), job.settings)
        num_trips = sum(copy_rows(path, draft / path.name, drawn) for path in files)
        windows.append(windows_of(folder / "windows.parquet", split, drawn))
        counts |= {f"entities_{split}": len(drawn), f"trips_{split}": num_trips}
        counts[f"windows_{split}"] = len(windows[-1])
    kept = pa.concat_tables(windows)
    pq.write_table(kept, draft / "windows.parquet", compression="zstd", write_page_checksum=True)
    for name in FILES.values():  # what was fitted on train, for points or for visits
        if (folder / name).is_file():
            shutil.copy(folder / name, draft)
    return counts


def entities_of(files: list[Path]) -> set[str]:
    columns = [opened(path).read(["entity_id"])["entity_id"].unique() for path in files]
    return {entity for column in columns for entity in column.to_pylist()}


def drawn_entities(entities: set[str], rules: LearningRules) -> set[str]:
    """A share of the entities, in an order that the seed and their names decide."""

    def place(entity: str) -> bytes:
        return hashlib.sha256(f"{rules.seed}/{entity}".encode()).digest()

    number = math.ceil(len(entities) * rules.percent / WHOLE_PERCENT)
    return set(sorted(entities, key=place)[:number])


def copy_rows(path: Path, to: Path, entities: set[str]) -> int:
    """Copy the trips of some entities; the number of them."""
    source, num_rows = opened(path), 0
    with pq.ParquetWriter(
        to, source.schema_arrow, compression="zstd", write_page_checksum=True
    ) as writer:
        for number in range(source.num_row_groups):
            rows = of_entities(source.read_row_group(number), entities)
            if len(rows):
                writer.write_table(rows)
            num_rows += len(rows)
    return num_rows


def windows_of(path: Path, split: str, entities: set[str]) -> pa.Table:
    table = opened(path).read()
    return of_entities(table.filter(pc.equal(table["split"], split)), entities)


def of_entities(table: pa.Table, entities: set[str]) -> pa.Table:
    return table.filter(pc.is_in(table["entity_id"], pa.array(sorted(entities), pa.string())))


def opened(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, page_checksum_verification=True)


LEARNING = Stage("learning", build)
