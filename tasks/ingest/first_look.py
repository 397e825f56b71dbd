"""First look at a source: what its first file plainly is, told before anything starts.

It only refuses what cannot go well, and says which flags would. Names of columns, counts and times
are shown, and no place: it may be somebody's home.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq

import sql
from tasks import database
from tasks.config.datasets import DATASETS, Dataset
from tasks.config.own_columns import ColumnsConfig
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.archive import is_left_behind
from tasks.ingest.compression import UNREADABLE, compression_of, decompressed
from tasks.ingest.download import is_address
from tasks.ingest.files_in_force import paths_of
from tasks.ingest.part import POINT_COLUMNS
from tasks.ingest.readers.field_columns import DELIMITERS, delimiter
from tasks.ingest.readers.formats import reader_named
from tasks.ingest.readers.records import Piece, RecordBlock
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.words import counted

HEAD_BYTES = 64 << 10
NUM_HEAD_ROWS = 1_000
FORMS = get_args(ColumnsConfig.model_fields["form"].annotation)
KINDS = {"parquet": "Parquet", "gpx": "GPX", "geojson": "GeoJSON", "kml": "KML", "json": "JSON"} | {
    "jsonl": "JSON, one object a line",
    "text": "text",
}
KINDS_OF_DECODER = {"gpx": {"gpx"}, "opensky": {"json", "jsonl"}}
KINDS_OF_FORM = {
    "csv": {"text"},
    "tsv": {"text"},
    "jsonl": {"jsonl", "geojson"},
    "json": {"json", "jsonl", "geojson"},
    "parquet": {"parquet"},
}
UNREAD_TIMES = {"bad_time", "implausible_time"}
WANTED_TIMES = {
    "iso": "2024-03-07T22:40:00+01:00",
    "epoch_s": "1709847600, seconds since 1970",
    "epoch_ms": "1709847600000, milliseconds since 1970",
}


@dataclass(frozen=True)
class FirstFile:
    """The first file of a source: its name without a suffix of compression, and its beginning."""

    name: str
    head: bytes
    path: Path | None = None

    @property
    def kind(self) -> str:
        """What it is by its content; empty where that does not tell."""
        head = self.head[:4_096].removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith(b"PAR1"):
            return "parquet"
        for tag in ("gpx", "kml"):
            if re.match(rb"<(\?xml|!--|%s)" % tag.encode(), head) and f"<{tag}".encode() in head:
                return tag
        if head.startswith((b"{", b"[")):
            if re.search(rb'"type"\s*:\s*"Feature(Collection)?"', head):
                return "geojson"
            return "json" if head.startswith(b"[") else "jsonl"
        return "" if not head or b"\0" in head or head.startswith(b"<") else "text"


def look_at(config: PipelineConfig, source: str) -> None:
    """Refuse a source whose first file is not what the configuration says it is."""
    row = config.source_row
    if row.is_generated or is_address(source):
        return
    path = paths_of(row, source)[0]
    if not source:
        return
    if not path.exists():
        raise ConfigError(f"no file or folder {path}; check --source")
    first = first_file(path, row.members)
    if first is not None and first.kind:
        check_kind(first, config, source, is_alone=path.is_file() and first.path == path)
        if row.has_own_columns:
            check_head(first, config.columns)


# The first file ---------------------------------------------------------------------------------


def first_file(path: Path, pattern: str) -> FirstFile | None:
    """The first file of a source that is named so, or else the first of all."""
    with contextlib.suppress(*UNREADABLE):
        if path.is_dir():
            files = {found.relative_to(path).as_posix(): found for found in path.rglob("*")}
            files = {name: found for name, found in files.items() if found.is_file()}
            name = chosen_name(list(files), pattern)
            return None if name is None else plain_file(files[name])
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
                name = chosen_name(names, pattern)
                if name is None:
                    return None
                with archive.open(name) as stream:
                    return FirstFile(PurePosixPath(name).name, stream.read(HEAD_BYTES))
        return plain_file(path)
    return None


def chosen_name(names: list[str], pattern: str) -> str | None:
    """The first name that fits, else the first; what a system left behind is passed over."""
    shown = sorted(name for name in names if not is_left_behind(name))
    fitting = [name for name in shown if PurePosixPath(name).match(pattern)]
    return next(iter(fitting or shown), None)


def plain_file(path: Path) -> FirstFile:
    """The beginning of a file, unpacked where it is compressed by itself."""
    with path.open("rb") as file:
        suffix = compression_of(file.read(HEAD_BYTES))
        file.seek(0)
        with decompressed(file, suffix) as stream:
            return FirstFile(path.stem if suffix else path.name, stream.read(HEAD_BYTES), path)


# Its kind ---------------------------------------------------------------------------------------


def check_kind(first: FirstFile, config: PipelineConfig, source: str, *, is_alone: bool) -> None:
    """Refuse a file of another kind, or one alone that is not named as those of its dataset."""
    row = config.source_row
    if row.has_own_columns:
        expected = KINDS_OF_FORM.get(config.columns.form, {first.kind})
    else:
        expected = KINDS_OF_DECODER.get(row.decoder, {"text"})
    is_named = not is_alone or PurePosixPath(first.name).match(row.members)
    if first.kind in expected and is_named:
        return
    form = f" with the form {config.columns.form}" if row.has_own_columns else ""
    fault, files = f"is {KINDS[first.kind]}", ""
    if first.kind in expected:
        fault, files = "is not named so", f", whose files are called {row.members}"
    flags = flags_for(first)
    advice = f"{KINDS[first.kind]} is not read: save it as CSV, JSON, Parquet or GPX"
    raise ConfigError(
        f"{first.name} {fault}, and the dataset asked for is {row.name}{form}{files}; "
        + (f"run with {flags} --source {source}" if flags else advice)
    )


def flags_for(first: FirstFile) -> str | None:
    """The flags that fit a file, if any do."""
    if first.kind == "gpx":
        return "--dataset gpx"
    if first.kind == "text":
        line = first.head.split(b"\n", 1)[0].decode("utf-8", "replace")
        form = "tsv" if line.count("\t") > line.count(",") else "csv"
        known = dataset_of_header(line)
        return f"--dataset {known}" if known else f"--dataset own --columns.form {form}"
    if first.kind == "geojson" and "geojson" not in FORMS:
        return None
    return f"--dataset own --columns.form {first.kind}" if first.kind in FORMS else None


def dataset_of_header(line: str) -> str | None:
    """The known dataset whose files begin with such a header."""
    cells = [cell.strip().strip('"\ufeff') for cell in line.split(",")]
    return next((row.name for row in DATASETS.values() if has_header(row, cells)), None)


def has_header(row: Dataset, cells: list[str]) -> bool:
    if row.layout is None or not row.layout.names:
        return False
    found = {row.layout.names[cell] for cell in cells if cell in row.layout.names}
    return found | set(row.layout.optional) == row.layout.columns.keys()


# Its first records ------------------------------------------------------------------------------


def check_head(first: FirstFile, columns: ColumnsConfig) -> None:
    """Read the first records as ingest will, and say what is missing or cannot be understood."""
    piece = head_of(first, columns)
    if piece is None:
        return
    for block in reader_named(DATASETS["own"].decoder).decode(iter([piece]), columns):
        for problem in block.failed.values():
            raise DataError(f"{first.name} {problem}{other_delimiter(first, columns)}")
        check_times(first.name, block, columns)


def other_delimiter(first: FirstFile, columns: ColumnsConfig) -> str:
    """What to say where another mark than the expected one divides the first line."""
    line = first.head.split(b"\n", 1)[0]
    name = max(DELIMITERS, key=lambda name: line.count(DELIMITERS[name]))
    is_expected = columns.form not in ("csv", "tsv") or delimiter(columns) in line
    if is_expected or DELIMITERS[name] not in line:
        return ""
    return (
        f"; another mark divides its columns: give --columns.delimiter {name}, and with it "
        "--columns.decimal comma if numbers are written 56,1"
    )


def head_of(first: FirstFile, columns: ColumnsConfig) -> Piece | None:
    """The first records of a file as a file of their own; none where they cannot stand alone."""
    if columns.form == "parquet":
        return None if first.path is None else Piece(0, 1, head_of_parquet(first.path))
    is_whole = len(first.head) < HEAD_BYTES
    if columns.form in ("csv", "tsv", "jsonl"):
        body = first.head if is_whole else first.head[: first.head.rfind(b"\n") + 1]
    elif is_whole:
        body = first.head
    else:
        return None
    return Piece(0, 1, body if body.endswith(b"\n") else body + b"\n")


def head_of_parquet(path: Path) -> bytes:
    try:
        file = pq.ParquetFile(path)
        batches = list(itertools.islice(file.iter_batches(NUM_HEAD_ROWS), 1))
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_batches(batches, file.schema_arrow), sink)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path.name} cannot be read as Parquet; fetch it again") from error
    return bytes(sink.getvalue()) + b"\n"


def check_times(name: str, block: RecordBlock, columns: ColumnsConfig) -> None:
    """Refuse a file of whose first records no time can be read as it is said to be written."""
    records = block.records.slice(0, NUM_HEAD_ROWS)
    parts = zip(records["day"].to_pylist(), records["clock"].to_pylist(), strict=True)
    texts = [" ".join(part for part in pair if part) for pair in parts]
    if not texts or not all(texts) or set(rules_of(records, columns)) - UNREAD_TIMES:
        return
    form = columns.time_form
    wanted = WANTED_TIMES.get(form, columns.time_pattern)
    raise DataError(
        f"{name}: the times of its first {counted(len(texts), 'record')} cannot be read, such as "
        f"{texts[0][:40]!r}; columns.time_form is {form}, which wants {wanted}. Give another "
        "with --columns.time_form, or pattern with --columns.time_pattern '%d/%m/%Y %H:%M:%S'"
    )


def rules_of(records: pa.Table, columns: ColumnsConfig) -> list[str | None]:
    """The rule that rejects each record, if any, by the staging SQL."""
    row = DATASETS["own"]
    named = records.append_column("file_name", pa.repeat("file", records.num_rows))
    query = f"{sql.read(POINT_COLUMNS)} union all by name (\n{sql.read(row.staging)}\n)"
    values = reader_named(row.decoder).values
    with (
        tempfile.TemporaryDirectory() as folder,
        database.scratch(Path(folder), is_in_memory=True) as connection,
    ):
        connection.register("records", named)
        staged = connection.sql(query, params=values(columns) if values else None)
        rules: list[str | None] = staged.to_arrow_table()["rule"].to_pylist()
    return rules
