"""The warehouse: one DuckDB file with views on what was published, for people to open.

It can always be made again from the store. It is built beside its place and renamed in, so a
reader that holds the old file keeps its old content, and a run never waits for a reader.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

import sql
from model.earth.calendar import zone_offsets
from model.evaluation.score_table import SCORES
from tasks import database
from tasks.ingest.snapshot import Snapshot, read_snapshot
from tasks.prepare.conventions import CELLS_FILE, SCORES_FILE
from tasks.runtime.errors import ConfigError, Damaged
from tasks.runtime.run_records import RunRecord, note_stage, read_records
from tasks.runtime.store import Receipt, Store, replacing

# View: the stage whose files of that name together are the table.
BUCKET_VIEWS = {
    **dict.fromkeys(("clean_points", "conflicts", "trips", "triplegs", "stays"), "clean"),
    **dict.fromkeys(("visits", "visit_windows", "regions"), "regions"),
    "steps": "features",
    "windows": "shards",
}
# Stages of a flow that the warehouse tells of: others of a benchmark or a corpus are of many data.
TOLD_OF = {"benchmark": ("benchmark",), "corpus": ("train", "corpus_report")}
RUNS = pa.schema(
    {
        **dict.fromkeys(("run_id", "flow", "dataset"), pa.string()),
        **dict.fromkeys(("started_at", "finished_at"), pa.timestamp("us", tz="UTC")),
        **dict.fromkeys(("outcome", "error"), pa.string()),
    }
)
STAGES = pa.schema(
    {
        "run_id": pa.string(),
        "position": pa.int64(),
        **dict.fromkeys(("stage", "dataset", "recipe"), pa.string()),
        "is_cached": pa.bool_(),
        **dict.fromkeys(("wall_s", "peak_memory_mb"), pa.float64()),
        "counts": pa.string(),
    }
)
QUALITY = pa.schema(
    {**dict.fromkeys(("dataset", "stage", "recipe", "measure"), pa.string()), "value": pa.float64()}
)
IN_FORCE = pa.schema({"dataset": pa.string(), "path": pa.string(), "file_id": pa.int64()})
Receipts = dict[str, list[Receipt]]  # by stage


def rebuild(store: Store) -> Path:
    """Build the warehouse anew from the run records and put it in place; return its path."""
    records = read_records(store)
    current = current_receipts(store, records)
    with FileLock(store.root / ".warehouse.lock"), replacing(store.warehouse) as beside:
        try:
            with database.new_file(beside) as connection:
                add_operations(connection, records, current)
                for dataset, receipts in sorted(current.items()):
                    add_dataset(connection, store, dataset, receipts)
        finally:
            beside.with_name(f"{beside.name}.wal").unlink(missing_ok=True)
    return store.warehouse


def current_receipts(store: Store, records: list[RunRecord]) -> dict[str, Receipts]:
    """For each dataset and stage, the receipts of the newest completed run that still stand."""
    current: dict[str, Receipts] = {}
    for record in (record for record in records if record.outcome == "completed"):
        for stage, receipts in record.receipts.items():
            is_told = stage in TOLD_OF.get(record.flow, (stage,))
            if is_told and all(store.is_complete(receipt) for receipt in receipts):
                rebuilt = [store.receipt(receipt) for receipt in receipts]
                stages = current.setdefault(record.dataset, {})
                stages[stage] = still_told(store, stages.get(stage, []), rebuilt) + rebuilt
    return current


def still_told(store: Store, earlier: list[Receipt], newer: list[Receipt]) -> list[Receipt]:
    """Of earlier receipts of a stage those that newer ones leave in force: of other models."""
    if newer[0].stage != "transfer":
        return []
    told = {store.manifest(receipt).recipe.inputs["title"] for receipt in newer}
    return [one for one in earlier if store.manifest(one).recipe.inputs["title"] not in told]


def points_in_force(dataset: str, store: Store) -> Receipt:
    """The snapshot that the newest completed run of a dataset ended with."""
    store.prepare()
    found = current_receipts(store, read_records(store)).get(dataset, {}).get("snapshot", [])
    if not found:
        raise ConfigError(
            f"no points of {dataset} are in the store {store.root}; "
            "run the ingest flow or the pipeline first"
        )
    note_stage(found[-1], is_cached=True)
    return found[-1]


def points_last_reported(dataset: str, store: Store) -> Receipt:
    """The snapshot of the newest run that came as far as its report, even if it then failed."""
    store.prepare()
    for made in (one.receipts for one in reversed(read_records(store)) if one.dataset == dataset):
        if "report" in made and store.is_complete(made["snapshot"][-1]):
            note_stage(made["snapshot"][-1], is_cached=True)
            return made["snapshot"][-1]
    raise ConfigError(
        f"no run of {dataset} in the store {store.root} came as far as its report; run it first"
    )


def add_operations(
    connection: database.Connection, records: list[RunRecord], current: dict[str, Receipts]
) -> None:
    """The `ops` tables on runs, stages and counts."""
    runs = [record.model_dump(include=set(RUNS.names)) for record in records]
    stages = [row for record in records for row in stage_rows(record)]
    quality = list(quality_rows(current))
    add_rows(connection, "runs", pa.Table.from_pylist(runs, RUNS))
    add_rows(connection, "stages", pa.Table.from_pylist(stages, STAGES))
    add_rows(connection, "quality", pa.Table.from_pylist(quality, QUALITY))


def add_rows(connection: database.Connection, table: str, rows: pa.Table, **labels: str) -> None:
    """Append rows to a table of `ops`, each with these labels before its own columns."""
    for place, (name, value) in enumerate(labels.items()):
        rows = rows.add_column(place, name, pa.array([value] * len(rows), pa.string()))
    database.add_table(connection, "ops", table, rows)


def stage_rows(record: RunRecord) -> Iterator[dict[str, object]]:
    for position, run in enumerate(record.stages):
        yield {
            "run_id": record.run_id,
            "position": position,
            **run.receipt.model_dump(include={"stage", "dataset", "recipe"}),
            **run.model_dump(include={"is_cached", "wall_s", "peak_memory_mb"}),
            "counts": json.dumps(run.receipt.counts),
        }


def quality_rows(current: dict[str, Receipts]) -> Iterator[dict[str, object]]:
    for dataset, stages in sorted(current.items()):
        for receipt in (receipt for receipts in stages.values() for receipt in receipts):
            named = {"dataset": dataset, **receipt.model_dump(include={"stage", "recipe"})}
            for measure, value in receipt.counts.items():
                if isinstance(value, int | float):
                    yield {**named, "measure": measure, "value": float(value)}


def add_dataset(
    connection: database.Connection, store: Store, dataset: str, receipts: Receipts
) -> None:
    """The views of one dataset, as far as its runs have come."""
    for view, stage in BUCKET_VIEWS.items():
        paths = [store.folder(receipt) / f"{view}.parquet" for receipt in receipts.get(stage, [])]
        database.add_view(connection, dataset, view, [path for path in paths if path.exists()])
    cleaned = [store.folder(receipt) for receipt in receipts.get("clean", [])]
    for receipt in receipts.get("snapshot", []):
        with contextlib.suppress(FileNotFoundError, Damaged):
            add_snapshot(connection, read_snapshot(store, receipt, is_checked=False), cleaned)
            if cleaned:
                zone = store.manifest(receipt).recipe.settings["zone"]
                add_calendar(connection, dataset, zone)
    for receipt in [*receipts.get("evaluate", []), *receipts.get("transfer", [])]:
        # One table there is only since it was made.
        with contextlib.suppress(FileNotFoundError, Damaged):
            path = store.sound(receipt, SCORES_FILE) / SCORES_FILE
            scores = pq.read_table(path, partitioning=None)
            add_rows(connection, "scores", scores, dataset=dataset, recipe=receipt.recipe)
    for receipt in receipts.get("benchmark", []):
        with contextlib.suppress(Damaged):
            add_benchmark(connection, dataset, store.sound(receipt))
    for receipt in receipts.get("split", []):
        with contextlib.suppress(Damaged):
            split = pq.read_table(store.sound(receipt) / "split.parquet", partitioning=None)
            add_rows(connection, "splits", split, dataset=dataset)


def add_benchmark(connection: database.Connection, suite: str, folder: Path) -> None:
    """The rows of `ops` on a suite: its cells, and the scores of each by its recipe."""
    cells, scores = (
        pq.read_table(folder / name, partitioning=None) for name in (CELLS_FILE, SCORES_FILE)
    )
    add_rows(connection, "cells", cells, suite=suite)
    of_data = scores.select(["recipe", *SCORES.names])
    add_rows(connection, "scores", of_data, dataset=suite)


def add_snapshot(connection: database.Connection, snapshot: Snapshot, cleaned: list[Path]) -> None:
    """Views on the points and rejects of one dataset, and the rows of `ops` on its files."""
    points = [place for bucket in snapshot.buckets for place in snapshot.points(bucket)]
    rejects = snapshot.rejects()
    in_force = [
        {"dataset": snapshot.dataset, "path": str(path), "file_id": file_id}
        for path, file_ids in points + rejects
        for file_id in file_ids
    ]
    add_rows(connection, "files_in_force", pa.Table.from_pylist(in_force, IN_FORCE))
    ledger = pq.read_table(snapshot.ledger, partitioning=None)
    add_rows(connection, "files", ledger, dataset=snapshot.dataset)
    clean_rejects = [folder / "clean_rejects.parquet" for folder in cleaned]
    for view, places, whole in (("points", points, []), ("rejects", rejects, clean_rejects)):
        paths = [path for path, _ in places]
        database.add_view(
            connection, snapshot.dataset, view, whole, paths, names_files=view == "rejects"
        )


def add_calendar(connection: database.Connection, dataset: str, zone: str) -> None:
    """The view on local times, and the table of the zone's offsets that it reads."""
    from_us, offset_us = zone_offsets(zone)
    offsets = pa.table({"from_us": from_us, "offset_us": offset_us})
    database.add_table(connection, dataset, "zone_offsets", offsets)
    database.create_view(connection, dataset, "calendar", sql.read("marts/calendar"))
