"""Delimited text: any bytes are counted, no file shapes another, and SQL takes what comes."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sql
from model.earth.arrays import places_within
from tasks.config.datasets import DATASETS, Layout, dataset_named
from tasks.ingest.readers import delimited
from tasks.ingest.readers.delimited import decode_delimited as decoded
from tasks.ingest.readers.delimited import header_order
from tasks.ingest.readers.formats import reader_named
from tasks.ingest.readers.records import Piece, RecordBlock

BUS_AVL = dataset_named("bus_avl").layout
Decode = Callable[[Iterable[Piece]], Iterator[RecordBlock]]


@dataclass(frozen=True)
class Sample:
    """A header, where the format has one, and a line that is a record."""

    header: bytes
    line: bytes


SAMPLES = {
    "cabspotting": Sample(b"", b"37.75153 -122.39447 0 1546300800"),
    "tdrive": Sample(b"", b"901,2019-02-02 15:36:08,116.51172,39.92123"),
    "ais_noaa": Sample(
        b"BaseDateTime,LON,LAT,MMSI,SOG,COG,Heading,VesselName,IMO,VesselType,Status\n",
        b'2019-01-01T00:00:00,-74.1,40.6,900000001,1.5,-60.6,246.0,"A, B",IMO1,60.0,0.0',
    ),
    "bus_avl": Sample(
        b'"vehicle_id","trip_id","timestamp","latitude","longitude","bearing","route_name",'
        b'"direction","operator"\n',
        b'"4716","1091","2019-01-26 15:57:02",53.44451,-2.925173,,"14",outbound,MADE',
    ),
    "porto": Sample(
        b'"TRIP_ID","CALL_TYPE","ORIGIN_STAND","TAXI_ID","TIMESTAMP","MISSING_DATA","POLYLINE"\n',
        b'"T1","C","","20000901","1546301400","False","[[-8.6,41.1],[-8.601,41.1005]]"',
    ),
}


def pieces(*bodies: bytes) -> list[Piece]:
    ended = [body if body.endswith(b"\n") else body + b"\n" for body in bodies]
    return [Piece(number, 1, body) for number, body in enumerate(ended)]


def decode_of(dataset: str) -> Decode:
    row = dataset_named(dataset)
    return partial(reader_named(row.decoder).decode, layout=row.layout)


def fates(blocks: Iterable[RecordBlock]) -> dict[int, list[tuple[int, str]]]:
    """What became of each record of each file: (line number, its values or that it is none)."""
    found: dict[int, list[tuple[int, str]]] = {}
    for block in blocks:
        for row in block.records.to_pylist():
            found.setdefault(row["file_id"], []).append((row["line_number"], repr(row)))
        for file_id, line_number in block.malformed:
            found.setdefault(file_id, []).append((line_number, "malformed"))
    return {file_id: sorted(lines) for file_id, lines in found.items()}


def counted(blocks: Iterable[RecordBlock]) -> Counter[int]:
    total: Counter[int] = Counter()
    for block in blocks:
        total.update(block.num_records)
    return +total


def joined_up(text: bytes) -> bytes:
    return text.replace(b"\n", b"")


def bodies_of(dataset: str) -> st.SearchStrategy[bytes]:
    """Files of good lines, bent lines, pieces of lines and noise, with a header or without."""
    sample = SAMPLES[dataset]
    cells = sample.line.split(b",") if b"," in sample.line else sample.line.split(b" ")
    odd = [
        b"",
        b'"',
        b'""',
        b"nan",
        b"-inf",
        b"1e999",
        b"NA",
        b"\xff",
        b"\x00",
        b"\r",
        b"[[",
        b"9" * 18,
    ]
    bent = st.tuples(st.sampled_from(cells), st.sampled_from([*odd, b"2019-02-30 00:00:00"])).map(
        lambda pair: sample.line.replace(*pair, 1)
    )
    noise = st.binary(max_size=30).map(joined_up)
    line = st.one_of(
        st.just(sample.line),
        bent,
        bent,
        st.sampled_from([b"", b" ", b"\r", b",,,", sample.header.rstrip(), sample.line + b"\r"]),
        noise,
    )
    mark = st.sampled_from([b"", b"", b"\xef\xbb\xbf"])
    lines = st.tuples(mark, st.lists(line, max_size=10).map(b"\n".join)).map(b"".join)
    return st.one_of(lines.map(lambda body: sample.header + body), lines, st.binary(max_size=120))


several = st.sampled_from(sorted(SAMPLES)).flatmap(
    lambda dataset: st.tuples(
        st.just(dataset), st.lists(bodies_of(dataset), min_size=1, max_size=3)
    )
)


@settings(max_examples=150)
@given(several)
def test_any_bytes_are_counted_and_no_file_shapes_another(case: tuple[str, list[bytes]]) -> None:
    dataset, bodies = case
    together = list(decode_of(dataset)(pieces(*bodies)))
    for piece in pieces(*bodies):
        alone = list(decode_of(dataset)([piece]))
        assert fates(alone).get(piece.file_id) == fates(together).get(piece.file_id)
        assert counted(alone)[piece.file_id] == counted(together)[piece.file_id]
        lines = fates(alone).get(piece.file_id, [])
        assert counted(alone)[piece.file_id] == len(lines)
        # each filled line stands for at least one record; only a header stands for none, or what
        # stands above it and is no record of its width
        mark = BOM_UTF8
        filled = {n for n, text in piece.lines() if text.removeprefix(mark).strip() or n > 1}
        missing = filled - {number for number, _fate in lines}
        layout = dataset_named(dataset).layout
        headers = [n for n, text in piece.lines() if header_order(text, layout)]
        assert missing <= {n for n in filled if n <= min(headers, default=min(filled, default=0))}
        whole = {n for n, text in piece.lines() if text.strip() == SAMPLES[dataset].line}
        is_refused = any(piece.file_id in block.failed for block in alone)  # which is one reject
        assert is_refused or not (headers and missing & whole)
        assert not missing or SAMPLES[dataset].header


@settings(max_examples=120)
@given(several)
def test_staging_gives_each_record_a_place_or_a_rule(
    connection: duckdb.DuckDBPyConnection, case: tuple[str, list[bytes]]
) -> None:
    dataset, bodies = case
    row = dataset_named(dataset)
    query = sql.read(row.staging)
    for block in decode_of(dataset)(pieces(*bodies)):
        names = pa.array(["new_a.txt"] * block.records.num_rows, pa.string())
        connection.register("records", block.records.append_column("file_name", names))
        values = {"zone": row.zone} if "$zone" in query else None
        staged = connection.sql(query, params=values).to_arrow_table()
        want = sorted(block.records["point_id"].to_pylist())
        assert sorted(staged["point_id"].to_pylist()) == want
        assert len(set(want)) == len(want)
        for found in staged.to_pylist():
            if found["rule"] is None:
                assert -180 <= found["lon_deg"] < 180
                assert -90 <= found["lat_deg"] <= 90
                assert found["tracked_at"] is not None
                assert found["entity_id"]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("set timezone = 'UTC'")
        for text in sql.macros().values():
            connection.execute(text)
        yield connection


def test_an_instant_beyond_the_calendar_is_none(connection: duckdb.DuckDBPyConnection) -> None:
    query = "select epoch(instant_of_epoch_s(unnest([-1, 0, 253402300799, 253402300800, $far])))"
    found = connection.execute(query, {"far": 2**62}).fetchall()
    assert found == [(None,), (0.0,), (253402300799.0,), (None,), (None,)]


@pytest.mark.parametrize("dataset", sorted(SAMPLES))
def test_good_lines_are_records(dataset: str) -> None:
    sample = SAMPLES[dataset]
    [block] = decode_of(dataset)(pieces(sample.header + b"\r\n".join([sample.line] * 3)))
    assert not block.malformed
    assert set(block.records["line_number"].to_pylist()) == set(
        range(2, 5) if sample.header else range(1, 4)
    )


# The header.

CELLS = {"latitude": "1.5", "longitude": "2.5", "bearing": "9"}


def bus_file(names: list[str]) -> bytes:
    return f"{','.join(names)}\n{','.join(CELLS.get(name, 'x') for name in names)}\n".encode()


def test_columns_are_found_by_name_in_any_order() -> None:
    names = ["more", *sorted(BUS_AVL.names), "other"]
    blocks = list(decode_of("bus_avl")(pieces(bus_file(names[::-1]), bus_file(names))))
    rows = [row for block in blocks for row in block.records.to_pylist()]
    assert [(row["lat_deg"], row["lon_deg"], row["bearing_deg"]) for row in rows] == [
        (1.5, 2.5, 9.0)
    ] * 2


@pytest.mark.parametrize(
    "header",
    [
        b"vehicle_id,trip_id\n",  # columns are missing
        ",".join([*BUS_AVL.names, "latitude"]).encode(),  # which of the two?
        ";".join(BUS_AVL.names).encode(),
        b'"vehicle_id',
        b"",
    ],
)
def test_a_file_without_its_header_is_refused_line_by_line(header: bytes) -> None:
    assert header_order(header, BUS_AVL) == ()
    [block] = decode_of("bus_avl")(pieces(header.rstrip() + b"\n" + SAMPLES["bus_avl"].line))
    assert len(block.malformed) == block.num_records[0] == bool(header)
    assert block.records.num_rows == 0
    assert " column " in block.failed[0] or "more than one latitude" in block.failed[0]


def test_the_columns_that_are_missing_are_named() -> None:
    [block] = decode_of("ais_noaa")(pieces(b"MMSI,BaseDateTime,lon,12.5,lat,ETA\nx\n"))
    assert block.failed == {
        0: "has no column SOG, COG, Heading, VesselName, IMO, VesselType, Status; its columns are: "
        "MMSI, BaseDateTime, lon, (a number), lat, ETA"
    }
    assert block.malformed == [(0, 2)]


@pytest.mark.parametrize("dataset", ["ais_noaa", "bus_avl", "porto"])
def test_names_of_columns_are_known_without_case_or_spaces(dataset: str) -> None:
    header, line = SAMPLES[dataset].header, SAMPLES[dataset].line
    expected = fates(decode_of(dataset)(pieces(header + line)))
    for written in (
        header.upper(),
        header.lower(),
        header.replace(b'"', b"").replace(b",", b" , "),
        header.replace(b"_", b" "),
        b"# " + header.replace(b'"', b""),
    ):
        assert fates(decode_of(dataset)(pieces(written + line))) == expected


def test_a_header_may_follow_a_byte_order_mark_and_blank_lines() -> None:
    sample = SAMPLES["ais_noaa"]
    [block] = decode_of("ais_noaa")(pieces(b"\n \n\xef\xbb\xbf" + sample.header + sample.line))
    assert block.records["line_number"].to_pylist() == [4]
    assert block.records["mmsi"].to_pylist() == ["900000001"]


def test_a_column_that_a_year_lacks_is_null_and_both_spellings_are_read() -> None:
    sample = SAMPLES["ais_noaa"]
    files = [sample.header + sample.line]
    for spelling in (b",TranscieverClass\n", b",TransceiverClass\n"):
        files.append(sample.header.rstrip() + spelling + sample.line + b",B")
    blocks = list(decode_of("ais_noaa")(pieces(*files)))
    values = [v for block in blocks for v in block.records["transceiver_class"].to_pylist()]
    assert values == [None, "B", "B"]


def test_a_header_in_the_middle_is_a_malformed_record() -> None:
    sample = SAMPLES["ais_noaa"]
    [block] = decode_of("ais_noaa")(pieces(2 * (sample.header + sample.line + b"\n")))
    assert block.malformed == [(0, 3)]
    assert block.records.num_rows == 2


def test_the_columns_of_every_layout_are_named() -> None:
    layouts = [row.layout for row in DATASETS.values() if row.layout]
    assert len(layouts) == 6
    for layout in layouts:
        if layout.order:
            assert set(layout.columns) <= set(layout.order)
            assert not layout.names
        else:
            assert set(layout.names.values()) == set(layout.columns)
            assert set(layout.optional) <= set(layout.columns)


@pytest.mark.parametrize("dataset", sorted(SAMPLES))
def test_another_encoding_is_refused_and_counted(dataset: str) -> None:
    sample = SAMPLES[dataset]
    text = sample.header + b"\n".join([sample.line] * 3)
    body = text.decode().encode("utf-16")
    blocks = list(decode_of(dataset)(pieces(body)))
    [piece] = pieces(body)
    failed = {file_id for block in blocks for file_id in block.failed}
    assert counted(blocks)[0] + len(failed) == len(piece.lines())
    assert sum(block.records.num_rows for block in blocks) == 0


@settings(max_examples=500)
@given(
    st.sampled_from(sorted(delimited.SHAPES)),
    st.text(alphabet="0123456789+-.eEnaifNTZxX:/, \t", max_size=12)
    | st.from_regex(r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", fullmatch=True)
    | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{2}:[0-9]{2}(:[0-9]{2})?", fullmatch=True),
)
def test_what_fails_at_first_sight_would_fail_in_the_parser(kind: str, cell: str) -> None:
    layout = Layout(columns={"value": kind}, order=("value", "more"), delimiter=";")
    line = f"{cell};".encode()
    if delimited.parsed_lines(line + b"\n", 1, layout, layout.order) is not None:
        assert delimited.plausible([(1, line)], layout, layout.order) == [(1, line)]


def test_a_file_that_is_bad_throughout_takes_no_hours() -> None:
    """The parser is asked a few times, and not once a line."""
    sample = SAMPLES["ais_noaa"]
    bad = sample.line.replace(b"40.6", b"40,6", 1)
    worse = sample.line.replace(b"40.6", b"north", 1)
    body = sample.header + b"\n".join([bad, worse, sample.line] * 100)
    calls = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        parsed = delimited.parsed_lines
        monkeypatch.setattr(
            delimited,
            "parsed_lines",
            lambda *args, **more: calls.append(1) or parsed(*args, **more),
        )
        [block] = decode_of("ais_noaa")(pieces(body))
    assert (block.records.num_rows, len(block.malformed)) == (100, 200)
    assert len(calls) < 1_000


# Quotes.

PAIR = Layout(
    columns={"text": "text", "number": "number"},
    order=("text", "number"),
    is_quoted=True,
    null_values=("",),
)


def pairs(body: bytes) -> tuple[list[tuple[str, float | None]], list[int]]:
    [block] = decoded(pieces(body), PAIR)
    rows = block.records.to_pylist()
    return [(row["text"], row["number"]) for row in rows], [line for _id, line in block.malformed]


@pytest.mark.parametrize(
    ("body", "rows", "malformed"),
    [
        (b'"a, ""b""",1\n', [('a, "b"', 1.0)], []),
        (b'"a",""\n', [("a", None)], []),
        # a quote inside a value that has none around it: who knows what was meant
        (b'6" pipe,1\n', [], [1]),
        # ... nor what a quoted cell says that goes on behind its end
        (b'""a",1\n"a, ""b""",2\r\n', [('a, "b"', 2.0)], [1]),
        # a quote that ends on the next line is within one record
        (b'"a\nb",1\nc,2\n', [("a b", 1.0), ("c", 2.0)], []),
        # ... and a bare carriage return would hide it from a count of rows
        (b'"a\nb",1\rd,3\nc,2\n', [("c", 2.0)], [1, 2]),
        (b'c,2\n"a,1\n', [("c", 2.0)], [2]),
        (b"c,2\n\nd,3\n", [("c", 2.0), ("d", 3.0)], []),
        (b"c,2\n,\n", [("c", 2.0), ("", None)], []),
    ],
)
def test_a_record_is_one_line_whatever_is_quoted(body: bytes, rows: list, malformed: list) -> None:
    assert pairs(body) == (rows, malformed)


def test_rows_that_only_add_up_are_not_taken_for_lines(monkeypatch) -> None:
    """In a column that nobody reads, a quote joins two lines, and a bare return parts them."""
    layout = PAIR.model_copy(update={"order": ("text", "number", "unread")})
    body = b'a,1,"x\ny"\rb,2,z\n'
    [block] = decoded(pieces(body), layout)
    assert block.records["text"].to_pylist() == ["a"]
    assert list(block.malformed) == [(0, 2)]
    monkeypatch.setattr(delimited, "has_bare_return", lambda _body: False)
    [block] = decoded(pieces(body), layout)
    assert block.records["text"].to_pylist() == ["a", "b"]


# Lists of vertices.


def vertices(polyline: str) -> list[tuple[float | None, float | None]]:
    line = SAMPLES["porto"].line.replace(
        b"[[-8.6,41.1],[-8.601,41.1005]]", polyline.encode().replace(b'"', b'""')
    )
    [block] = decode_of("porto")(pieces(SAMPLES["porto"].header + line))
    assert block.num_records[0] == block.records.num_rows
    assert block.records["vertex_number"].to_pylist() == list(range(block.records.num_rows))
    return [(row["lon_deg"], row["lat_deg"]) for row in block.records.to_pylist()]


@pytest.mark.parametrize(
    ("polyline", "found"),
    [
        ("[[-8.6,41.1],[-8.5,41.2]]", [(-8.6, 41.1), (-8.5, 41.2)]),
        ("[ [-8.6, 41.1], [-8.5, 41.2] ]", [(-8.6, 41.1), (-8.5, 41.2)]),
        ("[[-8.6,41.1],[null,2],[1],[1,2,3],[],[-8.5,41.2]]", [(-8.6, 41.1)] + [(None, None)] * 4),
        ("[[1,]]", [(1.0, None)]),
        ("[]", [(None, None)]),
        ("", [(None, None)]),
        ("[[]]", [(None, None)]),
        ("[[-8.6,41.1]", [(None, None)]),
        ("[[[-8.6,41.1]]]", [(None, None)]),
        ('{"a": 1}', [(None, None)]),
    ],
)
def test_each_vertex_of_a_list_is_a_record(polyline: str, found: list) -> None:
    assert vertices(polyline)[: len(found)] == found
    assert len(vertices(polyline)) == max(1, polyline.count("],[") + polyline.count("], [") + 1)


@given(st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), max_size=30))
def test_a_list_gives_its_vertices_back(points: list[tuple[float, float]]) -> None:
    text = str([list(point) for point in points])
    assert vertices(text) == (points or [(None, None)])


def test_vertices_of_one_line_have_ids_of_their_own() -> None:
    line = SAMPLES["porto"].line
    [block] = decode_of("porto")(pieces(SAMPLES["porto"].header + b"\n".join([line] * 4)))
    assert len(set(block.records["point_id"].to_pylist())) == block.records.num_rows == 8


def test_places_count_from_zero_within_each_stretch() -> None:
    assert places_within(np.array([2, 1, 0, 3])).tolist() == [0, 1, 0, 0, 1, 2]
