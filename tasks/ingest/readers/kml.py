"""KML tracks: the places of `gx:Track` with their times, and points that tell theirs, as rows.

Lines and places without times are passed over as drawings. A file without any track or
timed point is named as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import ParseError

from defusedxml.ElementTree import DefusedXMLParser

from tasks.ingest.archive import Unreadable
from tasks.ingest.readers.gpx import FEED_BYTES, MAX_DEPTH, MAX_GPX_BYTES, MAX_TEXT
from tasks.ingest.readers.nested_rows import AXES, INSTANT, TRACK

NAMESPACE = re.compile(
    r"\{http://(www\.opengis\.net/kml/2\.\d|earth\.google\.com/kml/2\.\d"
    r"|www\.google\.com/kml/ext/2\.\d)\}"
)
PLACEMARK = "placemark"
TEXTS = ("when", "coord", "coordinates", "name")
Row = dict[str, str]


class Placemarks:
    """Collects the places of tracks and timed points while the parser walks through a file."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._open: list[str] = []
        self._text = self._name = self._stamp = ""
        self._point: list[str] | None = None
        self._times: list[str] = []
        self._places: list[list[str]] = []
        self._num_tracks = 0

    def start(self, tag: str, _attributes: dict[str, str]) -> None:
        self._open.append(local_name(tag))
        if len(self._open) > MAX_DEPTH:
            raise ValueError(f"elements are nested more than {MAX_DEPTH} deep")
        self._text = ""
        if self._open[-1] == "Placemark":
            self._name, self._stamp, self._point = "", "", None
        elif self._open[-1] == "Track":
            self._times, self._places = [], []

    def data(self, text: str) -> None:
        if self._open and self._open[-1] in TEXTS:
            self._text = (self._text + text)[:MAX_TEXT]

    def end(self, _tag: str) -> None:
        text, self._text = self._text.strip(), ""
        match self._open[-3:]:
            case [*_, "Placemark", "name"]:
                self._name = text
            case ["Placemark", "TimeStamp", "when"]:
                self._stamp = text
            case ["Placemark", "Point", "coordinates"]:
                self._point = text.split(",")
            case [*_, "Track", "when"]:
                self._times.append(text)
            case [*_, "Track", "coord"]:
                self._places.append(text.split())
            case [*_, "Track"]:
                self._end_track()
            case [*_, "Placemark"] if self._stamp and self._point is not None:
                self._take("", self._stamp, self._point)
        self._open.pop()

    def _end_track(self) -> None:
        """The places of a track with their times. Unless there is one for each, none has any."""
        self._num_tracks += 1
        times, places = self._times, self._places
        num_rows = max(len(times), len(places))
        if len(times) != len(places):
            times = [""] * num_rows
            places = [*places, *([[]] * (num_rows - len(places)))]
        for time, place in zip(times, places, strict=True):
            self._take(f"{self._num_tracks}", time, place)

    def _take(self, track: str, time: str, place: list[str]) -> None:
        axes = dict.fromkeys(AXES, "") | dict(zip(AXES, place, strict=False))
        self.rows.append({PLACEMARK: self._name, TRACK: track, INSTANT: time, **axes})


def local_name(tag: str) -> str:
    """The name of an element of KML, or nothing for an element of another vocabulary."""
    space = NAMESPACE.match(tag)
    return tag[space.end() :] if space else "" if tag.startswith("{") else tag


def kml_rows(chunks: Iterable[bytes]) -> Iterator[Row]:
    """The rows of a file, up to where it breaks; what breaks it is an `Unreadable`."""
    found, num_bytes, num_rows = Placemarks(), 0, 0
    parser = DefusedXMLParser(target=found, forbid_dtd=True)
    try:
        for chunk in chunks:
            num_bytes += len(chunk)
            if num_bytes > MAX_GPX_BYTES:
                raise ValueError(f"larger than {MAX_GPX_BYTES >> 20} MiB")
            for start in range(0, len(chunk), FEED_BYTES):
                parser.feed(chunk[start : start + FEED_BYTES])
                num_rows += len(found.rows)
                yield from found.rows
                found.rows = []
        parser.close()
    except (ParseError, ValueError, LookupError) as error:
        yield from found.rows
        reason = " ".join(str(error).split())
        raise Unreadable(f"is not readable as KML from some place on: {reason}") from error
    num_rows += len(found.rows)
    yield from found.rows
    if not num_rows:
        raise Unreadable("holds no gx:Track, and no point with a time")
