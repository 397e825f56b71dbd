"""Part writers: rows sorted into the buckets of their entities, and written block by block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import sql
from tasks import database
from tasks.ingest.snapshot import REJECTS

REJECT_SCHEMA = pa.schema(
    {
        "file_id": pa.int64(),
        "file_name": pa.string(),
        "line_number": pa.int64(),
        "rule": pa.string(),
        "raw_text": pa.string(),
    }
)


class Buckets:
    """The bucket of each entity, asked of SQL once."""

    def __init__(self, connection: database.Connection, num_buckets: int) -> None:
        self._connection = connection
        self._num_buckets = num_buckets
        self._bucket_of: dict[str, int] = {}

    def sort(self, rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """The rows of each bucket, in order of the buckets."""
        entities = pc.unique(rows["entity_id"])
        if new := [name for name in entities.to_pylist() if name not in self._bucket_of]:
            self._connection.register("kept", pa.table({"entity_id": new}))
            query = sql.read("intermediate/int_entity_buckets")
            values = {"num_buckets": self._num_buckets}
            self._bucket_of.update(self._connection.execute(query, values).fetchall())
        bucket = np.array([self._bucket_of[name] for name in entities.to_pylist()], dtype=np.int64)
        code = pc.index_in(rows["entity_id"], value_set=entities).to_numpy()
        for number in np.unique(bucket).tolist():
            place = np.flatnonzero((bucket == number)[code])
            yield number, rows if len(place) == len(rows) else rows.take(place)


class Writers:
    """Parquet files that grow block by block; equal rows in equal order give equal bytes.

    One thread beside the caller's compresses; it holds one row group or more of one file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, "writers")
        self._unfinished: list[Future[None]] = []
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._waiting: dict[str, list[pa.Table]] = {}
        self.write(REJECTS, REJECT_SCHEMA.empty_table())

    def write(self, name: str, table: pa.Table) -> None:
        """Take rows; full row groups go to the disk at once."""
        if name not in self._writers:
            self._writers[name] = database.parquet_writer(self._folder / name, table.schema)
        waiting = self._waiting.setdefault(name, [])
        waiting.append(table)
        if sum(table.num_rows for table in waiting) >= database.ROW_GROUP_ROWS:
            rows = pa.concat_tables(waiting)
            full = rows.num_rows - rows.num_rows % database.ROW_GROUP_ROWS
            self._settle()
            self._unfinished = [self._pool.submit(self._flush, name, rows.slice(0, full))]
            self._waiting[name] = [rows.slice(full).combine_chunks()]

    def _settle(self) -> None:
        """Wait for what is being written; if that failed, so does this."""
        while self._unfinished:
            self._unfinished.pop().result()

    def _flush(self, name: str, rows: pa.Table) -> None:
        """Write rows as one chunk a column: how they came must not shape the pages."""
        self._writers[name].write_table(
            rows.combine_chunks(), row_group_size=database.ROW_GROUP_ROWS
        )

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """Write what is waiting; after an error only let go of the files: nobody will read them."""
        self._pool.shutdown()
        if kind is None:
            self._settle()
            while self._waiting:
                name, tables = self._waiting.popitem()
                self._flush(name, pa.concat_tables(tables))
        for writer in self._writers.values():
            with contextlib.suppress(*[OSError, pa.ArrowException] if kind else []):
                writer.close()
