"""Delimited text, whatever the dataset: lines of columns, parsed together and typed in one go.

A record is one line, or more where it goes on within quotes. The lines of many files are parsed in
one block; where anything in it is not exactly a record, each file is read again by itself and its
lines are halved until the bad ones stand alone. The same parser decides everywhere, so a line has
the same fate beside any other.
"""

from __future__ import annotations

import csv
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, takewhile
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tasks.config.datasets import Layout
from tasks.ingest.readers.column_names import shown
from tasks.ingest.readers.csv_habits import (
    TRAILING,
    at_their_lines,
    first_lines,
    is_trailing,
    quoted,
    separator_of,
    surplus_of,
    tell_above,
    top_of,
    uncut,
)
from tasks.ingest.readers.records import (
    Line,
    Parse,
    Piece,
    Reader,
    RecordBlock,
    block_of,
    ended,
    grouped,
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


class Form(NamedTuple):
    """How a file is divided: by which delimiter, into which columns; none where no header tells."""

    delimiter: str
    order: Order


@dataclass(frozen=True)
class Headed:
    """A piece without its header, and the problem with that, if there is any."""

    form: Form
    piece: Piece
    problem: str = ""


def decode_delimited(pieces: Iterable[Piece], layout: Layout) -> Iterator[RecordBlock]:
    """The records of files of one layout; files whose columns stand in one order go together."""
    for form, written in groupby(headed(pieces, layout), key=attrgetter("form")):
        as_written = layout.model_copy(update={"delimiter": form.delimiter})
        for group in grouped(written, lambda part: len(part.piece.body)):
            block = delimited_block([part.piece for part in group], as_written, form.order)
            problems = {part.piece.file_id: part.problem for part in group if part.problem}
            yield replace(block, failed=problems)


def headed(pieces: Iterable[Piece], layout: Layout) -> Iterator[Headed]:
    """Each piece of files without its header, which may stand below other lines."""
    told: set[str] = set()
    form = Form(layout.delimiter, layout.order)
    for piece in uncut(pieces) if layout.is_quoted else pieces:
        parts = [Headed(form, piece)]
        if piece.first_line == 1:
            bare = Piece(piece.file_id, 1, piece.body.removeprefix(BOM_UTF8))
            parts = below_order(bare, layout) if layout.order else below_header(bare, layout, told)
            form = parts[-1].form
        yield from (part for part in parts if part.piece.body or part.problem)


def below_order(piece: Piece, layout: Layout) -> list[Headed]:
    """Drop the lines above the records; a file that lacks them loses none."""
    delimiter, num_delimiters = layout.delimiter.encode(), len(layout.order) - 1
    lines = piece.body.split(b"\n", layout.max_header_lines)[:-1]
    header = takewhile(lambda line: line.count(delimiter) != num_delimiters, lines)
    return [Headed(Form(layout.delimiter, layout.order), piece.below(len(list(header))))]


def below_header(piece: Piece, layout: Layout, told: set[str]) -> list[Headed]:
    """Drop the header, and what stands above it; without one, the first line is the problem."""
    lines = first_lines(piece)
    if not lines:
        return [Headed(Form(layout.delimiter, ()), piece)]
    if separator := separator_of(lines[0][1]):
        lines, layout = lines[1:], layout.model_copy(update={"delimiter": separator.decode()})
    mark = layout.delimiter.encode()
    nameless = Form(layout.delimiter, ())
    top = top_of(lines, lambda text: bool(header_order(text, layout)), mark)
    if top is None:
        number, text = next(iter(lines), (1, b""))
        return [Headed(nameless, piece.below(number), problem_of(text, layout))]
    tell_above(top.passed, told)
    number, text = top.header
    below = piece.below(number)
    order = as_rows_are(header_order(text, layout), text, first_lines(below), mark)
    refused = [at_their_lines(piece.file_id, top.refused)] if top.refused else []
    above = [Headed(nameless, part) for part in refused]
    return [*above, Headed(Form(layout.delimiter, order), below)]


def as_rows_are(order: Order, header: bytes, rows: Sequence[Line], mark: bytes) -> Order:
    """The columns, with one more or one less where the rows end so and the header not."""
    surplus = surplus_of(rows, len(order), mark)
    if surplus == 1:
        return (*order, TRAILING)
    return order[:-1] if surplus == -1 and is_trailing(header, mark) else order


def header_order(text: bytes, layout: Layout) -> Order:
    """The columns that a header names, ours by our names; none where it is no such header."""
    found = columns_named(text, layout)
    named = [name for name in found if name]
    is_whole = {*named, *layout.optional} == layout.columns.keys()
    if not is_whole or len(set(named)) != len(named):
        return ()
    return tuple(name or f"column {i}" for i, name in enumerate(found))


def columns_named(text: bytes, layout: Layout) -> list[str | None]:
    """Our name for each cell of a header, however its names are cased and spaced."""
    known = {bare_name(name): ours for name, ours in layout.names.items()}
    return [known.get(bare_name(cell)) for cell in cells_of(text, layout)]


def cells_of(text: bytes, layout: Layout) -> list[str]:
    line = text.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n")
    try:
        return next(csv.reader([line], delimiter=layout.delimiter, strict=True))
    except (csv.Error, StopIteration):
        return []


def bare_name(name: str) -> str:
    """A name without what releases write differently: `BaseDateTime` and `base_date_time`."""
    return re.sub(r"[\s_.\-]+", "", name.strip("# \t\ufeff").casefold())


def problem_of(text: bytes, layout: Layout) -> str:
    """Why a line is no header: which columns it lacks, or names twice."""
    found = columns_named(text, layout)
    theirs = {ours: name for name, ours in reversed(layout.names.items())}
    needed = [name for name in layout.columns if name not in layout.optional]
    missing = [theirs[name] for name in needed if name not in found]
    twice = [theirs[name] for name in layout.columns if found.count(name) > 1]
    words = f"no column {', '.join(missing)}" if missing else f"more than one {', '.join(twice)}"
    return f"has {words}; its columns are: {shown(cells_of(text, layout))}"


def delimited_block(group: Sequence[Piece], layout: Layout, order: Order) -> RecordBlock:
    """Files whose columns stand in one order; where one cannot be parsed, each by itself."""
    num_lines = [piece.num_lines for piece in group]
    table = parsed_lines(b"".join(piece.body for piece in group), sum(num_lines), layout, order)
    if table is None:
        may_be = partial(plausible, layout=layout, order=order)
        empty = pa.schema(types_of(layout)).empty_table()
        parse = parser_of(layout, order)
        mark = layout.delimiter.encode() if layout.is_quoted else b""
        whole = [quoted(piece, mark, len(order)) for piece in group] if mark and order else group
        return merged([block_of(piece, parse, empty, may_be) for piece in whole])
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
        or (order[-1] == TRAILING and num_trailing(body, layout) != num_lines)
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


def num_trailing(body: bytes, layout: Layout) -> int:
    """How many lines end with a delimiter: a surplus column that holds anything is a fault."""
    mark = layout.delimiter.encode()
    return body.count(mark + b"\n") + body.count(mark + b"\r\n")


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
