"""Reader of a person's own files: the columns that the configuration names become texts.

What a text means (a number, a local time) is for the staging SQL to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby

import pyarrow as pa

from model.data.streams import gathered
from tasks.config.datasets import Layout
from tasks.config.pipeline import ColumnsConfig
from tasks.ingest.archive import Unreadable
from tasks.ingest.readers.csv_habits import (
    Top,
    at_their_lines,
    first_lines,
    is_comment,
    is_trailing,
    quoted,
    separator_of,
    surplus_of,
    tell_above,
    top_of,
    uncut,
)
from tasks.ingest.readers.delimited import csv_columns, has_bare_return, of_width
from tasks.ingest.readers.field_columns import (
    chosen,
    decimal_mark,
    delimiter,
    known_columns,
    refuse_letters,
    staging_values,
)
from tasks.ingest.readers.own_fields import in_utf8, table_of, with_place
from tasks.ingest.readers.own_objects import read_json, read_json_lines, read_kml
from tasks.ingest.readers.own_tables import read_parquet
from tasks.ingest.readers.records import (
    BLOCK_BYTES,
    Blocks,
    Line,
    Piece,
    Reader,
    RecordBlock,
    block_of,
    ended,
    merged,
    placed,
)


def decode_own(pieces: Iterable[Piece], columns: ColumnsConfig) -> Blocks:
    """Blocks of records; small files share one, and a file that cannot be read fails alone."""

    def num_bytes(blocks: Sequence[RecordBlock]) -> int:
        return sum(block.records.nbytes for block in blocks)

    for group in gathered(undivided(pieces, columns), num_bytes, BLOCK_BYTES):
        yield merged([block for blocks in group for block in blocks])


def undivided(pieces: Iterable[Piece], columns: ColumnsConfig) -> Iterator[list[RecordBlock]]:
    """The blocks that must stay together.

    Where clocks are put back, or stand beside a date, a file is never divided: which pass of an
    hour or which day a record belongs to depends on the records above it.
    """
    told: set[str] = set()
    may_divide = columns.zone == "UTC" or columns.time_form.startswith("epoch")
    for file_id, of_file in groupby(pieces, key=lambda piece: piece.file_id):
        whole: list[RecordBlock] = []
        for block in file_blocks(file_id, of_file, columns, told):
            if may_divide and block.records["clock"].null_count == block.records.num_rows:
                yield [block]
            else:
                whole.append(block)
        if whole:
            yield whole


def file_blocks(
    file_id: int, pieces: Iterator[Piece], columns: ColumnsConfig, told: set[str]
) -> Blocks:
    """The blocks of one file, and why the rest could not be read."""
    try:
        yield from READERS[columns.form](pieces, columns, told)
    except Unreadable as error:
        nothing = placed(file_id, [], table_of(0, {}))
        yield RecordBlock([Piece(file_id, 1, b"")], nothing, failed={file_id: str(error)})


def read_delimited(pieces: Iterator[Piece], columns: ColumnsConfig, told: set[str]) -> Blocks:
    """Lines of CSV or TSV. A quoted text may hold the delimiter, and line ends."""
    table: Delimited | None = None
    for piece in uncut(in_utf8(raw, columns) for raw in pieces):
        if table is None:
            if not piece.body.strip():
                continue
            table, piece, above = begun(piece, columns, told)
            if above:
                numbers = [number for number, _text in above.lines()]
                yield RecordBlock.of(above, placed(above.file_id, [], table_of(0, {})), numbers)
        may_be = partial(of_width, layout=table.layout, num_columns=table.num_columns)
        whole = quoted(piece, table.mark, table.num_columns)
        yield block_of(whole, table.parse, table_of(0, {}), may_be)


def begun(
    piece: Piece, columns: ColumnsConfig, told: set[str]
) -> tuple[Delimited, Piece, Piece | None]:
    """How a file is divided, by its first lines; what stands below its header, and what above."""
    mark, lines = delimiter(columns), first_lines(piece)
    if lines and (separator := separator_of(lines[0][1])):
        mark = separator if columns.delimiter == "auto" else mark
        piece, lines = piece.below(lines[0][0] - piece.first_line + 1), lines[1:]
    top = header_of(lines, columns, mark)
    names, surplus, above = names_of(top.header[1], columns, mark), 0, None
    if not columns.is_headerless:
        tell_above(top.passed, told)
        above = at_their_lines(piece.file_id, top.refused) if top.refused else None
        piece = piece.below(top.header[0] - piece.first_line + 1)
        surplus = surplus_of(first_lines(piece), len(names), mark)
        surplus = surplus if surplus == 1 or names[-1] == "" else 0
    known = chosen(names, columns, told)
    refuse_letters(known, first_rows(piece, names, mark))
    positions = {field: names.index(name) for field, name in known.items()}
    table = Delimited(
        mark, len(names) + surplus, positions, decimal_mark(columns), is_surplus=surplus == 1
    )
    return table, piece, above


def header_of(lines: Sequence[Line], columns: ColumnsConfig, mark: bytes) -> Top:
    """The header among the first lines, or its problem; the first line where there is none."""

    def problem(text: bytes) -> Unreadable | None:
        try:
            known_columns(names_of(text, columns, mark), columns)
        except Unreadable as error:
            return error
        return None

    if not lines:
        raise Unreadable("holds no header")
    if columns.is_headerless:
        return Top(lines[0], [], [])
    if top := top_of(lines, lambda text: problem(text) is None, mark):
        return top
    texts = [text for _number, text in lines]
    first = next((text for text in texts if not is_comment(text, mark)), texts[0])
    raise problem(first) or Unreadable("holds no header")


def names_of(line: bytes, columns: ColumnsConfig, mark: bytes) -> list[str]:
    """The names of the columns in a header line, or their numbers where there is none."""
    layout = Delimited(mark, line.count(mark) + 1, {}).layout
    table = csv_columns(line.rstrip(b"\r") + b"\n", layout, ())
    if table is None or table.num_rows != 1:
        raise Unreadable("does not begin with a line of columns")
    if columns.is_headerless:
        return [str(number) for number in range(1, table.num_columns + 1)]
    return [column[0].as_py().strip("# \t\ufeff") for column in table.columns]


def first_rows(piece: Piece, names: Sequence[str], mark: bytes) -> list[dict[str, str]]:
    """The cells of the first lines of a file by the names of its columns."""
    lines = [text.decode("utf-8", "replace") for _number, text in first_lines(piece)]
    cells = [[cell.strip('"') for cell in line.split(mark.decode())] for line in lines]
    return [dict(zip(names, row, strict=False)) for row in cells]


@dataclass(frozen=True)
class Delimited:
    """How the lines of a file are divided, and at which of its columns each field stands.

    Where each row ends with a delimiter too many (`is_surplus`), the last column must be empty.
    """

    mark: bytes
    num_columns: int
    positions: Mapping[str, int]
    decimal: str = "."
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
        fields = {name: texts[f"f{i}"] for name, i in self.positions.items()}
        return table_of(len(lines), with_place(fields, self.decimal))


READERS = {
    "csv": read_delimited,
    "tsv": read_delimited,
    "jsonl": read_json_lines,
    "json": read_json,
    "geojson": read_json,
    "kml": read_kml,
    "parquet": read_parquet,
}
READER = Reader(decode_own, values=staging_values)
