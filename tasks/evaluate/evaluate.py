"""Evaluate: a model and the simple baselines on the same stored windows.

Each task that the family serves has its table: forecasts and recovery in metres, travel times in
seconds. A table that is not served is empty.

Shapes: B windows, T points, H horizon steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.families import module_named
from tasks.config.judged_tasks import FORECAST, TIMES_GIVEN, TRAVEL_TIME, judged_tasks
from tasks.config.pipeline import PipelineConfig
from tasks.config.slices import EvaluateRules
from tasks.evaluate.forecast_scores import (
    METRICS,
    WINDOWS_AT_ONCE,
    Errors,
    Split,
    fitted_damping,
    forecasts,
    score_split,
    statistics,
)
from tasks.evaluate.recovery_scores import EVERY_MASK, RECOVERY, TRACKS_OF, recovery_rows
from tasks.evaluate.travel_time_scores import DURATIONS, ENDS, duration_rows, fitted_baselines
from tasks.runtime.errors import DataError
from tasks.runtime.machine import Machine
from tasks.runtime.progress import progress
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

if TYPE_CHECKING:
    from model.baselines.forecast import Baseline
    from model.data.reading import WindowBatch
    from model.data.shards import Shards
    from model.inference.serving import Trained

SCORED_SPLITS = ("validation", "test")
NUM_EXAMPLES = 6


def evaluate(config: PipelineConfig, shards: Receipt, trained: Receipt, store: Store) -> Receipt:
    """The errors of a trained model and of the baselines on the stored windows."""
    job = EVALUATE.job(
        config.dataset,
        config.evaluate_rules,
        {"shards": shards, "trained": trained},
        store,
        licence=config.source_row.licence,
        modules=(module_named(config.model.family),),
    )
    return EVALUATE(job)


def build(draft: Path, job: Job[EvaluateRules]) -> Counts:
    """Score every answerer of each task that the family serves, on validation and test."""
    import torch

    from model.data.shards import Shards
    from model.inference.serving import load_trained
    from model.interface.weights import CheckpointError

    rules = job.settings
    torch.set_num_threads(Machine().num_threads)
    shards = Shards.open(job.folder("shards"), rules.zone)
    check_windows(shards, job)
    try:
        trained = load_trained(job.store.verify(job.receipt("trained")))
    except CheckpointError as error:
        raise DataError(f"the trained model cannot be read: {error}") from error
    tasks = judged_tasks(trained.family, rules.tasks)
    if not tasks:
        raise DataError(
            f"{trained.family} serves none of the tasks that windows are stored for "
            f"({', '.join(rules.tasks)}); add those that it serves to window.tasks"
        )
    rows = write_forecasts(draft, shards, trained, tasks, rules)
    recovered = write_recovery(draft, shards, trained, tasks, rules)
    told = write_durations(draft, shards, trained, tasks, rules)
    return (
        counts_of(rows, trained.family, max(rules.horizons))
        | recovery_counts(recovered, trained.family)
        | duration_counts(told, trained.family)
    )


def write_forecasts(
    draft: Path, shards: Shards, trained: Trained, tasks: Sequence[str], rules: EvaluateRules
) -> list[dict[str, Any]]:
    """The tables of forecasts, a few of them as examples, and the fitted baseline."""
    from model.baselines.forecast import simple_baselines

    rows: list[dict[str, Any]] = []
    fitted: dict[str, Any] = {}
    errors_writer = ErrorsWriter(draft / "errors.parquet")
    if FORECAST in tasks:
        damped = fitted_damping(shards, rules)
        baselines = simple_baselines(damped)
        with progress("evaluate", f"Scoring {trained.family} and the baselines") as tell:
            for split in SCORED_SPLITS:
                tell(SCORED_SPLITS.index(split) / len(SCORED_SPLITS), split)
                windows, errors = score_split(shards, split, trained, baselines, rules)
                rows += statistics(windows, errors, [item.name for item in baselines], rules)
                errors_writer.write(windows, errors, rules.horizons)
                write_curve(draft / f"curve-{split}.parquet", windows, errors)
        tau = damped.tau_s if math.isfinite(damped.tau_s) else "infinity"
        fitted = {"damped_velocity": {"tau_s": tau}}
        if not rules.is_personal:
            pq.write_table(examples(shards, trained, baselines, rules), draft / "examples.parquet")
    errors_writer.close()
    pq.write_table(pa.Table.from_pylist(rows, METRICS), draft / "metrics.parquet")
    (draft / "baselines.json").write_text(json.dumps(fitted) + "\n")
    return rows


def write_recovery(
    draft: Path, shards: Shards, trained: Trained, tasks: Sequence[str], rules: EvaluateRules
) -> list[dict[str, Any]]:
    """The table of hidden points recovered, times given and hidden."""
    from model.baselines.recovery import recovery_baselines

    rows: list[dict[str, Any]] = []
    if set(tasks) & set(TRACKS_OF):
        with progress("evaluate", f"Scoring what {trained.family} recovers") as tell:
            for split in SCORED_SPLITS:
                tell(SCORED_SPLITS.index(split) / len(SCORED_SPLITS), split)
                rows += recovery_rows(shards, split, tasks, trained, recovery_baselines(), rules)
    pq.write_table(pa.Table.from_pylist(rows, RECOVERY), draft / "recovery.parquet")
    return rows


def write_durations(
    draft: Path, shards: Shards, trained: Trained, tasks: Sequence[str], rules: EvaluateRules
) -> list[dict[str, Any]]:
    """The table of travel times; empty too where there are no journeys to fit or to judge on."""
    rows: list[dict[str, Any]] = []
    if TRAVEL_TIME in tasks:
        with progress("evaluate", f"Scoring the travel times of {trained.family}") as tell:
            fitted = fitted_baselines(shards, rules)
            for split in SCORED_SPLITS:
                tell(SCORED_SPLITS.index(split) / len(SCORED_SPLITS), split)
                rows += duration_rows(shards, split, trained, fitted, rules)
    pq.write_table(pa.Table.from_pylist(rows, DURATIONS), draft / "durations.parquet")
    return rows


def check_windows(shards: Shards, job: Job[EvaluateRules]) -> None:
    """Every split needs windows: without them there is nothing to fit or to judge on."""
    from model.data.shards import window_index

    rules = job.settings
    for split in ("train", *SCORED_SPLITS):
        if not len(window_index(shards, split)):
            raise DataError(
                f"the {split} split of {job.dataset} has no window of "
                f"{rules.num_context + rules.num_horizon} points; shorten window.num_context or "
                "window.num_horizon, or give more data"
            )


class ErrorsWriter:
    """Writes `errors.parquet`: one row per window, forecaster, track and horizon."""

    schema = pa.schema(
        {
            "split": pa.string(),
            "window_id": pa.int64(),
            "entity_id": pa.string(),
            "model": pa.string(),
            "track": pa.string(),
            "horizon_steps": pa.int32(),
            "ade_m": pa.float64(),
            "fde_m": pa.float64(),
        }
    )

    def __init__(self, path: Path) -> None:
        self.writer = pq.ParquetWriter(
            path, self.schema, compression="zstd", write_page_checksum=True
        )

    def write(self, windows: Split, errors: Sequence[Errors], horizons: Sequence[int]) -> None:
        import torch

        num_windows = len(windows.window_id)
        for item in errors:
            for place, horizon in enumerate(horizons):
                columns = [
                    pa.repeat(item.split, num_windows),
                    pa.array(windows.window_id, pa.int64()),
                    pa.array(windows.entity_id, pa.string()),
                    pa.repeat(item.model, num_windows),
                    pa.repeat(item.track, num_windows),
                    pa.repeat(pa.scalar(horizon, pa.int32()), num_windows),
                    pa.array(torch.cat(item.ade_m)[:, place].double().numpy()),
                    pa.array(torch.cat(item.fde_m)[:, place].double().numpy()),
                ]
                self.writer.write_table(pa.table(columns, schema=self.schema))

    def close(self) -> None:
        self.writer.close()


def write_curve(path: Path, windows: Split, errors: Sequence[Errors]) -> None:
    """The mean displacement at each step of the horizon: what the plot shows."""
    import torch

    rows = []
    for item in errors:
        mean_m_H = torch.stack(item.step_sum_m).sum(dim=0) / len(windows.window_id)
        rows += [
            {"model": item.model, "track": item.track, "step": step, "displacement_m": mean_m}
            for step, mean_m in enumerate(mean_m_H.tolist(), start=1)
        ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def examples(
    shards: Shards, trained: Trained, baselines: Sequence[Baseline], rules: EvaluateRules
) -> pa.Table:
    """A few test windows, spread over the split: what was known, what came, what was forecast."""
    from model.data.reading import read_windows
    from model.data.shards import window_index

    ids = window_index(shards, "test")["window_id"].to_pylist()
    chosen = {ids[place * len(ids) // NUM_EXAMPLES] for place in range(NUM_EXAMPLES)}
    rows: list[dict[str, Any]] = []
    for stored in read_windows(shards, "test", WINDOWS_AT_ONCE, rules.num_context):
        places = [i for i, name in enumerate(stored.batch.window_id_B.tolist()) if name in chosen]
        if places:
            rows += example_rows(stored, places, trained, baselines, rules)
    return pa.Table.from_pylist(rows)


def example_rows(
    stored: WindowBatch,
    places: Sequence[int],
    trained: Trained,
    baselines: Sequence[Baseline],
    rules: EvaluateRules,
) -> list[dict[str, Any]]:
    """Rows (window_id, kind, step, lon_deg, lat_deg); step 0 is the last known point."""
    batch, num_context = stored.batch, rules.num_context
    lines = [
        ("context", 1 - num_context, batch.lon_deg_BT[:, :num_context], batch.lat_deg_BT),
        ("truth", 1, batch.lon_deg_BT[:, num_context:], batch.lat_deg_BT[:, num_context:]),
    ]
    for track, model, (lon_deg_BH, lat_deg_BH) in forecasts(stored, trained, baselines, rules):
        if track == TIMES_GIVEN:
            lines.append((model, 1, lon_deg_BH, lat_deg_BH))
    return [
        {
            "window_id": int(batch.window_id_B[place]),
            "kind": kind,
            "step": first + number,
            "lon_deg": float(lon_deg_BT[place, number]),
            "lat_deg": float(lat_deg_BT[place, number]),
        }
        for place in places
        for kind, first, lon_deg_BT, lat_deg_BT in lines
        for number in range(lon_deg_BT.shape[1])
    ]


def counts_of(rows: Sequence[dict[str, Any]], family: str, step: int) -> Counts:
    """The model's own errors at the last reported step, and what they rest on."""
    counts: Counts = {}
    for row in rows:
        if (row["model"], row["track"], row["horizon_steps"]) == (family, TIMES_GIVEN, step):
            split = row["split"]
            counts[f"{split}_windows"] = row["num_windows"]
            counts[f"{split}_entities"] = row["num_entities"]
            counts[f"{split}_ade_{step}_m"] = round(row["ade_m"], 3)
            counts[f"{split}_skill_{step}"] = round(row["skill"], 4)
    return counts


def recovery_counts(rows: Sequence[dict[str, Any]], family: str) -> Counts:
    """The model's own errors over all masks, times given: `test_recover_mae_m` and the like."""
    counts: Counts = {}
    for row in rows:
        if (row["model"], row["track"], row["mask"]) == (family, TIMES_GIVEN, EVERY_MASK):
            name = f"{row['split']}_{row['task']}"
            counts[f"{name}_windows"] = row["num_windows"]
            counts[f"{name}_mae_m"] = round(row["mae_m"], 3)
            counts[f"{name}_skill"] = round(row["skill"], 4)
    return counts


def duration_counts(rows: Sequence[dict[str, Any]], family: str) -> Counts:
    """The model's own errors from the ends alone: `test_travel_time_mae_s` and the like."""
    counts: Counts = {}
    for row in rows:
        if (row["model"], row["track"]) == (family, ENDS):
            name = f"{row['split']}_{TRAVEL_TIME}"
            counts[f"{name}_windows"] = row["num_windows"]
            counts[f"{name}_mae_s"] = round(row["mae_s"], 1)
            counts[f"{name}_skill"] = round(row["skill"], 4)
    return counts


EVALUATE = Stage("evaluate", build)
