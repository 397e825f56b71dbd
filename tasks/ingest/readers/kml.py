"""KML tracks: the places of `gx:Track` with their times, and points that tell theirs, as rows.

What tells no time is passed over as a drawing. A place that tells a span of time, or a time
without a point, is a record whose time or place cannot be read. A file without any record is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import ParseError

from defusedxml.ElementTree import DefusedXMLParser

from tasks.ingest.archive import Unreadable
from tasks.ingest.readers.gpx import MAX_DEPTH, MAX_TEXT, fed
from tasks.ingest.readers.nested_rows import AXES, INSTANT, TRACK

NAMESPACE = re.compile(
    r"\{http://(www\.opengis\.net/kml/2\.\d|earth\.google\.com/kml/2\.\d"
    r"|www\.google\.com/kml/ext/2\.\d)\}"
)
PLACEMARK = "placemark"
TEXTS = frozenset(("when", "begin", "end", "coord", "coordinates", "name"))
Row = dict[str, str]


class Placemarks:
    """Collects the places of tracks and timed points while the parser walks through a file."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._open: list[str] = []
        self._text = self._name = self._stamp = ""
        self._point: list[str] = []
        self._is_record = False  # of its own: it tells a time that is not that of a track
        self._times: list[str] = []
        self._places: list[list[str]] = []
        self._num_tracks = 0

    def start(self, tag: str, _attributes: dict[str, str]) -> None:
        self._open.append(local_name(tag))
        if len(self._open) > MAX_DEPTH:
            raise ValueError(f"elements are nested more than {MAX_DEPTH} deep")
        self._text = f"{self._text}<" if self._is_inside_text() else ""  # no number, no time
        if self._open[-1] == "Placemark":
            self._name, self._stamp, self._point, self._is_record = "", "", [], False

    def data(self, text: str) -> None:
        if self._open and self._open[-1] in TEXTS:
            self._text = (self._text + text)[:MAX_TEXT]

    def _is_inside_text(self) -> bool:
        return not TEXTS.isdisjoint(self._open[:-1])

    def end(self, _tag: str) -> None:
        if not self._is_inside_text():
            self._end_of(self._open[-3:])
        self._open.pop()

    def _end_of(self, path: list[str]) -> None:
        text, self._text = self._text.strip(), ""
        match path:
            case [*_, "Placemark", "name"]:
                self._name = text
            case ["Placemark", "TimeStamp", "when"]:
                self._stamp = text
            case ["Placemark", "TimeSpan", "begin" | "end"]:
                self._stamp += f" / {text}"  # no instant, and shown among the rejects
            case [*_, "Placemark", "TimeStamp" | "TimeSpan"]:
                self._is_record = True
            case ["Placemark", "Point", "coordinates"]:
                self._point = text.split(",")
            case [*_, "Track", "when"]:
                self._times.append(text)
            case [*_, "Track", "coord"]:
                self._places.append(text.split())
            case [*_, "Track"]:
                self._end_track()
            case [*_, "Placemark"] if self._is_record:
                self._take("", self._stamp, self._point)

    def _end_track(self) -> None:
        """The places of a track with their times. Unless there is one for each, none has any."""
        self._num_tracks += 1
        self._is_record = False
        times, places = self._times, self._places
        self._times, self._places = [], []
        num_rows = max(len(times), len(places))
        if len(times) != len(places):
            times = [""] * num_rows
            places = [*places, *([[]] * (num_rows - len(places)))]
        num_axes = min(max(map(len, places), default=0), len(AXES))
        for time, place in zip(times, places, strict=True):
            self._take(f"{self._num_tracks}", time, place, num_axes)

    def _take(self, track: str, time: str, place: list[str], num_axes: int = 0) -> None:
        axes = axes_of(place, num_axes)
        self.rows.append({PLACEMARK: self._name, TRACK: track, INSTANT: time, **axes})


def axes_of(place: list[str], num_axes: int) -> Row:
    """The numbers of a place by axis; one too few or too many could shift them: none is read."""
    if place and not num_axes <= len(place) <= len(AXES):
        place = [f"({' '.join(place)})"] * 2
    return dict.fromkeys(AXES, "") | dict(zip(AXES, place, strict=False))


def local_name(tag: str) -> str:
    """The name of an element of KML, or nothing for an element of another vocabulary."""
    space = NAMESPACE.match(tag)
    return tag[space.end() :] if space else "" if tag.startswith("{") else tag


def kml_rows(chunks: Iterable[bytes]) -> Iterator[Row]:
    """The rows of a file, up to where it breaks; what breaks it is an `Unreadable`."""
    found, num_rows = Placemarks(), 0
    parser = DefusedXMLParser(target=found, forbid_dtd=True)
    try:
        for _fed in fed(parser, chunks):
            num_rows += len(found.rows)
            yield from found.rows
            found.rows = []
    except (ParseError, ValueError, LookupError) as error:
        yield from found.rows
        reason = " ".join(str(error).split())
        raise Unreadable(f"is not readable as KML from some place on: {reason}") from error
    num_rows += len(found.rows)
    yield from found.rows
    if not num_rows:
        raise Unreadable("holds no gx:Track, and no point with a time")
