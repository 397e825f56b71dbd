"""The part stage: new or changed files become points and rejects, and every record is counted."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import sql
from model.data.streams import prefetched
from tasks import database
from tasks.config.datasets import Dataset, dataset_named
from tasks.config.slices import IngestRules
from tasks.ingest.inventory import Member
from tasks.ingest.labels import LABELS, staged_labels
from tasks.ingest.part_writers import REJECT_SCHEMA, Buckets, Writers
from tasks.ingest.readers.formats import module_named, reader_named
from tasks.ingest.readers.records import Piece, RecordBlock
from tasks.ingest.row_digests import RowDigests
from tasks.ingest.snapshot import CONTENTS, LEDGER, REJECTS
from tasks.runtime.errors import DataError
from tasks.runtime.progress import log, progress
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Store
from tasks.runtime.words import counted

TRUTH = "truth.parquet"
POINTS = "points"
POINT_COLUMNS = "staging/point_columns"
MAX_IDS_AT_ONCE = 4_000_000
SHARED_IDS = "checks/points_share_no_id"
NOT_KEPT = ("rule", "raw_text")
NAMES = ("entity", "mmsi", "object_id", "taxi_id", "vehicle_id")  # of entities, in raw records
SPELT_NUMBER = r"^\d+\.0+$|^\d(\.\d+)?[eE]\+\d+$"  # see sql/macros/whole_number_text.sql
UNREADABLE, EMPTY, MALFORMED = "unreadable", "empty", "malformed"
COUNTERS = ("num_records", "num_kept", "num_rejected", "num_missing")  # of a file
COUNTED = {
    POINTS: ("num_records", "num_points", "num_rejected", "num_missing"),
    LABELS: ("num_label_records", "num_labels", "num_labels_rejected"),
}
LEDGER_SCHEMA = pa.schema(
    {
        "file_id": pa.int64(),
        "name": pa.string(),
        "sha256": pa.string(),
        "num_bytes": pa.int64(),
        "state": pa.string(),
        "kind": pa.string(),
        "reason": pa.string(),
        **dict.fromkeys(COUNTERS, pa.int64()),
        "buckets": pa.list_(pa.int32()),
    }
)


@dataclass(frozen=True)
class PartJob(Job[IngestRules]):
    """A job that also carries the files to read, opened."""

    members: Sequence[Member] = ()

    def ready(self, *, are_labels: bool) -> list[Member]:
        """The files that can be read: those of labels, or those of points."""
        ready = [member for member in self.members if member.state == "ready"]
        return [member for member in ready if (member.kind == LABELS) == are_labels]


def part_job(row: Dataset, rules: IngestRules, store: Store, members: Sequence[Member]) -> PartJob:
    """The job that reads these files and no others."""
    in_order = sorted(members, key=lambda member: (member.name, member.file_id))
    file_ids = sorted(f"{member.file_id:016x}" for member in members)
    job = PART.job(
        row.name, rules, {"files": file_ids}, store, licence=row.licence, **reading_code(row)
    )
    return PartJob(**vars(job), members=in_order)


def reading_code(row: Dataset) -> dict[str, Any]:
    """The SQL and the modules of a dataset's own that read it."""
    return {"sql_names": row.staging_names, "modules": (module_named(row.decoder),)}


@dataclass
class Tally:
    """What became of the records of each file, by file id."""

    num_records: Counter[int] = field(default_factory=Counter)
    num_kept: Counter[int] = field(default_factory=Counter)
    num_rejected: Counter[int] = field(default_factory=Counter)
    num_missing: Counter[int] = field(default_factory=Counter)
    buckets: dict[int, set[int]] = field(default_factory=dict)
    rules: Counter[str] = field(default_factory=Counter)
    num_spelt: int = 0
    digests: RowDigests = field(default_factory=RowDigests)
    reasons: dict[int, str] = field(default_factory=dict)


@dataclass
class Draft:
    """A part that is being written: where its rows go, and what became of them."""

    job: PartJob
    connection: database.Connection
    buckets: Buckets
    writers: Writers
    tally: Tally = field(default_factory=Tally)

    @cached_property
    def members(self) -> dict[int, Member]:
        """Each file by its id."""
        return {member.file_id: member for member in self.job.members}

    def reject_file(self, file_id: int, rule: str, reason: str) -> None:
        """A file without any record counts as one record, rejected."""
        self.tally.num_records[file_id] += 1
        self.tally.reasons[file_id] = reason
        row = [file_id], [self.members[file_id].name], [0], [rule], [reason]
        self.reject(pa.table(list(row), schema=REJECT_SCHEMA))

    def reject(self, rejects: pa.Table) -> None:
        self.writers.write(REJECTS, rejects)
        self.tally.num_rejected.update(counts_of(rejects["file_id"]))
        self.tally.rules.update(counts_of(rejects["rule"]))

    def keep(self, kind: str, staged: pa.Table) -> pa.Table:
        """Staged rows into the buckets of their entities; those with a rule are given back."""
        is_kept = pc.is_null(staged["rule"])
        kept = staged if pc.all(is_kept).as_py() else staged.filter(is_kept)
        kept = kept.select([name for name in kept.column_names if name not in NOT_KEPT])
        for bucket, rows in self.buckets.sort(kept):
            self.writers.write(f"{kind}-{bucket:03d}.parquet", rows)
            self.tally.digests.add(kind, bucket, rows)
            for file_id, num_rows in counts_of(rows["file_id"]).items():
                self.tally.num_kept[file_id] += num_rows
                self.tally.buckets.setdefault(file_id, set()).add(bucket)
        return staged.filter(pc.invert(is_kept))

    def named(self, rows: pa.Table) -> pa.Table:
        """Rows with the name of their file, as a dictionary: a name is held only once."""
        file_id = rows["file_id"].combine_chunks().dictionary_encode()
        names = [self.members[number].name for number in file_id.dictionary.to_pylist()]
        column = pa.DictionaryArray.from_arrays(file_id.indices, pa.array(names, pa.string()))
        return rows.append_column("file_name", column)


def build_part(folder: Path, job: Job[IngestRules]) -> Counts:
    """Read, stage, sort into buckets, and account for every record."""
    if not isinstance(job, PartJob):
        raise TypeError("a part is built of opened files; make its job with part_job")
    with database.scratch(folder) as connection, Writers(folder) as writers:
        draft = Draft(job, connection, Buckets(connection, job.settings.num_buckets), writers)
        for member in job.members:
            if member.state == "failed":
                draft.reject_file(member.file_id, UNREADABLE, member.reason)
        for block in prefetched(blocks_of(job), 1):
            stage_block(draft, block)
            for file_id, reason in block.failed.items():
                draft.reject_file(file_id, UNREADABLE, reason)
        take_labels(draft)
        if draft.tally.num_spelt:
            log(
                f"{job.dataset}: in {counted(draft.tally.num_spelt, 'record')} the entity is named "
                "by a number with .0 or an exponent, which is read in its digits"
            )
        for file_id in draft.members:
            if not draft.tally.num_records[file_id]:
                draft.reject_file(file_id, EMPTY, "holds no record")
    return account(folder, job.members, draft.tally)


def blocks_of(job: PartJob) -> Iterator[RecordBlock]:
    """The raw records of the files, read as the layout or the configuration of columns says."""
    reader, pieces = reader_named(job.settings.decoder), ready_pieces(job)
    form = job.settings.columns or job.settings.layout
    return reader.decode(pieces) if form is None else reader.decode(pieces, form)


def ready_pieces(job: PartJob) -> Iterator[Piece]:
    """The records of the files that can be read, with the progress told on the way."""
    ready = job.ready(are_labels=False)
    done, total = 0, sum(member.num_bytes for member in ready)
    with progress("ingest", f"Reading {len(ready):,} files of {job.dataset}") as tell:
        for piece in reader_named(job.settings.decoder).cut(ready):
            yield piece
            done += len(piece.body)
            tell(min(done / total, 1.0), f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB")


def stage_block(draft: Draft, block: RecordBlock) -> None:
    """One block through the staging SQL: its points into their buckets, the rest to the rejects."""
    draft.connection.register("records", draft.named(block.records))
    staged = in_order_of(block.records, staged_of(draft))
    draft.reject(rejects_of(draft, block, draft.keep(POINTS, staged)))
    if block.truth is not None:
        draft.writers.write(TRUTH, block.truth)
    draft.tally.num_records.update(block.num_records)
    draft.tally.num_missing.update(block.num_missing)
    for name in set(NAMES) & set(block.records.column_names):
        is_spelt = pc.match_substring_regex(block.records[name].cast(pa.string()), SPELT_NUMBER)
        draft.tally.num_spelt += pc.sum(is_spelt).as_py() or 0


def take_labels(draft: Draft) -> None:
    """The labels of the files into the buckets of their entities, and the other lines apart."""
    members, labels = draft.job.ready(are_labels=True), dataset_named(draft.job.dataset).labels
    if not members or labels is None:
        return
    staged = staged_labels(draft.connection, members, labels.staging)
    rejects = draft.named(draft.keep(LABELS, staged)).select(REJECT_SCHEMA.names)
    draft.reject(rejects.cast(REJECT_SCHEMA))
    draft.tally.num_records.update(counts_of(staged["file_id"]))


def staged_of(draft: Draft) -> pa.Table:
    """The rows of the staging query, which is told what it asks for: the columns, the zone.

    Columns of a point that the source does not have are filled by name. No fix is of a later day
    than the one after its file is read.
    """
    rules = draft.job.settings
    staging = dataset_named(draft.job.dataset).staging
    points = f"{sql.read(POINT_COLUMNS)} union all by name (\n{sql.read(staging)}\n)"
    rule = "if(rule is null and tracked_at > $read_until, 'in_the_future', rule)"
    query = f"select * replace ({rule} as rule) from (\n{points}\n)"
    values: dict[str, Any] = {"zone": rules.zone} if "$zone" in query else {}
    if values_of := reader_named(rules.decoder).values:
        values = values_of(rules.columns)
    values["read_until"] = datetime.now(UTC) + timedelta(days=1)
    return draft.connection.sql(query, params=values).to_arrow_table()


def in_order_of(records: pa.Table, staged: pa.Table) -> pa.Table:
    """The staged rows in the order of the raw records, which SQL does not promise to keep."""
    wanted, given = records["point_id"], staged["point_id"]
    if wanted.equals(given):
        return staged
    place = pc.index_in(given, value_set=wanted.combine_chunks()).to_numpy()
    return staged.take(np.argsort(place, kind="stable"))


def rejects_of(draft: Draft, block: RecordBlock, ruled_out: pa.Table) -> pa.Table:
    """All rejects of a block, in order of files and lines, with their raw text.

    The raw text is the line, or what the staging query gives as `raw_text`, as it does where a
    line holds many records.
    """
    malformed = [
        {"file_id": file_id, "line_number": line_number, "rule": MALFORMED}
        for file_id, line_number in block.malformed
    ]
    names = [name for name in ruled_out.column_names if name in REJECT_SCHEMA.names]
    rejects = malformed + ruled_out.select(names).to_pylist()
    rank = {piece.file_id: number for number, piece in enumerate(block.pieces)}
    rejects.sort(key=lambda row: (rank[row["file_id"]], row["line_number"]))
    lines = block.raw_texts([(row["file_id"], row["line_number"]) for row in rejects])
    for row, line in zip(rejects, lines, strict=True):
        row["file_name"] = draft.members[row["file_id"]].name
        row["raw_text"] = line if row.get("raw_text") is None else row["raw_text"]
    return pa.Table.from_pylist(rejects, REJECT_SCHEMA)


def counts_of(column: pa.ChunkedArray) -> dict[Any, int]:
    pairs = pc.value_counts(column).to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}


def account(draft: Path, members: Sequence[Member], tally: Tally) -> Counts:
    """Write the ledger after checking that no record was lost and no point has a twin's id."""
    rows = [ledger_row(member, tally) for member in members]
    ledger = pa.Table.from_pylist(rows, LEDGER_SCHEMA)
    with database.scratch(draft) as connection:
        connection.register("files", ledger)
        database.check(connection, "checks/records_conserved")
        check_point_ids(connection, sorted(draft.glob("points-*.parquet")))
    pq.write_table(ledger, draft / LEDGER, compression="zstd", write_page_checksum=True)
    tally.digests.write(draft / CONTENTS)
    return {
        "num_files": ledger.num_rows,
        "num_files_failed": pc.sum(pc.equal(ledger["state"], "failed")).as_py(),
        **record_counts(rows),
        **{f"num_{rule}": number for rule, number in sorted(tally.rules.items())},
    }


def record_counts(ledger: Sequence[dict[str, Any]]) -> Counts:
    """What was read, kept and rejected of points, and apart from that of labels, if any."""
    counts: Counts = {}
    for kind, names in COUNTED.items():
        entries = [entry for entry in ledger if entry["kind"] == kind]
        if entries or kind == POINTS:
            sums = (sum(entry[column] for entry in entries) for column in COUNTERS)
            counts |= dict(zip(names, sums, strict=False))
    return counts


def ledger_row(member: Member, tally: Tally) -> dict[str, Any]:
    """What became of one file; one that was not read has the counts of an empty tally."""
    file_id, state = member.file_id, member.state
    if state == "ready":
        was_read = tally.num_kept[file_id] or tally.num_records[file_id] > 1
        state = "read" if was_read else "failed"
    return {
        "file_id": file_id,
        "name": member.name,
        "sha256": member.sha256,
        "num_bytes": member.num_bytes,
        "state": state,
        "kind": member.kind if state != "ignored" else "",
        "reason": tally.reasons.get(file_id, member.reason),
        **{name: getattr(tally, name)[file_id] for name in COUNTERS},
        "buckets": sorted(tally.buckets.get(file_id, ())),
    }


def check_point_ids(connection: database.Connection, paths: Sequence[Path]) -> None:
    """Every point has an id of its own: the tie-break of every window function rests on it.

    Ids are spread evenly, so that shares of them can be looked at in turn, and memory is bounded.
    """
    num_points = sum(pq.read_metadata(path).num_rows for path in paths)
    num_shares = -(-num_points // MAX_IDS_AT_ONCE)
    values = {"paths": [glob.escape(str(path)) for path in paths], "num_shares": num_shares}
    for share in range(num_shares):
        if connection.execute(sql.read(SHARED_IDS), values | {"share": share}).fetchall():
            raise DataError("two records share a point_id; report this with the names of the files")


PART = Stage(
    "part",
    build_part,
    sql=("checks/records_conserved", SHARED_IDS, "intermediate/int_entity_buckets", POINT_COLUMNS),
)
