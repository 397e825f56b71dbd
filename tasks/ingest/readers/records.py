"""Records of raw files: the lines of a format become blocks of texts, as a stream.

A reader knows how a format is written, not what its values mean: that is the staging SQL's part.
A block never mixes up files: each record knows its file and its line, and what a file gives does
not depend on the files beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from model.data.streams import gathered
from model.earth.arrays import Ints, mixed
from tasks.ingest.inventory import Member

PIECE_BYTES = 8 << 20
BLOCK_BYTES = 4 << 20  # larger blocks only took more memory
MAX_RAW_CHARACTERS = 1_000
NO_TEXT = "\ufffd"  # what bytes become that are no UTF-8
Line = tuple[int, bytes]
Parse = Callable[[Sequence[Line]], pa.Table | None]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Piece:
    """Whole lines of one file, the last one ended by a line feed too."""

    file_id: int
    first_line: int
    body: bytes

    @property
    def num_lines(self) -> int:
        return self.body.count(b"\n")

    def lines(self) -> list[Line]:
        """(line number, text) of each line that is not blank: a blank line is no record."""
        texts = self.body.split(b"\n")[:-1]
        return [(self.first_line + i, text) for i, text in enumerate(texts) if text.strip()]

    def below(self, num_lines: int) -> Piece:
        """What stands below the first lines."""
        rest = self.body.split(b"\n", num_lines)[-1]
        return Piece(self.file_id, self.first_line + num_lines, rest)


@dataclass(frozen=True)
class RecordBlock:
    """Raw records of a few files with what was counted and refused while reading them.

    `records` has file_id, line_number, point_id and the format's own columns, in order of files
    and lines. `malformed` lists (file_id, line_number) of what is no record of the format.
    `failed` says of files why they, or the rest of them, could not be read: one reject each.
    """

    pieces: Sequence[Piece]
    records: pa.Table
    malformed: Sequence[tuple[int, int]] = ()
    num_records: Counter[int] = field(default_factory=Counter)
    num_missing: Counter[int] = field(default_factory=Counter)
    failed: Mapping[int, str] = field(default_factory=dict)
    truth: pa.Table | None = None  # what a generator knows of its records

    @classmethod
    def of(
        cls, piece: Piece, records: pa.Table, malformed: Sequence[int] = (), num_missing: int = 0
    ) -> RecordBlock:
        """The records of one piece, and its lines that are none: all of them are counted."""
        num_records = records.num_rows + len(malformed)
        return cls(
            [piece],
            records,
            [(piece.file_id, number) for number in malformed],
            Counter({piece.file_id: num_records}),
            Counter({piece.file_id: num_missing}),
        )

    def raw_texts(self, places: Sequence[tuple[int, int]]) -> list[str]:
        """The raw text at each (file_id, line_number); a very long one is cut."""
        wanted, files = set(places), {file_id for file_id, _line_number in places}
        found = {
            (piece.file_id, line_number): readable(text)
            for piece in self.pieces
            if piece.file_id in files
            for line_number, text in piece.lines()
            if (piece.file_id, line_number) in wanted
        }
        return [found[place] for place in places]


Blocks = Iterator[RecordBlock]


def readable(text: bytes) -> str:
    begin = text[: 4 * MAX_RAW_CHARACTERS].decode("utf-8", "replace")
    return begin.rstrip("\r")[:MAX_RAW_CHARACTERS]


def pieces_of(
    members: Iterable[Member], lines_of: Callable[[Member], Iterable[bytes]] = Member.chunks
) -> Iterator[Piece]:
    """The lines of files, a few megabytes at a time."""
    for member in members:
        yield from in_pieces(member.file_id, lines_of(member))


def in_pieces(file_id: int, chunks: Iterable[bytes]) -> Iterator[Piece]:
    """The lines that the bytes of one file hold, however those come."""
    first_line, waiting = 1, bytearray()
    for chunk in chunks:
        waiting += chunk
        if len(waiting) >= PIECE_BYTES and b"\n" in waiting:
            body = bytes(waiting[: waiting.rindex(b"\n") + 1])
            del waiting[: len(body)]
            yield Piece(file_id, first_line, body)
            first_line += body.count(b"\n")
    if waiting:
        yield Piece(file_id, first_line, bytes(waiting.removesuffix(b"\n") + b"\n"))


def grouped(items: Iterable[Item], size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Items in groups as large as a block: small files cost as little as large ones."""
    return gathered(items, size_of, BLOCK_BYTES)


def point_ids(file_id: Ints, line_number: Ints, index_in_line: Ints | None = None) -> Ints:
    """63 bits that name a record for ever: SplitMix64 of its place.

    A line that holds many records numbers them from 0 and their ids follow each other, so that
    the order of ids within a line is that of the source.
    """
    with np.errstate(over="ignore"):
        weyl = line_number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = mixed(file_id.astype(np.uint64) + weyl) >> np.uint64(1)
        if index_in_line is not None:
            state = (state + index_in_line.astype(np.uint64)) & np.uint64(2**63 - 1)
    return state.astype(np.int64)


def placed(
    file_id: Ints | int,
    line_number: Ints | Sequence[int],
    table: pa.Table,
    index_in_line: Ints | None = None,
) -> pa.Table:
    """The columns of raw records with their place and id in front."""
    line_number = np.asarray(line_number, dtype=np.int64)
    file_id = np.full_like(line_number, file_id)
    place = {
        "file_id": pa.array(file_id, pa.int64()),
        "line_number": pa.array(line_number, pa.int64()),
        "point_id": pa.array(point_ids(file_id, line_number, index_in_line), pa.int64()),
    }
    return pa.table(place | dict(zip(table.column_names, table.columns, strict=True)))


def parsable(lines: Sequence[Line], parse: Parse) -> tuple[Sequence[Line], pa.Table | None]:
    """The lines that the parser takes, and what they hold: the same parser decides everywhere."""
    if not lines:
        return lines, None
    table = parse(lines)
    if table is not None:
        return lines, table
    good = list(halved(lines, parse))
    return good, parse(good) if good else None


def halved(lines: Sequence[Line], parse: Parse) -> Iterator[Line]:
    """The lines that the parser takes of those that it does not take together."""
    if len(lines) > 1:
        for half in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
            if parse(half) is not None:
                yield from half
            else:
                yield from halved(half, parse)


def ended(lines: Sequence[Line]) -> bytes:
    return b"".join(text + b"\n" for _number, text in lines)


def block_of(
    piece: Piece,
    parse: Parse,
    empty: pa.Table,
    plausible: Callable[[Sequence[Line]], Sequence[Line]] = list,
) -> RecordBlock:
    """The records of one piece; its lines that are not plausible or not parsed are malformed."""
    lines = piece.lines()
    good, table = parsable(plausible(lines), parse)
    numbers = [number for number, _text in good]
    refused = {number for number, _text in lines}.difference(numbers)
    return RecordBlock.of(piece, placed(piece.file_id, numbers, table or empty), sorted(refused))


def merged(blocks: Sequence[RecordBlock]) -> RecordBlock:
    """Several blocks as one."""
    return RecordBlock(
        [piece for block in blocks for piece in block.pieces],
        pa.concat_tables([block.records for block in blocks]),
        [place for block in blocks for place in block.malformed],
        sum((block.num_records for block in blocks), Counter()),
        sum((block.num_missing for block in blocks), Counter()),
        {file_id: reason for block in blocks for file_id, reason in block.failed.items()},
    )


@dataclass(frozen=True)
class Reader:
    """How one format is read: cut into pieces, and those decoded into blocks of records.

    Most formats have lines; `lines_of` makes those of the others, with a record on each. Where the
    dataset has a layout, `decode` takes it too. Where the configuration names the columns, it takes
    those, and `values` are what the staging SQL binds for them.
    """

    decode: Callable[..., Iterator[RecordBlock]]
    lines_of: Callable[[Member], Iterable[bytes]] = Member.chunks
    values: Callable[..., dict[str, Any]] | None = None

    def cut(self, members: Iterable[Member]) -> Iterator[Piece]:
        return pieces_of(members, self.lines_of)
