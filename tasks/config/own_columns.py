"""Own columns: the section of the configuration that tells how your own files are written."""

from __future__ import annotations

import re
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from tasks.config.sections import Section

TIME_DIRECTIVES = "aAbBdmyYHIpMSfgnjz%"


def column(title: str, description: str) -> Any:
    """A field that holds the name of a column."""
    return Field("", max_length=200, title=title, description=description)


class ColumnsConfig(Section):
    """How your own files are written, for the dataset `own`; other datasets pass it over."""

    form: Literal["csv", "tsv", "jsonl", "json", "parquet", "geojson", "kml"] = Field(
        "csv",
        description="csv, tsv: one line a point; jsonl: one object a line; json: one array of "
        "objects, or one inside an object; parquet, also GeoParquet; geojson; kml: its tracks.",
    )
    files: str = Field("*", min_length=1, description="Pattern of file names, such as *.csv.")
    delimiter: Literal["auto", "comma", "semicolon", "tab", "pipe"] = Field(
        "auto", description="auto: tab for tsv, semicolon with a decimal comma, else comma."
    )
    decimal: Literal["point", "comma"] = Field(
        "point", title="Decimal mark", description="How numbers are written: 56.1 or 56,1."
    )
    encoding: Literal["utf-8", "latin-1"] = Field(
        "utf-8", description="A byte order mark is passed over."
    )
    is_headerless: bool = Field(
        False,
        title="No header line",
        description="The first line is a point; the columns are called 1, 2, 3, ...",
    )
    entity: str = column(
        "Entity column",
        "Who or what moves. If empty: id, device, vehicle, vessel, mmsi, ...; else the file's "
        "name.",
    )
    tracked_at: str = column(
        "Time column", "The instant of the fix. If empty: tracked_at, timestamp, datetime, t, ..."
    )
    date: str = column("Date column", "With the clock column, in place of the time column.")
    clock: str = column("Clock column", "With the date column, in place of the time column.")
    lon: str = column("Longitude column", "If empty: lon, lng, long, longitude, lon_deg, x.")
    lat: str = column("Latitude column", "If empty: lat, latitude, lat_deg, y.")
    geometry: str = column(
        "Geometry column",
        "Points as WKT or WKB, in place of longitude and latitude. If empty and without those: "
        "geometry, geom, wkt, wkb, ...",
    )
    records: str = column(
        "Path of the records",
        "In JSON, the name of the list that holds them, such as data.points. If empty: the only "
        "list of objects.",
    )
    north_south: str = column(
        "N or S column", "The letters N and S of latitudes without a sign. Not read if empty."
    )
    east_west: str = column(
        "E or W column", "The letters E and W of longitudes without a sign. Not read if empty."
    )
    altitude: str = column("Altitude column", "Not read if empty.")
    speed: str = column("Speed column", "Not read if empty.")
    course: str = column("Course column", "Degrees from north. Not read if empty.")
    trip: str = column("Trip column", "A trip ends where its value does. Not read if empty.")
    received_at: str = column(
        "Upload column", "When the point was received, written as the time is. Not read if empty."
    )
    mark: str = column(
        "Mark column",
        "A flag, a sensor or a quality by which rows are left out. Not read if empty.",
    )
    marked_out: tuple[str, ...] = Field(
        (),
        title="Marks to leave out",
        description="Rows with one of these values in the mark column are rejected as marked_out, "
        "in no limit; case does not matter.",
    )
    time_form: Literal["iso", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "pattern"] = Field(
        "iso",
        title="Form of times",
        description="iso: 2024-03-07T22:40:00.5+01:00; epoch: seconds, or thousandths, millionths "
        "or billionths of them, since 1970; pattern: as below.",
    )
    time_pattern: str = Field(
        "",
        max_length=100,
        title="Pattern of times",
        description="Such as %d/%m/%Y %H:%M:%S, with %z for an offset and %f for a fraction.",
    )
    zone: str = Field(
        "UTC",
        description="IANA zone of times without an offset and of the calendar, such as "
        "Europe/Oslo.",
    )
    repeated_hour: Literal["recorded", "first", "second"] = Field(
        "recorded",
        description="Local times that come twice in autumn. recorded: second once the clock has "
        "stepped back within the hour, in the order of the file.",
    )
    skipped_hour: Literal["reject", "before"] = Field(
        "reject",
        description="Local times that do not exist in spring. before: of a clock not yet put "
        "forward.",
    )
    coordinates: Literal["degrees", "degrees_e7"] = Field(
        "degrees", description="degrees_e7: whole numbers, degrees times 1e7."
    )
    altitude_unit: Literal["m", "ft"] = Field("m", description="Metres or feet.")
    speed_unit: Literal["mps", "kmh", "knots"] = Field(
        "mps", description="Metres a second, kilometres an hour, or knots."
    )
    missing: tuple[str, ...] = Field(
        ("NA", "N/A", "NaN", "nan", "null", "None"),
        title="Missing values",
        description="Texts that stand for no altitude, speed, course, trip or upload time.",
    )

    @field_validator("zone")
    @classmethod
    def zone_is_known(cls, zone: str) -> str:
        try:
            return ZoneInfo(zone).key
        except (KeyError, ValueError, OSError):
            raise ValueError(f"unknown zone {zone!r}; write it like Europe/Oslo") from None

    @field_validator("time_pattern")
    @classmethod
    def pattern_is_known(cls, pattern: str) -> str:
        for directive in re.findall(r"%-?(.?)", pattern, re.DOTALL):
            if directive == "" or directive not in TIME_DIRECTIVES:
                raise ValueError(f"unknown %{directive}; known are: {' '.join(TIME_DIRECTIVES)}")
        return pattern

    @model_validator(mode="after")
    def names_fit_together(self) -> ColumnsConfig:
        if self.time_form == "pattern" and not self.time_pattern:
            raise ValueError("time_form is pattern; give it as columns.time_pattern")
        if bool(self.mark) != bool(self.marked_out):
            raise ValueError("name both columns.mark and columns.marked_out, or neither")
        if bool(self.date) != bool(self.clock):
            raise ValueError("name both columns.date and columns.clock, or neither")
        if self.date and self.tracked_at:
            raise ValueError("name columns.tracked_at, or columns.date and columns.clock, not both")
        return self
