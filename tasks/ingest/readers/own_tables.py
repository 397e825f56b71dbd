"""Own tables: Parquet and GeoParquet of one's own, whose records are rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.config.pipeline import ColumnsConfig
from tasks.ingest.archive import Unreadable
from tasks.ingest.readers.field_columns import FIELDS, chosen, decimal_mark, refuse_letters
from tasks.ingest.readers.geometry import places_told
from tasks.ingest.readers.nested_rows import NUM_FIRST_ROWS, flat
from tasks.ingest.readers.own_fields import as_line, table_of, with_place
from tasks.ingest.readers.records import Blocks, Piece, RecordBlock, placed

PARQUET_ROWS = 65_536


@dataclass(frozen=True)
class ParquetPiece(Piece):
    """Rows of a Parquet file, as lines only where one is asked for."""

    records: pa.Table

    def lines(self) -> list[tuple[int, bytes]]:
        texts = self.records.select(FIELDS).to_pylist()
        numbers = self.records["line_number"].to_pylist()
        return [(number, as_line(row)) for number, row in zip(numbers, texts, strict=True)]


def read_parquet(pieces: Iterator[Piece], columns: ColumnsConfig, told: set[str]) -> Blocks:
    """Rows of Parquet; the place of a row is its number."""
    parts = list(pieces)
    # The last line was given a line end, which no Parquet file has.
    body = b"".join(part.body for part in parts).removesuffix(b"\n")
    num_read = 0
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        known = chosen(*parquet_names(file.schema_arrow, columns), told)
        for first in islice(file.iter_batches(NUM_FIRST_ROWS, use_threads=False), 1):
            refuse_letters(known, flat(without_times(first).to_pylist()))
        names = sorted(set(known.values()))
        for batch in file.iter_batches(PARQUET_ROWS, columns=names, use_threads=False):
            values = {name: column_at(batch, name) for name in names}
            texts = {
                name: column
                if is_wkb(column) and name == known.get("geometry")
                else texts_of(column, columns)
                for name, column in values.items()
            }
            fields = {field: texts[name] for field, name in known.items()}
            number = range(num_read + 1, num_read + batch.num_rows + 1)
            table = table_of(batch.num_rows, with_place(fields, decimal_mark(columns)))
            records = placed(parts[0].file_id, number, table)
            num_read += batch.num_rows
            piece = ParquetPiece(parts[0].file_id, number.start, b"", records)
            yield RecordBlock.of(piece, records)
    except (pa.ArrowException, OSError, OverflowError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise Unreadable(f"cannot be read as Parquet after row {num_read:,}: {reason}") from error


def without_times(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose times are missing: they may be further off than Python can tell."""
    return pa.RecordBatch.from_arrays(
        [
            pa.nulls(len(column)) if pa.types.is_temporal(column.type) else column
            for column in batch.columns
        ],
        batch.schema.names,
    )


def parquet_names(schema: pa.Schema, columns: ColumnsConfig) -> tuple[list[str], ColumnsConfig]:
    """The names of columns and of the values inside them, and what GeoParquet says of its own."""
    names = [path for field in schema for path in field_paths(field)]
    if columns.geometry or columns.lon or columns.lat:
        return names, columns
    return names, columns.model_copy(update=places_told(schema.metadata or {}))


def field_paths(field: pa.Field, head: str = "") -> Iterator[str]:
    yield f"{head}{field.name}"
    if pa.types.is_struct(field.type):
        for inner in field.type:
            yield from field_paths(inner, f"{head}{field.name}.")


def column_at(batch: pa.RecordBatch, path: str) -> pa.Array:
    """A column, or the values at a path inside one."""
    name = max((n for n in batch.schema.names if f"{path}.".startswith(f"{n}.")), key=len)
    parts = path.removeprefix(name).split(".")[1:]
    return pc.struct_field(batch[name], parts) if parts else batch[name]


def is_wkb(column: pa.Array) -> bool:
    return pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)


def texts_of(column: pa.Array, columns: ColumnsConfig) -> pa.Array:
    """The values of a column as they would stand in a text file; nothing is an empty cell."""
    texts = column.cast(pa.string())
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        texts = pc.replace_substring(texts, ".", decimal_mark(columns))
    return pc.fill_null(texts, "")
