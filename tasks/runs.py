"""The record that each run leaves: which steps it used, how long they took, how it ended."""

from __future__ import annotations

import contextlib
import resource
import time
import traceback
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

from tasks.store import Frozen, Receipt, Store, replace_synced


class StageRun(Frozen):
    """One step of a run: what it gave and what it cost."""

    receipt: Receipt
    is_cached: bool
    wall_s: float
    peak_memory_mb: float


class RunRecord(Frozen):
    """One run of a flow, as it stands in `<store>/runs/`."""

    run_id: str
    flow: str
    dataset: str
    started_at: datetime
    finished_at: datetime
    outcome: Literal["completed", "failed"]
    error: str = ""
    trace: str = ""
    stages: tuple[StageRun, ...]

    @property
    def receipts(self) -> dict[str, list[Receipt]]:
        """The receipts of the run by stage, in the order in which they came."""
        found: dict[str, list[Receipt]] = {}
        for run in self.stages:
            found.setdefault(run.receipt.stage, []).append(run.receipt)
        return found


_stage_runs: ContextVar[list[StageRun] | None] = ContextVar("stage_runs", default=None)


@contextlib.contextmanager
def timed_stage(*, is_cached: bool) -> Iterator[list[Receipt]]:
    """Note the receipt that the caller appends, with its cost, in the present run."""
    began_s = time.monotonic()
    receipts: list[Receipt] = []
    yield receipts
    runs = _stage_runs.get()
    if runs is not None:
        wall_s = round(time.monotonic() - began_s, 3)
        runs.extend(
            StageRun(
                receipt=receipt,
                is_cached=is_cached,
                wall_s=wall_s,
                peak_memory_mb=peak_memory_mb(),
            )
            for receipt in receipts
        )


def stages_so_far() -> tuple[StageRun, ...]:
    """The steps that the present run has used, in order."""
    return tuple(_stage_runs.get() or ())


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in megabytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000, 1)


@contextlib.contextmanager
def recorded_run(store: Store, flow: str, dataset: str) -> Iterator[list[StageRun]]:
    """Record a run however it ends, and bring the warehouse up to date with it."""
    from tasks.warehouse import rebuild

    store.prepare()
    store.sweep()
    began = datetime.now(UTC)
    runs: list[StageRun] = []
    token = _stage_runs.set(runs)
    error, trace = "", ""
    try:
        yield runs
    except BaseException as caught:
        error, trace = f"{type(caught).__name__}: {caught}", traceback.format_exc()
        raise
    finally:
        _stage_runs.reset(token)
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
        write_record(store, record)
        rebuild(store)


def write_record(store: Store, record: RunRecord) -> None:
    store.runs.mkdir(exist_ok=True)
    instant = record.started_at.strftime("%Y%m%dT%H%M%S%fZ")
    path = store.runs / f"{instant}-{record.run_id}.json"
    replace_synced(path, record.model_dump_json(indent=2) + "\n")


def read_records(store: Store) -> list[RunRecord]:
    """All run records, oldest first; one that cannot be read is passed over."""
    records = []
    for path in sorted(store.runs.glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            records.append(RunRecord.model_validate_json(path.read_bytes()))
    return records
