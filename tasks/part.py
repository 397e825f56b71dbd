"""The part stage: new or changed files become points and rejects, and every record is counted."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

import sql
from tasks import database
from tasks.ahead import ahead
from tasks.archive import Member
from tasks.config import IngestRules
from tasks.datasets import Dataset
from tasks.decode import DECODERS, Block, Piece, pieces_of
from tasks.errors import DataError
from tasks.progress import progress
from tasks.snapshot import LEDGER, REJECTS
from tasks.stage import Job, Stage
from tasks.store import Counts, Store

MAX_IDS_AT_ONCE = 4_000_000
UNREADABLE, EMPTY, MALFORMED = "unreadable", "empty", "malformed"
REJECT_SCHEMA = pa.schema(
    {
        "file_id": pa.int64(),
        "file_name": pa.string(),
        "line_number": pa.int64(),
        "rule": pa.string(),
        "raw_text": pa.string(),
    }
)
LEDGER_SCHEMA = pa.schema(
    {
        "file_id": pa.int64(),
        "name": pa.string(),
        "sha256": pa.string(),
        "num_bytes": pa.int64(),
        "state": pa.string(),
        "reason": pa.string(),
        "num_records": pa.int64(),
        "num_kept": pa.int64(),
        "num_rejected": pa.int64(),
        "num_missing": pa.int64(),
        "buckets": pa.list_(pa.int32()),
    }
)


@dataclass(frozen=True)
class PartJob(Job[IngestRules]):
    """A job that also carries the files to read, opened."""

    members: Sequence[Member] = ()
    staging: str = ""


@dataclass
class Tally:
    """What became of the records of each file, by file id."""

    num_records: Counter[int] = field(default_factory=Counter)
    num_kept: Counter[int] = field(default_factory=Counter)
    num_rejected: Counter[int] = field(default_factory=Counter)
    num_missing: Counter[int] = field(default_factory=Counter)
    buckets: dict[int, set[int]] = field(default_factory=dict)
    rules: Counter[str] = field(default_factory=Counter)


def part_job(row: Dataset, rules: IngestRules, store: Store, members: Sequence[Member]) -> PartJob:
    """The job that reads these files and no others."""
    in_order = sorted(members, key=lambda member: (member.name, member.file_id))
    file_ids = sorted(f"{member.file_id:016x}" for member in members)
    job = PART.job(
        row.name,
        rules,
        {"files": file_ids},
        store,
        licence=row.licence,
        sql_names=(row.staging,),
    )
    return PartJob(
        job.recipe, rules, job.inputs, store, row.licence, members=in_order, staging=row.staging
    )


def build_part(draft: Path, job: Job[IngestRules]) -> Counts:
    """Read, stage, sort into buckets, and account for every record."""
    if not isinstance(job, PartJob):
        raise TypeError("a part is built of opened files; make its job with part_job")
    tally = Tally()
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(database.scratch(draft))
        writers = stack.enter_context(Writers(draft))
        for member in job.members:
            if member.state == "failed":
                reject_file(member, UNREADABLE, member.reason, writers, tally)
        for block in ahead(DECODERS[job.settings.decoder](ready_pieces(job))):
            stage_block(connection, block, job, writers, tally)
        for member in job.members:
            if not tally.num_records[member.file_id]:
                reject_file(member, EMPTY, "holds no record", writers, tally)
    return account(draft, job.members, tally)


def ready_pieces(job: PartJob) -> Iterator[Piece]:
    """The lines of the files that can be read, with the progress told on the way."""
    ready = [member for member in job.members if member.state == "ready"]
    done, total = 0, sum(member.num_bytes for member in ready)
    with progress("ingest", f"Reading {len(ready):,} files of {job.dataset}") as tell:
        for piece in pieces_of(ready):
            yield piece
            done += len(piece.body)
            tell(min(done / total, 1.0), f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB")


def reject_file(member: Member, rule: str, reason: str, writers: Writers, tally: Tally) -> None:
    """A file without any record counts as one record, rejected."""
    tally.num_records[member.file_id] += 1
    tally.num_rejected[member.file_id] += 1
    tally.rules[rule] += 1
    row = [member.file_id], [member.name], [0], [rule], [reason]
    writers.write(REJECTS, pa.table(list(row), schema=REJECT_SCHEMA))


def stage_block(
    connection: database.Connection, block: Block, job: PartJob, writers: Writers, tally: Tally
) -> None:
    """One block through the staging SQL: its points into their buckets, the rest to the rejects."""
    names = names_by_id(job.members)
    records = named(block.records, names)
    connection.register("records", records)
    staged = in_order_of(block.records, connection.sql(sql.read(job.staging)).to_arrow_table())
    is_kept = pc.is_null(staged["rule"])
    kept = staged.filter(is_kept) if staged["rule"].null_count < len(staged) else staged
    kept = kept.drop_columns(["rule"])
    rejects = rejects_of(block, staged.filter(pc.invert(is_kept)), names)
    for bucket, points in by_bucket(connection, kept, job.settings.num_buckets):
        writers.write(f"points-{bucket:03d}.parquet", points)
        for file_id, num_points in counts_of(points["file_id"]).items():
            tally.num_kept[file_id] += num_points
            tally.buckets.setdefault(file_id, set()).add(bucket)
    writers.write(REJECTS, rejects)
    tally.num_records.update(block.num_records)
    tally.num_missing.update(block.num_missing)
    tally.num_rejected.update(counts_of(rejects["file_id"]))
    tally.rules.update(counts_of(rejects["rule"]))


def named(records: pa.Table, names: dict[int, str]) -> pa.Table:
    """Records with the name of their file, as a dictionary: SQL works on each name only once."""
    file_id, codes = np.unique(records["file_id"].to_numpy(), return_inverse=True)
    dictionary = pa.array([names[number] for number in file_id.tolist()], pa.string())
    column = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), dictionary)
    return records.append_column("file_name", column)


def names_by_id(members: Sequence[Member]) -> dict[int, str]:
    return {member.file_id: member.name for member in members}


def in_order_of(records: pa.Table, staged: pa.Table) -> pa.Table:
    """The staged rows in the order of the raw records, which SQL does not promise to keep."""
    wanted, given = records["point_id"].to_numpy(), staged["point_id"].to_numpy()
    if np.array_equal(wanted, given):
        return staged
    order = np.argsort(wanted, kind="stable")
    place = order[np.searchsorted(wanted, given, sorter=order).clip(max=len(order) - 1)]
    return staged.take(np.argsort(place, kind="stable"))


def rejects_of(block: Block, ruled_out: pa.Table, names: dict[int, str]) -> pa.Table:
    """All rejects of a block, in order of files and lines, with their raw text."""
    rules = {place: MALFORMED for place in block.malformed}
    columns = ruled_out.select(["file_id", "line_number", "rule"]).to_pydict()
    for file_id, line_number, rule in zip(*columns.values(), strict=True):
        rules[file_id, line_number] = rule
    rank = {piece.file_id: number for number, piece in zip(count(), block.pieces, strict=False)}
    places = sorted(rules, key=lambda place: (rank[place[0]], place[1]))
    return pa.table(
        [
            [file_id for file_id, _line in places],
            [names[file_id] for file_id, _line in places],
            [line for _file_id, line in places],
            [rules[place] for place in places],
            block.raw_texts(places),
        ],
        schema=REJECT_SCHEMA,
    )


def by_bucket(
    connection: database.Connection, kept: pa.Table, num_buckets: int
) -> Iterator[tuple[int, pa.Table]]:
    """The points of each entity bucket, in order of the buckets."""
    connection.register("kept", pa.table({"entity_id": pc.unique(kept["entity_id"])}))
    query = sql.read("intermediate/int_entity_buckets")
    buckets = connection.sql(query, params={"num_buckets": num_buckets}).to_arrow_table()
    codes = pc.index_in(kept["entity_id"], value_set=buckets["entity_id"].combine_chunks())
    bucket_of_row = buckets["bucket"].to_numpy()[codes.to_numpy()]
    for bucket in np.unique(buckets["bucket"].to_numpy()).tolist():
        rows = np.flatnonzero(bucket_of_row == bucket)
        yield bucket, kept if len(rows) == len(kept) else kept.take(rows)


def counts_of(column: pa.ChunkedArray) -> dict[Any, int]:
    pairs = pc.value_counts(column).to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}


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
            self._writers[name] = pq.ParquetWriter(
                self._folder / name, table.schema, compression="zstd", write_page_checksum=True
            )
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
                writer.close()
        else:
            for writer in self._writers.values():
                with contextlib.suppress(OSError, pa.ArrowException):
                    writer.close()


def account(draft: Path, members: Sequence[Member], tally: Tally) -> Counts:
    """Write the ledger after checking that no record was lost and no point has a twin's id."""
    ledger = ledger_of(members, tally)
    with database.scratch(draft) as connection:
        connection.register("files", ledger)
        database.check(connection, "checks/records_conserved")
    check_point_ids(sorted(draft.glob("points-*.parquet")))
    pq.write_table(ledger, draft / LEDGER, compression="zstd", write_page_checksum=True)
    return {
        "num_files": ledger.num_rows,
        "num_files_failed": pc.sum(pc.equal(ledger["state"], "failed")).as_py(),
        "num_records": sum(tally.num_records.values()),
        "num_points": sum(tally.num_kept.values()),
        "num_rejected": sum(tally.num_rejected.values()),
        "num_missing": sum(tally.num_missing.values()),
        **{f"num_{rule}": number for rule, number in sorted(tally.rules.items())},
    }


def ledger_of(members: Sequence[Member], tally: Tally) -> pa.Table:
    rows = []
    for member in members:
        file_id = member.file_id
        has_failed = member.state == "failed" or not (
            tally.num_kept[file_id] or tally.num_records[file_id] > 1
        )
        rows.append(
            {
                "file_id": file_id,
                "name": member.name,
                "sha256": member.sha256,
                "num_bytes": member.num_bytes,
                "state": "failed" if has_failed else "read",
                "reason": member.reason,
                "num_records": tally.num_records[file_id],
                "num_kept": tally.num_kept[file_id],
                "num_rejected": tally.num_rejected[file_id],
                "num_missing": tally.num_missing[file_id],
                "buckets": sorted(tally.buckets.get(file_id, ())),
            }
        )
    return pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA)


def check_point_ids(paths: Sequence[Path]) -> None:
    """Every point has an id of its own: the tie-break of every window function rests on it.

    Ids are spread evenly, so that ranges of them can be looked at in turn, and memory is bounded.
    """
    num_points = sum(pq.read_metadata(path).num_rows for path in paths)
    num_ranges = num_points // MAX_IDS_AT_ONCE + 1
    edges = [i * (2**63 // num_ranges) for i in range(num_ranges)] + [2**63 - 1]
    for start, end in pairwise(edges):
        found = [some[(some >= start) & (some <= end)] for some in point_ids_of(paths)]
        point_id = np.concatenate(found) if found else np.array([], dtype=np.int64)
        point_id.sort()
        if (point_id[1:] == point_id[:-1]).any():
            raise DataError("two records share a point_id; report this with the names of the files")


def point_ids_of(paths: Sequence[Path]) -> Iterator[NDArray[np.int64]]:
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(database.ROW_GROUP_ROWS, columns=["point_id"]):
                yield batch["point_id"].to_numpy()


PART = Stage(
    "part", build_part, sql=("checks/records_conserved", "intermediate/int_entity_buckets")
)
