"""Features of clean trips: the step to each point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.config.pipeline import PipelineConfig
from tasks.database import (
    Connection,
    check,
    count_rows,
    materialise,
    scratch,
    view_files,
    write_tables,
)
from tasks.runtime.frozen import Frozen
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

SQL = ("marts/steps", "checks/steps_go_forward")


def features(config: PipelineConfig, cleaned: Sequence[Receipt], store: Store) -> list[Receipt]:
    """Steps, one receipt per bucket, in the order of the cleaned buckets."""
    licence = config.source_row.licence
    jobs = [
        STAGE.job(config.dataset, Frozen(), {"cleaned": bucket}, store, licence=licence)
        for bucket in cleaned
    ]
    return [STAGE(job) for job in jobs]


def build(draft: Path, job: Job[Frozen]) -> Counts:
    """Features of one bucket."""
    folder = job.folder("cleaned")
    with scratch(draft, folder) as con:
        view_files(con, [folder], "clean_points", "trips")
        counts = make_features(con)
        write_tables(con, draft, "steps")
    return counts


def make_features(con: Connection) -> Counts:
    """Make the table `steps` of `clean_points` and `trips`; return its counts."""
    materialise(con, "marts/steps")
    check(con, "checks/steps_go_forward")
    return {"steps": count_rows(con, "steps")}


STAGE = Stage("features", build, SQL)
