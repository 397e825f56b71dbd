"""Geometry: points written as WKT, WKB or GeoJSON, as the texts of their longitude and latitude."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import Any, NoReturn

from tasks.ingest.archive import Unreadable

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
WKT = re.compile(
    rf"\s*(?:SRID\s*=\s*(\d+)\s*;)?\s*POINT\s*(?:ZM|Z|M)?\s*"
    rf"\(\s*({NUMBER})\s+({NUMBER})(?:\s+{NUMBER}){{0,2}}\s*\)\s*",
    re.IGNORECASE,
)
HEX = re.compile(r"\s*(?:\\x|0x)?((?:[0-9a-fA-F]{2}){21,41})\s*")
WGS84 = ("", "0", "4326", "4979")
NAMES_WGS84 = re.compile(r"(.*[:/])?(CRS84h?|4326|4979)")
# Extended WKB of PostGIS: bits of the type; its number in ISO WKB counts thousands for Z and M.
HAS_SRID, FLAGS = 0x20000000, 0xE0000000
POINT, MAX_ISO = 1, 3001
NOWHERE = ("", "")


def point_of(geometry: str | bytes | None) -> tuple[str, str]:
    """Longitude and latitude of a point in degrees, or empty texts where it is none."""
    if isinstance(geometry, bytes):
        return wkb_point(geometry)
    if found := WKT.fullmatch(geometry or ""):
        return (found[2], found[3]) if (found[1] or "") in WGS84 else NOWHERE
    if found := HEX.fullmatch(geometry or ""):
        return wkb_point(bytes.fromhex(found[1]))
    return json_point(geometry) if geometry and geometry.startswith("{") else NOWHERE


def json_point(geometry: str) -> tuple[str, str]:
    """A point of GeoJSON, its numbers as they are written."""
    try:
        value = json.loads(geometry, parse_float=str, parse_int=str)
        lon_deg, lat_deg = value["coordinates"][:2]
    except (ValueError, TypeError, LookupError, RecursionError):
        return NOWHERE
    is_point = value.get("type") == "Point" and isinstance(lon_deg, str) and not other_crs(value)
    return (lon_deg, lat_deg) if is_point and isinstance(lat_deg, str) else NOWHERE


def other_crs(value: Mapping[str, Any]) -> str | None:
    """The name of the coordinates of old GeoJSON (2008), where it tells others than WGS 84."""
    crs = value.get("crs")
    told = crs.get("properties") if isinstance(crs, dict) else None
    name = told.get("name", told.get("code")) if isinstance(told, dict) else crs
    return None if crs is None or NAMES_WGS84.fullmatch(f"{name}") else name_of(name)


def wkb_point(body: bytes) -> tuple[str, str]:
    if len(body) < 21 or body[0] > 1:
        return NOWHERE
    order = "<" if body[0] else ">"
    (number,) = struct.unpack_from(f"{order}I", body, 1)
    kind, start, srid = number & ~FLAGS, 5, 0
    if number & HAS_SRID:
        (srid,), start = struct.unpack_from(f"{order}I", body, 5), 9
    num_axes, num_left = divmod(len(body) - start, 8)
    is_point = kind % 1000 == POINT and kind <= MAX_ISO
    if not is_point or num_left or num_axes not in (2, 3, 4) or f"{srid}" not in WGS84:
        return NOWHERE
    lon_deg, lat_deg = struct.unpack_from(f"{order}2d", body, start)
    return repr(lon_deg), repr(lat_deg)


def places_told(metadata: Mapping[bytes, bytes]) -> dict[str, str]:
    """The columns of places that the metadata of GeoParquet name, by the names of the settings."""
    try:
        geo = json.loads(metadata.get(b"geo", b"null"))
        name = geo["primary_column"]
        column = geo["columns"][name]
        encoding, crs = column.get("encoding"), column.get("crs")
    except (ValueError, TypeError, LookupError, AttributeError):
        return {}
    if encoding not in ("WKB", "point"):
        raise Unreadable(f"holds geometries as {encoding!r}, not as points")
    if crs is not None and not is_wgs84(crs):
        refuse(name_of(crs))
    return {"geometry": name} if encoding == "WKB" else {"lon": f"{name}.x", "lat": f"{name}.y"}


def refuse(crs_name: str) -> NoReturn:
    raise Unreadable(f"has coordinates of {crs_name}; write them in WGS 84")


def is_wgs84(crs: object) -> bool:
    told = crs.get("id") if isinstance(crs, dict) else None
    code = f"{told.get('code')}" if isinstance(told, dict) else ""
    return code in ("CRS84", "CRS84h", *WGS84[2:])


def name_of(crs: object) -> str:
    name = crs.get("name") if isinstance(crs, dict) else crs
    return f"{name!r}"[:100]
