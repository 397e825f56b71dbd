"""Numbers, texts and forms of your own data, and whatever else a file may hold."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.own_files import FORMS, HEADER, Rows, read, read_one, rules_of, utc
from helpers.strategies import latitudes, longitudes
from hypothesis import example, given, settings
from hypothesis import strategies as st

# Numbers and texts.


def test_units_scales_and_missing_values():
    body = (
        "who;when;trip;y7;x7;up;v;dir\n"
        "007;2024-03-07 22:40:00;T1;473300001;-85400000;100;36;90\n"
        "007;2024-03-07 22:41:00;;473300002;-85400000;NA;-;NA\n"
    )
    rows, rejects = read_one(
        body,
        delimiter="semicolon",
        coordinates="degrees_e7",
        altitude_unit="ft",
        speed_unit="kmh",
        missing=("NA", "-"),
        **{"entity": "who", "tracked_at": "when", "trip": "trip", "lat": "y7", "lon": "x7"},
        **{"altitude": "up", "speed": "v", "course": "dir"},
    )
    assert rejects == []
    assert [row["entity_id"] for row in rows] == ["007", "007"]
    assert [row["source_trip_id"] for row in rows] == ["T1", None]
    assert [row["lat_deg"] for row in rows] == [47.3300001, 47.3300002]
    assert rows[0]["lon_deg"] == -8.54
    assert rows[0]["altitude_m"] == pytest.approx(30.48)
    assert rows[0]["speed_mps"] == pytest.approx(10)
    assert rows[0]["course_deg"] == 90
    assert [rows[1][name] for name in ("altitude_m", "speed_mps", "course_deg")] == [None] * 3


@pytest.mark.parametrize(
    ("lon", "lat", "rule"),
    [
        ("181", "1", None),
        ("360", "90", None),
        ("-180", "-90", None),
        ("360.1", "1", "out_of_range"),
        ("-181", "1", "out_of_range"),
        ("1", "90.01", "out_of_range"),
        ("nan", "1", "no_position"),
        ("inf", "1", "bad_position"),
        ("1e999", "1", "bad_position"),
        ("1_0", "1", "bad_position"),
        ('"1,5"', "1", "bad_position"),
        ("", "1", "no_position"),
        ("NA", "1", "no_position"),
        ("999", "1", "no_position"),
        ("12 E", "1", None),
        ("12 N", "1", "bad_position"),
        ("-12 W", "1", "bad_position"),
        ("12°30'W", "1", None),
        ("12°60'W", "1", "bad_position"),
    ],
)
def test_a_place_is_on_earth_or_rejected(lon, lat, rule):
    rows, rejects = read_one(f"{HEADER}a,2024-03-07,{lon},{lat}\n")
    assert [row["rule"] for row in rejects] == ([rule] if rule else [])
    assert all(-180 <= row["lon_deg"] < 180 for row in rows)


def test_a_number_with_the_other_decimal_mark_is_rejected():
    _rows, rejects = read_one("id;t;lon;lat\na;2024-03-07;1.5;2,5\n", decimal="comma")
    assert rules_of(rejects) == [(2, "bad_position")]


def test_other_columns_that_cannot_be_read_have_rules():
    head = "id,t,lon,lat,v,up\n"
    columns = {"speed": "v", "received_at": "up"}
    rows, rejects = read_one(
        head
        + ",2024-03-07,1,2,3,2024-03-08\na,2024-03-07,1,2,fast,2024-03-08\n"
        + "a,2024-03-07,1,2,3,soon\na,2024-03-07,1,2,,\n",
        **columns,
    )
    assert rules_of(rejects) == [(2, "no_entity"), (3, "bad_number"), (4, "bad_received_at")]
    assert [row["line_number"] for row in rows] == [5]


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        ("\ufeffid,t,lon,lat\nÆrø,2024-03-07,1,2\n".encode(), {}),
        ("id,t,lon,lat\r\nÆrø,2024-03-07,1,2".encode("latin-1"), {"encoding": "latin-1"}),
        ('"id" ,"t","lon","lat"\n"Ærø","2024-03-07","1","2"\n'.encode(), {}),
        ("# ID|Timestamp|Longitude|Latitude\nÆrø|2024-03-07|1|2\n".encode(), {"delimiter": "pipe"}),
        ("\n\nid\tt\tlon\tlat\n\t\nÆrø\t2024-03-07\t1\t2\n\n".encode(), {"form": "tsv"}),
        (
            "Ærø,2024-03-07,1,2\n".encode(),
            {"is_headerless": True, "entity": "1", "tracked_at": "2", "lon": "3", "lat": "4"},
        ),
    ],
)
def test_the_same_file_in_other_clothes(body, columns):
    [row], rejects = read_one(body, **columns)
    assert rejects == []
    assert (row["entity_id"], row["lon_deg"], row["lat_deg"]) == ("Ærø", 1.0, 2.0)


def test_a_quoted_text_may_hold_the_delimiter():
    [row], _rejects = read_one(HEADER + '"Miller, ""Joe""",2024-03-07,1,2\n')
    assert row["entity_id"] == 'Miller, "Joe"'


def test_without_an_entity_column_the_file_is_the_entity():
    body = b"t,lon,lat\n2024-03-07,1,2\n"
    rows, _rejects = read({"x/a.csv": body, "x/b.v2.csv": body, "y/a.csv": body})
    assert sorted(row["entity_id"] for row in rows) == ["x/a", "x/b.v2", "y/a"]


def test_blank_lines_are_no_records():
    body = HEADER + "\na,2024-03-07,1,2\n\r\n \na,2024-03-08,1,2\n\n"
    for mark, name in ((",", "comma"), (";", "semicolon"), ("|", "pipe")):
        rows, rejects = read_one(body.replace(",", mark), delimiter=name)
        assert [row["line_number"] for row in rows] == [3, 6]
        assert rejects == []


def test_an_archive_that_is_not_read_is_told_beside_the_files():
    good = HEADER.encode() + b"a,2024-03-07,1,2\n"
    rows, rejects = read({"a.csv": good, "b.rar": b"Rar!\x1a\x07\x00", "c/d.Z": b"\x1f\x9d\x90"})
    assert len(rows) == 1
    assert [(row["file_name"], row["rule"]) for row in rejects] == [
        ("b.rar", "unreadable"),
        ("c/d.Z", "unreadable"),
    ]
    assert all("unpack it" in row["raw_text"] for row in rejects)


def test_lines_that_are_no_records_are_named_and_their_neighbours_kept():
    good = b"a,2024-03-07,1,2\n"
    bad = [b"a,b\n", b"a,2024-03-07,1,2,3\n", b"a\rb,2024-03-07,1,2\n", b"\xff,2024-03-07,1,2\n"]
    bad += [b'"a,2024-03-07,1,2\n', b'a,2024-03-07,1,"2\n']
    rows, rejects = read_one(HEADER.encode() + b"".join(line + good for line in bad))
    assert [row["line_number"] for row in rows] == [3, 5, 7, 9, 11, 13]
    assert [line for line, _rule in rules_of(rejects)] == [2, 4, 6, 8, 10, 12]


# Whatever comes.

SCRAPS = st.sampled_from(
    [
        *(b'"', b"\n", b"\r", b",", b";", b"\t", b"\xef\xbb\xbf", b"\xff", b"\x00", b"nan"),
        *(b"id,t,lon,lat\n", b"a,2024-03-07,1,2\n", b"{", b"}", b"[", b"]", b"[" * 3_000, b"PAR1"),
        *(b'{"id":"a","t":"2024-03-07"', b',"lon":1,"lat":2}'),
        b'{"lon":"\\ud800","lat":[1],"t":{}}\n',
    ]
)


def bodies() -> st.SearchStrategy[bytes]:
    return st.binary(max_size=200) | st.lists(SCRAPS | st.binary(max_size=6), max_size=25).map(
        b"".join
    )


@settings(max_examples=12)
@given(
    form=st.sampled_from([*FORMS, "geojson", "kml"]),
    zone=st.sampled_from(["UTC", "Europe/Oslo"]),
    files=st.lists(bodies(), min_size=1, max_size=8),
)
@example(form="csv", zone="UTC", files=[b"id,t,lon,lat\n\na,2024-03-07,1,2\n\r\n \n"])
@example(form="tsv", zone="UTC", files=[b"id\tt\tlon\tlat\n\t\t\t\na\t2024-03-07\t1\t2"])
@example(
    form="csv",
    zone="UTC",
    files=[b'id,t,lon,lat\n"a\nb",2024-03-07,1,2\na\rb,2024-03-07,1,2\n', b"id,t,lon,lat"],
)
@example(form="json", zone="UTC", files=[b"[" * 100_000, b'[{"t":"2024","lon":1,"lat":2},7]'])
@example(form="jsonl", zone="UTC", files=[b'7\n{"t":"2024-03-07","lon":1,"lat":2}\n\n{}\n'])
def test_any_bytes_are_read_or_rejected(form, zone, files):
    """`read` checks that records read are points and rejects, and that no id comes twice."""
    points, rejects = read({f"{i}": body for i, body in enumerate(files)}, form=form, zone=zone)
    for number, body in enumerate(files):
        file_ids = {row["file_id"] for row in rejects if row["file_name"] == f"{number}"}
        file_ids |= {row["file_id"] for row in points if row["entity_id"] == f"{number}"}
        assert file_ids or any(row["entity_id"] == "a" for row in points)
        if form in ("csv", "tsv", "jsonl"):
            num_lines = sum(1 for line in body.split(b"\n") if line.strip())
            found = [row for row in points + rejects if row["file_id"] in file_ids]
            assert len(found) <= max(num_lines, 1)


def test_a_time_beyond_the_calendar_is_a_reject_and_the_rest_stays():
    """The fault: a year after 9999 in Parquet ended the whole run."""
    table = pa.Table.from_pylist(TABLE[:3])
    far = pa.array([2**62, *(10**6 * row["t"].timestamp() for row in TABLE[1:3])], pa.int64())
    table = table.set_column(1, "t", far.cast(pa.timestamp("us", "UTC")))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    points, rejects = read({"far.parquet": sink.getvalue().to_pybytes()}, form="parquet")
    assert [row["line_number"] for row in points] == [2, 3]
    assert [row["line_number"] for row in rejects] == [1]


@settings(max_examples=4)
@example(flips=[(120, 4)])
@given(flips=st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 255)), max_size=12))
def test_a_damaged_parquet_file_is_read_or_rejected(flips):
    files = {"whole": written(TABLE, "parquet")}
    for number, (at, flip) in enumerate(flips):
        body = bytearray(files["whole"])
        body[at % len(body)] ^= flip
        files[f"{number}"] = bytes(body)
    points, rejects = read(files, form="parquet")
    assert len({row["file_id"] for row in points + rejects}) == len(set(files.items()))


def test_one_wrong_line_is_not_hidden_by_another():
    body = HEADER + "a,2024-03-07,1,2\nx\na,2024-03-07,1,2\ny,z\n"
    rows, rejects = read_one(body)
    assert [row["line_number"] for row in rows] == [2, 4]
    assert rules_of(rejects) == [(3, "malformed"), (5, "malformed")]


TABLE = [
    {
        "id": "a",
        "t": datetime(2024, 3, 7, 22, 40, second, tzinfo=UTC),
        "lon": 1.5,
        "lat": second / 7,
    }
    for second in range(50)
]


def written(rows: Rows, form: str, decimal: str = ".") -> bytes:
    """Rows in one of the forms, by writers that share nothing with the reader."""
    if form == "parquet":
        sink = io.BytesIO()
        schema = pa.schema(
            {"id": pa.string(), "t": pa.timestamp("us", "UTC"), "lon": pa.float64()}
            | {"lat": pa.float64()}
        )
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, row_group_size=7)
        return sink.getvalue()
    if form in ("json", "jsonl"):
        objects = [json.dumps(row | {"t": row["t"].isoformat()}) for row in rows]
        return ("[" + ",\n".join(objects) + "]" if form == "json" else "\n".join(objects)).encode()
    mark = {"csv": ";" if decimal == "," else ",", "tsv": "\t"}[form]
    lines = [mark.join(("id", "t", "lon", "lat"))]
    for row in rows:
        quoted = '"' + row["id"].replace('"', '""') + '"'
        numbers = [repr(row[name]).replace(".", decimal) for name in ("lon", "lat")]
        lines.append(mark.join((quoted, row["t"].isoformat(), *numbers)))
    return "\r\n".join(lines).encode()


def instant_of(us: int) -> datetime:
    return datetime(1971, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


@settings(max_examples=4)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "id": st.text(
                    st.characters(codec="utf-8", exclude_categories=["Cc", "Zs"]), min_size=1
                ),
                "t": st.integers(1, 1_700 * 10**12).map(instant_of),  # until 2024
                "lon": longitudes(),
                "lat": latitudes(),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_a_frame_gives_the_same_points_in_every_form(rows):
    expected = [
        (row["id"], row["t"], row["lon"] - 360 if row["lon"] >= 180 else row["lon"], row["lat"])
        for row in rows
    ]
    for form, decimal in [(form, "point") for form in FORMS] + [("csv", "comma")]:
        body = written(rows, form, "," if decimal == "comma" else ".")
        points, rejects = read_one(body, form=form, decimal=decimal)
        assert rejects == []
        names = ("entity_id", "tracked_at", "lon_deg", "lat_deg")
        assert [tuple(row[name] for name in names) for row in points] == expected, form


@pytest.mark.parametrize(
    ("column", "columns"),
    [
        (pa.array([1_709_851_200_123_456], pa.timestamp("us")), {"zone": "Asia/Tokyo"}),
        (pa.array([1_709_851_200_123_456_789], pa.timestamp("ns", "Europe/Oslo")), {}),
        (pa.array([1_709_851_200.123456]), {"time_form": "epoch_s"}),
        (pa.array([1_709_851_200_123]), {"time_form": "epoch_ms"}),
        (pa.array([1_709_851_200]), {"time_form": "epoch_s", "decimal": "comma"}),
    ],
)
def test_typed_times_of_parquet(column, columns):
    sink = io.BytesIO()
    place = {"lon": pa.array([1.5], pa.float32()), "lat": pa.array([2], pa.int8())}
    pq.write_table(pa.table({"id": [7], "t": column, **place}), sink)
    [row], _rejects = read_one(sink.getvalue(), form="parquet", **columns)
    hours = 9 if columns.get("zone") == "Asia/Tokyo" else 0
    instant = utc("2024-03-07T22:40:00") - timedelta(hours=hours)
    assert (row["tracked_at"] - instant).total_seconds() < 1
    assert (row["entity_id"], row["lon_deg"], row["lat_deg"]) == ("7", 1.5, 2.0)
