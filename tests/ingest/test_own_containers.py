"""Containers of your own data: paths into JSON, GeoJSON, KML, WKT, WKB and GeoParquet."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.kml_files import kml_of
from helpers.own_files import Rows, read, read_one, rules_of
from helpers.strategies import latitudes, longitudes
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.ingest.readers.nested_rows import paths_of, value_at
from tasks.runtime import progress

FIX = {"t": "2024-03-07T10:00:00Z", "position": {"lon": 1.5, "lat": 2.5}}
PATHS = {"lon": "position.lon", "lat": "position.lat"}
NOON = datetime(2024, 3, 7, 12, tzinfo=UTC)


def told(rows: Rows) -> list[tuple[str, float, float]]:
    return [(row["entity_id"], row["lon_deg"], row["lat_deg"]) for row in rows]


def fix(second: int, **more: object) -> dict[str, object]:
    return {"t": instant(second), "lon": 1.5, "lat": second / 8, **more}


def instant(second: int) -> str:
    return (NOON + timedelta(seconds=second)).isoformat()


# Paths and lists.


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
def test_a_value_inside_a_value_is_named_by_its_path(form: str) -> None:
    fixes = [{"id": "a", **FIX}, {"id": "b", **FIX}]
    if form == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([*fixes, {"id": "c", "t": FIX["t"]}]), sink)
        body = sink.getvalue()
    elif form == "json":
        body = json.dumps([*fixes, {"id": "c", "position": 7}]).encode()
    else:
        body = "\n".join(json.dumps(row) for row in [*fixes, {"id": "c", "t": FIX["t"]}]).encode()
    rows, [reject] = read_one(body, form=form, **PATHS)
    assert told(rows) == [("a", 1.5, 2.5), ("b", 1.5, 2.5)]
    assert reject["line_number"] == 3
    assert reject["rule"] == ("bad_time" if form == "json" else "no_position")


def test_a_path_goes_through_lists_and_names_with_points() -> None:
    body = json.dumps([{"who": {"id.x": "a"}, "t": FIX["t"], "at": {"xy": [1.5, 2.5]}, "a.b": 9}])
    rows, _rejects = read_one(
        body, form="json", entity="who.id.x", lon="at.xy.0", lat="at.xy.1", speed="a.b"
    )
    assert told(rows) == [("a", 1.5, 2.5)]
    assert rows[0]["speed_mps"] == 9.0


def test_a_path_that_is_not_there_is_named_beside_those_that_are() -> None:
    body = json.dumps([FIX])
    _rows, [reject] = read_one(body, form="json", lon="position.x", lat="position.lat")
    assert (
        "has no column 'position.x'; its columns are: t, position, position.lon"
        in (reject["raw_text"])
    )


@pytest.mark.parametrize(
    ("value", "columns"),
    [
        ({"points": [fix(1), fix(2)], "id": "a"}, {}),
        ({"device": "a", "version": 3, "none": [], "fixes": [fix(1), fix(2)]}, {}),
        ({"data": {"id": "a", "points": [fix(1), fix(2)]}}, {"records": "data.points"}),
        ([{"id": "a", "points": [fix(1)]}, {"id": "a", "points": [fix(2)]}], {"records": "points"}),
        ({"id": "a", "events": [{"x": 1}], "points": [fix(1), fix(2)]}, {"records": "points"}),
    ],
)
def test_a_list_inside_an_object_gives_its_records_with_what_stands_beside_it(value, columns):
    rows, rejects = read_one(json.dumps(value), form="json", **columns)
    assert rejects == []
    assert told(rows) == [("a", 1.5, 0.125), ("a", 1.5, 0.25)]


@pytest.mark.parametrize(
    ("value", "columns", "words"),
    [
        ({"a": [{"x": 1}], "b": [{"x": 1}]}, {}, "which of these is columns.records: a, b"),
        ({"points": [fix(1)]}, {"records": "fixes"}, "holds no object at 'fixes'"),
        ({"points": []}, {}, "holds no record"),
        (7, {}, "is not one whole JSON array or object"),
    ],
)
def test_a_value_without_such_a_list_is_named(value, columns, words) -> None:
    rows, [reject] = read_one(json.dumps(value), form="json", **columns)
    assert rows == []
    assert words in reject["raw_text"]


def test_lists_of_records_in_lines_are_counted_one_by_one() -> None:
    lines = [{"id": "a", "points": [fix(1), 7, fix(2)]}, {"id": "b"}, {"id": "c", "points": []}]
    body = "\n".join(json.dumps(line) for line in [*lines, {"id": "d", "points": [fix(3)]}])
    rows, rejects = read_one(body, form="jsonl", records="points")
    assert [(row["entity_id"], row["line_number"]) for row in rows] == [
        ("a", 1),
        ("a", 1),
        ("d", 4),
    ]
    assert rules_of(rejects) == [(1, "malformed"), (2, "malformed")]


names = st.text("ab.", min_size=1, max_size=3)
trees = st.recursive(
    st.integers(),
    lambda inner: st.dictionaries(names, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("ab", min_size=1, max_size=3), trees, min_size=1))
def test_every_path_leads_to_a_value(row) -> None:
    for path in paths_of([row]):
        assert value_at(row, path) is not None


def test_the_list_that_is_taken_is_told(monkeypatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(progress, "log", lines.append)
    read_one(json.dumps({"device": "a", "fixes": [fix(1)]}), form="json")
    assert lines[0] == "own records: those of the list 'fixes'"


# GeoJSON.


def feature(kind: str | None, coordinates: object = None, **properties: object) -> dict:
    geometry = {"type": kind, "coordinates": coordinates} if kind else None
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def collection(*features: object) -> dict:
    return {"type": "FeatureCollection", "features": list(features)}


def test_points_of_geojson_have_their_properties() -> None:
    value = collection(
        feature("Point", [1.5, 2.5, 30], id="a", t=instant(0), v=3),
        feature("Point", [1.5], id="a", t=instant(1)),
        feature(None, id="a", t=instant(2)),
        feature("Polygon", [[[1, 2], [3, 4], [1, 2]]], id="a", t=instant(3)),
        "no feature",
        feature("Point", [-1, -2], id="b", t=instant(4)),
    )
    for form in ("geojson", "json"):
        rows, rejects = read_one(json.dumps(value), form=form, altitude="altitude", speed="v")
        assert told(rows) == [("a", 1.5, 2.5), ("b", -1.0, -2.0)]
        assert (rows[0]["altitude_m"], rows[0]["speed_mps"]) == (30.0, 3.0)
        assert rules_of(rejects)[2:] == [(4, "malformed"), (5, "malformed")]
        assert [number for number, _rule in rules_of(rejects)] == [2, 3, 4, 5]
    lines = "\n".join(json.dumps(each) for each in value["features"])
    rows, rejects = read_one(lines, form="jsonl")
    assert told(rows) == [("a", 1.5, 2.5), ("b", -1.0, -2.0)]
    assert [number for number, _rule in rules_of(rejects)] == [2, 3, 4, 5]


@pytest.mark.parametrize("name", ["EPSG:3857", "urn:ogc:def:crs:EPSG::2056", 31370, "14326"])
def test_geojson_in_other_coordinates_is_named(name: str | int) -> None:
    """Old GeoJSON (2008) may name its system; small numbers of another would be wrong degrees."""
    crs = {"type": "name", "properties": {"code" if isinstance(name, int) else "name": name}}
    in_geometry = feature("Point", [1.5, 2.5], id="a", t=instant(0))
    in_geometry["geometry"]["crs"] = crs
    whole = collection(feature("Point", [1.5, 2.5], id="a", t=instant(0))) | {"crs": crs}
    for value in (whole, collection(in_geometry)):
        rows, [reject] = read_one(json.dumps(value), form="geojson")
        assert rows == []
        assert reject["raw_text"] == f"has coordinates of '{name}'; write them in WGS 84"


@pytest.mark.parametrize(
    "name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:EPSG::4326", "EPSG:4326", None]
)
def test_geojson_that_names_wgs84_is_read(name: str | None) -> None:
    crs = {"type": "name", "properties": {"name": name}} if name else None
    value = collection(feature("Point", [1.5, 2.5], id="a", t=instant(0))) | {"crs": crs}
    rows, rejects = read_one(json.dumps(value), form="geojson")
    assert (told(rows), rejects) == ([("a", 1.5, 2.5)], [])


LINE = [[1.5, 0.125, 9], [1.5, 0.25, 9]]
PLACES = [(1.5, 0.125), (1.5, 0.25)]


@pytest.mark.parametrize(
    "properties",
    [
        {"coordTimes": [instant(1), instant(2)]},
        {"coordinateProperties": {"times": [instant(1), instant(2)]}, "time": "2000"},
    ],
)
def test_vertices_of_a_line_have_the_times_beside_it(properties) -> None:
    body = json.dumps(collection(feature("LineString", LINE, **properties)))
    rows, rejects = read({"ride.geojson": body.encode()}, form="geojson")
    assert rejects == []
    assert told(rows) == [("ride", *place) for place in PLACES]
    assert [row["tracked_at"] for row in rows] == [NOON + timedelta(seconds=s) for s in (1, 2)]
    assert {row["source_trip_id"] for row in rows} == {"1.1"}


def test_each_line_is_a_trip_and_one_without_a_time_for_each_vertex_has_none() -> None:
    two, one = [instant(1), instant(2)], [instant(3)]
    value = collection(
        feature("MultiLineString", [LINE, LINE, LINE], coordTimes=[two, one, two]),
        feature("LineString", LINE),
        feature("LineString", LINE, coordTimes=two),
        feature("MultiPoint", LINE, coordTimes=two),
    )
    rows, rejects = read_one(json.dumps(value), form="geojson")
    trips = [row["source_trip_id"] for row in rows]
    assert trips == [name for name in ("1.1", "1.3", "3.1", "4.1") for _vertex in LINE]
    assert rules_of(rejects) == [(number, "malformed") for number in (3, 4, 7, 8)]


@settings(max_examples=8)
@given(
    st.lists(
        st.tuples(longitudes(), latitudes(), st.integers(0, 10**7)).filter(
            lambda fix: fix[0] != 181 and (fix[0] % 360 or fix[1])  # these say: no position
        ),
        min_size=1,
    )
)
def test_a_track_comes_out_of_geojson_and_kml_as_it_went_in(track) -> None:
    expected = [
        (lon - 360 if lon >= 180 else lon, lat, NOON + timedelta(0, s)) for lon, lat, s in track
    ]
    line = [[lon, lat] for lon, lat, _second in track]
    times = [instant(second) for _lon, _lat, second in track]
    geojson = json.dumps(collection(feature("LineString", line, coordTimes=times))).encode()
    for form, body in (("geojson", geojson), ("kml", kml_of(times, line))):
        rows, rejects = read_one(body.decode(), form=form)
        assert rejects == []
        found = [(row["lon_deg"], row["lat_deg"], row["tracked_at"]) for row in rows]
        assert found == expected, form


@settings(max_examples=10)
@given(st.data())
def test_any_damage_to_containers_is_read_or_rejected(data) -> None:
    """`read` checks that every record is kept or rejected."""
    form = data.draw(st.sampled_from(["kml", "geojson"]))
    line = [[1.5, 0.125], [1.5, 0.25]]
    geojson = collection(feature("LineString", line, coordTimes=[instant(1), instant(2)]))
    times = [instant(1), instant(2)]
    body = bytearray(kml_of(times, line) if form == "kml" else json.dumps(geojson).encode())
    for _flip in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    rows, rejects = read({"a": bytes(body)}, form=form)
    assert rows or rejects
