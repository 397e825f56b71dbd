"""Reader of a person's own files: the columns that the configuration names become texts.

What a text means (a number, a local time) is for the staging SQL to say.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.config.datasets import Layout
from tasks.config.pipeline import ColumnsConfig
from tasks.ingest.archive import Unreadable
from tasks.ingest.readers.csv_habits import (
    COMMENT,
    first_lines,
    is_trailing,
    lines_above,
    quoted,
    separator_of,
    tell_above,
    uncut,
    width_of,
)
from tasks.ingest.readers.delimited import csv_columns, has_bare_return, of_width
from tasks.ingest.readers.field_columns import (
    FIELDS,
    chosen,
    decimal_mark,
    delimiter,
    known_columns,
    staging_values,
)
from tasks.ingest.readers.records import (
    BLOCK_BYTES,
    Line,
    Piece,
    Reader,
    RecordBlock,
    block_of,
    ended,
    gathered,
    merged,
    placed,
)

PARQUET_ROWS = 65_536


def decode_own(pieces: Iterable[Piece], columns: ColumnsConfig) -> Iterator[RecordBlock]:
    """Blocks of records; small files share one, and a file that cannot be read fails alone."""

    def num_bytes(blocks: Sequence[RecordBlock]) -> int:
        return sum(block.records.nbytes for block in blocks)

    for group in gathered(undivided(pieces, columns), num_bytes, BLOCK_BYTES):
        yield merged([block for blocks in group for block in blocks])


def undivided(pieces: Iterable[Piece], columns: ColumnsConfig) -> Iterator[list[RecordBlock]]:
    """The blocks that must stay together.

    Where clocks are put back, a file is never divided: which pass of an hour a record belongs to
    depends on the records above it.
    """
    told: set[str] = set()
    may_divide = columns.zone == "UTC" or columns.time_form in ("epoch_s", "epoch_ms")
    for file_id, of_file in groupby(pieces, key=lambda piece: piece.file_id):
        blocks = file_blocks(file_id, of_file, columns, told)
        if may_divide:
            yield from ([block] for block in blocks)
        elif whole := list(blocks):
            yield whole


def file_blocks(
    file_id: int, pieces: Iterator[Piece], columns: ColumnsConfig, told: set[str]
) -> Iterator[RecordBlock]:
    """The blocks of one file, and why the rest could not be read."""
    try:
        yield from READERS[columns.form](pieces, columns, told)
    except Unreadable as error:
        nothing = placed(file_id, [], table_of(0, {}))
        yield RecordBlock([Piece(file_id, 1, b"")], nothing, failed={file_id: str(error)})


def table_of(num_rows: int, fields: Mapping[str, pa.Array]) -> pa.Table:
    """The texts of all fields; one that was not asked for is null everywhere."""
    absent = pa.nulls(num_rows, pa.string())
    return pa.table({name: fields.get(name, absent) for name in FIELDS})


# Delimited text.


def read_delimited(
    pieces: Iterator[Piece], columns: ColumnsConfig, told: set[str]
) -> Iterator[RecordBlock]:
    """Lines of CSV or TSV. A quoted text may hold the delimiter, and line ends."""
    table: Delimited | None = None
    for piece in uncut(in_utf8(raw, columns) for raw in pieces):
        if table is None:
            if not piece.body.strip():
                continue
            table, piece = begun(piece, columns, told)
        may_be = partial(of_width, layout=table.layout, num_columns=table.num_columns)
        whole = quoted(piece, table.mark, table.num_columns)
        yield block_of(whole, table.parse, table_of(0, {}), may_be)


def begun(piece: Piece, columns: ColumnsConfig, told: set[str]) -> tuple[Delimited, Piece]:
    """How a file is divided, by its first lines, and what stands below those."""
    mark, lines = delimiter(columns), first_lines(piece)
    if lines and (separator := separator_of(lines[0][1])):
        mark = separator if columns.delimiter == "auto" else mark
        piece, lines = piece.below(lines[0][0] - piece.first_line + 1), lines[1:]
    num_above, names = header_of(lines, columns, mark)
    if not columns.is_headerless:
        tell_above(lines[:num_above], told)
        piece = piece.below(lines[num_above][0] - piece.first_line + 1)
    known = chosen(names, columns, told)
    positions = {field: names.index(name) for field, name in known.items()}
    num_columns = len(names)
    rows = first_lines(piece)
    surplus = width_of(rows[0][1], mark) - num_columns if rows else 0
    is_surplus = surplus == 1 and is_trailing(rows[0][1], mark) and not columns.is_headerless
    is_short = surplus == -1 and names[-1] == "" and not columns.is_headerless
    return Delimited(mark, num_columns + is_surplus - is_short, positions, is_surplus), piece


def header_of(lines: Sequence[Line], columns: ColumnsConfig, mark: bytes) -> tuple[int, list[str]]:
    """How many lines stand above the header, and the names in it; or the header's problem."""

    def problem(text: bytes) -> Unreadable | None:
        try:
            known_columns(names_of(text, columns, mark), columns)
        except Unreadable as error:
            return error
        return None

    if columns.is_headerless:
        return 0, names_of(next(iter(lines), (0, b""))[1], columns, mark)
    num_above = lines_above(lines, lambda text: problem(text) is None, mark)
    if num_above < 0:
        texts = [text for _number, text in lines]
        first = next((text for text in texts if not COMMENT.match(text)), texts[0])
        raise problem(first) or Unreadable("has records above its header")
    return num_above, names_of(lines[num_above][1], columns, mark)


def in_utf8(piece: Piece, columns: ColumnsConfig) -> Piece:
    body = piece.body
    if piece.first_line == 1 and body.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("is written in UTF-16; save it as UTF-8")
    if columns.encoding == "latin-1":
        body = body.decode("latin-1").encode()
    elif piece.first_line == 1:
        body = body.removeprefix(BOM_UTF8)
    return Piece(piece.file_id, piece.first_line, body)


def names_of(line: bytes, columns: ColumnsConfig, mark: bytes) -> list[str]:
    """The names of the columns in a header line, or their numbers where there is none."""
    layout = Delimited(mark, line.count(mark) + 1, {}).layout
    table = csv_columns(line.rstrip(b"\r") + b"\n", layout, ())
    if table is None or table.num_rows != 1:
        raise Unreadable("does not begin with a line of columns")
    if columns.is_headerless:
        return [str(number) for number in range(1, table.num_columns + 1)]
    return [column[0].as_py().strip("# \t\ufeff") for column in table.columns]


@dataclass(frozen=True)
class Delimited:
    """How the lines of a file are divided, and at which of its columns each field stands.

    Where each row ends with a delimiter too many (`is_surplus`), the last column must be empty.
    """

    mark: bytes
    num_columns: int
    positions: Mapping[str, int]
    is_surplus: bool = False

    @cached_property
    def layout(self) -> Layout:
        """Texts, called f0, f1, ..., as the parser is told to read them."""
        read = {f"f{position}": "text" for position in sorted(set(self.positions.values()))}
        order = tuple(f"f{number}" for number in range(self.num_columns))
        return Layout(columns=read, order=order, delimiter=self.mark.decode(), is_quoted=True)

    def parse(self, lines: Sequence[Line]) -> pa.Table | None:
        """The fields of records, or None where a line is not exactly one."""
        if self.is_surplus and not all(is_trailing(text, self.mark) for _number, text in lines):
            return None
        # An empty record below shows whether the last line leaves a quote open.
        body = ended([*lines, (0, self.mark * (self.num_columns - 1))])
        table = None if has_bare_return(body) else csv_columns(body, self.layout, self.layout.order)
        if table is None or table.num_rows != len(lines) + 1:
            return None
        texts = table.slice(0, len(lines)).combine_chunks()
        return table_of(len(lines), {name: texts[f"f{i}"] for name, i in self.positions.items()})


# JSON.


def read_json_lines(
    pieces: Iterator[Piece], columns: ColumnsConfig, told: set[str]
) -> Iterator[RecordBlock]:
    """One object a line."""
    known: dict[str, str] | None = None
    for raw in pieces:
        piece = in_utf8(raw, columns)
        lines = piece.lines()
        rows = [parsed_json(text, columns) for _number, text in lines]
        if known is None and any(isinstance(row, dict) for row in rows):
            known = chosen(keys_of(rows), columns, told)
        yield cells_block(piece, [number for number, _text in lines], rows, known or {})


def read_json(
    pieces: Iterator[Piece], columns: ColumnsConfig, told: set[str]
) -> Iterator[RecordBlock]:
    """One array of objects; the place of an object is its number."""
    parts = [in_utf8(piece, columns) for piece in pieces]
    rows = parsed_json(b"".join(part.body for part in parts), columns)
    if not isinstance(rows, list):
        raise Unreadable("is not one whole JSON array of objects")
    file_id = parts[0].file_id
    body = b"".join(as_line(row) for row in rows)
    known = chosen(keys_of(rows), columns, told) if rows else {}
    yield cells_block(Piece(file_id, 1, body), range(1, len(rows) + 1), rows, known)


def parsed_json(text: bytes, columns: ColumnsConfig) -> Any:
    """The value of a JSON text with numbers left as they are written, or None."""
    mark = decimal_mark(columns)
    try:
        return json.loads(
            text.decode("utf-8"),
            parse_float=lambda number: number.replace(".", mark),
            parse_int=str,
            parse_constant=str,
        )
    except (ValueError, RecursionError):
        return None


def as_line(row: Any) -> bytes:
    return written(row).encode() + b"\n"


def written(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "[...]"


def keys_of(rows: Sequence[Any]) -> list[str]:
    """The keys of objects, in the order in which they come."""
    return list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))


def cells_block(
    piece: Piece, numbers: Sequence[int], rows: Sequence[Any], known: Mapping[str, str]
) -> RecordBlock:
    """The named values of objects as texts; a row that is no object is malformed."""
    objects = {n: row for n, row in zip(numbers, rows, strict=True) if isinstance(row, dict)}
    fields = {
        field: pa.array([cell_text(row.get(name)) for row in objects.values()], pa.string())
        for field, name in known.items()
    }
    records = placed(piece.file_id, list(objects), table_of(len(objects), fields))
    return RecordBlock.of(piece, records, [number for number in numbers if number not in objects])


def cell_text(value: Any) -> str:
    """A JSON value as the text of a cell; nothing is an empty cell."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else written(value)
    return text.encode("utf-8", "replace").decode()


# Parquet.


@dataclass(frozen=True)
class ParquetPiece(Piece):
    """Rows of a Parquet file, as lines only where one is asked for."""

    records: pa.Table

    def lines(self) -> list[tuple[int, bytes]]:
        texts = self.records.select(FIELDS).to_pylist()
        numbers = self.records["line_number"].to_pylist()
        return [(number, as_line(row)) for number, row in zip(numbers, texts, strict=True)]


def read_parquet(
    pieces: Iterator[Piece], columns: ColumnsConfig, told: set[str]
) -> Iterator[RecordBlock]:
    """Rows of Parquet; the place of a row is its number."""
    parts = list(pieces)
    # The last line was given a line end, which no Parquet file has.
    body = b"".join(part.body for part in parts).removesuffix(b"\n")
    num_read = 0
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        known = chosen(file.schema_arrow.names, columns, told)
        names = sorted(set(known.values()))
        for batch in file.iter_batches(PARQUET_ROWS, columns=names, use_threads=False):
            texts = {name: texts_of(batch[name], columns) for name in names}
            fields = {field: texts[name] for field, name in known.items()}
            number = range(num_read + 1, num_read + batch.num_rows + 1)
            records = placed(parts[0].file_id, number, table_of(batch.num_rows, fields))
            num_read += batch.num_rows
            piece = ParquetPiece(parts[0].file_id, number.start, b"", records)
            yield RecordBlock.of(piece, records)
    except (pa.ArrowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise Unreadable(f"cannot be read as Parquet after row {num_read:,}: {reason}") from error


def texts_of(column: pa.Array, columns: ColumnsConfig) -> pa.Array:
    """The values of a column as they would stand in a text file; nothing is an empty cell."""
    texts = column.cast(pa.string())
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        texts = pc.replace_substring(texts, ".", decimal_mark(columns))
    return pc.fill_null(texts, "")


READERS = {
    "csv": read_delimited,
    "tsv": read_delimited,
    "jsonl": read_json_lines,
    "json": read_json,
    "parquet": read_parquet,
}


READER = Reader(decode_own, values=staging_values)
