"""Run records: what each run leaves: which steps it used, how long they took, how it ended."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.runtime.manifest import Receipt, Stored
from tasks.runtime.store import Store, canonical_json, replacing, sha256_text, sync, write_synced


class StageRun(Stored):
    """One step of a run: what it gave and what it cost."""

    receipt: Receipt
    is_cached: bool
    wall_s: float
    peak_memory_mb: float


class RunRecord(Stored):
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
    checksum: str = Field("", description="Of all else; records of older versions have none.")

    def sealed(self) -> RunRecord:
        """The same record with the checksum of what it says."""
        return self.model_copy(update={"checksum": self.content_hash})

    @property
    def content_hash(self) -> str:
        return sha256_text(canonical_json(self.model_dump(mode="json", exclude={"checksum"})))

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
    """Note a finished step, with its cost, in the present run, if there is one.

    A step that was made again stands once, in the place where it was noted first.
    """
    runs = _stage_runs.get()
    if runs is not None:
        run = StageRun(
            receipt=receipt,
            is_cached=is_cached,
            wall_s=round(wall_s, 3),
            peak_memory_mb=peak_memory_mb(),
        )
        places = [earlier.receipt.place for earlier in runs]
        if receipt.place in places and not is_cached:
            runs[places.index(receipt.place)] = run
        elif receipt.place not in places:
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
        write_synced(beside, record.sealed().model_dump_json(indent=2) + "\n")
    sync(store.runs)


def read_records(store: Store) -> list[RunRecord]:
    """All run records, oldest first; one that cannot be read or was changed is passed over."""
    records = [read_record(path) for path in sorted(store.runs.glob("*.json"))]
    return [record for record in records if record is not None]


def read_record(path: Path) -> RunRecord | None:
    """A run record, if it can be read and says what was written."""
    with contextlib.suppress(OSError, ValueError):
        record = RunRecord.model_validate_json(path.read_bytes())
        if record.checksum in ("", record.content_hash):
            return record
    return None
