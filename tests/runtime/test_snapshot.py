"""Snapshots: nothing is read twice, and nothing depends on how it came."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from helpers.raw_files import (
    A,
    B,
    C,
    content,
    ingested,
    ledger_of,
    manifest_files,
    part_folders,
    points_of,
    snapshot_of,
    tree,
    walk,
    zipped,
)

from tasks.ingest import files_in_force
from tasks.ingest import ingest as ingest_module
from tasks.runtime.store import Store


def test_an_archive_and_its_folder_give_the_same_rows(tmp_path: Path, store: Store) -> None:
    files = {A: walk(0, 9), C: walk(60, 8), "Data/000/labels.txt": b"Start\n"}
    deeper = {f"Release 1.3/{name}": body for name, body in files.items()}
    want = content(store, tree(tmp_path / "folder", files))
    assert len(want) == 17
    for source in (
        tmp_path / "folder" / "Data",
        zipped(tmp_path / "a.zip", files),
        zipped(tmp_path / "deeper.zip", deeper),
        shutil.make_archive(str(tmp_path / "b"), "gztar", tmp_path / "folder"),
    ):
        snapshot = snapshot_of(source, store)
        assert points_of(snapshot) == want
        assert set(ledger_of(snapshot)) >= {"000/Trajectory/a.plt", "000/labels.txt"}
    assert len(part_folders(store)) == 1


def test_the_order_of_files_shapes_no_byte(tmp_path: Path) -> None:
    files = {A: walk(0, 9), B: walk(90, 5), C: walk(60, 8)}
    hashes = []
    for number, names in enumerate(([A, B, C], [C, A, B])):
        store = Store(tmp_path / f"store{number}")
        source = zipped(tmp_path / f"{number}.zip", {name: files[name] for name in names})
        ingested(source, store)
        [folder] = part_folders(store)
        hashes.append((folder.name, [file.sha256 for file in manifest_files(store)]))
    assert hashes[0] == hashes[1]


def test_a_second_run_reads_nothing(tmp_path: Path, store: Store, monkeypatch) -> None:
    source = zipped(tmp_path / "a.zip", {A: walk(0, 9)})
    first = ingested(source, store)
    monkeypatch.setattr(files_in_force, "inventory", None)
    assert ingested(source, store) == first


def test_a_new_file_parses_that_file_only(tmp_path: Path, store: Store) -> None:
    before = snapshot_of(zipped(tmp_path / "a.zip", {A: walk(0, 9), C: walk(60, 8)}), store)
    old_points = points_of(before)
    more = {A: walk(0, 9), C: walk(60, 8), B: walk(90, 5)}
    after = snapshot_of(zipped(tmp_path / "b.zip", more), store)
    parsed = [
        pq.read_table(folder / "files.parquet")["name"].to_pylist()
        for folder in part_folders(store)
    ]
    assert sorted(parsed) == [
        ["000/Trajectory/a.plt", "007/Trajectory/a.plt"],
        ["000/Trajectory/b.plt"],
    ]
    assert len(after.index.parts) == 2
    assert [row for row in points_of(after) if row["source_trip_id"] == "a"] == old_points
    assert len(points_of(after)) == len(old_points) + 5


def test_a_bucket_that_no_file_touches_keeps_its_name(tmp_path: Path, store: Store) -> None:
    before = snapshot_of(zipped(tmp_path / "a.zip", {A: walk(0, 9), C: walk(60, 8)}), store)
    after = snapshot_of(
        zipped(tmp_path / "b.zip", {A: walk(0, 9), C: walk(60, 8), B: walk(90, 5)}), store
    )
    old, new = before.bucket_contents(), after.bucket_contents()
    [touched] = {bucket for bucket in new if new[bucket] != old.get(bucket)}
    assert {row["entity_id"] for row in points_of(after) if bucket_of(after, row) == touched} == {
        "000"
    }
    # how files are spread over parts says nothing about their content
    alone = snapshot_of(tmp_path / "b.zip", Store(tmp_path / "other"))
    assert len(alone.index.parts) == 1
    assert alone.bucket_contents() == new


def bucket_of(snapshot, row: dict) -> int:
    return int(hashlib.md5(row["entity_id"].encode()).hexdigest()[:8], 16) % 8


def test_entities_stand_in_the_bucket_of_their_md5(tmp_path: Path, store: Store) -> None:
    files = {f"{user:03d}/Trajectory/a.plt": walk(user, 3) for user in range(20)}
    snapshot = snapshot_of(zipped(tmp_path / "a.zip", files), store)
    for bucket in snapshot.buckets:
        for path, _ids in snapshot.points(bucket):
            assert {bucket_of(snapshot, row) for row in pq.read_table(path).to_pylist()} == {bucket}


def test_the_same_file_again_changes_nothing(tmp_path: Path, store: Store) -> None:
    source = zipped(tmp_path / "a.zip", {A: walk(0, 9)})
    want = content(store, source)
    copied = zipped(tmp_path / "again.zip", {A: walk(0, 9)})
    assert content(store, copied) == want
    assert len(part_folders(store)) == 1


def test_a_changed_file_replaces_its_own_rows(tmp_path: Path, store: Store) -> None:
    first = zipped(tmp_path / "a.zip", {A: walk(0, 9), C: walk(60, 8)})
    content(store, first)
    resent = {A: walk(0, 12), C: walk(60, 8)}
    rows = content(store, zipped(tmp_path / "b.zip", resent))
    assert Counter(row["entity_id"] for row in rows) == {"000": 12, "007": 8}
    # and back again: both parts stay, the first is in force
    num_parts = len(part_folders(store))
    receipt = ingested(first, store)
    shutil.rmtree(store.folder(receipt))
    assert Counter(row["entity_id"] for row in content(store, first)) == {"000": 9, "007": 8}
    assert len(part_folders(store)) == num_parts


def test_a_vanished_file_is_out_of_force(tmp_path: Path, store: Store) -> None:
    content(store, zipped(tmp_path / "a.zip", {A: walk(0, 9), C: walk(60, 8)}))
    snapshot = snapshot_of(zipped(tmp_path / "b.zip", {C: walk(60, 8)}), store)
    assert {row["entity_id"] for row in points_of(snapshot)} == {"007"}
    assert len(part_folders(store)) == 1


def test_vanished_and_changed_files_are_reported(tmp_path: Path, store: Store, monkeypatch) -> None:
    before = snapshot_of(zipped(tmp_path / "a.zip", {A: walk(0, 9), C: walk(60, 8)}), store)
    after = snapshot_of(zipped(tmp_path / "b.zip", {C: walk(60, 7)}), store)
    lines: list[str] = []
    monkeypatch.setattr(ingest_module, "log", lines.append)
    ingest_module.report_changes(before, after)
    assert lines == [
        "geolife: 1 files vanished since the last run: 000/Trajectory/a.plt",
        "geolife: 1 files changed since the last run: 007/Trajectory/a.plt",
    ]


def test_the_same_content_under_two_users_is_kept_twice(tmp_path: Path, store: Store) -> None:
    rows = content(store, zipped(tmp_path / "a.zip", {A: walk(0, 9), C: walk(0, 9)}))
    assert Counter(row["entity_id"] for row in rows) == {"000": 9, "007": 9}
    assert len({row["point_id"] for row in rows}) == 18
