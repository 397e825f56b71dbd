"""CSV habits: what programs write around and inside the lines of delimited text.

A line that names its delimiter, lines above the header, a delimiter too many at the end of every
row, and line ends inside quotes. Each is taken only where nothing else can be meant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tasks.ingest.readers.column_names import shown
from tasks.ingest.readers.records import Line, Piece
from tasks.runtime.progress import log_once

MAX_LINES_ABOVE = 20
MAX_LINES_IN_QUOTES = 100
MIN_FILLED = 3  # a time, a longitude and a latitude
SEPARATOR = re.compile(rb'"?sep=([,;:|^~ \t])"?\r?', re.IGNORECASE)
COMMENT = re.compile(rb"\s*(#|//|%|;)")
QUOTED = rb'"(?:[^"]|"")*+"'
TRAILING = "trailing"  # the name of a column that every row has and no header


def separator_of(text: bytes) -> bytes:
    """The delimiter that a line tells, as spreadsheets write it, or nothing."""
    found = SEPARATOR.fullmatch(text)
    return found[1] if found else b""


def first_lines(piece: Piece) -> list[Line]:
    """The first lines of a piece that are not blank, as many as are looked at for a header."""
    lines: list[Line] = []
    start, number = 0, piece.first_line
    while start < len(piece.body) and len(lines) < MAX_LINES_ABOVE + 2:
        end = piece.body.index(b"\n", start)
        text = piece.body[start:end]
        if text.strip():
            lines.append((number, text))
        start, number = end + 1, number + 1
    return lines


def tell_above(lines: Sequence[Line], told: set[str]) -> None:
    """Log once which lines above a header are passed over."""
    if lines:
        words = shown([text.decode("utf-8", "replace") for _number, text in lines])
        log_once(f"passed over above the header of a file: {words}", told)


def width_of(text: bytes, mark: bytes) -> int:
    """The number of columns of a line; delimiters within quotes are none."""
    return re.sub(rb'"[^"]*"', b"", text).count(mark) + 1


def is_trailing(text: bytes, mark: bytes) -> bool:
    return text.rstrip(b"\r").endswith(mark)


def is_comment(text: bytes, mark: bytes) -> bool:
    found = COMMENT.match(text)
    return found is not None and found[1] != mark


@dataclass(frozen=True)
class Top:
    """The header of a file, and what stands above it: lines to pass over, and those to reject.

    What is as wide as the header and filled as a record may be one, and no header says of what.
    """

    header: Line
    passed: list[Line]
    refused: list[Line]


def top_of(lines: Sequence[Line], is_header: Callable[[bytes], bool], mark: bytes) -> Top | None:
    """The first of the first lines that is a header, if any is."""
    for number, header in enumerate(lines[: MAX_LINES_ABOVE + 1]):
        if is_header(header[1]):
            width = width_of(header[1], mark)
            refused = [line for line in lines[:number] if may_be_record(line[1], width, mark)]
            passed = [line for line in lines[:number] if line not in refused]
            return Top(header, passed, refused)
    return None


def may_be_record(text: bytes, width: int, mark: bytes) -> bool:
    num_filled = sum(bool(cell.strip()) for cell in text.split(mark))
    is_wide = width_of(text, mark) == width and num_filled >= MIN_FILLED
    return is_wide and not is_comment(text, mark)


def at_their_lines(file_id: int, lines: Sequence[Line]) -> Piece:
    """Some lines of a file as a piece of it."""
    body, at = b"", lines[0][0]
    for number, text in lines:
        body += b"\n" * (number - at) + text + b"\n"
        at = number + 1
    return Piece(file_id, lines[0][0], body)


def surplus_of(rows: Sequence[Line], width: int, mark: bytes) -> int:
    """By how many columns most of the first rows are wider than their header: 1, 0 or -1."""
    surplus = Counter(width_of(text, mark) - width for _number, text in rows)
    most = max(surplus, key=lambda number: surplus[number], default=0)
    if most == 1 and any(is_trailing(text, mark) for _number, text in rows):
        return 1
    return -1 if most == -1 else 0


@dataclass(frozen=True)
class QuotedPiece(Piece):
    """A piece whose records may go on below their first line, within quotes."""

    mark: bytes
    num_columns: int

    def lines(self) -> list[Line]:
        return joined(super().lines(), self.mark, self.num_columns)


def quoted(piece: Piece, mark: bytes, num_columns: int) -> Piece:
    """The piece as one of such records, where there are quotes at all."""
    if b'"' not in piece.body:
        return piece
    return QuotedPiece(piece.file_id, piece.first_line, piece.body, mark, num_columns)


def joined(lines: Sequence[Line], mark: bytes, num_columns: int) -> list[Line]:
    """Records, each with the number of its first line; a line end within quotes is a space."""
    records, place = [], 0
    while place < len(lines):
        number, text = lines[place]
        span = span_of(lines, place, mark, num_columns) if text.count(b'"') % 2 else 1
        texts = [line.rstrip(b"\r") for _number, line in lines[place : place + span]]
        records.append((number, b" ".join(texts) if span > 1 else text))
        place += span
    return records


def span_of(lines: Sequence[Line], start: int, mark: bytes, num_columns: int) -> int:
    """How many lines one record takes: more than one only where they are exactly a record."""
    num_quotes = 0
    for end in range(start, min(start + MAX_LINES_IN_QUOTES, len(lines))):
        num_quotes += lines[end][1].count(b'"')
        if num_quotes % 2 == 0:
            texts = [text.rstrip(b"\r") for _number, text in lines[start : end + 1]]
            return len(texts) if is_one_record(texts, mark, num_columns) else 1
    return 1


def is_one_record(texts: Sequence[bytes], mark: bytes, num_columns: int) -> bool:
    """Whether lines are one record by RFC 4180, whose texts hold no line that looks like one."""
    body = b"\n".join(texts)
    if record_pattern(mark, num_columns).fullmatch(body) is None:
        return False
    within = [line for cell in re.findall(QUOTED, body) for line in cell.split(b"\n")[1:]]
    return num_columns == 1 or all(line.count(mark) < num_columns - 1 for line in within)


@cache
def record_pattern(mark: bytes, num_columns: int) -> re.Pattern[bytes]:
    sign = re.escape(mark)
    cell = rb"(?:" + QUOTED + rb'|[^"\n' + sign + rb"]*+)"
    return re.compile(cell + rb"(?:" + sign + cell + rb"){%d}" % (num_columns - 1))


def uncut(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces of files, none of which ends where quotes are open, as far as counting tells."""
    waiting: Piece | None = None
    for piece in pieces:
        if waiting is not None:
            if waiting.file_id == piece.file_id:
                piece = Piece(piece.file_id, waiting.first_line, waiting.body + piece.body)
            else:
                yield waiting
        whole, waiting = parted(piece)
        if whole.body:
            yield whole
    if waiting is not None:
        yield waiting


def parted(piece: Piece) -> tuple[Piece, Piece | None]:
    """A piece up to the line that may open the quotes which are open at its end, and the rest."""
    if piece.body.count(b'"') % 2 == 0:
        return piece, None
    place = piece.body.rfind(b"\n", 0, piece.body.rindex(b'"')) + 1
    while piece.body[place : piece.body.index(b"\n", place)].count(b'"') % 2 == 0:
        place = piece.body.rfind(b"\n", 0, place - 1) + 1
    above, below = piece.body[:place], piece.body[place:]
    if below.count(b"\n") > MAX_LINES_IN_QUOTES:
        return piece, None
    first_below = piece.first_line + above.count(b"\n")
    return (Piece(piece.file_id, piece.first_line, above), Piece(piece.file_id, first_below, below))
