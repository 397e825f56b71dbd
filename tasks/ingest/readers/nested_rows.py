"""Nested rows: objects deep inside JSON values as rows, by paths, lists and GeoJSON features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from tasks.ingest.archive import Unreadable
from tasks.ingest.readers.geometry import other_crs, refuse

MAX_DEPTH = 8
NUM_FIRST_ROWS = 50  # that tell what a column holds
MAX_INDEX = 8  # longer lists are no rows of columns
TRACK = "track"  # the name under which a row tells the track it is a vertex of
INSTANT = "tracked_at"
AXES = ("lon", "lat", "altitude")
TIMES = ("coordTimes", "times", "timestamps", "coord_times")
FEATURES = ("Feature", "FeatureCollection")


def paths_of(rows: Iterable[Any]) -> list[str]:
    """The names of the values of objects, in the order in which they come.

    A value inside a value is named by its path, with points between.
    """
    return list(
        dict.fromkeys(path for row in rows if isinstance(row, dict) for path in paths_in(row))
    )


def paths_in(value: Any, head: str = "", depth: int = 0) -> Iterator[str]:
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and len(value) <= MAX_INDEX:
        items = enumerate(value)
    for key, inner in items:
        yield f"{head}{key}"
        if depth < MAX_DEPTH and isinstance(inner, dict | list):
            yield from paths_in(inner, f"{head}{key}.", depth + 1)


def flat(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Objects with all their values by name."""
    objects = (row for row in rows if isinstance(row, dict))
    return [{path: value_at(row, path) for path in paths_in(row)} for row in objects]


def value_at(value: Any, path: str) -> Any:
    """The value at a path, or None. Names may hold points themselves: a whole one comes first."""
    if isinstance(value, list):
        index, _point, rest = path.partition(".")
        if not (index.isdecimal() and int(index) < len(value)):
            return None
        return value_at(value[int(index)], rest) if rest else value[int(index)]
    if not isinstance(value, dict):
        return None
    if path in value:
        return value[path]
    parts = path.split(".")
    heads = (number for number in range(1, len(parts)) if ".".join(parts[:number]) in value)
    found = (value_at(value[".".join(parts[:n])], ".".join(parts[n:])) for n in heads)
    return next((each for each in found if each is not None), None)


def rows_of(value: Any, records: str, head: str = "") -> list[Any]:
    """The records of a JSON value, each an object, or None where there is none.

    They are those at the path `records`; else those of a list, of the only list of objects inside
    an object, or the points of GeoJSON, whose tracks have names with this head.
    """
    if records:
        return list(inside(value, records.split("."), {}))
    if isinstance(value, dict) and not is_feature(value):
        return list(inside(value, only_list(value), {}))
    values = value if isinstance(value, list) else [value]
    return list(points_of(values, head))


def only_list(value: Mapping[str, Any]) -> list[str]:
    """The path to the only list of objects inside an object, or to the object where it has none."""
    names = [name for name, inner in value.items() if isinstance(inner, list)]
    lists = [name for name in names if any(isinstance(item, dict) for item in value[name])]
    if len(lists) > 1:
        raise Unreadable(
            f"holds several lists, which of these is columns.records: {', '.join(lists)[:200]}"
        )
    return lists or (names if len(value) == 1 else [])


def inside(value: Any, path: Sequence[str], parent: Mapping[str, Any]) -> Iterator[Any]:
    """The objects at a path through objects and lists, with what stands beside those on the way."""
    if isinstance(value, list):
        for item in value:
            yield from inside(item, path, parent)
    elif not isinstance(value, dict):
        yield None
    elif not path:
        yield {**parent, **value}
    elif path[0] in value:
        beside = {name: inner for name, inner in value.items() if name != path[0]}
        plain = {name: inner for name, inner in beside.items() if not isinstance(inner, list)}
        yield from inside(value[path[0]], path[1:], {**parent, **plain})
    else:
        yield None


# GeoJSON (RFC 7946).


def is_feature(value: Any) -> bool:
    is_one = isinstance(value, dict) and value.get("type") in FEATURES
    return is_one and ("geometry" in value or "features" in value)


def points_of(values: Iterable[Any], head: str) -> Iterator[Any]:
    """Rows, where a feature stands for its points; tracks are numbered through."""
    num_features = 0
    for value in flattened(values):
        if is_feature(value):
            num_features += 1
            yield from feature_points(value, f"{head}{num_features}")
        else:
            yield value


def flattened(values: Iterable[Any]) -> Iterator[Any]:
    """Values, where a collection stands for its features."""
    for value in values:
        if is_feature(value) and (name := other_crs(value) or other_crs(geometry_of(value))):
            refuse(name)
        if not is_feature(value) or value["type"] == "Feature":
            yield value
        else:
            features = value.get("features")
            listed = features if isinstance(features, list) else [None]
            yield from flattened(each if is_single(each) else None for each in listed)


def is_single(value: Any) -> bool:
    return is_feature(value) and value["type"] == "Feature"


def feature_points(feature: Mapping[str, Any], track: str) -> Iterator[Any]:
    """A point with its properties, or the vertices of a line that tells their times."""
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    geometry = geometry_of(feature)
    kind, places = geometry.get("type"), geometry.get("coordinates")
    if kind in ("Point", None):
        yield {**properties, **place_of(places)}
        return
    lines = places if kind == "MultiLineString" else [places]
    if kind not in ("LineString", "MultiLineString", "MultiPoint") or not isinstance(lines, list):
        yield None
        return
    beside = {name: inner for name, inner in properties.items() if not isinstance(inner, list)}
    times = times_of(properties)
    for number, line in enumerate(lines):
        of_line = times if kind != "MultiLineString" else item_at(times, number)
        name = f"{track}.{number + 1}"
        yield from ({**beside, **row} if row else None for row in vertices(line, of_line, name))


def geometry_of(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    geometry = feature.get("geometry")
    return geometry if isinstance(geometry, dict) else {}


def times_of(properties: Mapping[str, Any]) -> Any:
    """The times of the vertices of a line, where the common writers put them."""
    inner = properties.get("coordinateProperties")
    places = [properties, inner] if isinstance(inner, dict) else [properties]
    return next((place[name] for place in places for name in TIMES if name in place), None)


def item_at(values: Any, number: int) -> Any:
    return values[number] if isinstance(values, list) and number < len(values) else None


def vertices(line: Any, times: Any, track: str) -> Iterator[dict[str, Any] | None]:
    """The vertices of a line; none is a record unless there is exactly one time for each."""
    places = line if isinstance(line, list) else [None]
    has_times = isinstance(times, list) and len(times) == len(places)
    for place, time in zip(places, times if has_times else repeat(None), strict=has_times):
        yield {**place_of(place), INSTANT: time, TRACK: track} if has_times else None


def place_of(place: Any) -> dict[str, Any]:
    values = place if isinstance(place, list) else []
    return dict.fromkeys(AXES[:2]) | dict(zip(AXES, values, strict=False))
