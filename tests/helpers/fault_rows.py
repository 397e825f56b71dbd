"""The faults that are put into the small files of tests/helpers/fault_sources.py.

A fault bends record 1, or the bytes of the file around it, so that the records 0 and 2 show
whether the neighbours of a fault survive it.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from helpers.fault_sources import LAT_DEG, LON_DEG, START, Source, Value

ELSEWHERE_DEG = 0.0001
Make = Callable[[Source, str], bytes]  # the bytes of a file, given the tag that names its entity


def bent(**texts: str) -> Make:
    """Record 1 with other texts."""
    return lambda source, tag: with_record(source, tag, source.record(1, tag, **texts))


def with_record(source: Source, tag: str, *records: bytes) -> bytes:
    """A file with other records in place of record 1."""
    return source.body([source.record(0, tag), *records, source.record(2, tag)], tag)


def text(field_name: str, new: str) -> Make:
    """Record 1 with a text where a number should stand."""

    def make(source: Source, tag: str) -> bytes:
        return bent(**{field_name: source.quote + new + source.quote})(source, tag)

    return make


def at(*instant: int) -> Make:
    """Record 1 at another instant."""

    def make(source: Source, tag: str) -> bytes:
        text = source.time(datetime(*instant, tzinfo=UTC))
        return with_record(source, tag, source.record(1, tag, time=text, end=text))

    return make


def place(lon_deg: float, lat_deg: float) -> Make:
    """Record 1 at another place."""

    def make(source: Source, tag: str) -> bytes:
        lon, lat = source.longitude(lon_deg), source.latitude(lat_deg)
        return with_record(source, tag, source.record(1, tag, lon=lon, lat=lat))

    return make


def rewritten(change: Callable[[bytes], bytes]) -> Make:
    """A good file with other bytes."""
    return lambda source, tag: change(source.good(tag))


def relined(change: Callable[[Source, bytes], bytes]) -> Make:
    """Record 1 with other bytes."""
    return lambda source, tag: with_record(source, tag, change(source, source.record(1, tag)))


def cut_short(source: Source, tag: str) -> bytes:
    """The end of the file is lost in the middle of the last record."""
    last = source.record(2, tag)
    if last not in source.good(tag):  # its bytes stand at several places
        return source.good(tag)[:-30]
    return source.good(tag).partition(last)[0] + last[: len(last) // 2]


def leap_second(source: Source, tag: str) -> bytes:
    text = source.time(datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)).replace(":59:59", ":59:60")
    return with_record(source, tag, source.record(1, tag, time=text))


def with_time(change: Callable[[str], str]) -> Make:
    """Record 1 with another text for its time."""

    def make(source: Source, tag: str) -> bytes:
        new = change(source.texts(1, tag)["time"])
        return with_record(source, tag, source.record(1, tag, time=new))

    return make


def no_such_day(source: Source, tag: str) -> bytes:
    """The 30th of February, or the 367th day."""
    text = source.time(datetime(2019, 2, 3, tzinfo=UTC))
    text = "2019367" if source.time_form == "%Y%j" else re.sub("02([-/]?)03", r"02\g<1>30", text)
    return with_record(source, tag, source.record(1, tag, time=text))


def other_unit(source: Source, tag: str) -> bytes:
    """Milliseconds for seconds, or the other way round."""
    text = source.texts(1, tag)["time"]
    text = text[:-3] if source.time_form == "ms" else text + "000"
    return with_record(source, tag, source.record(1, tag, time=text))


def one_field_less(source: Source, tag: str) -> bytes:
    if source.short:
        return with_record(source, tag, source.short.format(**source.texts(1, tag)).encode())
    return relined(lambda source, line: line.rpartition(source.delimiter.encode())[0])(source, tag)


def one_field_more(source: Source, tag: str) -> bytes:
    if source.long:
        return with_record(source, tag, source.long.format(**source.texts(1, tag)).encode())
    return relined(lambda source, line: line + source.delimiter.encode() + b"1")(source, tag)


def header_again(source: Source, tag: str) -> bytes:
    header = source.header.replace(b"TAG", tag.encode()).rstrip()
    return with_record(source, tag, header)


def header_changed(source: Source, tag: str) -> bytes:
    """What the columns mean is no longer said: their names are not ours."""
    return re.sub(rb"[a-z]", b"q", source.header.lower()) + source.good(tag)[len(source.header) :]


def blank_lines(source: Source, tag: str) -> bytes:
    """Nothing, or blanks, between all records."""
    start = len(source.header.replace(b"TAG", tag.encode()))
    body = source.good(tag)
    return body[:start] + body[start:].replace(b"\n", b"\n\n \n")


def record_twice(source: Source, tag: str) -> bytes:
    return with_record(source, tag, *[source.record(1, tag)] * 2)


def two_places(source: Source, tag: str) -> bytes:
    elsewhere = source.record(1, tag, lat=source.latitude(LAT_DEG[1] + ELSEWHERE_DEG))
    return with_record(source, tag, source.record(1, tag), elsewhere)


def out_of_order(source: Source, tag: str) -> bytes:
    return source.body([source.record(number, tag) for number in (2, 0, 1)], tag)


def scrap(found: bytes) -> Make:
    """Record 1 with bytes inside one of its texts that do not belong there."""

    def make(source: Source, tag: str) -> bytes:
        name = source.scrapped
        old = source.texts(1, tag)[name]
        line = source.record(1, tag, **{name: old[:3] + "@" + old[3:]})
        return with_record(source, tag, line.replace(b"@", found))

    return make


def flipped(packed: bytes) -> bytes:
    """One byte of the checksum is another."""
    return packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:]


def no_entity(source: Source, tag: str) -> bytes:
    return with_record(source, tag, source.record(1, tag, entity=""))


PAGE = b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n"
LONG = b"x" * (10 << 20)


def wide(source: Source, tag: str) -> bytes:
    return with_record(source, tag, LONG)


# Faults of a file, by name. A name that ends in .gz makes a file that is named so.
FAULTS: dict[str, Make] = {
    "none": rewritten(lambda body: body),
    "truncated file": cut_short,
    "truncated .gz": rewritten(lambda body: gzip.compress(body, mtime=0)[:-9]),
    "flipped byte in .gz": rewritten(lambda body: flipped(gzip.compress(body, mtime=0))),
    "junk after .gz": rewritten(lambda body: gzip.compress(body, mtime=0) + b"junk"),
    "plain file named .gz": rewritten(lambda body: body),
    "whole .gz": rewritten(lambda body: gzip.compress(body, mtime=0)),
    "gzip not named so": rewritten(lambda body: gzip.compress(body, mtime=0)),
    "empty file": rewritten(lambda body: b""),
    "no record": lambda source, tag: source.body([], tag),
    "HTML": rewritten(lambda body: PAGE),
    "UTF-8 mark": rewritten(lambda body: b"\xef\xbb\xbf" + body),
    "UTF-16": rewritten(lambda body: body.decode("latin-1").encode("utf-16")),
    "Latin-1": scrap(b"\xe9"),
    "CRLF": rewritten(lambda body: body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")),
    "bare CR": scrap(b"\r"),
    "NUL": scrap(b"\0"),
    "open quote": relined(lambda source, line: b'"' + line),
    "10 MB line": wide,
    "no last newline": rewritten(lambda body: body.rstrip()),
    "blank lines": blank_lines,
    "header again": header_again,
    "header changed": header_changed,
    "no header": lambda source, tag: source.good(tag)[len(source.header) :],
    "field missing": one_field_less,
    "field more": one_field_more,
    "text for a number": text("lat", "ten"),
    "empty number": text("lat", ""),
    "decimal comma": text("lat", "10,001"),
    "NaN": bent(lat="NaN"),
    "infinity": text("lat", "inf"),
    "beyond double": bent(lat="1e999"),
    "huge number": bent(lat="1e300"),
    "subnormal number": bent(lat="1e-310"),
    "latitude 90.5": place(LON_DEG[1], 90.5),
    "longitude 400": place(400.0, LAT_DEG[1]),
    "longitude 240": place(240.0, LAT_DEG[1]),
    "longitude 180": place(180.0, LAT_DEG[1]),
    "pole": place(LON_DEG[1], -90.0),
    "lat and lon swapped": place(LAT_DEG[1], LON_DEG[1]),
    "microdegrees": place(LON_DEG[1] * 1e6, LAT_DEG[1] * 1e6),
    "null island": place(0.0, 0.0),
    "sentinels": lambda source, tag: bent(**source.sentinels)(source, tag),
    "no such day": no_such_day,
    "text for a time": with_time(lambda _time: "soon"),
    "empty time": with_time(lambda _time: ""),
    "year 1970": at(1970, 1, 2),
    "clock not set": at(1980, 1, 6),
    "year 2038": at(2038, 1, 20),
    "leap second": leap_second,
    "other unit of time": other_unit,
    "time with an offset": with_time(lambda time: time.removesuffix("Z") + "+01:00"),
    "skipped local time": with_time(lambda _time: "1986-05-04 02:30:00"),
    "repeated local time": with_time(lambda _time: "1986-09-14 01:30:00"),
    "no entity": no_entity,
    "empty container": lambda source, tag: with_record(
        source, tag, source.empty.format(**source.texts(1, tag)).encode()
    ),
    "record twice": record_twice,
    "instant at two places": two_places,
    "out of order": out_of_order,
}


TAGS = {fault: f"{number:02d}" for number, fault in enumerate(FAULTS, start=10)}


def file_name(source: Source, fault: str) -> tuple[str, str]:
    """The name of a faulty file on the disk, and in the ledger."""
    name = source.file.format(tag=TAGS[fault])
    return (f"{name}.gz" if ".gz" in fault else name), name.removeprefix("Data/")


def values(source: Source, numbers: str, fault: str) -> list[Value]:
    """What these records of a file mean, after what its fault changes."""
    found = []
    for index, number in enumerate(map(int, numbers)):
        new = CHANGES.get(fault, {}) | OWN_CHANGES.get((source.name, fault), {})
        if number != 1:
            new = {}
        elif fault == "instant at two places" and index == 2:
            new = {"lat": LAT_DEG[1] + ELSEWHERE_DEG}
        for instant, lon_deg, lat_deg in source.value(number, TAGS[fault]):
            found.append((new.get("at", instant), new.get("lon", lon_deg), new.get("lat", lat_deg)))
    return found


CHANGES: dict[str, dict[str, Any]] = {
    "longitude 240": {"lon": -120.0},
    "longitude 180": {"lon": -180.0},
    "pole": {"lat": -90.0},
    "subnormal number": {"lat": 1e-310},
    "null island": {"lon": 0.0, "lat": 0.0},
    "year 1970": {"at": datetime(1970, 1, 2, tzinfo=UTC)},
    "clock not set": {"at": datetime(1980, 1, 6, tzinfo=UTC)},
    "year 2038": {"at": datetime(2038, 1, 20, tzinfo=UTC)},
    "time with an offset": {"at": START + timedelta(minutes=1 - 60)},
    # Clocks of China went from 02:00 in summer time back to 01:00: the second pass, by rule.
    "repeated local time": {"at": datetime(1986, 9, 13, 17, 30, tzinfo=UTC)},
}
# A file of one's own is read in its order: the second pass begins where the clock steps back.
FIRST_PASS = {"at": datetime(1986, 9, 13, 16, 30, tzinfo=UTC)}
AN_HOUR_EAST = {"at": START + timedelta(minutes=1 - 60 + 8 * 60)}  # of what shows China's time
OWN_CHANGES = {
    ("own local", "repeated local time"): FIRST_PASS,
    ("own local", "time with an offset"): AN_HOUR_EAST,
    ("tdrive", "time with an offset"): AN_HOUR_EAST,
}
