"""Field columns: which columns of own files are read for which field, and what they mean.

A column without a name in the configuration is taken by one of its aliases where it is needed, and
otherwise not read. Nothing is guessed from values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.config.pipeline import ColumnsConfig
from tasks.ingest.archive import Unreadable
from tasks.ingest.readers.column_names import plain_name, shown
from tasks.runtime.progress import log_once

DELIMITERS = {"comma": b",", "semicolon": b";", "tab": b"\t", "pipe": b"|"}
# Fields of a record, each the name of a column of the staging SQL.
FIELDS = (
    *("entity", "trip", "day", "clock", "lon", "lat", "east_west", "north_south"),
    *("altitude", "speed", "course", "received_at", "mark"),
)
ALIASES = {
    "entity": (
        *("entity_id", "entity", "id", "device_id", "device", "vehicle_id", "vehicle", "vessel_id"),
        *("vessel", "mmsi", "icao24", "user_id", "user", "object_id", "tag_id", "name"),
    ),
    "day": (
        *("tracked_at", "timestamp", "date_time", "datetime", "base_date_time", "basedatetime"),
        *("fix_time", "local_time", "utc_time", "recorded_at", "t", "ts", "time"),
    ),
    "lon": ("lon", "lng", "long", "longitude", "lon_deg", "longitude_deg", "x"),
    "lat": ("lat", "latitude", "lat_deg", "latitude_deg", "y"),
}
GEOMETRIES = ("geometry", "geom", "the_geom", "geog", "wkt", "wkb")
LETTERS = {"north_south": ("lat", {"N", "S"}), "east_west": ("lon", {"E", "W"})}
METRES_PER_ALTITUDE = {"m": 1.0, "ft": 0.3048}
MPS_PER_SPEED = {"mps": 1.0, "kmh": 1 / 3.6, "knots": 1_852 / 3_600}
COORDINATE_SCALE = {"degrees": 1.0, "degrees_e7": 1e7}
NUM_US = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1, "epoch_ns": 0.001}
# Instants that are credible, in microseconds since 1970: counts from 1970, or from 1973 where fewer
# than twelve digits of milliseconds would rather be seconds, and so on; dates written out from
# 1800; all to 2100.
IN_1973_US = 100_000_000_000_000
EARLIEST_US = {"epoch_s": 0} | dict.fromkeys(("epoch_ms", "epoch_us", "epoch_ns"), IN_1973_US)
FIRST_WRITTEN_US, LATEST_US = -5_364_662_400_000_000, 4_133_980_799_999_999


def staging_values(columns: ColumnsConfig) -> dict[str, Any]:
    """The values that the staging SQL binds."""
    return {
        "missing": list(columns.missing),
        "marked_out": [mark.strip().casefold() for mark in columns.marked_out],
        "decimal_mark": decimal_mark(columns),
        "coordinate_scale": COORDINATE_SCALE[columns.coordinates],
        "m_per_altitude": METRES_PER_ALTITUDE[columns.altitude_unit],
        "mps_per_speed": MPS_PER_SPEED[columns.speed_unit],
        "time_form": columns.time_form,
        "time_pattern": columns.time_pattern or "%Y",
        "num_us": NUM_US.get(columns.time_form, 0),
        "zone": columns.zone,
        "repeated_hour": columns.repeated_hour,
        "skipped_hour": columns.skipped_hour,
        "earliest_us": EARLIEST_US.get(columns.time_form, FIRST_WRITTEN_US),
        "latest_us": LATEST_US,
    }


def decimal_mark(columns: ColumnsConfig) -> str:
    return "," if columns.decimal == "comma" else "."


def delimiter(columns: ColumnsConfig) -> bytes:
    """What stands between columns, by what the configuration says and never by the file."""
    if columns.delimiter != "auto":
        return DELIMITERS[columns.delimiter]
    if columns.form == "tsv":
        return b"\t"
    return b";" if columns.decimal == "comma" else b","


def chosen(names: Sequence[str], columns: ColumnsConfig, told: set[str]) -> dict[str, str]:
    """The name of the column behind each field, told once."""
    known = known_columns(names, columns)
    words = {"day": "tracked_at" if "clock" not in known else "date"}
    fields = [field for field in (*FIELDS, "geometry") if field in known]
    parts = [f"{words.get(field, field)} is {known[field]!r}" for field in fields]
    if "entity" not in known:
        parts.insert(0, "entity is the name of the file")
    log_once(f"own columns: {', '.join(parts)}", told)
    return known


def known_columns(names: Sequence[str], columns: ColumnsConfig) -> dict[str, str]:
    """The name of the column behind each field: the one in the configuration, or an alias."""
    asked = {
        "entity": columns.entity,
        "day": columns.tracked_at or columns.date,
        **{name: getattr(columns, name) for name in ("clock", "lon", "lat", "altitude", "speed")},
        **{name: getattr(columns, name) for name in ("course", "trip", "received_at", "geometry")},
        **{name: getattr(columns, name) for name in (*LETTERS, "mark")},
    }
    known = {field: named_column(names, name) for field, name in asked.items() if name}
    if not asked["day"] and alias_of(names, ALIASES["day"][:-1]) is None:
        pair = {"day": alias_of(names, ("date",)), "clock": alias_of(names, ("time",))}
        known |= {field: name for field, name in pair.items() if name} if all(pair.values()) else {}
    for field, aliases in ALIASES.items():
        if field not in known and (name := alias_of(names, aliases)) is not None:
            known[field] = name
    if "geometry" not in known and not {"lon", "lat"} <= known.keys():
        geometry = alias_of(names, GEOMETRIES)
        known |= {"geometry": geometry} if geometry else {}
    needed = [("day", "tracked_at")]
    if "geometry" in known:
        known = {field: name for field, name in known.items() if field not in ("lon", "lat")}
    else:
        needed += [("lon", "lon"), ("lat", "lat")]
    for field, flag in needed:
        if field not in known:
            raise Unreadable(f"needs columns.{flag}, which of these is it: {shown(names)}")
    return known


def refuse_letters(known: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Ask for a column of letters that stands beside coordinates without a sign.

    `rows` are the first of a file, by the names of all its columns in their order. A coordinate
    without its letter would lie on the wrong half of the Earth.
    """
    for field, (axis, letters) in LETTERS.items():
        if axis not in known:  # a geometry has signs
            continue
        is_signed = any(str(row.get(known[axis])).strip().startswith("-") for row in rows)
        if field in known or is_signed:
            continue
        names = list(dict.fromkeys(name for row in rows for name in row))
        place = names.index(known[axis]) if known[axis] in names else -2
        for name in names[max(place - 1, 0) : place + 2]:
            values = {str(row.get(name)).strip().upper() for row in rows}
            if values and values <= letters:
                raise Unreadable(
                    f"column {name!r} holds the letters of {known[axis]!r}: name it as "
                    f"columns.{field}"
                )


def named_column(names: Sequence[str], asked: str) -> str:
    """The column of that name, however it is spaced and cased, or an error that lists them."""
    same = [name for name in names if name == asked] or [
        name for name in names if plain_name(name) == plain_name(asked)
    ]
    if len(same) != 1:
        problem = "has no column" if not same else "has more than one column"
        raise Unreadable(f"{problem} {asked!r}; its columns are: {shown(names)}")
    return same[0]


def alias_of(names: Sequence[str], aliases: Sequence[str]) -> str | None:
    """The column with the first of these names that any has."""
    by_plain = {plain_name(name): name for name in reversed(names)}
    return next((by_plain[alias] for alias in aliases if alias in by_plain), None)
