"""Run record: written however the run ends, with the warehouse brought up to date."""

from __future__ import annotations

import contextlib
import traceback
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

from tasks.catalog.warehouse import rebuild
from tasks.runtime.errors import StorageError
from tasks.runtime.limits import storage_errors
from tasks.runtime.redaction import redact_logs, redacted
from tasks.runtime.run_records import RunRecord, StageRun, collected_stages, write_record
from tasks.runtime.store import Store


@contextlib.contextmanager
def recorded_run(store: Store, flow: str, dataset: str) -> Iterator[list[StageRun]]:
    """Record a run however it ends, and bring the warehouse up to date with it."""
    store.prepare()
    store.sweep()
    redact_logs()
    began = datetime.now(UTC)
    error, trace = "", ""
    try:
        with collected_stages() as runs:
            yield runs
    except BaseException as caught:
        error = redacted(f"{type(caught).__name__}: {caught}")
        trace = redacted(traceback.format_exc())
        raise
    finally:
        record = RunRecord(
            run_id=uuid.uuid4().hex[:12],
            flow=flow,
            dataset=dataset,
            started_at=began,
            finished_at=datetime.now(UTC),
            outcome="failed" if error else "completed",
            error=error,
            trace=trace,
            stages=tuple(runs),
        )
        what = "the record of the run and the warehouse"
        # Of a run that failed, the first reason is the one to tell.
        unheard = contextlib.suppress(*[StorageError] if error else [])
        with unheard, storage_errors(store.root, what):
            write_record(store, record)
            rebuild(store)
