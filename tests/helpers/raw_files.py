"""Made-up raw files in the form of public releases, and the plain way to ingest them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.places import FIXTURES as FIXTURES
from tasks.config.datasets import DATASETS, dataset_named
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.ingest import SNAPSHOT, snapshot_job
from tasks.ingest.snapshot import Snapshot, read_snapshot
from tasks.runtime.store import Receipt, Store, StoredFile

A, B, C = "Data/000/Trajectory/a.plt", "Data/000/Trajectory/b.plt", "Data/007/Trajectory/a.plt"
PLT_HEADER = (
    b"Geolife trajectory\r\nWGS 84\r\nAltitude is in Feet\r\nReserved 3\r\n"
    b"0,2,255,My Track,0,0,2,8421376\r\n0\r\n"
)
STORM_TAIL = ", -999" * 12 + ","


def plt_line(second: int, lat_deg: float | str = 48.0, lon_deg: float | str = 2.0) -> bytes:
    """One record of a .plt file, so many seconds after midnight."""
    clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return f"{lat_deg},{lon_deg},0,492,47484.0,2019-01-01,{clock}".encode()


def plt(*lines: bytes) -> bytes:
    return PLT_HEADER + b"".join(line + b"\r\n" for line in lines)


def walk(start: int, num_points: int) -> bytes:
    """A .plt file of points five seconds apart."""
    return plt(*(plt_line(start + 5 * i, 48 + i / 1e4) for i in range(num_points)))


def tree(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def ingested(source: Path | str, store: Store, dataset: str = "geolife") -> Receipt:
    """Ingest without an orchestrator."""
    return SNAPSHOT.plain(snapshot_job(PipelineConfig(dataset=dataset), str(source), store))


def snapshot_of(source: Path | str, store: Store, dataset: str = "geolife") -> Snapshot:
    return read_snapshot(store, ingested(source, store, dataset))


def rows_in_force(places: Sequence[tuple[Path, list[int]]]) -> list[dict[str, Any]]:
    """The rows that a snapshot takes from some Parquet files."""
    tables = [pq.read_table(path, filters=[("file_id", "in", ids)]) for path, ids in places]
    return pa.concat_tables(tables).to_pylist() if tables else []


def points_of(snapshot: Snapshot) -> list[dict[str, Any]]:
    """All points in force, in an order that does not depend on where they stand."""
    rows = [row for b in snapshot.buckets for row in rows_in_force(snapshot.points(b))]
    return sorted(rows, key=lambda row: (row["file_id"], row["line_number"]))


def rejects_of(snapshot: Snapshot) -> list[dict[str, Any]]:
    rows = rows_in_force(snapshot.rejects())
    return sorted(rows, key=lambda row: (row["file_name"], row["line_number"]))


def ledger_of(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in pq.read_table(snapshot.ledger).to_pylist()}


def part_folders(store: Store, dataset: str = "geolife") -> list[Path]:
    return sorted((store.root / "part" / dataset).glob("*/"))


def allow_rejects(monkeypatch: pytest.MonkeyPatch, dataset: str) -> None:
    """Let a source pass however much of it is rejected."""
    row = dataset_named(dataset).model_copy(update={"max_rejected_share": 1.0})
    monkeypatch.setitem(DATASETS, dataset, row)


def content(store: Store, source: Path | str, dataset: str = "geolife") -> list[dict[str, Any]]:
    """The points of a source without their place in the store."""
    return points_of(snapshot_of(source, store, dataset))


def manifest_files(store: Store) -> tuple[StoredFile, ...]:
    """The files of the only part of GeoLife."""
    [manifest] = store.published("part", "geolife")
    return manifest.files
