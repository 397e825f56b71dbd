"""Ingest: right values, every record accounted for, and files that cannot be read."""

from __future__ import annotations

import lzma
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.places import PROJECT
from helpers.raw_files import (
    FIXTURES,
    STORM_TAIL,
    A,
    B,
    C,
    allow_rejects,
    content,
    ingested,
    ledger_of,
    manifest_files,
    part_folders,
    plt,
    plt_line,
    points_of,
    rejects_of,
    snapshot_of,
    tree,
    walk,
    zipped,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sql
from tasks import database
from tasks.config.pipeline import PipelineConfig
from tasks.ingest import part
from tasks.ingest.ingest import SNAPSHOT, ingest, snapshot_job
from tasks.ingest.snapshot import read_snapshot
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.store import Store

KNOT_MPS = 1852 / 3600


# Right values, worked out by hand from the made-up fixtures.


def test_the_storm_fixture_gives_the_right_points(store: Store, monkeypatch) -> None:
    allow_rejects(monkeypatch, "hurdat2")
    snapshot = snapshot_of(FIXTURES / "hurdat2", store, "hurdat2")
    rows = points_of(snapshot)
    assert [row["entity_id"] for row in rows] == ["XA012019"] * 4 + ["XA022019"]
    assert [row["lon_deg"] for row in rows] == [-40.0, -41.0, 179.5, -179.5, 160.0]
    assert [row["lat_deg"] for row in rows] == [10.0, 10.5, -0.5, -0.5, 10.0]
    assert rows[1]["wind_mps"] is None
    assert rows[1]["pressure_hpa"] is None
    assert rows[2]["wind_mps"] == pytest.approx(50 * KNOT_MPS, rel=1e-15)
    assert rows[1]["record_identifier"] == "L"
    assert rows[0]["tracked_at"] == datetime(2019, 8, 1, tzinfo=UTC)
    [reject] = rejects_of(snapshot)
    assert (reject["line_number"], reject["rule"]) == (8, "malformed")
    assert reject["raw_text"].startswith("20190901, 0600,  , TD, 10.0X")
    # the second storm announced three rows and brought two
    assert ledger_of(snapshot)["made-hurdat2.txt"]["num_missing"] == 1


def test_the_geolife_fixture_gives_the_right_points(store: Store, monkeypatch) -> None:
    allow_rejects(monkeypatch, "geolife")
    snapshot = snapshot_of(FIXTURES / "geolife", store)
    trips = Counter((row["entity_id"], row["source_trip_id"]) for row in points_of(snapshot))
    assert trips == {
        ("900", "20190101080000"): 4,
        ("900", "20190102080000"): 2,
        ("901", "20190101080000"): 2,
    }
    first = next(row for row in points_of(snapshot) if row["line_number"] == 7)
    assert first["tracked_at"].tzinfo is not None
    heights = {
        row["tracked_at"].second: row["altitude_m"]
        for row in points_of(snapshot)
        if (row["entity_id"], row["source_trip_id"]) == ("900", "20190101080000")
    }
    assert heights == {0: pytest.approx(30.48), 5: None, 10: pytest.approx(30.9372), 25: 31.6992}
    # 180 degrees east is the same meridian as 180 degrees west
    assert sorted(row["lon_deg"] for row in points_of(snapshot))[:2] == [-180.0, -179.9]
    assert [(row["line_number"], row["rule"]) for row in rejects_of(snapshot)] == [
        (10, "out_of_range"),
        (11, "malformed"),
    ]
    assert rejects_of(snapshot)[0]["raw_text"].startswith("400.5,2.0003,")
    labels = ledger_of(snapshot)["900/labels.txt"]
    assert (labels["state"], labels["kind"], labels["num_kept"]) == ("read", "labels", 1)


# The real releases.


def test_the_embedded_storms_are_all_there(store: Store) -> None:
    receipt = ingested("", store, "hurdat2")
    snapshot = read_snapshot(store, receipt)
    storms = Counter(row["entity_id"][:2] for row in unique_entities(snapshot))
    assert storms["AL"] == 673
    assert storms.total() == 1_935
    assert receipt.counts["num_records"] == receipt.counts["num_points"] == 49_535
    east = [row for row in points_of(snapshot) if row["entity_id"].startswith("AL")]
    assert sum(row["lon_deg"] >= 0 for row in east) == 24


def unique_entities(snapshot) -> list[dict]:
    return list({row["entity_id"]: row for row in points_of(snapshot)}.values())


def test_geolife_is_read_whole(store: Store, shared_dir: Path) -> None:
    receipt = ingested(shared_dir / "data" / "geolife-sample.zip", store)
    assert receipt.counts["num_files_read"] == 2_785 + 32
    assert receipt.counts["num_files_ignored"] == 0
    assert receipt.counts["num_labels"] == 2_262
    assert receipt.counts["num_records"] == 2_944_570
    assert receipt.counts["num_points"] == 2_944_569
    assert receipt.counts["num_out_of_range"] == receipt.counts["num_rejected"] == 1
    snapshot = read_snapshot(store, receipt)
    entities: set[str] = set()
    for bucket in snapshot.buckets:
        [(path, _ids)] = snapshot.points(bucket)
        column = pq.read_table(path, columns=["entity_id"])["entity_id"]
        entities.update(column.unique().to_pylist())
    assert len(entities) == 51
    [reject] = rejects_of(snapshot)
    assert float(reject["raw_text"].split(",")[0]) > 400


# Every record is accounted for.


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(
            st.one_of(
                st.integers(0, 86_399).map(plt_line),
                st.floats(-200, 200).map(lambda lat_deg: plt_line(3, lat_deg)),
                st.sampled_from([plt_line(1, "nan"), plt_line(1, "inf"), b"x", b"1,2,3,4,5,6,7"]),
            ),
            max_size=6,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_records_read_are_points_plus_rejects(tmp_path_factory, lines: list[list[bytes]]) -> None:
    folder = tmp_path_factory.mktemp("any")
    store = Store(folder / "store")
    files = {f"{i:03d}/Trajectory/a.plt": plt(*some) for i, some in enumerate(lines)}
    files["999/Trajectory/good.plt"] = walk(0, 2)
    with pytest.MonkeyPatch.context() as monkeypatch:
        allow_rejects(monkeypatch, "geolife")
        snapshot = snapshot_of(tree(folder / "in", files), store)
    rows = points_of(snapshot)
    assert len(rows) + len(rejects_of(snapshot)) == sum(max(len(some), 1) for some in lines) + 2
    assert all(-90 <= row["lat_deg"] <= 90 and -180 <= row["lon_deg"] < 180 for row in rows)
    for name, entry in ledger_of(snapshot).items():
        assert entry["num_records"] == entry["num_kept"] + entry["num_rejected"], name


def test_a_staging_query_that_drops_rows_is_caught(
    tmp_path: Path, store: Store, monkeypatch
) -> None:
    read = sql.read
    monkeypatch.setattr(
        sql,
        "read",
        lambda name: read(name) + (" where line_number <> 8" if "stg_" in name else ""),
    )
    with pytest.raises(DataError, match="records_conserved"):
        ingested(zipped(tmp_path / "a.zip", {A: walk(0, 9)}), store)
    assert part_folders(store) == []


def test_a_staging_query_that_doubles_rows_is_caught(
    tmp_path: Path, store: Store, monkeypatch
) -> None:
    read = sql.read
    doubled = " cross join (values (1), (2)) as twice(number)"
    monkeypatch.setattr(sql, "read", lambda name: read(name) + (doubled if "stg_" in name else ""))
    with pytest.raises(DataError, match="records_conserved"):
        ingested(zipped(tmp_path / "a.zip", {A: walk(0, 9)}), store)


def test_two_points_with_one_id_are_caught(tmp_path: Path, store: Store, monkeypatch) -> None:
    monkeypatch.setattr(
        "tasks.ingest.readers.records.point_ids",
        lambda file_id, line_number, index: np.minimum(line_number, 9),
    )
    with pytest.raises(DataError, match="point_id"):
        ingested(zipped(tmp_path / "a.zip", {A: walk(0, 9)}), store)


def test_rows_that_sql_gives_out_of_order_are_put_back(
    tmp_path: Path, store: Store, monkeypatch
) -> None:
    source = zipped(tmp_path / "a.zip", {A: walk(0, 9), C: walk(60, 8)})
    ingested(source, store)
    want = [file.sha256 for file in manifest_files(store) if "points" in file.name]
    read = sql.read
    shuffled = " order by md5(point_id::varchar)"
    monkeypatch.setattr(sql, "read", lambda name: read(name) + (shuffled if "stg_" in name else ""))
    other = Store(tmp_path / "other")
    ingested(source, other)
    assert [file.sha256 for file in manifest_files(other) if "points" in file.name] == want


def test_a_lost_part_is_read_again(tmp_path: Path, store: Store) -> None:
    source = zipped(tmp_path / "a.zip", {A: walk(0, 9), C: walk(60, 8)})
    receipt = ingested(source, store)
    [folder] = part_folders(store)
    before = store.manifest(receipt)
    shutil.rmtree(folder)
    assert ingested(source, store) == receipt
    assert part_folders(store) == [folder]
    assert store.manifest(receipt) == before


def test_a_day_file_sent_again_with_later_rows(
    tmp_path: Path, store: Store, shared_dir: Path
) -> None:
    """Both files are in force, 17 distinct lines, and a repeat doubles nothing."""
    files = {}
    case = shared_dir / "cases" / "w06-same-second-and-resend"
    for name in ("day1", "day1_resend"):
        for line in (case / f"{name}.csv").read_text().splitlines()[1:]:
            vehicle, instant, lat, lon = line.split(",")
            record = f"{lat},{lon},0,0,0,{instant[:10]},{instant[11:19]}\r\n".encode()
            path = f"{vehicle}/Trajectory/{name}.plt"
            files[path] = files.get(path, plt()) + record
    for _time in range(2):
        rows = content(store, zipped(tmp_path / "a.zip", files))
        assert len(rows) == 33
        distinct = {(r["entity_id"], r["tracked_at"], r["lon_deg"], r["lat_deg"]) for r in rows}
        assert len(distinct) == 17
        assert len({row["point_id"] for row in rows}) == 33


# Files that cannot be read fail alone; a source that cannot be used is one clear line.


def test_an_empty_file_fails_alone(tmp_path: Path, store: Store) -> None:
    files = {A: walk(0, 99), B: b"", C: plt()}
    snapshot = snapshot_of(tree(tmp_path / "in", files), store)
    assert len(points_of(snapshot)) == 99
    assert [(row["file_name"], row["rule"]) for row in rejects_of(snapshot)] == [
        ("000/Trajectory/b.plt", "empty"),
        ("007/Trajectory/a.plt", "empty"),
    ]
    assert ledger_of(snapshot)["000/Trajectory/b.plt"]["state"] == "failed"


def test_a_damaged_member_fails_alone(tmp_path: Path, store: Store) -> None:
    path = zipped(tmp_path / "a.zip", {A: walk(0, 99), C: walk(60, 99)})
    raw = bytearray(path.read_bytes())
    raw[raw.index(C.encode()) + len(C) + 60] ^= 0xFF
    path.write_bytes(raw)
    snapshot = snapshot_of(path, store)
    assert {row["entity_id"] for row in points_of(snapshot)} == {"000"}
    [reject] = rejects_of(snapshot)
    assert (reject["file_name"], reject["rule"]) == ("007/Trajectory/a.plt", "unreadable")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda f: f / "absent.zip", ConfigError, "no file or folder"),
        (lambda f: tree(f, {"x.zip": b""}) / "x.zip", DataError, "is empty"),
        (lambda f: tree(f, {"x.zip": b"PK\x03\x04cut"}) / "x.zip", DataError, "truncated zip"),
        (lambda f: tree(f, {"x.zip": b"<!DOCTYPE html>"}) / "x.zip", DataError, "web page"),
        (lambda f: tree(f, {"x.plt": b"\n <HTML>"}) / "x.plt", DataError, "web page"),
        (lambda f: zipped(f / "x.zip", {"a.csv": b"1"}), DataError, "is this geolife"),
        (lambda f: tree(f / "d", {A: b"\x00" * 99}) / "", DataError, "000/Trajectory/a.plt"),
        (lambda f: zipped(f / "x.zip", {A: b""}), DataError, "it holds no record"),
    ],
)
def test_a_source_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, store: Store, make, error, words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        ingested(make(tmp_path), store)
    assert "\n" not in str(caught.value)
    assert not list((store.root / "snapshot").glob("*/*"))


def test_too_many_rejects_fail_the_source_but_stay_readable(tmp_path: Path, store: Store) -> None:
    bad = plt(*(plt_line(i, 99.0) for i in range(5)))
    with pytest.raises(DataError, match=r"5 of 14 .* line 7 is out_of_range") as caught:
        ingested(zipped(tmp_path / "a.zip", {A: walk(0, 9), C: bad}), store)
    [folder] = part_folders(store)
    assert str(folder / "rejects.parquet") in str(caught.value)


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half(
    tmp_path: Path, store: Store
) -> None:
    """In a process of its own whose files may not grow past a few kilobytes."""
    source = zipped(tmp_path / "a.zip", {A: plt(*(plt_line(i, i / 1e3) for i in range(20_000)))})
    script = (
        "import resource, signal, sys\n"
        "from tasks.config.pipeline import PipelineConfig\n"
        "from tasks.ingest.ingest import SNAPSHOT, snapshot_job\n"
        "from tasks.runtime.store import Store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "job = snapshot_job(PipelineConfig(dataset='geolife'), sys.argv[1], Store(sys.argv[2]))\n"
        "SNAPSHOT.plain(job)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(source), str(store.root)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert done.returncode != 0
    assert "StorageFull: no room to write" in done.stderr
    assert part_folders(store) == []
    assert len(content(store, source)) == 20_000


def test_a_dataset_without_a_sample_asks_for_a_source(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"--source PATH"):
        ingested("", store)


def test_a_source_that_changes_under_the_reader_is_refused(
    tmp_path: Path, store: Store, monkeypatch
) -> None:
    folder = tree(tmp_path / "in", {A: walk(0, 9)})
    job = snapshot_job(PipelineConfig(dataset="geolife"), str(folder), store)
    tree(folder, {A: walk(0, 10)})
    with pytest.raises(DataError, match="changed while it was read"):
        SNAPSHOT.plain(job)


def test_a_storm_file_by_itself_or_compressed_is_a_source(tmp_path: Path, store: Store) -> None:
    text = f"AL012019, X, 1,\n20190801, 0000, , TD, 10.0N, 40.0W, 25, 1008{STORM_TAIL}\n".encode()
    plain = tree(tmp_path, {"hurdat2-x.txt": text}) / "hurdat2-x.txt"
    packed = tmp_path / "hurdat2-x.txt.xz"
    packed.write_bytes(lzma.compress(text))
    assert content(store, plain, "hurdat2") == content(store, packed, "hurdat2")
    assert len(part_folders(store, "hurdat2")) == 1


def test_only_the_rules_of_reading_name_a_part(tmp_path: Path, store: Store, monkeypatch) -> None:
    source = zipped(tmp_path / "a.zip", {A: walk(0, 9)})
    ingested(source, store)
    allow_rejects(monkeypatch, "geolife")
    ingested(source, store)
    assert len(part_folders(store)) == 1
    assert len(list((store.root / "snapshot" / "geolife").glob("*"))) == 2


def test_ingest_runs_as_a_task_and_is_cached(store: Store, prefect_api_url: str) -> None:
    config = PipelineConfig(dataset="hurdat2")
    assert ingest(config, "", store) == ingest(config, "", store)


def test_part_needs_opened_files(tmp_path: Path, store: Store) -> None:
    with pytest.raises(TypeError):
        part.build_part(tmp_path, snapshot_job(PipelineConfig(dataset="hurdat2"), "", store))


@pytest.mark.parametrize("max_at_once", [1, 7, 1_000])
def test_a_shared_point_id_is_found_whatever_is_looked_at_at_once(
    max_at_once: int, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(part, "MAX_IDS_AT_ONCE", max_at_once)
    own = [0, *(number * 2**58 + 1 for number in range(30)), 2**63 - 1]
    paths = [tmp_path / "points-000.parquet", tmp_path / "points-001.parquet"]
    pq.write_table(pa.table({"point_id": own[::2]}), paths[0])
    pq.write_table(pa.table({"point_id": own[1::2]}), paths[1])
    with database.scratch(tmp_path) as connection:
        part.check_point_ids(connection, [])
        part.check_point_ids(connection, paths)
        for twin in (own[0], own[16], own[-1]):
            pq.write_table(pa.table({"point_id": [*own[1::2], twin]}), paths[1])
            with pytest.raises(DataError, match="share a point_id"):
                part.check_point_ids(connection, paths)
