"""Ingest: raw files of one dataset, wherever they come from, become a snapshot of points."""

from __future__ import annotations

import contextlib

from tasks.config.pipeline import PipelineConfig
from tasks.ingest.download import fetched, is_address
from tasks.ingest.files_in_force import SNAPSHOT, SnapshotJob, paths_of, some_of
from tasks.ingest.inventory import looked_at
from tasks.ingest.own_feeds import check_feed, check_names
from tasks.ingest.part import reading_code
from tasks.ingest.snapshot import Snapshot, read_snapshot
from tasks.ingest.synthetic_orders import ordered
from tasks.runtime.errors import Damaged
from tasks.runtime.progress import log
from tasks.runtime.run_records import read_records
from tasks.runtime.store import Receipt, Store


def ingest(config: PipelineConfig, source: str, store: Store) -> Receipt:
    """The snapshot of a source: a path, an https address, or nothing for the embedded sample."""
    earlier = last_snapshot(store, config.dataset)
    job = snapshot_job(config, source, store)
    if job.members is not None:
        read = (member.name for member in job.members if member.state != "ignored")
        check_names(config, earlier, read)
    receipt = SNAPSHOT(job)
    now = read_snapshot(store, receipt)
    check_feed(config, earlier, now)
    report_changes(earlier, now)
    return receipt


def snapshot_job(config: PipelineConfig, source: str, store: Store) -> SnapshotJob:
    """The job of a source. Its content decides, never its address: a known one is only hashed."""
    row = config.source_row
    if row.is_generated:
        source = str(ordered(config, source, store))
    if is_address(source):
        store.prepare()
        source = str(fetched(row, source, store))
    rules = config.snapshot_rules
    content, members = looked_at(paths_of(row, source), rules.members, rules.labels)
    code, inputs = reading_code(row), {"source": content}
    job = SNAPSHOT.job(row.name, rules, inputs, store, licence=row.licence, source=source, **code)
    return SnapshotJob(**vars(job), members=members)


def last_snapshot(store: Store, dataset: str) -> Snapshot | None:
    """The snapshot that the last completed run of a dataset used."""
    for record in reversed(read_records(store)):
        receipts = record.receipts.get(SNAPSHOT.name, [])
        if record.dataset == dataset and record.outcome == "completed" and receipts:
            with contextlib.suppress(Damaged):
                return read_snapshot(store, receipts[-1])
            return None
    return None


def report_changes(earlier: Snapshot | None, now: Snapshot) -> None:
    """Log which files vanished or changed since the last completed run."""
    if earlier is None:
        return
    before, after = earlier.file_names(), now.file_names()
    vanished = sorted(before.keys() - after.keys())
    changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    for what, names in (("vanished", vanished), ("changed", changed)):
        if names:
            log(f"{now.dataset}: {len(names):,} files {what} since the last run: {some_of(names)}")
