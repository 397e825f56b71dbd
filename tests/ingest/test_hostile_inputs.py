"""Bad inputs of every kind: refused early or counted, and the files beside them are read."""

from __future__ import annotations

import gzip
import io
import time
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.raw_files import (
    FIXTURES,
    ingested,
    ledger_of,
    points_of,
    rejects_of,
    snapshot_of,
    tree,
    zipped,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.config.datasets import DATASETS, dataset_named
from tasks.ingest.archive import Entry, opened_sources
from tasks.ingest.compression import closed_form, compression_of
from tasks.ingest.inventory import Member, inventory, read_member
from tasks.ingest.readers import gpx
from tasks.ingest.readers.formats import reader_named
from tasks.ingest.readers.records import RecordBlock
from tasks.ingest.snapshot import read_snapshot
from tasks.runtime.errors import DataError
from tasks.runtime.store import Store

TRACK = b"*T*,t,terrestrial,1,0,*P*,terrestrial,2,1,1,0,m,2020-01-01 00:00:00,0.5,1.5"
POINT = b'<trkpt lat="51" lon="7"><time>2023-06-03T18:00:00Z</time></trkpt>'
GPX = b"<gpx><trk><trkseg>" + POINT * 3 + b"</trkseg></trk></gpx>"
ROW = b'{"icao24":"a","timestamp":1546300800000,"latitude":1,"longitude":2,"groundspeed":null}'
BERG = b"date,nic_1,nic_2,nic_3,size_1,size_2\n2001001,-65,10,1,0,0\n"


@pytest.fixture(autouse=True)
def any_share(monkeypatch) -> None:
    """Let sources hold as many faults as they like."""
    for name in DATASETS:
        row = dataset_named(name).model_copy(update={"max_rejected_share": 1.0})
        monkeypatch.setitem(DATASETS, name, row)


def member_of(name: str, body: bytes) -> Member:
    return read_member(Entry(name, lambda: io.BytesIO(body)), name, True)


def comes_to_a_reader(body: bytes) -> bool:
    """What is compressed, or of a kind that stays closed, is told before."""
    return not (compression_of(body) or closed_form(body))


any_bytes = st.binary(max_size=200).filter(comes_to_a_reader)


def decoded(format_name: str, *bodies: bytes) -> list[RecordBlock]:
    """The blocks of some files; each must account for what it counts."""
    chosen = reader_named(format_name)
    members = [member_of(f"{i}.gpx", body) for i, body in enumerate(bodies)]
    blocks = list(chosen.decode(chosen.cut(members)))
    for block in blocks:
        placed = Counter(block.records["file_id"].to_pylist())
        placed.update(file_id for file_id, _line in block.malformed)
        assert placed == +block.num_records
        assert len(block.raw_texts(block.malformed)) == len(block.malformed)
        ids = block.records["point_id"].to_pylist()
        assert len(set(ids)) == len(ids)
    return blocks


def num_records(blocks: Iterable[RecordBlock]) -> int:
    return sum(block.num_records.total() for block in blocks)


# Any bytes ----------------------------------------------------------------------------------------

tags = st.sampled_from(
    [
        *(f"<{slash}{name}>".encode() for name in ("gpx", "trk", "trkseg", "time", "ele", "a:b")
          for slash in ("", "/")),
        b'<trkpt lat="1" lon="2">', b"</trkpt>", POINT, b"2023-06-03T18:00:00Z", b"&amp;", b"&x;",
        b"<!DOCTYPE gpx [", b"]>", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"\xff", b"\x00", b"\n",
        b'<?xml version="1.0" encoding="utf-16"?>', b'<?xml version="1.0" encoding="zip"?>',
        b'<gpx xmlns="http://www.topografix.com/GPX/1/1">', b'<trkpt lat="nan" lon="1e999"/>',
    ]
)  # fmt: skip
xml_bodies = any_bytes | st.lists(tags, max_size=25).map(b"".join)
track_bodies = any_bytes | st.lists(
    st.sampled_from(
        [TRACK, TRACK[:-3], TRACK[:70], b"\n", b"\r\n", b",", b"nan", b"\xff", b"\x00"]
    ),
    max_size=12,
).map(b"".join)
json_bodies = any_bytes | st.lists(
    st.sampled_from([ROW, ROW[:30], b"[", b"]", b",", b"\n", b"{}", b"{", b"}", b"\x00", b"\xff",
                     b'{"icao24":"\\ud800"}', b'{"icao24":1}', b"null", b'"', b"NaN"]),
    max_size=12,
).map(b"".join)  # fmt: skip
berg_bodies = any_bytes | st.lists(
    st.sampled_from([BERG, b"2001002,0,0,0,0,0\n", b",", b"\n", b"nic_1", b"\x00", b"\xff"]),
    max_size=12,
).map(b"".join)


@settings(max_examples=150)
@given(st.lists(xml_bodies, min_size=1, max_size=3))
def test_any_bytes_as_gpx_are_counted(bodies: list[bytes]) -> None:
    decoded("gpx", *bodies)


@settings(max_examples=150)
@given(st.lists(track_bodies, min_size=1, max_size=3))
def test_any_bytes_as_tracks_are_counted(bodies: list[bytes]) -> None:
    blocks = decoded("tracktable", *bodies)
    lines = [line for body in bodies for line in body.split(b"\n") if line.strip()]
    assert num_records(blocks) >= len(lines)


@settings(max_examples=150)
@given(st.lists(json_bodies, min_size=1, max_size=3))
def test_any_bytes_as_state_vectors_are_counted(bodies: list[bytes]) -> None:
    decoded("opensky", *bodies)


@settings(max_examples=100)
@given(st.lists(berg_bodies, min_size=1, max_size=3))
def test_any_bytes_as_icebergs_are_counted(bodies: list[bytes]) -> None:
    decoded("icebergs", *bodies)


SOURCES = (
    ("gpx", "gpx", xml_bodies, GPX),
    ("traj", "ais_tracktable", track_bodies, TRACK),
    ("json", "opensky", json_bodies, b"[" + ROW + b"]"),
    ("csv", "icebergs", berg_bodies, BERG),
)


@pytest.mark.parametrize(("suffix", "dataset", "bodies", "good"), SOURCES)
def test_any_bytes_are_ingested_without_a_loss(
    suffix: str, dataset: str, bodies, good: bytes, tmp_path_factory
) -> None:
    """From the file to the ledger: records read are points plus rejects, the good file is there."""

    @settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(bodies, min_size=9, max_size=9))
    def ingest_beside_a_good_file(any_bodies: list[bytes]) -> None:
        folder = tmp_path_factory.mktemp("any")
        files = {f"{i}.{suffix}": body for i, body in enumerate(any_bodies)}
        files |= {f"good.{suffix}": good}
        snapshot = snapshot_of(tree(folder / "in", files), Store(folder / "store"), dataset)
        ledger = ledger_of(snapshot)
        assert ledger[f"good.{suffix}"]["num_kept"] >= 1
        for entry in ledger.values():
            assert entry["num_records"] == entry["num_kept"] + entry["num_rejected"] >= 1
        num_rejected = sum(entry["num_rejected"] for entry in ledger.values())
        assert len(rejects_of(snapshot)) == num_rejected
        for row in points_of(snapshot):
            assert -180 <= row["lon_deg"] < 180
            assert -90 <= row["lat_deg"] <= 90

    ingest_beside_a_good_file()


@pytest.mark.parametrize(
    ("format_name", "name"),
    [
        ("gpx", "paused_recording/evening_ride.gpx"),
        ("tracktable", "ais_tracktable/real-tracks.traj"),
        ("opensky", "opensky/made-up.json"),
        ("icebergs", "icebergs/consol/x01.csv"),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 300])
def test_how_a_file_is_cut_changes_nothing(
    format_name: str, name: str, piece_bytes: int, monkeypatch
) -> None:
    body = (FIXTURES / name).read_bytes()
    [whole] = decoded(format_name, body)
    monkeypatch.setattr("tasks.ingest.archive.CHUNK_BYTES", 64)
    monkeypatch.setattr("tasks.ingest.readers.records.PIECE_BYTES", piece_bytes)
    monkeypatch.setattr("tasks.ingest.readers.records.BLOCK_BYTES", piece_bytes)
    monkeypatch.setattr("tasks.ingest.readers.icebergs.BLOCK_RECORDS", 2)
    blocks = decoded(format_name, body)
    assert len(blocks) > 1
    assert pa.concat_tables([block.records for block in blocks]).equals(whole.records)
    assert [place for block in blocks for place in block.malformed] == whole.malformed


@pytest.mark.parametrize("format_name", ["gpx", "tracktable", "opensky", "icebergs"])
def test_a_file_gives_the_same_whatever_stands_beside_it(format_name: str) -> None:
    """Not even an aircraft that another file leaves at the very same place."""
    fast = ROW.replace(b"null", b"300")
    good = {"gpx": GPX, "tracktable": TRACK, "opensky": fast, "icebergs": BERG}[format_name]
    alone = pa.concat_tables([block.records for block in decoded(format_name, good)])
    pair = pa.concat_tables([block.records for block in decoded(format_name, good, good)])
    own = [name for name in alone.column_names if name not in ("file_id", "point_id")]
    assert pair.select(own).equals(pa.concat_tables([alone.select(own)] * 2))


def test_a_format_without_lines_may_have_one_long_line(
    tmp_path: Path, store: Store, monkeypatch
) -> None:
    monkeypatch.setattr("tasks.ingest.archive.MAX_LINE_BYTES", 100_000)
    monkeypatch.setattr("tasks.ingest.archive.CHUNK_BYTES", 10_000)
    long = b"[" + b",".join([ROW] * 2_000) + b"]"
    assert len(points_of(snapshot_of(tree(tmp_path / "j", {"a.json": long}), store, "opensky")))
    long = GPX.replace(POINT, POINT * 2_000)
    assert len(points_of(snapshot_of(tree(tmp_path / "g", {"a.gpx": long}), store, "gpx")))
    lines = {"a.traj": TRACK + b"x" * 200_000, "b.traj": TRACK}
    snapshot = snapshot_of(tree(tmp_path / "t", lines), store, "ais_tracktable")
    assert ledger_of(snapshot)["a.traj"]["state"] == "failed"


# XML that was made to hurt ------------------------------------------------------------------------

LAUGHS = b'<!ENTITY a "ha">' + b"".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">'.encode() for i in range(9)
)
QUADRATIC = b'<!ENTITY a "' + b"x" * 100_000 + b'">'


def refusal(body: bytes) -> tuple[bytes, float, int]:
    """What is said of a GPX file that cannot be read, its CPU seconds and its memory in bytes."""
    member = member_of("a.gpx", body)
    tracemalloc.start()
    started_at = time.process_time()
    [line] = gpx.gpx_lines(member)
    took_s = time.process_time() - started_at
    _now, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return line, took_s, peak_bytes


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE gpx [" + LAUGHS + b"]><gpx>&j;</gpx>",
        b"<!DOCTYPE gpx [" + QUADRATIC + b"]><gpx>" + b"&a;" * 100_000 + b"</gpx>",
        b'<!DOCTYPE gpx [<!ENTITY a SYSTEM "file:///etc/passwd">]><gpx>&a;</gpx>',
        b'<!DOCTYPE gpx SYSTEM "http://127.0.0.1:9/x.dtd"><gpx/>',
        b"<gpx>" * 2_000_000,
        b"<gpx " + b" ".join(b'a%d="1"' % i for i in range(50_000)) + b"><trk",
    ],
    ids=["laughs", "quadratic", "file entity", "outside type", "deep", "attributes"],
)
def test_xml_that_was_made_to_hurt_is_one_reject_in_a_second(body: bytes) -> None:
    line, took_s, peak_bytes = refusal(body)
    assert line.startswith(b"not readable from here")
    assert b"root" not in line
    assert took_s < 1
    assert peak_bytes < 30 << 20


HUGE = 60 << 20


@pytest.mark.parametrize(
    "body",
    [
        b'<gpx><trk><trkseg><trkpt lat="' + b"1" * HUGE,
        b'<gpx><trk><trkseg><trkpt lat="' + b">" * HUGE,
        b"<gpx><" + b"a" * HUGE,
        b"<gpx><!-- " + b"- " * (HUGE // 2),
        b"<gpx><?x " + b"y" * HUGE,
    ],
    ids=["attribute", "quoted brackets", "name", "comment", "instruction"],
)
def test_a_tag_of_many_megabytes_is_given_up_early(body: bytes) -> None:
    line, took_s, peak_bytes = refusal(body)
    assert line == b"not readable from here: a tag is longer than 1 MiB\n"
    assert took_s < 1
    assert peak_bytes < 8 << 20


@pytest.mark.parametrize("wrap", [b"%s", b"<![CDATA[%s]]>"], ids=["text", "cdata"])
def test_a_text_of_many_megabytes_is_read_past(wrap: bytes) -> None:
    text = wrap.replace(b"%s", b"x" * (20 << 20))
    body = GPX.replace(b"<trk>", b"<trk><desc>" + text + b"</desc>", 1)
    assert len(body) > 20 << 20
    member = member_of("a.gpx", body)
    started_at = time.process_time()
    assert len(list(gpx.gpx_lines(member))) == 3
    assert time.process_time() - started_at < 3


def test_a_gpx_file_of_200_mb_is_not_even_opened() -> None:
    def opener() -> io.BytesIO:
        raise AssertionError("opened")

    huge = Member("a.gpx", "", 200 << 20, "ready", "", Entry("a.gpx", opener))
    assert list(gpx.gpx_lines(huge)) == [b"not readable from here: larger than 100 MiB\n"]


def test_a_long_gpx_file_takes_no_more_memory_than_its_points() -> None:
    body = b"<gpx>" + b"<wpt lat='1' lon='2'><name>x</name></wpt>" * 50_000 + b"</gpx>"
    member = member_of("a.gpx", body)
    tracemalloc.start()
    assert list(gpx.gpx_lines(member)) == []
    _now, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 << 20


def test_points_before_a_break_stay_and_the_break_is_counted(tmp_path: Path, store: Store) -> None:
    files = {"cut.gpx": GPX[:-60], "page.gpx": b"<p>no gpx</p>", "whole.gpx": GPX}
    snapshot = snapshot_of(tree(tmp_path / "in", files), store, "gpx")
    assert Counter(row["entity_id"] for row in points_of(snapshot)) == {"cut": 2, "whole": 3}
    found = {row["file_name"]: (row["rule"], row["raw_text"]) for row in rejects_of(snapshot)}
    assert found["page.gpx"][0] == "empty"
    assert found["cut.gpx"][0] == "malformed"
    assert found["cut.gpx"][1].startswith("not readable from here")


# Encodings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_the_encoding_of_xml_is_its_own_matter(encoding: str) -> None:
    name = "utf-8" if encoding == "utf-8-sig" else encoding
    text = f'<?xml version="1.0" encoding="{name}"?><!-- é -->' + GPX.decode()
    [block] = decoded("gpx", text.encode(encoding))
    assert block.records.num_rows == 3


@pytest.mark.parametrize(
    ("format_name", "body", "num_good", "num_malformed"),
    [
        ("tracktable", b"\xef\xbb\xbf" + TRACK + b"\n" + TRACK, 2, 0),
        ("tracktable", TRACK.decode().encode("utf-16"), 0, 1),
        ("tracktable", TRACK + b"\r\n" + b"x" * (10 << 20) + b"\r\n" + TRACK, 2, 1),
        ("tracktable", TRACK.replace(b"terrestrial", b'"terrestrial'), 0, 1),
        ("icebergs", b"\xef\xbb\xbf" + BERG.replace(b"\n", b"\r\n"), 1, 0),
        ("icebergs", BERG.decode().encode("utf-16"), 0, 3),
        ("icebergs", BERG + b"date,ers_1,ers_2,ers_3\n2001002,-65,11,1\n", 1, 2),
        ("icebergs", BERG + b'2001002,"-65,11,1,0,0\n2001003,-65,12,1,0,0\n', 3, 0),
    ],
)  # fmt: skip
def test_strange_encodings_are_counted(
    format_name: str, body: bytes, num_good: int, num_malformed: int
) -> None:
    blocks = decoded(format_name, body)
    assert sum(block.records.num_rows for block in blocks) == num_good
    assert sum(len(block.malformed) + len(block.failed) for block in blocks) == num_malformed


@pytest.mark.parametrize(
    "body",
    [ROW.decode().encode("utf-16"), b"x" * (10 << 20), b"[" + ROW[:-1] + b"," * (10 << 20)],
    ids=["utf-16", "one long word", "commas"],
)
def test_what_is_no_json_is_counted_a_megabyte_at_a_time(body: bytes) -> None:
    blocks = decoded("opensky", body)
    assert sum(block.records.num_rows for block in blocks) == 0
    assert 1 <= sum(len(block.malformed) for block in blocks) <= 12


# Compressed files and names -----------------------------------------------------------------------


def test_damaged_gzip_files_fail_alone_and_are_counted(tmp_path: Path, store: Store) -> None:
    packed = gzip.compress(GPX)
    files = {
        "cut.gpx.gz": packed[:-9],
        "junk.gpx.gz": packed + b"junk",
        "plain.gpx.gz": GPX,
        "flipped.gpx.gz": packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:],
        "good.gpx.gz": packed,
    }
    snapshot = snapshot_of(tree(tmp_path / "in", files), store, "gpx")
    assert Counter(row["entity_id"] for row in points_of(snapshot)) == {"good": 3}
    found = [(row["file_name"], row["rule"]) for row in rejects_of(snapshot)]
    bad = ("cut.gpx", "flipped.gpx", "junk.gpx", "plain.gpx")
    assert found == [(name, "unreadable") for name in bad]
    states = {name: entry["state"] for name, entry in ledger_of(snapshot).items()}
    assert states == dict.fromkeys(bad, "failed") | {"good.gpx": "read"}


NAMES = ("a[1].gpx", "a1.gpx", "*.gpx", "'; drop table x; --.gpx", "-rf.gpx", "a b\n.gpx",
         "u\u0308.gpx", "\u00fc.gpx", "x" * 251 + ".gpx", "$(x).gpx", "%2e%2e.gpx")  # fmt: skip


def test_hostile_names_are_only_names(tmp_path: Path, store: Store) -> None:
    """Each file gives its own points: none stands for another, and no name is a pattern."""
    files = {
        name: GPX.replace(b'lat="51"', b'lat="%d"' % i) for i, name in enumerate(NAMES, start=1)
    }
    rows = points_of(snapshot_of(tree(tmp_path / "in", files), store, "gpx"))
    found = {row["entity_id"]: row["lat_deg"] for row in rows}
    assert found == {name.removesuffix(".gpx"): float(i) for i, name in enumerate(NAMES, start=1)}
    assert len(rows) == 3 * len(NAMES)


def test_an_archive_in_an_archive_is_opened_by_its_name(tmp_path: Path, store: Store) -> None:
    inner = zipped(tmp_path / "inner.zip", {"b.gpx": GPX}).read_bytes()
    source = zipped(tmp_path / "a.zip", {"a.gpx": GPX, "inner.zip": inner, "deep.gpx": inner})
    snapshot = snapshot_of(source, store, "gpx")
    assert {row["entity_id"] for row in points_of(snapshot)} == {"a", "inner/b"}
    ledger = ledger_of(snapshot)
    assert ledger["inner/b.gpx"]["state"] == "read"
    assert ledger["deep.gpx"]["state"] == "failed"


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    """Refused by what its archive says, or while it is read where the archive lies."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made, made.open("a.gpx", "w") as file:
        for _piece in range(300):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with opened_sources([path]) as entries:
        [member] = inventory(entries, "*.gpx")
        honest = Entry("a.gpx", entries[0].opener, max_bytes=entries[0].max_bytes)
        read = read_member(honest, "a.gpx", True)
    _now, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (member.state, member.num_bytes) == ("failed", 0)
    assert read.state == "failed"
    assert peak_bytes < 8 << 20


@pytest.mark.parametrize(("suffix", "dataset", "_bodies", "good"), SOURCES)
def test_each_format_comes_as_file_folder_and_archive(
    suffix: str, dataset: str, _bodies, good: bytes, tmp_path: Path, store: Store
) -> None:
    folder = tree(tmp_path / "in", {f"a.{suffix}": good})
    want = points_of(snapshot_of(folder, store, dataset))
    for source in (folder / f"a.{suffix}", zipped(tmp_path / "a.zip", {f"a.{suffix}": good})):
        assert points_of(read_snapshot(store, ingested(source, store, dataset))) == want


def test_a_source_without_any_good_record_is_an_error(tmp_path: Path, store: Store) -> None:
    with pytest.raises(DataError, match="1 of 1 records were rejected"):
        ingested(tree(tmp_path / "in", {"a.gpx": b"<gpx/>"}), store, "gpx")
