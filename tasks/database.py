"""Database: the only file that imports DuckDB, a locked-down connection that runs SQL files."""

from __future__ import annotations

import contextlib
import errno
import glob
import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

import sql
from tasks.runtime.errors import DataError, MemoryFull
from tasks.runtime.machine import Machine, engine_settings

Connection = duckdb.DuckDBPyConnection
Value = Any
IN_FORCE = "intermediate/int_rows_in_force"
ROW_GROUP_ROWS = 61_440  # ingest holds up to one of each bucket: twice as many took 30 MiB more
OS_ERRORS = {
    "No space left": errno.ENOSPC,
    "File too large": errno.EFBIG,
    "Disk quota": errno.EDQUOT,
    "Permission denied": errno.EACCES,
    "Read-only file system": errno.EROFS,
}

# Instants in UTC; no progress bar, which would stand among what a command prints for programs.
SESSION = "set timezone = 'UTC'; set enable_progress_bar = false"


@contextlib.contextmanager
def scratch(
    folder: Path, *readable: Path, timeout_s: float | None = None, is_in_memory: bool = False
) -> Iterator[Connection]:
    """A database of one task, a file inside `folder`, with our macros, closed to everything else.

    Only `folder` and the `readable` folders can be reached; spilling goes to `folder`.
    A query that runs longer than `timeout_s` in all is interrupted.
    Where tables are many and read once, they are made faster in memory, up to its limit.
    """
    path = folder / "scratch.duckdb"
    place = ":memory:" if is_in_memory else str(path)
    connection = duckdb.connect(place, config=dict(engine_settings(folder / "spill")))
    timer = threading.Timer(timeout_s or 0, connection.interrupt)
    try:
        connection.execute(SESSION)
        for text in sql.macros().values():
            connection.execute(text)
        lock_down(connection, [folder, *readable])
        if timeout_s is not None:
            timer.start()
        yield connection
    except duckdb.OutOfMemoryException as error:
        no_room = "max_temp_directory_size" in str(error)
        spilled = ", and what it spilled found no room on the disk" if no_room else ""
        raise MemoryFull(
            f"this step needs more than the {Machine().memory_limit_mb:,} MB that it may use"
            f"{spilled}; set TRAJFOUNDRY_MEMORY_LIMIT_MB higher{' or free space' * no_room} and "
            "run again"
        ) from error
    except (duckdb.Error, RuntimeError) as error:
        raise as_plain_error(error) from error
    finally:
        timer.cancel()
        connection.close()
        path.unlink(missing_ok=True)


def lock_down(connection: Connection, folders: Sequence[Path]) -> None:
    """Shut the network, extensions and every folder but the given ones, for good.

    A path is looked up here as it is asked for, escaped or not.
    """
    places = [f"{folder.absolute()}/" for folder in folders]
    allowed = [*places, *map(glob.escape, places)]
    connection.execute("set allowed_directories = $allowed", {"allowed": allowed})
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def as_plain_error(error: Exception) -> BaseException:
    """DuckDB's error as the system's or the user's, where it only passes those on."""
    if str(error) == "Query interrupted":
        return KeyboardInterrupt()
    for text, number in OS_ERRORS.items():
        if text in str(error):
            return OSError(number, str(error))
    return error


def materialise(connection: Connection, name: str, table: str = "", **values: Value) -> int:
    """Replace a table, by default the one named by the last part of `name`, with its SELECT.

    It takes what it asks for of the values. The row count is returned.
    """
    table = table or name.rsplit("/", 1)[-1]
    query = f"create or replace table {identifier(table)} as {sql.read(name)}"
    connection.execute(query, asked_of(connection, query, values))
    return count_rows(connection, table)


def asked_of(connection: Connection, query: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Those of the values that a query asks for by their names; it must ask for no other."""
    [statement] = connection.extract_statements(query)
    return {name: values[name] for name in statement.named_parameters}


def define(connection: Connection, name: str) -> None:
    """Let the last part of `name` stand for its SELECT, which each query on it runs anew."""
    view = identifier(name.rsplit("/", 1)[-1])
    connection.execute(f"create or replace view {view} as {sql.read(name)}")


def append(connection: Connection, table: str, target: str) -> None:
    """Add the rows of a table to another, which is made where it is missing."""
    source, target = identifier(table), identifier(target)
    connection.execute(f"create table if not exists {target} as from {source} limit 0")
    connection.execute(f"insert into {target} from {source}")


def count_rows(connection: Connection, table: str) -> int:
    [(rows,)] = connection.execute(f"select count(*) from {identifier(table)}").fetchall()
    return int(rows)


def identifier(name: str) -> str:
    """A table name that is safe to stand in SQL text; anything else is refused."""
    if not (name.isascii() and all(part.isidentifier() for part in name.split("."))):
        raise ValueError(f"not a table name: {name!r}")
    return name


def load(connection: Connection, table: str, path: Path) -> None:
    """Read a Parquet file into a table."""
    connection.read_parquet(glob.escape(str(path)), hive_partitioning=False).create(
        identifier(table)
    )


def load_in_force(
    connection: Connection, table: str, files: Sequence[tuple[Path, Sequence[int]]]
) -> None:
    """Read the rows of Parquet files that came of the named source files into a table."""
    materialise(
        connection,
        IN_FORCE,
        table,
        paths=[glob.escape(str(path)) for path, _ in files],
        part_paths=[str(path) for path, file_ids in files for _ in file_ids],
        file_ids=[file_id for _, file_ids in files for file_id in file_ids],
    )


def view(connection: Connection, table: str, paths: Sequence[Path]) -> None:
    """Let a table name stand for Parquet files, which are read anew by each query on it."""
    relation = connection.read_parquet(
        [glob.escape(str(path)) for path in paths], hive_partitioning=False
    )
    relation.create_view(identifier(table), replace=True)


def view_files(connection: Connection, folders: Sequence[Path], *tables: str) -> None:
    """Let each table name stand for the files of that name in these folders."""
    for table in tables:
        view(connection, table, [folder / f"{table}.parquet" for folder in folders])


def write_tables(connection: Connection, folder: Path, *tables: str) -> None:
    """Write each table to a file of its name."""
    for table in tables:
        write_query(connection, f"from {identifier(table)}", folder / f"{table}.parquet")


def write_query(connection: Connection, query: str, path: Path) -> int:
    """Write rows in the order of their query, with checksums; return their number.

    Identical rows give identical bytes.
    """
    reader = connection.sql(query).to_arrow_reader(ROW_GROUP_ROWS)
    rows = 0
    with parquet_writer(path, reader.schema) as writer:
        for table in itertools.takewhile(len, regrouped(reader, itertools.repeat(ROW_GROUP_ROWS))):
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            rows += table.num_rows
    return rows


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of checked pages, each column encoded by what it holds.

    Texts, and ids that many rows share, go through a dictionary; numbers do not: to look for one
    took twice the time of all else and made the files larger.
    """
    encodings = {column.name: encoding_of(column) for column in schema}
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        write_page_checksum=True,
        use_dictionary=[name for name, encoding in encodings.items() if encoding is None],
        column_encoding={name: encoding for name, encoding in encodings.items() if encoding},
    )


def encoding_of(column: pa.Field) -> str | None:
    """The Parquet encoding of a column; none stands for a dictionary."""
    if column.name == "point_id":
        return "PLAIN"  # 63 random bits each
    if pa.types.is_floating(column.type):
        return "BYTE_STREAM_SPLIT"
    if pa.types.is_timestamp(column.type) or column.name == "line_number":
        return "DELTA_BINARY_PACKED"
    return None


def regrouped(reader: pa.RecordBatchReader, sizes: Iterable[int]) -> Iterator[pa.Table]:
    """Arrow batches joined to tables of these sizes, so that bytes do not depend on the batches.

    Where the rows come to an end, tables are smaller, and then empty.
    """
    rest = reader.schema.empty_table()
    for num_rows in sizes:
        waiting, held = [rest], rest.num_rows
        while held < num_rows and (batch := next(reader, None)) is not None:
            waiting.append(pa.Table.from_batches([batch]))
            held += batch.num_rows
        rows = pa.concat_tables(waiting)
        rest = rows.slice(num_rows)
        yield rows.slice(0, num_rows)


def check(connection: Connection, name: str, **values: Value) -> None:
    """Run a check, a SELECT that returns offenders; any row is a `DataError` that counts them."""
    query = sql.read(name)
    offenders = connection.execute(query, asked_of(connection, query, values)).fetchall()
    if offenders:
        reason = query.splitlines()[0].removeprefix("--").strip()
        raise DataError(
            f"{len(offenders)} rows break the check {name.rsplit('/', 1)[-1]}: {reason}"
        )


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Connection]:
    """A new database file for people to open; whole on the disk when the block ends."""
    connection = duckdb.connect(str(path))
    try:
        connection.execute(SESSION)
        yield connection
        connection.execute("checkpoint")
    except (duckdb.Error, RuntimeError) as error:
        raise as_plain_error(error) from error
    finally:
        connection.close()


def add_table(connection: Connection, schema: str, table: str, rows: pa.Table) -> None:
    """Append Arrow rows to a table, which is made where it is missing."""
    connection.execute(f"create schema if not exists {identifier(schema)}")
    connection.register("arriving", rows)
    append(connection, "arriving", f"{schema}.{table}")
    connection.unregister("arriving")


def add_view(
    connection: Connection,
    schema: str,
    view: str,
    whole: Sequence[Path],
    in_force: Sequence[Path] = (),
    *,
    names_files: bool = False,
) -> None:
    """A view on all rows of the `whole` files and on those `in_force` (`ops.files_in_force`).

    Without files there is none. Where rows know their file by its id alone, `ops.files` names it.
    """
    parts = [
        f"from {parquet_scan([path])} as part semi join (from ops.files_in_force where "
        f"path = {quoted(str(path))}) as force on part.file_id = force.file_id"
        for path in in_force
    ]
    if whole:
        parts.append(f"from {parquet_scan(whole)}")
    if not parts:
        return
    body = " union all by name ".join(parts)
    if names_files:
        body += " union all by name select null::varchar as file_name where false"
        files = f"select file_id, min(name) as name from ops.files where dataset = {quoted(schema)}"
        body = (
            "select part.* replace (coalesce(part.file_name, files.name) as file_name) "
            f"from ({body}) as part left join ({files} group by all) as files using (file_id)"
        )
    create_view(connection, schema, view, body)


def create_view(connection: Connection, schema: str, view: str, body: str) -> None:
    """DuckDB cannot bind values in a view, so `body` must be made by the functions of this file."""
    connection.execute(f"create schema if not exists {identifier(schema)}")
    connection.execute(f"create view {identifier(schema)}.{identifier(view)} as {body}")


def parquet_scan(paths: Sequence[Path]) -> str:
    files = ", ".join(quoted(glob.escape(str(path))) for path in paths)
    return f"read_parquet([{files}], union_by_name = true, hive_partitioning = false)"


def quoted(text: str) -> str:
    """A text as an SQL literal: the one way by which a value may stand in SQL."""
    return "'" + text.replace("'", "''") + "'"
