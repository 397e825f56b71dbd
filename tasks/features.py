"""Features of clean trips: the step to each point, and the index of the stored windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.config import PipelineConfig, WindowConfig
from tasks.database import Connection, check, count_rows, materialise, scratch, view, write_query
from tasks.stage import Job, Stage
from tasks.store import Counts, Receipt, Store

SQL = (
    "marts/steps",
    "marts/windows",
    "checks/steps_go_forward",
    "checks/windows_stay_in_trips",
)


def features(config: PipelineConfig, cleaned: Sequence[Receipt], store: Store) -> list[Receipt]:
    """Steps and windows, one receipt per bucket, in the order of the cleaned buckets."""
    return [STAGE(job) for job in features_jobs(config, cleaned, store)]


def features_jobs(
    config: PipelineConfig, cleaned: Sequence[Receipt], store: Store
) -> list[Job[WindowConfig]]:
    licence = config.source_row.licence
    return [
        STAGE.job(config.dataset, config.window, {"cleaned": bucket}, store, licence=licence)
        for bucket in cleaned
    ]


def build(draft: Path, job: Job[WindowConfig]) -> Counts:
    """Features of one bucket."""
    folder = job.folder("cleaned")
    with scratch(draft, folder) as con:
        for table in ("clean_points", "trips"):
            view(con, table, [folder / f"{table}.parquet"])
        counts = make_features(con, job.settings)
        for table in ("steps", "windows"):
            write_query(con, f"select * from {table}", draft / f"{table}.parquet")
    return counts


def make_features(con: Connection, window: WindowConfig) -> Counts:
    """Make the tables `steps` and `windows` of `clean_points` and `trips`; return their counts."""
    materialise(con, "marts/steps")
    materialise(con, "marts/windows", **window.model_dump())
    check(con, "checks/steps_go_forward")
    check(con, "checks/windows_stay_in_trips")
    return {"steps": count_rows(con, "steps"), "windows": count_rows(con, "windows")}


STAGE = Stage("features", build, SQL)
