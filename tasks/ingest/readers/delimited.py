"""Delimited text, whatever the dataset: lines of columns, parsed together and typed in one go.

A record is one line. The lines of many files are parsed in one block; where anything in it is not
exactly a record, each file is read again by itself and its lines are halved until the bad ones
stand alone. The same parser decides everywhere, so a line has the same fate beside any other.
"""

from __future__ import annotations

import csv
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, takewhile
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tasks.config.datasets import Layout
from tasks.ingest.readers.records import (
    Line,
    Parse,
    Piece,
    Reader,
    RecordBlock,
    block_groups,
    block_of,
    ended,
    merged,
    parsable,
    placed,
)

Order = tuple[str, ...]
TYPES = {
    "number": pa.float64(),
    "count": pa.int64(),
    "text": pa.string(),
    "date": pa.date32(),
    "time": pa.time32("s"),
}
# What the parser takes for a value of a kind has this shape, and so has more.
SHAPES = {
    "number": r"(?i)^[ \t]*([-+.0-9e]*|[-+]?(nan|inf).*)[ \t]*$",
    "count": r"^[ \t]*[-+0-9a-fA-FxX]*[ \t]*$",
    "date": r"^[-+0-9 \t]*$",
    "time": r"^[-+0-9:.TZ \t]*$",
}


def decode_delimited(pieces: Iterable[Piece], layout: Layout) -> Iterator[RecordBlock]:
    """The records of files of one layout; files whose columns stand in one order go together."""
    for order, ordered in groupby(headed(pieces, layout), key=itemgetter(0)):
        for group in block_groups(piece for _order, piece in ordered):
            yield delimited_block(group, layout, order)


def headed(pieces: Iterable[Piece], layout: Layout) -> Iterator[tuple[Order, Piece]]:
    """Each piece without its header, and the order of its columns: none where no header tells."""
    order = layout.order
    for piece in pieces:
        if piece.first_line == 1:
            bare = Piece(piece.file_id, 1, piece.body.removeprefix(BOM_UTF8))
            order, piece = without_header(bare, layout)
        if piece.body:
            yield order, piece


def without_header(piece: Piece, layout: Layout) -> tuple[Order, Piece]:
    """Drop the header lines; a file that lacks them loses no record."""
    if layout.order:
        delimiter, num_delimiters = layout.delimiter.encode(), len(layout.order) - 1
        lines = piece.body.split(b"\n", layout.max_header_lines)[:-1]
        header = takewhile(lambda line: line.count(delimiter) != num_delimiters, lines)
        return layout.order, piece.below(len(list(header)))
    number, text = next(iter(piece.lines()), (0, b""))
    order = header_order(text, layout)
    return order, piece.below(number) if order else piece


def header_order(text: bytes, layout: Layout) -> Order:
    """The columns that a header names, ours by our names; none where it is no such header."""
    line = text.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n")
    try:
        cells = next(csv.reader([line], delimiter=layout.delimiter, strict=True))
    except (csv.Error, StopIteration):
        return ()
    found = [layout.names.get(cell.strip()) for cell in cells]
    counts = Counter(name for name in found if name)
    if any(count > 1 for count in counts.values()):
        return ()
    if counts.keys() | set(layout.optional) != layout.columns.keys():
        return ()
    return tuple(name or f"column {i}" for i, name in enumerate(found))


def delimited_block(group: Sequence[Piece], layout: Layout, order: Order) -> RecordBlock:
    """Files whose columns stand in one order; where one cannot be parsed, each by itself."""
    num_lines = [piece.num_lines for piece in group]
    table = parsed_lines(b"".join(piece.body for piece in group), sum(num_lines), layout, order)
    if table is None:
        may_be = partial(plausible, layout=layout, order=order)
        empty = pa.schema(types_of(layout)).empty_table()
        parse = parser_of(layout, order)
        return merged([block_of(piece, parse, empty, may_be) for piece in group])
    file_id = np.repeat([piece.file_id for piece in group], num_lines)
    first_lines = zip([piece.first_line for piece in group], num_lines, strict=True)
    line_number = np.concatenate([first + np.arange(count) for first, count in first_lines])
    num_records = Counter(file_id.tolist())
    return RecordBlock(group, placed(file_id, line_number, table), num_records=num_records)


def parsed_lines(body: bytes, num_lines: int, layout: Layout, order: Order) -> pa.Table | None:
    """The typed columns of records, or None where any line is not exactly one of them."""
    if (
        not order  # without a header, nothing says what the lines mean
        or BOM_UTF8 in body  # the parser would pass over one, but only where it starts
        or (layout.null_values and has_blank_line(body))
        or (layout.is_quoted and has_bare_return(body))
    ):
        return None
    table = csv_columns(body, layout, order)
    if table is None or table.num_rows != num_lines:
        return None
    return None if layout.is_quoted and has_stray_quote(table, body) else table


def csv_columns(body: bytes, layout: Layout, order: Sequence[str]) -> pa.Table | None:
    """The typed columns of a layout, NULL where the order lacks them, or None where one is not.

    Without an order, all columns as texts, called f0, f1, ...
    """
    types = types_of(layout) if order else dict.fromkeys(layout.order, pa.string())
    try:
        return pyarrow.csv.read_csv(
            pa.BufferReader(body),
            read_options=pyarrow.csv.ReadOptions(
                column_names=list(order),
                autogenerate_column_names=not order,
                block_size=len(body) + 16,
                use_threads=False,
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=layout.delimiter,
                quote_char='"' if layout.is_quoted else False,
                ignore_empty_lines=False,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types,
                include_columns=list(types) if order else [],
                include_missing_columns=True,
                null_values=list(layout.null_values),
            ),
        )
    except pa.ArrowInvalid:
        return None


def has_blank_line(body: bytes) -> bool:
    """The parser would make a record of NULLs of it, where NULLs may be."""
    return body.startswith((b"\n", b"\r\n")) or b"\n\n" in body or b"\n\r\n" in body


def has_bare_return(body: bytes) -> bool:
    """The parser ends a line there, which could hide that a quote has joined two others."""
    return body.count(b"\r") != body.count(b"\r\n")


def has_stray_quote(table: pa.Table, body: bytes) -> bool:
    """A quote that does not end takes the line feed into the value, or stays a part of it."""
    texts = [column for column in table.itercolumns() if pa.types.is_string(column.type)]
    if any(pc.any(pc.match_substring(text, "\n")).as_py() for text in texts):
        return True
    if not any(pc.any(pc.match_substring(text, '"')).as_py() for text in texts):
        return False
    return any(line.count(b'"') % 2 for line in body.split(b"\n"))


def plausible(lines: Sequence[Line], layout: Layout, order: Order) -> list[Line]:
    """The lines without those that fail at first sight: many bad lines must not take hours."""
    as_text = layout.model_copy(update={"columns": dict.fromkeys(layout.columns, "text")})
    whole, table = parsable(of_width(lines, layout, len(order)), parser_of(as_text, order))
    if table is None:
        return []
    is_plausible = np.full(len(whole), True)
    for name, kind in layout.columns.items():
        if shape := SHAPES.get(kind):
            has_shape = pc.or_(
                pc.match_substring_regex(table[name], shape),
                pc.is_in(table[name], pa.array(layout.null_values, pa.string())),
            )
            is_plausible &= pc.fill_null(has_shape, True).to_numpy()
    return [whole[i] for i in np.flatnonzero(is_plausible).tolist()]


def of_width(lines: Sequence[Line], layout: Layout, num_columns: int) -> list[Line]:
    """The lines that have as many columns as they should, as far as counting tells."""
    delimiter, num_delimiters = layout.delimiter.encode(), num_columns - 1
    return [
        line
        for line in lines
        if line[1].count(delimiter) == num_delimiters or (layout.is_quoted and b'"' in line[1])
    ]


def parser_of(layout: Layout, order: Order) -> Parse:
    return lambda lines: parsed_lines(ended(lines), len(lines), layout, order)


def types_of(layout: Layout) -> dict[str, pa.DataType]:
    return {name: TYPES[kind] for name, kind in layout.columns.items()}


READER = Reader(decode_delimited)
