"""The part stage: new or changed files become points and rejects, and every record is counted."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

import sql
from model.data.prefetch import prefetched
from tasks import database
from tasks.config.datasets import Dataset
from tasks.config.slices import IngestRules
from tasks.ingest.archive import Member
from tasks.ingest.labels import LABELS, staged_labels
from tasks.ingest.part_writers import REJECT_SCHEMA, Buckets, Writers
from tasks.ingest.readers.formats import module_named, reader_named
from tasks.ingest.readers.records import Block, Piece
from tasks.ingest.row_digests import CONTENTS, RowDigests
from tasks.ingest.snapshot import LEDGER, REJECTS
from tasks.runtime.errors import DataError
from tasks.runtime.progress import progress
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Store

TRUTH = "truth.parquet"
POINTS = "points"
MAX_IDS_AT_ONCE = 2_000_000
UNREADABLE, EMPTY, MALFORMED = "unreadable", "empty", "malformed"
LEDGER_SCHEMA = pa.schema(
    {
        "file_id": pa.int64(),
        "name": pa.string(),
        "sha256": pa.string(),
        "num_bytes": pa.int64(),
        "state": pa.string(),
        "kind": pa.string(),
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
    labels_staging: str = ""

    @cached_property
    def names(self) -> dict[int, str]:
        """The name of each file, by its id."""
        return names_by_id(self.members)


@dataclass
class Tally:
    """What became of the records of each file, by file id."""

    num_records: Counter[int] = field(default_factory=Counter)
    num_kept: Counter[int] = field(default_factory=Counter)
    num_rejected: Counter[int] = field(default_factory=Counter)
    num_missing: Counter[int] = field(default_factory=Counter)
    buckets: dict[int, set[int]] = field(default_factory=dict)
    rules: Counter[str] = field(default_factory=Counter)
    digests: RowDigests = field(default_factory=RowDigests)
    reasons: dict[int, str] = field(default_factory=dict)


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
        sql_names=row.staging_names,
        modules=(module_named(rules.decoder),),
    )
    return PartJob(
        job.recipe,
        rules,
        job.inputs,
        store,
        row.licence,
        members=in_order,
        staging=row.staging,
        labels_staging=row.labels.staging if row.labels else "",
    )


def build_part(draft: Path, job: Job[IngestRules]) -> Counts:
    """Read, stage, sort into buckets, and account for every record."""
    if not isinstance(job, PartJob):
        raise TypeError("a part is built of opened files; make its job with part_job")
    tally = Tally()
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(database.scratch(draft))
        buckets = Buckets(connection, job.settings.num_buckets)
        writers = stack.enter_context(Writers(draft))
        for member in job.members:
            if member.state == "failed":
                reject_file(member, UNREADABLE, member.reason, writers, tally)
        for block in prefetched(blocks_of(job), 1):
            stage_block(connection, block, job, buckets, writers, tally)
            for member in job.members:
                if member.file_id in block.failed:
                    reason = block.failed[member.file_id]
                    reject_file(member, UNREADABLE, reason, writers, tally)
        take_labels(connection, job, buckets, writers, tally)
        for member in job.members:
            if not tally.num_records[member.file_id]:
                reject_file(member, EMPTY, "holds no record", writers, tally)
    return account(draft, job.members, tally)


def blocks_of(job: PartJob) -> Iterator[Block]:
    """The raw records of the files, read as the layout or the configuration of columns says."""
    reader, pieces = reader_named(job.settings.decoder), ready_pieces(job)
    form = job.settings.columns or job.settings.layout
    return reader.decode(pieces) if form is None else reader.decode(pieces, form)


def ready_pieces(job: PartJob) -> Iterator[Piece]:
    """The records of the files that can be read, with the progress told on the way."""
    ready = [m for m in job.members if m.state == "ready" and m.kind != LABELS]
    done, total = 0, sum(member.num_bytes for member in ready)
    with progress("ingest", f"Reading {len(ready):,} files of {job.dataset}") as tell:
        for piece in reader_named(job.settings.decoder).cut(ready):
            yield piece
            done += len(piece.body)
            tell(min(done / total, 1.0), f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB")


def reject_file(member: Member, rule: str, reason: str, writers: Writers, tally: Tally) -> None:
    """A file without any record counts as one record, rejected."""
    tally.num_records[member.file_id] += 1
    tally.num_rejected[member.file_id] += 1
    tally.rules[rule] += 1
    tally.reasons[member.file_id] = reason
    row = [member.file_id], [member.name], [0], [rule], [reason]
    writers.write(REJECTS, pa.table(list(row), schema=REJECT_SCHEMA))


def stage_block(
    connection: database.Connection,
    block: Block,
    job: PartJob,
    buckets: Buckets,
    writers: Writers,
    tally: Tally,
) -> None:
    """One block through the staging SQL: its points into their buckets, the rest to the rejects."""
    names = job.names
    records = named(block.records, names)
    connection.register("records", records)
    staged = in_order_of(block.records, staged_of(connection, job))
    is_kept = pc.is_null(staged["rule"])
    kept = staged.filter(is_kept) if staged["rule"].null_count < len(staged) else staged
    kept = kept.select([name for name in kept.column_names if name not in ("rule", "raw_text")])
    rejects = rejects_of(block, staged.filter(pc.invert(is_kept)), names)
    for bucket, points in buckets.sort(kept):
        writers.write(f"points-{bucket:03d}.parquet", points)
        tally.digests.add(POINTS, bucket, points)
        for file_id, num_points in counts_of(points["file_id"]).items():
            tally.num_kept[file_id] += num_points
            tally.buckets.setdefault(file_id, set()).add(bucket)
    writers.write(REJECTS, rejects)
    if block.truth is not None:
        writers.write(TRUTH, block.truth)
    tally.num_records.update(block.num_records)
    tally.num_missing.update(block.num_missing)
    tally.num_rejected.update(counts_of(rejects["file_id"]))
    tally.rules.update(counts_of(rejects["rule"]))


def take_labels(
    connection: database.Connection,
    job: PartJob,
    buckets: Buckets,
    writers: Writers,
    tally: Tally,
) -> None:
    """The labels of the files into the buckets of their entities, and the other lines apart."""
    members = [m for m in job.members if m.state == "ready" and m.kind == LABELS]
    if not members:
        return
    staged = staged_labels(connection, members, job.labels_staging)
    names = names_by_id(members)
    is_kept = pc.is_null(staged["rule"])
    rejects = staged.filter(pc.invert(is_kept))
    file_names = pa.array([names[number] for number in rejects["file_id"].to_pylist()], pa.string())
    rejects = rejects.append_column("file_name", file_names).select(REJECT_SCHEMA.names)
    kept = staged.filter(is_kept).drop_columns(["rule", "raw_text"])
    for bucket, labels in buckets.sort(kept):
        writers.write(f"{LABELS}-{bucket:03d}.parquet", labels)
        tally.digests.add(LABELS, bucket, labels)
        for file_id in counts_of(labels["file_id"]):
            tally.buckets.setdefault(file_id, set()).add(bucket)
    writers.write(REJECTS, rejects.cast(REJECT_SCHEMA))
    tally.num_records.update(counts_of(staged["file_id"]))
    tally.num_kept.update(counts_of(kept["file_id"]))
    tally.num_rejected.update(counts_of(rejects["file_id"]))
    tally.rules.update(counts_of(rejects["rule"]))


def staged_of(connection: database.Connection, job: PartJob) -> pa.Table:
    """The rows of the staging query, which is told what it asks for: the columns, the zone."""
    query, columns = sql.read(job.staging), job.settings.columns
    values_of = reader_named(job.settings.decoder).values
    if values_of is not None:
        values = values_of(columns)
    else:
        values = {"zone": job.settings.zone} if "$zone" in query else {}
    return connection.sql(query, params=values or None).to_arrow_table()


def named(records: pa.Table, names: dict[int, str]) -> pa.Table:
    """Records with the name of their file, as a dictionary: a name is held only once."""
    file_id = records["file_id"].combine_chunks().dictionary_encode()
    dictionary = pa.array([names[number] for number in file_id.dictionary.to_pylist()], pa.string())
    column = pa.DictionaryArray.from_arrays(file_id.indices, dictionary)
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
    """All rejects of a block, in order of files and lines, with their raw text.

    The raw text is the line, or what the staging query gives as `raw_text`, as it does where a
    line holds many records.
    """
    columns = ruled_out.select(["file_id", "line_number", "rule"]).to_pydict()
    ruled_places = list(zip(columns["file_id"], columns["line_number"], strict=True))
    places = [*block.malformed, *ruled_places]
    rules = [MALFORMED] * len(block.malformed) + columns["rule"]
    texts = block.raw_texts(places)
    if "raw_text" in ruled_out.column_names:
        given = [*[None] * len(block.malformed), *ruled_out["raw_text"].to_pylist()]
        texts = [text if own is None else own for text, own in zip(texts, given, strict=True)]
    rank = {piece.file_id: number for number, piece in zip(count(), block.pieces, strict=False)}
    order = sorted(range(len(places)), key=lambda i: (rank[places[i][0]], places[i][1]))
    return pa.table(
        [
            [places[i][0] for i in order],
            [names[places[i][0]] for i in order],
            [places[i][1] for i in order],
            [rules[i] for i in order],
            [texts[i] for i in order],
        ],
        schema=REJECT_SCHEMA,
    )


def counts_of(column: pa.ChunkedArray) -> dict[Any, int]:
    pairs = pc.value_counts(column).to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}


def account(draft: Path, members: Sequence[Member], tally: Tally) -> Counts:
    """Write the ledger after checking that no record was lost and no point has a twin's id."""
    ledger = ledger_of(members, tally)
    with database.scratch(draft) as connection:
        connection.register("files", ledger)
        database.check(connection, "checks/records_conserved")
    check_point_ids(sorted(draft.glob("points-*.parquet")))
    pq.write_table(ledger, draft / LEDGER, compression="zstd", write_page_checksum=True)
    tally.digests.write(draft / CONTENTS)
    return {
        "num_files": ledger.num_rows,
        "num_files_failed": pc.sum(pc.equal(ledger["state"], "failed")).as_py(),
        **record_counts(ledger.to_pylist()),
        **{f"num_{rule}": number for rule, number in sorted(tally.rules.items())},
    }


def record_counts(ledger: Sequence[dict[str, Any]]) -> Counts:
    """What was read, kept and rejected of points, and apart from that of labels, if any."""

    def sum_of(column: str, kind: str) -> int:
        return sum(entry[column] for entry in ledger if entry["kind"] == kind)

    counts: Counts = {
        "num_records": sum_of("num_records", POINTS),
        "num_points": sum_of("num_kept", POINTS),
        "num_rejected": sum_of("num_rejected", POINTS),
        "num_missing": sum_of("num_missing", POINTS),
    }
    if any(entry["kind"] == LABELS for entry in ledger):
        counts["num_label_records"] = sum_of("num_records", LABELS)
        counts["num_labels"] = sum_of("num_kept", LABELS)
        counts["num_labels_rejected"] = sum_of("num_rejected", LABELS)
    return counts


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
                "kind": member.kind,
                "reason": tally.reasons.get(file_id, member.reason),
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
