"""Geometries of your own data: WKT and WKB in columns, and GeoParquet."""

from __future__ import annotations

import io
import json
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.own_files import Rows, read_one, rules_of
from helpers.strategies import latitudes, longitudes
from hypothesis import given
from hypothesis import strategies as st

from tasks.ingest.readers.geometry import point_of

INSTANTS = ("2024-03-07T12:00:00Z", "2024-03-07T12:00:01Z")


def told(rows: Rows) -> list[tuple[str, float, float]]:
    return [(row["entity_id"], row["lon_deg"], row["lat_deg"]) for row in rows]


def wkb(lon: float, lat: float, order: str = "<", kind: int = 1, *more: float, srid: bytes = b""):
    """A point by the standard (OGC 06-103r4, 8.2), and the extension of PostGIS."""
    head = struct.pack(f"{order}BI", order == "<", kind)
    return head + srid + struct.pack(f"{order}{2 + len(more)}d", lon, lat, *more)


@given(longitudes(), latitudes(), st.sampled_from("<>"))
def test_points_come_out_of_wkb_and_wkt_as_they_went_in(lon, lat, order) -> None:
    flat, tall = wkb(lon, lat, order), wkb(lon, lat, order, 1001, 9.0)
    extended = wkb(lon, lat, order, 1 | 0x20000000, srid=struct.pack(f"{order}I", 4326))
    for body in (flat, tall, extended, wkb(lon, lat, order, 0x80000001, 9.0)):
        for written in (body, body.hex(), f"\\x{body.hex().upper()}"):
            assert tuple(map(float, point_of(written))) == (lon, lat)
    as_json = json.dumps({"type": "Point", "coordinates": [lon, lat, 9]})
    for text in (f"POINT ({lon!r} {lat!r})", f" srid=4326;Point Z({lon!r}  {lat!r} 9) ", as_json):
        assert tuple(map(float, point_of(text))) == (lon, lat)


@pytest.mark.parametrize(
    "geometry",
    [
        *("", None, "POINT EMPTY", "POINT (1)", "POINT (1 2", "POINT (1 2 3 4 5)", "POINT (1,5 2)"),
        *(
            '{"type": "LineString", "coordinates": [[1, 2], [3, 4]]}',
            "{",
            "{}",
            '{"coordinates": 1}',
            '{"type": "Point", "coordinates": [1, 2], "crs": {"properties": {"name": "EPSG:31"}}}',
        ),
        *("LINESTRING (1 2, 3 4)", "SRID=3857;POINT (1 2)", "1.5 2.5", b"", b"\x01\x01"),
        *(wkb(1, 2)[:-1], wkb(1, 2) + b"\0", wkb(1, 2, "<", 2), wkb(1, 2).hex()[:-2]),
        wkb(1, 2, "<", 1 | 0x20000000, srid=struct.pack("<I", 3857)),
    ],
)
def test_what_is_no_point_in_degrees_is_nowhere(geometry) -> None:
    assert point_of(geometry) == ("", "")


@given(st.binary(max_size=50) | st.text("POINT (1.5)\\x0", max_size=30))
def test_any_geometry_is_a_place_or_nowhere(geometry) -> None:
    place = point_of(geometry)
    assert place == ("", "") or [float(text) for text in place]


def test_a_geometry_of_json_stands_for_two_columns() -> None:
    geometry = {"type": "Point", "coordinates": [1.5, 2.5]}
    body = json.dumps([{"id": "a", "t": INSTANTS[0], "geometry": geometry}])
    for decimal in ("point", "comma"):
        rows, rejects = read_one(body, form="json", decimal=decimal)
        assert (told(rows), rejects) == ([("a", 1.5, 2.5)], [])


@pytest.mark.parametrize(
    ("head", "columns"),
    [("id,t,geom", {}), ("id,t,shape", {"geometry": "Shape"}), ("id,t,wkt", {"decimal": "point"})],
)
def test_a_column_of_geometries_stands_for_two(head, columns) -> None:
    geometries = ["POINT (1.5 2.5)", wkb(1.5, 2.5).hex(), '"LINESTRING (1 2, 3 4)"', ""]
    body = "\n".join([head, *(f"a,{INSTANTS[0]},{geometry}" for geometry in geometries)])
    rows, rejects = read_one(body, **columns)
    assert told(rows) == [("a", 1.5, 2.5)] * 2
    assert [number for number, _rule in rules_of(rejects)] == [4, 5]
    comma = body.replace("1 2, 3 4", "1 2 3 4").replace(",", ";")
    assert told(read_one(comma, **columns | {"decimal": "comma"})[0]) == [("a", 1.5, 2.5)] * 2


def geoparquet(geo: dict | None, geometry: pa.Array) -> bytes:
    """A table by the specification of GeoParquet 1.1."""
    table = pa.table({"id": ["a", "b"], "t": INSTANTS, "place": geometry})
    metadata = {"geo": json.dumps(geo)} if geo else {}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink)
    return sink.getvalue()


def geo_of(**column: object) -> dict:
    return {"version": "1.1.0", "primary_column": "place", "columns": {"place": column}}


WKBS = pa.array([wkb(1.5, 2.5), wkb(-1.5, -2.5)])


@pytest.mark.parametrize(
    ("geo", "geometry", "columns"),
    [
        (geo_of(encoding="WKB"), WKBS, {}),
        (geo_of(encoding="WKB", crs={"id": {"authority": "EPSG", "code": 4326}}), WKBS, {}),
        (geo_of(encoding="point"), pa.array([{"x": 1.5, "y": 2.5}, {"x": -1.5, "y": -2.5}]), {}),
        (None, WKBS, {"geometry": "place"}),
        (None, pa.array(["POINT (1.5 2.5)", "POINT (-1.5 -2.5)"]), {"geometry": "place"}),
    ],
)
def test_geoparquet_tells_where_its_places_stand(geo, geometry, columns) -> None:
    rows, rejects = read_one(geoparquet(geo, geometry), form="parquet", **columns)
    assert rejects == []
    assert told(rows) == [("a", 1.5, 2.5), ("b", -1.5, -2.5)]


@pytest.mark.parametrize(
    ("geo", "words"),
    [
        (geo_of(encoding="WKB", crs={"name": "ETRS89 / UTM 32N"}), "ETRS89 / UTM 32N"),
        (geo_of(encoding="linestring"), "not as points"),
        (None, "needs columns.lon, which of these is it: id, t, place"),
    ],
)
def test_geoparquet_of_other_places_is_named(geo, words) -> None:
    rows, [reject] = read_one(geoparquet(geo, WKBS), form="parquet")
    assert rows == []
    assert words in reject["raw_text"]
