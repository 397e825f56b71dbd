"""Files in force: the snapshot stage, which reads what no part holds and names what counts."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.config.datasets import Dataset, dataset_named
from tasks.config.slices import SnapshotRules
from tasks.ingest.archive import opened_sources
from tasks.ingest.inventory import Member, inventory, is_one_archive, print_of
from tasks.ingest.labels import LABELS
from tasks.ingest.part import (
    LEDGER_SCHEMA,
    PART,
    POINTS,
    Tally,
    counts_of,
    ledger_row,
    part_job,
    reading_code,
    record_counts,
)
from tasks.ingest.snapshot import (
    IN_NO_LIMIT,
    INDEX,
    LEDGER,
    REJECTS,
    index_of,
    part_receipt,
)
from tasks.runtime.errors import ConfigError, Damaged, DataError, TooManyRejected
from tasks.runtime.progress import log
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Recipe, Store, sha256_file, write_synced
from tasks.runtime.words import counted

SAMPLE = "the embedded sample"


@dataclass(frozen=True)
class SnapshotJob(Job[SnapshotRules]):
    """A job that also carries the inventory by which it is named, where files lie open."""

    members: list[Member] | None = None


def paths_of(row: Dataset, source: str) -> list[Path]:
    """The local files or folders behind a source."""
    if source:
        return [Path(source).expanduser()]
    if not row.sample:
        raise ConfigError(
            f"{row.name} has no embedded sample: name the file or folder with --source PATH "
            f"({row.homepage})"
        )
    samples = resources.files("tasks.ingest").joinpath("samples")
    return [Path(str(samples.joinpath(name))) for name in row.sample]


def build_snapshot(draft: Path, job: Job[SnapshotRules]) -> Counts:
    """Read the files that no part holds yet, then name what is in force."""
    row = dataset_named(job.dataset)
    paths = paths_of(row, job.source)
    where = job.source or SAMPLE
    with members_of(job, paths, draft) as members:
        if not is_one_archive(paths):
            check_unchanged(print_of(members), job, where)
        usable = [member for member in members if member.state != "ignored"]
        ignored = [member for member in members if member.state == "ignored"]
        report_ignored(row.name, ignored)
        if all(member.kind == LABELS for member in usable):
            raise DataError(
                f"{where} holds no files like {job.settings.members}; is this {row.name}? "
                f"Its form and address: {row.homepage}"
            )
        holdings = find_or_read(row, job, usable)
    if is_one_archive(paths):
        check_unchanged(sha256_file(paths[0]), job, where)
    job.requires.extend(part_receipt(row.name, recipe).place for recipe in holdings.parts)
    ledger = holdings.ledger + [ledger_row(member, Tally()) for member in ignored]
    by_rule = rejects_by_rule(holdings)
    check_share(holdings, by_rule, job.settings.max_rejected_share, where)
    write_snapshot(draft, job.settings, holdings, ledger)
    return snapshot_counts(ledger, by_rule)


@contextlib.contextmanager
def members_of(
    job: Job[SnapshotRules], paths: Sequence[Path], spool: Path
) -> Iterator[list[Member]]:
    """The inventory of a source, which is not taken twice: whoever reads a file compares it."""
    if isinstance(job, SnapshotJob) and job.members is not None:
        yield job.members
        return
    with opened_sources(paths, spool) as entries:
        yield inventory(entries, job.settings.members, job.settings.labels)


def check_unchanged(found: str, job: Job[SnapshotRules], where: str) -> None:
    """Refuse a source that is not what the job was made for.

    Files must be so before they are read: whoever reads one compares it with the inventory. The
    members of an archive stand in one file, which must still be so after.
    """
    if found != job.inputs["source"]:
        raise DataError(f"{where} changed while it was read; run again")


@dataclass(frozen=True)
class Holdings:
    """Where the rows of the files in force stand: file ids by part, and their ledger rows."""

    store: Store
    base: Recipe
    parts: dict[str, list[int]] = field(default_factory=dict)
    ledger: list[dict[str, Any]] = field(default_factory=list)

    def take(self, recipes: Iterable[str], wanted: Iterable[int]) -> None:
        """The wanted files that these parts hold, each from the first that does."""
        missing = set(wanted)
        for recipe in recipes:
            try:
                self.store.verify(part_receipt(self.base.dataset, recipe), LEDGER, REJECTS)
            except Damaged:
                continue  # its files are read again
            for entry in pq.read_table(self.folder(recipe) / LEDGER, partitioning=None).to_pylist():
                if entry["file_id"] in missing:
                    missing.remove(entry["file_id"])
                    self.parts.setdefault(recipe, []).append(entry["file_id"])
                    self.ledger.append(entry)

    def folder(self, recipe: str) -> Path:
        return self.store.folder(part_receipt(self.base.dataset, recipe))


def find_or_read(row: Dataset, job: Job[SnapshotRules], members: Sequence[Member]) -> Holdings:
    """Take what published parts of the same recipe hold already; read the rest into a new part."""
    rules = job.settings.reading
    holdings = Holdings(job.store, PART.recipe(row.name, rules, {}, **reading_code(row)))
    wanted = {member.file_id: member for member in members}
    holdings.take(published_parts(job.store, holdings.base), wanted)
    held = {entry["file_id"] for entry in holdings.ledger}
    fresh = {file_id: member for file_id, member in wanted.items() if file_id not in held}
    log(f"{row.name}: {counted(len(fresh), 'file')} to read, {len(held):,} read before")
    if fresh:
        receipt = PART.plain(part_job(row, rules, job.store, list(fresh.values())))
        holdings.take([receipt.recipe], fresh)
    return holdings


def published_parts(store: Store, base: Recipe) -> list[str]:
    """The parts that were read by the same code, SQL and rules."""
    recipes = [manifest.recipe for manifest in store.published(base.stage, base.dataset)]
    same = [recipe for recipe in recipes if recipe.model_copy(update={"inputs": {}}) == base]
    return sorted(recipe.digest for recipe in same)


def check_share(holdings: Holdings, by_rule: Counter[str], max_share: float, where: str) -> None:
    """Refuse a source of which too much was rejected; the part with the rejects stays readable."""
    ledger = [entry for entry in holdings.ledger if entry["kind"] == POINTS]
    num_records = sum(entry["num_records"] for entry in ledger)
    num_rejected = sum(entry["num_rejected"] for entry in ledger)
    num_expected = sum(by_rule[rule] for rule in IN_NO_LIMIT)
    num_kept = num_records - num_rejected
    if num_kept and num_rejected - num_expected <= max_share * num_records:
        return
    worst = min(ledger, key=lambda entry: (-entry["num_rejected"], entry["name"]))
    recipe = next(r for r, ids in holdings.parts.items() if worst["file_id"] in ids)
    rejects = holdings.folder(recipe) / REJECTS
    raise TooManyRejected(
        f"{where}: {num_rejected - num_expected:,} of {num_records:,} records were rejected "
        f"(at most {max_share:.0%} may be); worst is {worst['name']}, first: "
        f"{first_reject(rejects, worst['file_id'])}; all are in {rejects}",
        tuple(sorted(holdings.parts)),
        tuple(sorted(file_id for file_ids in holdings.parts.values() for file_id in file_ids)),
    )


def first_reject(rejects: Path, file_id: int) -> str:
    rows = pq.read_table(rejects, filters=[("file_id", "=", file_id)], partitioning=None)
    entry = rows.sort_by("line_number").slice(0, 1).to_pylist()[0]
    if entry["line_number"]:
        return f"line {entry['line_number']} is {entry['rule']}"
    return f"it {entry['raw_text']}"


def write_snapshot(
    draft: Path, rules: SnapshotRules, holdings: Holdings, ledger: list[dict[str, Any]]
) -> None:
    points, labels = (
        {e["file_id"]: e["buckets"] for e in holdings.ledger if e["kind"] == kind}
        for kind in (POINTS, LABELS)
    )
    index = index_of(holdings.base.digest, rules.num_buckets, holdings.parts, points, labels)
    write_synced(draft / INDEX, index.model_dump_json(indent=1) + "\n")
    in_order = sorted(ledger, key=lambda entry: (entry["name"], entry["file_id"]))
    table = pa.Table.from_pylist(in_order, schema=LEDGER_SCHEMA)
    pq.write_table(table, draft / LEDGER, compression="zstd", write_page_checksum=True)


def snapshot_counts(ledger: list[dict[str, Any]], by_rule: Counter[str]) -> Counts:
    """Files by state, records by fate, rejects by rule."""
    states = Counter(entry["state"] for entry in ledger)
    by_state = {f"num_files_{state}": states[state] for state in ("read", "failed", "ignored")}
    rejects = {f"num_{rule}": number for rule, number in sorted(by_rule.items())}
    return {"num_files": len(ledger), **by_state, **record_counts(ledger), **rejects}


def rejects_by_rule(holdings: Holdings) -> Counter[str]:
    """The rejects of the files in force by rule."""
    rules: Counter[str] = Counter()
    for recipe, file_ids in holdings.parts.items():
        rows = pq.read_table(
            holdings.folder(recipe) / REJECTS, columns=["file_id", "rule"], partitioning=None
        )
        in_force = pc.is_in(rows["file_id"], value_set=pa.array(file_ids, pa.int64()))
        rules.update(counts_of(rows.filter(in_force)["rule"]))
    return rules


def report_ignored(dataset: str, members: Sequence[Member]) -> None:
    """Log which files are not read, those that stay closed apart from those of another kind."""
    for reason in sorted({member.reason for member in members}):
        names = [member.name for member in members if member.reason == reason]
        log(f"{dataset}: {counted(len(names), 'file')} ignored ({reason}): {some_of(names)}")


def some_of(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


SNAPSHOT = Stage("snapshot", build_snapshot, sql=PART.sql)
