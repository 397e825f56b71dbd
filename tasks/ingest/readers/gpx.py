"""Reader of GPX 1.0 and 1.1: a stream of track points, each as a JSON record of plain texts.

The parser builds no tree, so that the size of a file, not its nesting, is all that counts, and
document types with their entities are refused outright. Whatever prefix the elements have, their
namespace decides; no namespace at all is taken for GPX.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import ParseError

import pyarrow as pa
from defusedxml.ElementTree import DefusedXMLParser

from tasks.ingest.inventory import Member
from tasks.ingest.readers.json_records import objects_block
from tasks.ingest.readers.records import Piece, Reader, RecordBlock, block_groups, in_pieces

MAX_GPX_BYTES = 100 << 20
MAX_DEPTH = 64
MAX_TEXT = 1_000
FEED_BYTES = 1 << 16
MAX_TOKEN_BYTES = 1 << 20
NAMESPACES = ("{http://www.topografix.com/GPX/1/", "{https://www.topografix.com/GPX/1/")
POINT = ["gpx", "trk", "trkseg", "trkpt"]
FIELDS = ("lat", "lon", "ele", "time", "speed", "course")
SCHEMA = pa.schema({name: pa.string() for name in (*FIELDS, "trip")})


class TrackPoints:
    """Collects track points while the parser walks through a file."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._open: list[str] = []
        self._point: dict[str, str] = {}
        self._num_tracks = self._num_segments = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._open.append(local_name(tag))
        if len(self._open) > MAX_DEPTH:
            raise ValueError(f"elements are nested more than {MAX_DEPTH} deep")
        if self._open == POINT[:2]:
            self._num_tracks, self._num_segments = self._num_tracks + 1, 0
        elif self._open == POINT[:3]:
            self._num_segments += 1
        elif self._open == POINT:
            place = {name: attributes[name] for name in ("lat", "lon") if name in attributes}
            self._point = place | {"trip": f"{self._num_tracks}.{self._num_segments}"}

    def data(self, text: str) -> None:
        if self._open[:-1] == POINT and self._open[-1] in FIELDS[2:]:
            so_far = self._point.get(self._open[-1], "")
            self._point[self._open[-1]] = (so_far + text)[:MAX_TEXT]

    def end(self, _tag: str) -> None:
        if self._open == POINT:
            point = {name: text.strip() for name, text in self._point.items()}
            self.lines.append(json.dumps(point).encode() + b"\n")
        self._open.pop()

    def taken(self) -> list[bytes]:
        """The points found since the last call."""
        lines, self.lines = self.lines, []
        return lines


def local_name(tag: str) -> str:
    """The name of an element of GPX, or nothing for an element of another vocabulary."""
    if tag.startswith(NAMESPACES):
        return tag.rpartition("}")[2]
    return "" if tag.startswith("{") else tag


def gpx_pieces(members: Iterable[Member]) -> Iterator[Piece]:
    """The track points of files, one a line."""
    for member in members:
        yield from in_pieces(member.file_id, gpx_lines(member))


def gpx_lines(member: Member) -> Iterator[bytes]:
    """The points up to where the file breaks; the break counts as one record, its reason."""
    found = TrackPoints()
    try:
        if member.num_bytes > MAX_GPX_BYTES:
            raise ValueError(f"larger than {MAX_GPX_BYTES >> 20} MiB")
        parser = DefusedXMLParser(target=found, forbid_dtd=True)
        for _fed in fed(parser, member.chunks()):
            yield from found.taken()
    except (ParseError, ValueError, LookupError) as error:
        found.lines.append(f"not readable from here: {' '.join(str(error).split())}\n".encode())
    yield from found.taken()


def fed(parser: DefusedXMLParser, chunks: Iterable[bytes]) -> Iterator[None]:
    """A file fed to a parser, with a stop after each little of it: its target may hold more."""
    num_fed = 0
    for chunk in chunks:
        for start in range(0, len(chunk), FEED_BYTES):
            # A tag that does not end is read from its begin again with all that follows.
            if num_fed - max(parser.parser.CurrentByteIndex, 0) > MAX_TOKEN_BYTES:
                raise ValueError(f"a tag is longer than {MAX_TOKEN_BYTES >> 20} MiB")
            piece = chunk[start : start + FEED_BYTES]
            num_fed += len(piece)
            if num_fed > MAX_GPX_BYTES:
                raise ValueError(f"larger than {MAX_GPX_BYTES >> 20} MiB")
            parser.feed(piece)
            yield
    parser.close()


def decode_gpx(pieces: Iterable[Piece]) -> Iterator[RecordBlock]:
    """Track points; all fields stay text."""
    for group in block_groups(pieces):
        yield objects_block(group, SCHEMA)


READER = Reader(decode_gpx, gpx_pieces)
