"""Files of one's own, and the plain way to read, ingest, clean and step through them."""

from __future__ import annotations

import io
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from helpers.points import cleaned_of, rows_of
from helpers.raw_files import FIXTURES
from tasks.config.pipeline import CleanConfig, ColumnsConfig, PipelineConfig
from tasks.ingest.archive import Entry
from tasks.ingest.ingest import SNAPSHOT, snapshot_job
from tasks.ingest.inventory import inventory
from tasks.ingest.part import PartJob, build_part
from tasks.ingest.snapshot import Snapshot, read_snapshot
from tasks.prepare import step_features
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Recipe, Store

CASES = FIXTURES / "own"
FORMS = ("csv", "tsv", "jsonl", "json", "parquet")
HEADER = "id,t,lon,lat\n"
Rows = list[dict[str, Any]]


def config_of(clean_config: CleanConfig | None = None, **columns: Any) -> PipelineConfig:
    return PipelineConfig(
        dataset="own",
        columns=ColumnsConfig(**columns),
        clean=clean_config or CleanConfig(min_points=2, max_gap_s=7_200),
    )


def ingested(source: Path, store: Store, **columns: Any) -> tuple[Receipt, Snapshot]:
    receipt = SNAPSHOT.plain(snapshot_job(config_of(**columns), str(source), store))
    return receipt, read_snapshot(store, receipt)


def cleaned(source: Path, store: Store, **columns: Any) -> list[Receipt]:
    config = config_of(**columns)
    receipt, _snapshot = ingested(source, store, **columns)
    return cleaned_of(config, receipt, store)


def steps_of(source: Path, store: Store, **columns: Any) -> Rows:
    config = config_of(**columns)
    with without_orchestrator():
        featured = step_features.features(config, cleaned(source, store, **columns), store)
    return rows_of(store, featured, "steps.parquet")


def read(files: dict[str, bytes], **columns: Any) -> tuple[Rows, Rows]:
    """Points and rejects of files in memory, in order; every record is accounted for."""
    entries = [Entry(name, lambda body=body: io.BytesIO(body)) for name, body in files.items()]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        recipe = Recipe(stage="part", dataset="own", code={}, sql={}, settings={}, inputs={})
        job = PartJob(
            recipe,
            config_of(**columns).ingest_rules,
            {},
            store,
            "made up",
            members=inventory(entries, "*"),
        )
        counts = build_part(Path(folder), job)
        points = [
            row
            for path in sorted(Path(folder).glob("points-*.parquet"))
            for row in pq.read_table(path).to_pylist()
        ]
        rejects = pq.read_table(Path(folder) / "rejects.parquet").to_pylist()
    assert counts["num_records"] == len(points) + len(rejects)
    assert len({row["point_id"] for row in points}) == len(points)
    return sorted(points, key=lambda row: (row["file_id"], row["line_number"])), rejects


def read_one(body: str | bytes, **columns: Any) -> tuple[Rows, Rows]:
    return read({"a.csv": body.encode() if isinstance(body, str) else body}, **columns)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def rules_of(rejects: Rows) -> list[tuple[int, str]]:
    return [(row["line_number"], row["rule"]) for row in rejects]
