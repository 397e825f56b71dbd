"""Made-up points, and snapshots of them, for the tests of the stages after ingest."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.places import FIXTURES
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.row_digests import RowDigests
from tasks.ingest.snapshot import CONTENTS, INDEX, LEDGER, index_of
from tasks.prepare import clean, regions, shards, split, step_features
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Counts, Receipt, Recipe, Store

START = datetime(2024, 5, 1, 23, 50, tzinfo=UTC)
SCHEMA = pa.schema(
    {
        "point_id": pa.int64(),
        "entity_id": pa.string(),
        "source_trip_id": pa.string(),
        "tracked_at": pa.timestamp("us", tz="UTC"),
        "lon_deg": pa.float64(),
        "lat_deg": pa.float64(),
        "altitude_m": pa.float64(),
        "speed_mps": pa.float64(),
        "course_deg": pa.float64(),
        "received_at": pa.timestamp("us", tz="UTC"),
        "file_id": pa.int64(),
        "line_number": pa.int64(),
    }
)
Point = dict[str, Any]


def point(entity_id: str, at_s: float, lon_deg: float, lat_deg: float, **more: Any) -> Point:
    return {
        "entity_id": entity_id,
        "tracked_at": START + timedelta(seconds=at_s),
        "lon_deg": lon_deg,
        "lat_deg": lat_deg,
        **more,
    }


def walk(entity_id: str, num_points: int, seed: int, every_s: float = 10.0) -> list[Point]:
    """A random walk of at most some 30 m a step, over midnight and the date line."""
    generator = np.random.default_rng(seed)
    lon_deg = 179.999 + np.cumsum(generator.normal(0, 1e-4, num_points))
    lat_deg = -17.0 + 0.1 * seed + np.cumsum(generator.normal(0, 1e-4, num_points))
    lon_deg = (lon_deg + 180) % 360 - 180
    places = zip(lon_deg.tolist(), lat_deg.tolist(), strict=True)
    return [
        point(entity_id, number * every_s, lon, lat) for number, (lon, lat) in enumerate(places)
    ]


def read_csv(name: str) -> list[dict[str, str]]:
    """The rows of a fixture."""
    with (FIXTURES / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


def walks(num_entities: int, num_points: int = 60) -> list[Point]:
    return [
        made
        for number in range(num_entities)
        for made in walk(f"e{number:03d}", num_points, number)
    ]


def table_of(points: Iterable[Point], file_id: int = 1) -> pa.Table:
    """Points as ingest leaves them; ids count the rows."""
    rows = [
        {"file_id": file_id, "line_number": number, "point_id": file_id * 1_000_000 + number} | row
        for number, row in enumerate(points, 1)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def bucket_of(entity_id: str, num_buckets: int) -> int:
    return int(hashlib.md5(entity_id.encode(), usedforsecurity=False).hexdigest()[:8], 16) % (
        num_buckets
    )


def snapshot_of(
    store: Store,
    *parts: pa.Table,
    dataset: str = "hurdat2",
    num_buckets: int = 2,
    out_of_force: Iterable[int] = (),
) -> Receipt:
    """A published snapshot of parts, spread over buckets as ingest does."""
    place: dict[str, list[int]] = {}
    touching: dict[int, list[int]] = {}
    for table in parts:
        recipe = made_recipe("part", dataset, table)
        with store.draft() as draft:
            digests = RowDigests()
            for bucket, rows in in_buckets(table, num_buckets):
                pq.write_table(rows, draft / f"points-{bucket:03d}.parquet")
                by_file = rows.sort_by([("file_id", "ascending"), ("point_id", "ascending")])
                digests.add("points", bucket, by_file)
                for file_id in set(rows["file_id"].to_pylist()).difference(out_of_force):
                    touching.setdefault(file_id, []).append(bucket)
            digests.write(draft / CONTENTS)
            store.publish(draft, recipe, {}, licence="made up")
        place[recipe.digest] = sorted(set(table["file_id"].to_pylist()).difference(out_of_force))
    content = pa.concat_tables(parts).sort_by("point_id")
    with store.draft() as draft:
        index = index_of("made up", num_buckets, place, touching)
        (draft / INDEX).write_text(index.model_dump_json())
        pq.write_table(pa.table({"file_id": sorted(touching)}), draft / LEDGER)
        recipe = made_recipe("snapshot", dataset, content, *place, str(out_of_force))
        return store.publish(draft, recipe, {}, licence="made up")


def made_recipe(stage: str, dataset: str, table: pa.Table, *more: str) -> Recipe:
    content = hashlib.sha256(repr(table.to_pylist()).encode()).hexdigest()
    return Recipe(
        stage=stage, dataset=dataset, code={}, sql={}, settings={}, inputs={"is": [content, *more]}
    )


def in_buckets(table: pa.Table, num_buckets: int) -> Iterable[tuple[int, pa.Table]]:
    buckets = [bucket_of(entity, num_buckets) for entity in table["entity_id"].to_pylist()]
    for bucket in sorted(set(buckets)):
        yield bucket, table.filter(pa.array([found == bucket for found in buckets]))


def prepared(config: PipelineConfig, snapshot: Receipt, store: Store) -> Receipt:
    """The shards of a snapshot, made stage by stage without an orchestrator."""
    with without_orchestrator():
        cleaned = clean.clean(config, snapshot, store)
        drawn = split.split(config, cleaned, store)
        featured = step_features.features(config, cleaned, store)
        known = regions.regions(config, cleaned, drawn, store)
        return shards.shards(config, cleaned, featured, drawn, known, store)


def cleaned_of(config: PipelineConfig, snapshot: Receipt, store: Store) -> list[Receipt]:
    """The cleaned buckets of a snapshot, made without an orchestrator."""
    with without_orchestrator():
        return clean.clean(config, snapshot, store)


def total(receipts: Sequence[Receipt]) -> Counts:
    """The counts of several receipts, added up."""
    return {name: sum(receipt.counts[name] for receipt in receipts) for name in receipts[0].counts}


def rows_of(store: Store, receipts: Sequence[Receipt], name: str) -> list[dict[str, Any]]:
    """The rows of one Parquet file of each receipt, one after the other."""
    paths: list[Path] = [store.folder(receipt) / name for receipt in receipts]
    return [row for path in paths for row in pq.read_table(path).to_pylist()]
