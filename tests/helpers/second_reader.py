"""Second reader of every form of raw file: short, slow, of the standard library alone.

It shares no code with the pipeline and knows no rule: it says what stands in a record, where it
can, and skips the rest. Whatever the pipeline keeps must be what this reader sees in the same
record.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq

from helpers.fault_sources import Source, Value

Seen = Iterator[tuple[int, Value]]  # the number of a record in its file, and what it says
TIMED_POINT = "{*}TimeStamp/{*}when", "{*}Point/{*}coordinates"
CHINA = timezone(timedelta(hours=8))  # in winter, and of two passes of an hour the second


def seen_in(source: Source, body: bytes) -> dict[int, list[Value]]:
    """What stands in each record of a file that can be read at all."""
    found: dict[int, list[Value]] = defaultdict(list)
    form = source.columns.get("form", source.dataset) if source.dataset == "own" else source.name
    for number, value in READERS[form](body, source):
        found[number].append(value)
    return found


def value(instant: datetime, lon: float | str, lat: float | str) -> Value:
    return instant.astimezone(UTC), (float(lon) + 180) % 360 - 180, float(lat)


def instant_of(text: str, zone: tzinfo = UTC) -> datetime:
    """The instant of a text of ISO 8601, or of a count of seconds or milliseconds since 1970."""
    if text.isdecimal():
        return datetime.fromtimestamp(int(text) / (1_000 if len(text) > 11 else 1), UTC)
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=zone)


def lines_of(body: bytes) -> Iterator[tuple[int, str]]:
    text = body.decode("utf-8-sig", "replace")
    yield from enumerate((line.rstrip("\r") for line in text.split("\n")), 1)


def by_place(
    read: Callable[[list[str]], Value], mark: str = ","
) -> Callable[[bytes, Source], Seen]:
    """A reader of lines whose columns are known by their places."""

    def records(body: bytes, _source: Source) -> Seen:
        for number, line in lines_of(body):
            try:
                yield number, read(next(csv.reader([line], delimiter=mark)))
            except (ValueError, IndexError, StopIteration, csv.Error):
                continue

    return records


def by_name(time: str, lon: str, lat: str, mark: str = ",") -> Callable[[bytes, Source], Seen]:
    """A reader of lines under a header."""

    def records(body: bytes, source: Source) -> Seen:
        zone = ZoneInfo(source.columns.get("zone", "UTC"))
        header: list[str] = []
        for number, line in lines_of(body):
            try:
                cells = next(csv.reader([line], delimiter=mark))
                header = header or cells
                row = dict(zip(header, cells, strict=True))
                yield number, value(instant_of(row[time], zone), row[lon], row[lat])
            except (ValueError, KeyError, StopIteration, csv.Error):
                continue

    return records


def storm(cells: list[str]) -> Value:
    day, clock, _record, _status, lat, lon = (cell.strip() for cell in cells[:6])
    instant = datetime.strptime(f"{day} {clock} +0000", "%Y%m%d %H%M %z")
    south, west = ("-" * (text[-1] in "SW") for text in (lat, lon))
    return value(instant, west + lon[:-1], south + lat[:-1])


def label(cells: list[str]) -> Value:
    return value(datetime.strptime(f"{cells[0]} +0000", "%Y/%m/%d %H:%M:%S %z"), 0, 0)


def taxi_lists(body: bytes, _source: Source) -> Seen:
    for number, line in lines_of(body):
        try:
            cells = next(csv.reader([line]))
            started = instant_of(cells[4])
            for place, (lon, lat) in enumerate(json.loads(cells[6])):
                yield number, value(started + timedelta(seconds=15 * place), lon, lat)
        except (ValueError, IndexError, TypeError, StopIteration, csv.Error):
            continue


def ship_tracks(body: bytes, _source: Source) -> Seen:
    for number, line in lines_of(body):
        cells = line.split(",")[11:]
        for _ship, time, lon, lat in zip(*[iter(cells)] * 4, strict=False):
            try:
                yield number, value(instant_of(time), lon, lat)
            except ValueError:
                continue


def iceberg(cells: list[str]) -> Value:
    return value(datetime.strptime(f"{cells[0]} +0000", "%Y%j %z"), cells[2], cells[1])


def elements(body: bytes, _source: Source) -> Seen:
    encoding = "utf-16" if body[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = body.decode(encoding, "replace")
    for number, point in enumerate(re.findall(r"<trkpt\b.*?</trkpt>", text, re.DOTALL), 1):
        lat, lon = (re.search(rf'{name}="([^"]*)"', point) for name in ("lat", "lon"))
        time = re.search(r"<time>([^<]*)</time>", point)
        try:
            yield number, value(instant_of(time[1]), lon[1], lat[1])
        except (ValueError, TypeError):
            continue


def objects(
    time: str, lon: str, lat: str, is_by_line: bool = False
) -> Callable[[bytes, Source], Seen]:
    """A reader of flat JSON objects, one a line or wherever they stand."""

    def records(body: bytes, _source: Source) -> Seen:
        text = body.decode("utf-8-sig", "replace")
        whole = re.findall(r"\{[^{}]*\}", text)
        for number, found in lines_of(body) if is_by_line else enumerate(whole, 1):
            try:
                row: dict[str, Any] = json.loads(found)
                yield number, value(instant_of(str(row[time])), row[lon], row[lat])
            except (ValueError, KeyError, TypeError):
                continue

    return records


def features(body: bytes, _source: Source) -> Seen:
    """Points of GeoJSON, and the vertices of lines beside the list of their times."""
    found = json.loads(body.decode("utf-8-sig"))["features"]
    return numbered(pair for feature in found for pair in feature_pairs(feature))


def feature_pairs(feature: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    told, geometry = feature.get("properties", {}), feature.get("geometry", {})
    places = geometry.get("coordinates")
    if geometry.get("type") == "LineString":
        return zip(told["coordTimes"], places, strict=False)
    return iter([(told.get("t"), places)])


def placemarks(body: bytes, _source: Source) -> Seen:
    """Tracks and timed points of KML."""
    return numbered((time, re.split(r"[,\s]+", f"{place}")) for time, place in placed(body))


def placed(body: bytes) -> Iterator[tuple[Any, Any]]:
    """The texts of times and places, up to where the file breaks."""
    parser = ElementTree.XMLPullParser(["start", "end"])
    parser.feed(body)
    inside: list[str] = []
    track: dict[str, list[str | None]] = {"when": [], "coord": []}
    with contextlib.suppress(ElementTree.ParseError):
        for event, element in parser.read_events():
            name = element.tag.rpartition("}")[2]
            if event == "start":
                inside.append(name)
            elif inside.pop() in track and inside[-1] == "Track":
                track[name].append(element.text)
            elif name == "Track":
                yield from zip(*track.values(), strict=False)
                track = {"when": [], "coord": []}
            elif name == "Placemark" and element.find("{*}TimeStamp") is not None:
                yield tuple(map(element.findtext, TIMED_POINT))


def numbered(pairs: Iterable[tuple[Any, Any]]) -> Seen:
    for number, (time, place) in enumerate(pairs, 1):
        try:
            yield number, value(instant_of(f"{time}"), *place[:2])
        except (ValueError, TypeError):
            continue


def table(body: bytes, _source: Source) -> Seen:
    for number, row in enumerate(pq.read_table(io.BytesIO(body)).to_pylist(), 1):
        try:
            yield number, value(instant_of(row["t"]), row["lon"], row["lat"])
        except (ValueError, KeyError, TypeError):
            continue


READERS: dict[str, Callable[[bytes, Source], Seen]] = {
    "hurdat2": by_place(storm),
    "geolife": by_place(lambda c: value(instant_of(f"{c[5]} {c[6]}"), c[1], c[0])),
    "geolife labels": by_place(label, "\t"),
    "porto": taxi_lists,
    "cabspotting": by_place(lambda c: value(instant_of(c[3]), c[1], c[0]), " "),
    "tdrive": by_place(lambda c: value(instant_of(c[1], CHINA), c[2], c[3])),
    "ais_noaa": by_name("BaseDateTime", "LON", "LAT"),
    "bus_avl": by_name("timestamp", "longitude", "latitude"),
    "ais_tracktable": ship_tracks,
    "opensky": objects("timestamp", "longitude", "latitude"),
    "icebergs": by_place(iceberg),
    "gpx": elements,
    "csv": by_name("t", "lon", "lat"),
    "tsv": by_name("t", "lon", "lat", "\t"),
    "jsonl": objects("t", "lon", "lat", is_by_line=True),
    "json": objects("t", "lon", "lat"),
    "geojson": features,
    "kml": placemarks,
    "parquet": table,
}
