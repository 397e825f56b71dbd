"""Labels of modes: read, counted apart from points, joined to them, and never lost in silence."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from helpers.points import cleaned_of, rows_of, total
from helpers.raw_files import (
    ingested,
    ledger_of,
    rejects_of,
    rows_in_force,
    snapshot_of,
    tree,
    walk,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.config.pipeline import PipelineConfig
from tasks.ingest.snapshot import Snapshot, read_snapshot
from tasks.runtime.store import Store

HEADER = b"Start Time\tEnd Time\tTransportation Mode\r\n"
TRACK, LABELS = "Data/000/Trajectory/a.plt", "Data/000/labels.txt"


def label(start: str, end: str, mode: str) -> bytes:
    return f"2019/01/01 {start}\t2019/01/01 {end}\t{mode}\r\n".encode()


def labels_of(snapshot: Snapshot) -> list[dict]:
    return [
        row
        for bucket in sorted(snapshot.index.labels)
        for row in rows_in_force(snapshot.labels(bucket))
    ]


def source(folder: Path, *lines: bytes) -> Path:
    """36 points, five seconds apart from midnight on, and their labels."""
    return tree(folder, {TRACK: walk(0, 36), LABELS: HEADER + b"".join(lines)})


def cleaned(receipt, store: Store):
    return cleaned_of(PipelineConfig(dataset="geolife"), receipt, store)


def test_points_and_triplegs_have_the_mode_of_their_label(store: Store, tmp_path):
    """Twelve points walk, 13 ride the bus (one instant is in both, the bus began last)."""
    files = source(
        tmp_path / "raw",
        label("00:00:00", "00:01:00", "walk"),
        label("00:01:00", "00:02:00", "BUS"),
    )
    found = cleaned(ingested(files, store), store)
    points = rows_of(store, found, "clean_points.parquet")
    assert Counter(row["mode"] for row in points) == {"walk": 12, "bus": 13, None: 11}
    legs = rows_of(store, found, "triplegs.parquet")
    assert [(leg["mode"], leg["num_points"]) for leg in legs] == [("walk", 12), ("bus", 13)]
    assert {leg["trip_id"] for leg in legs} == {row["trip_id"] for row in points}


def test_labels_are_counted_apart_and_what_is_none_is_named(store: Store, tmp_path):
    files = source(
        tmp_path / "raw",
        label("00:00:00", "00:01:00", "walk"),
        label("00:01:00", "00:00:00", "bus"),
        b"a note\r\n",
        b"\r\n",
    )
    receipt = ingested(files, store)
    counts = receipt.counts
    assert (counts["num_records"], counts["num_points"], counts["num_rejected"]) == (36, 36, 0)
    assert (counts["num_label_records"], counts["num_labels"]) == (3, 1)
    assert counts["num_labels_rejected"] == 2
    snapshot = read_snapshot(store, receipt)
    assert [(row["line_number"], row["rule"], row["raw_text"]) for row in rejects_of(snapshot)] == [
        (3, "label_backwards", "2019/01/01 00:01:00\t2019/01/01 00:00:00\tbus"),
        (4, "label_malformed", "a note"),
    ]
    entry = ledger_of(snapshot)["000/labels.txt"]
    assert (entry["state"], entry["kind"], entry["num_records"]) == ("read", "labels", 3)


def test_a_changed_label_reads_no_point_again(store: Store, tmp_path):
    before = snapshot_of(source(tmp_path / "raw", label("00:00:00", "00:01:00", "walk")), store)
    after = snapshot_of(source(tmp_path / "raw", label("00:00:00", "00:01:00", "bike")), store)
    [bucket] = after.buckets
    assert after.points(bucket) == before.points(bucket)
    assert after.bucket_contents()[bucket] != before.bucket_contents()[bucket]
    assert [row["mode"] for row in labels_of(after)] == ["bike"]


def test_labels_without_points_and_points_without_labels(store: Store, tmp_path):
    files = {
        TRACK: walk(0, 36),
        "Data/007/labels.txt": HEADER + label("00:00:00", "01:00:00", "car"),
    }
    found = cleaned(ingested(tree(tmp_path / "raw", files), store), store)
    assert {row["mode"] for row in rows_of(store, found, "clean_points.parquet")} == {None}
    assert rows_of(store, found, "triplegs.parquet") == []
    assert total(found)["kept"] == 36


@settings(max_examples=8)
@given(
    lines=st.lists(
        st.binary(max_size=40).map(lambda text: text.replace(b"\n", b" "))
        | st.sampled_from([label("00:00:00", "00:01:00", "walk").rstrip(b"\r\n"), b"\t\t", b""]),
        min_size=1,
        max_size=8,
    )
)
def test_any_bytes_as_labels_lose_no_count(tmp_path_factory, lines):
    store = Store(tmp_path_factory.mktemp("store"))
    store.prepare()
    body = HEADER + b"\n".join(lines) + b"\n"
    files = {TRACK: walk(0, 6), LABELS: body}
    snapshot = snapshot_of(tree(tmp_path_factory.mktemp("raw"), files), store)
    entry = ledger_of(snapshot)["000/labels.txt"]
    expected = sum(1 for line in lines if line.strip())
    assert entry["num_records"] == max(expected, 1)
    assert entry["num_records"] == entry["num_kept"] + entry["num_rejected"]
    assert len(labels_of(snapshot)) == entry["num_kept"]
