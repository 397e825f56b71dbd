"""Archives inside sources: compressed rides, folders of archives, and what stays closed."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import math
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.raw_files import FIXTURES, ingested, ledger_of, points_of, rejects_of, tree, walk
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.ingest import archive
from tasks.ingest.archive import Entry, opened_sources
from tasks.ingest.compression import decompressed
from tasks.ingest.inventory import inventory
from tasks.ingest.snapshot import read_snapshot
from tasks.runtime.errors import DataError
from tasks.runtime.store import Store

PATTERN = "*/Trajectory/*.plt"
A, B, C = (f"{number:03}/Trajectory/a.plt" for number in range(3))
RIDE = walk(0, 3)


def zstd(body: bytes) -> bytes:
    return pa.compress(body, "zstd", asbytes=True)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def zip_of(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as made:
        for name, body in files.items():
            made.writestr(name, body)
    return sink.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as made:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            made.addfile(info, io.BytesIO(body))
    return sink.getvalue()


def found(source: Path, pattern: str = PATTERN) -> dict[str, tuple[str, str, bytes]]:
    """State, reason and content of each file; one that was read gives the same bytes again."""
    with opened_sources([source], source.parent) as entries:
        members = inventory(entries, pattern)
        return {
            member.name: (
                member.state,
                member.reason,
                b"".join(member.chunks()) if member.state == "ready" else b"",
            )
            for member in members
        }


def length_m(places: list[tuple[float, float]]) -> float:
    """The length of a short path of (lon, lat) on a sphere, each step as if on a plane."""
    steps = [
        (math.cos(math.radians(a[1])) * (b[0] - a[0]), b[1] - a[1])
        for a, b in itertools.pairwise(places)
    ]
    return sum(math.radians(math.hypot(*step)) * 6_371_009 for step in steps)


def reasons(source: Path, pattern: str = PATTERN) -> dict[str, tuple[str, str]]:
    return {name: fate[:2] for name, fate in found(source, pattern).items()}


def test_each_ride_of_an_export_is_compressed_by_itself(store: Store) -> None:
    receipt = ingested(FIXTURES / "zipped_rides" / "export_4711.zip", store, "gpx")
    snapshot = read_snapshot(store, receipt)
    points = points_of(snapshot)
    rides = Counter(row["entity_id"] for row in points)
    assert rides == {"activities/101": 40, "activities/102": 25, "activities/103": 30}
    for ride, expected_m in (("101", 1834.5), ("102", 1128.8), ("103", 1363.7)):
        places = [
            (row["lon_deg"], row["lat_deg"])
            for row in points
            if row["entity_id"] == f"activities/{ride}"
        ]
        assert length_m(places) == pytest.approx(expected_m, rel=0.006)
    first = {row["entity_id"]: row["tracked_at"].isoformat() for row in reversed(points)}
    assert first["activities/101"] == "2023-08-19T06:00:00+00:00"
    ledger = ledger_of(snapshot)
    assert ledger["activities/104.gpx"]["state"] == "failed"
    assert ledger["activities/104.gpx"]["reason"].startswith("cannot be read to its end")
    assert ledger["activities.csv"]["state"] == "ignored"
    assert Counter((row["file_name"], row["rule"]) for row in rejects_of(snapshot)) == {
        ("routes/7.gpx", "no_time"): 12,
        ("activities/104.gpx", "unreadable"): 1,
    }
    assert receipt.counts["num_records"] == 95 + 12 + 1


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_compressed_file_is_the_plain_one_wherever_it_stands(suffix: str, tmp_path: Path) -> None:
    packed = {f"{A}{suffix}": PACKERS[suffix](RIDE), f"{B}{suffix.upper()}": PACKERS[suffix](RIDE)}
    expected = {A: ("ready", "", RIDE), B: ("ready", "", RIDE)}
    assert found(tree(tmp_path / "folder", packed)) == expected
    for name, body in {
        "a.zip": zip_of(packed),
        "b.tar": tar_of(packed),
        f"c.tar{suffix}": PACKERS[suffix](tar_of({A: RIDE, B: RIDE})),
        "d.zip": zip_of({f"x.tar{suffix}": PACKERS[suffix](tar_of(packed))}),
    }.items():
        assert found(tree(tmp_path / name, {name: body}) / name) == expected, name


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_a_folder_of_archives_and_an_archive_of_archives_are_opened(pack, tmp_path: Path) -> None:
    parts = {"x/one.zip": zip_of({A: RIDE}), "x/two.zip": zip_of({B: RIDE, C: walk(9, 3)})}
    names = {f"one/{A}", f"two/{B}", f"two/{C}"}
    assert set(found(tree(tmp_path / "in", parts) / "x")) == names
    whole = tree(tmp_path, {"whole": pack(parts)}) / "whole"
    assert {name: fate[0] for name, fate in found(whole).items()} == dict.fromkeys(names, "ready")


def test_an_archive_of_one_file_of_its_name_stands_for_it(tmp_path: Path) -> None:
    files = {
        "d/1.gpx.zip": zip_of({"1.gpx": b"1"}),
        "d/2.zip": zip_of({"2.gpx": b"2"}),
        "d/3.zip": zip_of({"x.gpx": b"3"}),
    }
    assert set(found(tree(tmp_path / "in", files), "*.gpx")) == {"1.gpx", "2.gpx", "3/x.gpx"}


def test_what_lies_unpacked_beside_its_archive_is_read_once(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in", {"all.zip": zip_of({A: RIDE, B: walk(9, 3)}), A: RIDE})
    states = {name: fate[:2] for name, fate in found(folder).items()}
    assert states == {
        A: ("ready", ""),
        f"all/{A}": ("ignored", f"is a copy of {A}"),
        f"all/{B}": ("ready", ""),
    }


def test_back_slashes_part_names_and_lead_nowhere_else(tmp_path: Path) -> None:
    inside = tree(tmp_path, {"a.zip": zip_of({A.replace("/", "\\"): RIDE, "x\\": b""})}) / "a.zip"
    assert found(inside) == {A: ("ready", "", RIDE)}
    for name in ("..\\x.plt", "\\x.plt", "\\\\host\\x.plt", "C:\\x.plt", "a\\..\\..\\x.plt"):
        for body in (zip_of({A: RIDE, name: b"x"}), tar_of({A: RIDE, name: b"x"})):
            source = tree(tmp_path, {"b": body}) / "b"
            with pytest.raises(DataError, match="hostile name"):
                found(source)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (zip_of({A: RIDE, "../x": b"x"}), "hostile name"),
        (zip_of({A: RIDE})[:-30], "broken or truncated zip"),
        (b"plain", "broken or truncated zip"),
        (zip_of({A: b"0" * (8 << 20)}), "expands to more than 200 times"),
        (zip_of({"y.zip": zip_of({A: RIDE})}), "an archive inside an archive inside an archive"),
    ],
)
def test_a_bad_archive_inside_fails_alone_and_is_never_passed_over(
    body: bytes, words: str, tmp_path: Path
) -> None:
    source = tree(tmp_path, {"a.zip": zip_of({"x.zip": body, B: RIDE})}) / "a.zip"
    fates = reasons(source)
    assert fates.pop(B) == ("ready", "")
    [(state, reason)] = fates.values()
    assert state == "failed"
    assert words in reason


def test_the_bounds_hold_over_all_levels_together(tmp_path: Path, monkeypatch) -> None:
    twice = zip_of({f"{A}.gz": gzip.compress(b"0\n" * (400 << 20 >> 1), 9)})
    source = tree(tmp_path, {"a.zip": zip_of({"x.zip": twice})}) / "a.zip"
    [(state, reason)] = reasons(source).values()
    assert (state, reason) == ("failed", "expands to more than 200 times its size")
    parts = {f"{part}.zip": zip_of({A: RIDE, B: RIDE}) for part in "abc"}
    folder = tree(tmp_path / "parts", parts)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 5)
    assert sorted(fate[0] for fate in reasons(folder).values()) == ["failed", *["ready"] * 4]


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("x.7z", b"7z\xbc\xaf\x27\x1c", "is a 7z archive"),
        ("x.rar", b"Rar!\x1a\x07\x01", "is a RAR archive"),
        (f"{A}.Z", b"\x1f\x9d\x90", "is compressed by compress"),
        (f"{A}.lz4", b"\x04\x22\x4d\x18", "is compressed with LZ4"),
        ("x", zip_of({A: RIDE}), "name it .zip"),
        (A, tar_of({B: RIDE}), "name it .tar"),
    ],
)
def test_what_is_compressed_and_not_read_is_named_with_what_to_do(
    name: str, body: bytes, words: str, tmp_path: Path
) -> None:
    fates = reasons(tree(tmp_path / "in", {B: RIDE, name: body}))
    assert fates.pop(B) == ("ready", "")
    [(state, reason)] = fates.values()
    assert state == "failed"
    assert words in reason


def test_a_source_that_is_not_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    for name, body, words in (
        ("x.7z", b"7z\xbc\xaf\x27\x1c", "is a 7z archive, which is not read: unpack it"),
        ("x.zip", b"Rar!\x1a\x07\x01", "is a RAR archive, which is not read: unpack it"),
        ("x.xlsx", zip_of({"[Content_Types].xml": b"<x/>"}), "save it as CSV"),
    ):
        with pytest.raises(DataError, match=words):
            found(tree(tmp_path, {name: body}) / name)


def test_other_recordings_of_an_export_are_named(tmp_path: Path) -> None:
    rides = {"1.fit.gz": gzip.compress(b"\x0e\x10"), "2.gpx": b"<gpx/>", "3.xlsx": b"x"}
    fates = reasons(tree(tmp_path / "in", rides), "*.gpx")
    assert fates["1.fit"][1] == "is a recording in FIT, which is not read: export it as GPX"
    assert fates["3.xlsx"] == ("ignored", "holds no trajectories of this dataset")


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_file_cut_short_cannot_be_read_to_its_end(suffix: str, tmp_path: Path) -> None:
    packed = PACKERS[suffix](os.urandom(9_000))
    source = tree(tmp_path, {"a.zip": zip_of({f"{A}{suffix}": packed[:-500]})}) / "a.zip"
    [(state, reason)] = reasons(source).values()
    assert state == "failed"
    assert reason.startswith("cannot be read to its end")


def test_a_misnamed_compressed_file_is_read_by_its_bytes(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in", {A: gzip.compress(RIDE), f"{B}.gz": zstd(RIDE)})
    assert {fate[2] for fate in found(folder).values()} == {RIDE}


@settings(max_examples=60)
@given(
    suffix=st.sampled_from(sorted(PACKERS)),
    body=st.binary(max_size=3_000),
    copies=st.integers(1, 3),
)
def test_streams_come_out_as_they_went_in(suffix: str, body: bytes, copies: int) -> None:
    packed = PACKERS[suffix](body) * copies
    assert decompressed(io.BytesIO(packed), suffix).read() == body * copies
    [member] = inventory([Entry(A, lambda: io.BytesIO(packed), suffix=suffix)], PATTERN)
    assert member.state == "ready" or member.reason.startswith("is ")


@settings(max_examples=60)
@given(st.sampled_from([zip_of({A: RIDE}), tar_of({A: RIDE}), zstd(RIDE)]), st.data())
def test_any_damage_inside_is_a_failure_of_one_file(body: bytes, data: st.DataObject) -> None:
    at, flip = data.draw(st.integers(0, len(body) - 1)), data.draw(st.integers(1, 255))
    damaged = bytearray(body)
    damaged[at] ^= flip
    for name in ("x.zip", "x.tar", f"{B}.zst"):
        entry = Entry(name, lambda: io.BytesIO(bytes(damaged)))
        with ExitStack() as stack:
            opening = archive.Opening(stack, None)
            members = inventory(archive.unpacked(entry, opening), PATTERN)
            assert {member.state for member in members} <= {"ready", "failed", "ignored"}
            assert all(member.reason for member in members if member.state != "ready")
