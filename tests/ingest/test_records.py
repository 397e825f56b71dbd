"""Readers: any bytes give a count, never a crash, and no file shapes what another gives."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pytest
from helpers.raw_files import PLT_HEADER, STORM_TAIL, plt, plt_line
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.datasets import dataset_named
from tasks.ingest.archive import Entry, Opener
from tasks.ingest.inventory import read_member
from tasks.ingest.readers import geolife, records
from tasks.ingest.readers.hurdat2 import HEADER, decode_hurdat2
from tasks.ingest.readers.records import Piece, RecordBlock, pieces_of, point_ids

decode_plt = partial(geolife.decode_plt, layout=dataset_named("geolife").layout)


def pieces(*bodies: bytes) -> list[Piece]:
    ended = [body if body.endswith(b"\n") else body + b"\n" for body in bodies]
    return [Piece(number, 1, body) for number, body in enumerate(ended)]


def places_of(blocks: Iterable[RecordBlock]) -> dict[int, list[tuple[int, str]]]:
    """What became of the lines of each file: (line number, fate)."""
    found: dict[int, list[tuple[int, str]]] = {}
    for block in blocks:
        for row in block.records.select(["file_id", "line_number"]).to_pylist():
            found.setdefault(row["file_id"], []).append((row["line_number"], "record"))
        for file_id, line_number in block.malformed:
            found.setdefault(file_id, []).append((line_number, "malformed"))
    return {file_id: sorted(lines) for file_id, lines in found.items()}


def counted(blocks: Iterable[RecordBlock]) -> Counter[int]:
    total: Counter[int] = Counter()
    for block in blocks:
        total.update(block.num_records)
    return total


plt_lines = st.one_of(
    st.integers(0, 86_399).map(plt_line),
    st.floats().map(lambda lat_deg: plt_line(0, lat_deg)),
    st.sampled_from([b"", b" ", b"1,2,3", b",,,,,,", b"\r", b"\x00", b"a\rb", b'"', b"nan"]),
    st.just(plt_line(7).replace(b"2019-01-01", b"2019-02-30")),
    st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")),
)
plt_bodies = st.one_of(
    st.lists(plt_lines, max_size=12).map(lambda lines: PLT_HEADER + b"\n".join(lines)),
    st.binary(max_size=200),
)


@given(st.lists(plt_bodies, min_size=1, max_size=4))
def test_any_bytes_as_plt_are_counted_line_by_line(bodies: list[bytes]) -> None:
    blocks = list(decode_plt(pieces(*bodies)))
    for file_id, lines in places_of(blocks).items():
        assert len(lines) == len({number for number, _fate in lines})
        assert len(lines) == counted(blocks)[file_id]


@given(st.lists(plt_bodies, min_size=1, max_size=4))
def test_a_file_gives_the_same_whatever_stands_beside_it(bodies: list[bytes]) -> None:
    together = places_of(decode_plt(pieces(*bodies)))
    for piece in pieces(*bodies):
        alone = places_of(decode_plt([piece]))
        assert alone.get(piece.file_id) == together.get(piece.file_id)


@given(st.lists(plt_lines, max_size=8))
def test_no_line_after_the_header_of_a_plt_file_goes_missing(lines: list[bytes]) -> None:
    [body] = pieces(PLT_HEADER + b"\n".join(lines))
    filled = [line for line in body.body.split(b"\n")[6:] if line.strip()]
    assert counted(decode_plt([body])).total() == len(filled)


def test_a_plt_file_without_its_header_loses_no_record() -> None:
    body = b"".join(plt_line(second) + b"\n" for second in range(9))
    [block] = decode_plt(pieces(body))
    assert block.records["line_number"].to_pylist() == list(range(1, 10))


def test_the_values_of_a_plt_line_are_typed_and_in_utc() -> None:
    [block] = decode_plt(pieces(plt(plt_line(3_661, 48.25, -2.5))))
    row = block.records.to_pylist()[0]
    assert (row["lat_deg"], row["lon_deg"], row["altitude_ft"]) == (48.25, -2.5, 492.0)
    assert row["tracked_at"] == datetime(2019, 1, 1, 1, 1, 1, tzinfo=UTC)
    assert row["line_number"] == 7


def test_a_missing_last_line_feed_glues_no_two_files() -> None:
    first, second = plt(plt_line(0)).rstrip(b"\r\n"), plt(plt_line(5))
    members = [
        read_member(Entry(name, opener_of(body)), name, True)
        for name, body in (("a", first), ("b", second))
    ]
    [block] = decode_plt(pieces_of(members))
    assert [row["line_number"] for row in block.records.to_pylist()] == [7, 7]


def test_files_longer_than_a_piece_keep_their_line_numbers(monkeypatch) -> None:
    monkeypatch.setattr(records, "PIECE_BYTES", 200)
    monkeypatch.setattr(records, "BLOCK_BYTES", 500)
    monkeypatch.setattr("tasks.ingest.archive.CHUNK_BYTES", 64)
    body = plt(*(plt_line(second) for second in range(40)))
    blocks = list(decode_plt(pieces_of([read_member(Entry("a", opener_of(body)), "a", True)])))
    assert len(blocks) > 1
    numbers = [n for block in blocks for n in block.records["line_number"].to_pylist()]
    assert numbers == list(range(7, 47))


def test_the_raw_text_of_a_bad_line_is_kept_and_a_very_long_one_cut() -> None:
    body = plt(plt_line(0), b"x" * 5_000, plt_line(5))
    [block] = decode_plt(pieces(body))
    assert block.malformed == [(0, 8)]
    [text] = block.raw_texts(block.malformed)
    assert text == "x" * records.MAX_RAW_CHARACTERS


STORM = f"AL012019, EXAMPLE, 2,\n20190801, 0000, , TD, 10.0N, 40.0W, 25, 1008{STORM_TAIL}\n"
storm_lines = st.one_of(
    st.sampled_from(
        [
            *STORM.splitlines(),
            "",
            "AL0120,",
            "EP02 BROKEN",
            "1,2,3",
            STORM_TAIL,
            "\ufeffAL032019,X,1,",
        ]
    ),
    st.text(max_size=30).map(lambda line: line.replace("\n", "")),
)


@given(st.lists(storm_lines, max_size=20).map(lambda lines: "\n".join(lines).encode()))
def test_any_text_as_storms_is_counted_line_by_line(body: bytes) -> None:
    [piece] = pieces(body)
    blocks = list(decode_hurdat2([piece]))
    filled = [line for line in piece.body.split(b"\n") if line.strip()]
    headers = [
        line for line in filled if HEADER.fullmatch(line.decode().removeprefix("\ufeff").strip())
    ]
    assert counted(blocks).total() == len(filled) - len(headers)
    assert sum(len(lines) for lines in places_of(blocks).values()) == counted(blocks).total()


@given(st.binary(max_size=300))
def test_any_bytes_as_storms_never_crash(body: bytes) -> None:
    list(decode_hurdat2(pieces(body)))


def test_rows_that_a_header_announced_and_that_never_came_are_counted() -> None:
    [block] = decode_hurdat2(pieces(STORM.encode() * 3))
    assert block.num_missing[0] == 3
    assert block.records["storm_id"].to_pylist() == ["AL012019"] * 3


def test_a_broken_header_gives_its_rows_to_no_other_storm() -> None:
    broken = STORM.replace(" 2,", " many,").replace("AL01", "AL02")
    [block] = decode_hurdat2(pieces((STORM + broken).encode()))
    assert block.records["storm_id"].to_pylist() == ["AL012019", None]
    assert block.malformed == [(0, 3)]


def test_point_ids_are_splitmix64_for_ever() -> None:
    """The first value is the published first output of SplitMix64 seeded with 0, halved."""
    given_ids = point_ids(np.array([0, 5]), np.array([1, 123_456]))
    assert given_ids[0] == 0xE220A8397B1DCDAF >> 1
    assert given_ids[1] == point_ids(np.array([5]), np.array([123_456]))[0]


@given(st.integers(0, 2**63 - 1))
def test_the_lines_of_a_file_have_distinct_ids(file_id: int) -> None:
    ids = point_ids(np.full(10_000, file_id), np.arange(10_000))
    assert len(np.unique(ids)) == 10_000
    assert ids.min() >= 0


def opener_of(body: bytes) -> Opener:
    return lambda: io.BytesIO(body)


@pytest.mark.parametrize("num_bad", [1, 2, 50])
def test_only_the_bad_lines_of_a_file_are_refused(num_bad: int) -> None:
    lines = [plt_line(second) for second in range(100)]
    bad = [2 * i for i in range(num_bad)]
    for i in bad:
        lines[i] = lines[i].replace(b"48", b"4x8")
    [block] = decode_plt(pieces(plt(*lines)))
    assert [number - 7 for _file_id, number in block.malformed] == bad
    assert block.records.num_rows == 100 - num_bad
