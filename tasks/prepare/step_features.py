"""Features of clean trips: the step to each point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks import database
from tasks.config.pipeline import PipelineConfig
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
    with database.scratch(draft, folder) as con:
        database.view_files(con, [folder], "clean_points", "trips")
        num_steps = database.materialise(con, "marts/steps")
        database.check(con, "checks/steps_go_forward")
        database.write_tables(con, draft, "steps")
    return {"steps": num_steps}


STAGE = Stage("features", build, SQL)
