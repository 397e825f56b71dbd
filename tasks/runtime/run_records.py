"""Run records: what each run leaves: which steps it used, how long they took, how it ended."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import datetime
from typing import Literal

from tasks.runtime.frozen import Frozen
from tasks.runtime.store import Receipt, Store, replacing, sync, write_synced


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
def collected_stages() -> Iterator[list[StageRun]]:
    """The steps of the run that begins here, each added as it ends."""
    runs: list[StageRun] = []
    token = _stage_runs.set(runs)
    try:
        yield runs
    finally:
        _stage_runs.reset(token)


def note_stage(receipt: Receipt, *, is_cached: bool, wall_s: float = 0.0) -> None:
    """Note a finished step, with its cost, in the present run, if there is one."""
    runs = _stage_runs.get()
    if runs is not None:
        run = StageRun(
            receipt=receipt,
            is_cached=is_cached,
            wall_s=round(wall_s, 3),
            peak_memory_mb=peak_memory_mb(),
        )
        runs.append(run)


def stages_so_far() -> tuple[StageRun, ...]:
    """The steps that the present run has used, in order."""
    return tuple(_stage_runs.get() or ())


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in megabytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000, 1)


def write_record(store: Store, record: RunRecord) -> None:
    store.runs.mkdir(exist_ok=True)
    instant = record.started_at.strftime("%Y%m%dT%H%M%S%fZ")
    path = store.runs / f"{instant}-{record.run_id}.json"
    with replacing(path) as beside:
        write_synced(beside, record.model_dump_json(indent=2) + "\n")
    sync(store.runs)


def read_records(store: Store) -> list[RunRecord]:
    """All run records, oldest first; one that cannot be read is passed over."""
    records = []
    for path in sorted(store.runs.glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            records.append(RunRecord.model_validate_json(path.read_bytes()))
    return records
