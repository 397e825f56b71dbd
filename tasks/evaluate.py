"""Evaluate: a model and the simple baselines on the same stored windows, errors in metres.

Shapes: B windows, T points, H horizon steps, K horizons that are reported, C context points.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.config import PipelineConfig, Settings
from tasks.errors import DataError
from tasks.progress import progress
from tasks.settings import Paths
from tasks.stage import Job, Stage
from tasks.store import Counts, Receipt, Store

if TYPE_CHECKING:
    from torch import Tensor

    from model.baselines import Baseline, DampedVelocity
    from model.data import WindowBatch
    from model.serving import Trained
    from model.shards import Shards

SCORED_SPLITS = ("validation", "test")
TIMES_GIVEN, TIMES_PREDICTED = "times_given", "times_predicted"
TRACKS = (TIMES_GIVEN, TIMES_PREDICTED)
WINDOWS_AT_ONCE = 1_024
FITTED_WINDOWS = 20_000  # enough for one number, whatever the size of the data
NUM_EXAMPLES = 6


class EvaluateRules(Settings):
    """The slice of the configuration that decides the errors."""

    num_context: int
    num_horizon: int
    horizons: tuple[int, ...]
    num_bootstrap: int
    zone: str
    seed: int
    is_personal: bool

    @classmethod
    def of(cls, config: PipelineConfig) -> EvaluateRules:
        return cls(
            num_context=config.window.num_context,
            num_horizon=config.window.num_horizon,
            horizons=tuple(sorted({*config.assess.horizons, config.assess.gate_horizon})),
            num_bootstrap=config.assess.num_bootstrap,
            zone=config.source_row.zone,
            seed=config.seed,
            is_personal=config.source_row.is_personal,
        )


def evaluate(config: PipelineConfig, shards: Receipt, trained: Receipt, store: Store) -> Receipt:
    """The errors of a trained model and of the baselines on the stored windows."""
    job = EVALUATE.job(
        config.dataset,
        EvaluateRules.of(config),
        {"shards": shards, "trained": trained},
        store,
        licence=config.source_row.licence,
    )
    return EVALUATE(job)


@dataclass
class Errors:
    """What one forecaster did on one split and track: errors (B, K), and the sum per step (H)."""

    split: str
    model: str
    track: str
    ade_m: list[Tensor] = field(default_factory=list)
    fde_m: list[Tensor] = field(default_factory=list)
    step_sum_m: list[Tensor] = field(default_factory=list)


@dataclass
class Split:
    """The windows of a split in their order."""

    window_id: list[int] = field(default_factory=list)
    entity_id: list[str] = field(default_factory=list)


def build(draft: Path, job: Job[EvaluateRules]) -> Counts:
    """Score every forecaster on validation and test, and keep a few test forecasts."""
    import torch

    from model.baselines import simple_baselines
    from model.checkpoint import CheckpointError
    from model.serving import load_trained
    from model.shards import Shards

    rules = job.settings
    torch.set_num_threads(Paths().num_threads)
    shards = Shards.open(job.folder("shards"), rules.zone)
    check_windows(shards, job)
    try:
        trained = load_trained(job.store.verify(job.receipt("trained")))
    except CheckpointError as error:
        raise DataError(f"the trained model cannot be read: {error}") from error
    damped = fitted_damping(shards, rules)
    baselines = simple_baselines(damped)
    rows: list[dict[str, Any]] = []
    with progress("evaluate", f"Scoring {trained.family} and the baselines") as tell:
        errors_writer = ErrorsWriter(draft / "errors.parquet")
        for split in SCORED_SPLITS:
            tell(SCORED_SPLITS.index(split) / len(SCORED_SPLITS), split)
            windows, errors = score_split(shards, split, trained, baselines, rules)
            rows += statistics(windows, errors, [item.name for item in baselines], rules)
            errors_writer.write(windows, errors, rules.horizons)
            write_curve(draft / f"curve-{split}.parquet", windows, errors)
        errors_writer.close()
    pq.write_table(pa.Table.from_pylist(rows, METRICS), draft / "metrics.parquet")
    tau = damped.tau_s if math.isfinite(damped.tau_s) else "infinity"
    (draft / "baselines.json").write_text(json.dumps({"damped_velocity": {"tau_s": tau}}) + "\n")
    if not rules.is_personal:
        pq.write_table(examples(shards, trained, baselines, rules), draft / "examples.parquet")
    return counts_of(rows, trained.family, max(rules.horizons))


def check_windows(shards: Shards, job: Job[EvaluateRules]) -> None:
    """Every split needs windows: without them there is nothing to fit or to judge on."""
    found = pq.read_table(shards.folder / "windows.parquet", columns=["split"])["split"].to_pylist()
    rules = job.settings
    for split in ("train", *SCORED_SPLITS):
        if split not in found:
            raise DataError(
                f"the {split} split of {job.dataset} has no window of "
                f"{rules.num_context + rules.num_horizon} points; shorten window.num_context or "
                "window.num_horizon, or give more data"
            )


def fitted_damping(shards: Shards, rules: EvaluateRules) -> DampedVelocity:
    """The damped velocity whose time constant fits windows spread evenly over the train split."""
    import torch

    from model.baselines import DampedVelocity
    from model.data import read_windows

    index = pq.read_table(shards.folder / "windows.parquet", columns=["split"])
    stride = math.ceil(index["split"].to_pylist().count("train") / FITTED_WINDOWS)
    kept: list[list[Tensor]] = []
    seen = 0
    for windows in read_windows(shards, "train", WINDOWS_AT_ONCE, rules.num_context):
        batch = windows.batch
        first = -seen % stride
        columns = (batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT, batch.is_target_BT)
        kept.append([column[first::stride] for column in columns])
        seen += len(batch.window_id_B)
    lon_deg_BT, lat_deg_BT, time_s_BT, is_target_BT = map(torch.cat, zip(*kept, strict=True))
    known, asked = slice(None, rules.num_context), slice(rules.num_context, None)
    return DampedVelocity.fit(
        lon_deg_BT[:, known],
        lat_deg_BT[:, known],
        time_s_BT[:, known],
        lon_deg_BT[:, asked],
        lat_deg_BT[:, asked],
        time_s_BT[:, asked],
        is_target_BT[:, asked],
    )


def score_split(
    shards: Shards,
    split: str,
    trained: Trained,
    baselines: Sequence[Baseline],
    rules: EvaluateRules,
) -> tuple[Split, list[Errors]]:
    """The errors of every forecaster on every track of one split."""
    import torch

    from model.data import read_windows
    from model.metrics import ade_m, displacement_m, fde_m

    windows = Split()
    found: dict[tuple[str, str], Errors] = {}
    for stored in read_windows(shards, split, WINDOWS_AT_ONCE, rules.num_context):
        batch, asked = stored.batch, slice(rules.num_context, None)
        windows.window_id += batch.window_id_B.tolist()
        windows.entity_id += stored.entity_id_B
        is_target_BH = batch.is_target_BT[:, asked]
        for track, model, point in forecasts(stored, trained, baselines, rules):
            errors = found.setdefault((track, model), Errors(split, model, track))
            away_m_BH = displacement_m(
                *point, batch.lon_deg_BT[:, asked], batch.lat_deg_BT[:, asked]
            )
            steps = rules.horizons
            errors.ade_m.append(torch.stack([ade_m(away_m_BH, is_target_BH, k) for k in steps], 1))
            errors.fde_m.append(torch.stack([fde_m(away_m_BH, is_target_BH, k) for k in steps], 1))
            errors.step_sum_m.append(away_m_BH.sum(dim=0))
    return windows, list(found.values())


def forecasts(
    stored: WindowBatch, trained: Trained, baselines: Sequence[Baseline], rules: EvaluateRules
) -> Iterator[tuple[str, str, tuple[Tensor, Tensor]]]:
    """(track, name, (lon_deg_BH, lat_deg_BH)) of every forecaster for a batch of windows."""
    from model.baselines import predicted_time_s
    from model.inference import Context, forecast

    batch, known = stored.batch, slice(None, rules.num_context)
    context = Context(
        batch.lon_deg_BT[:, known],
        batch.lat_deg_BT[:, known],
        batch.time_s_BT[:, known],
        stored.started_us_B,
        rules.zone,
        batch.is_pad_BT[:, known],
    )
    points = (context.lon_deg_BT, context.lat_deg_BT, context.time_s_BT)
    given_s_BH = batch.time_s_BT[:, rules.num_context :]
    predicted_s_BH = predicted_time_s(context.time_s_BT, given_s_BH.shape[1])
    for track, own_s_BH, simple_s_BH in (
        (TIMES_GIVEN, given_s_BH, given_s_BH),
        (TIMES_PREDICTED, None, predicted_s_BH),
    ):
        ours = forecast(trained.model, context, given_s_BH.shape[1], own_s_BH)
        yield track, trained.family, (ours.lon_deg_BH, ours.lat_deg_BH)
        for baseline in baselines:
            yield track, baseline.name, baseline.forecast(*points, simple_s_BH)


STATISTICS = (
    *("ade_m", "ade_low_m", "ade_high_m", "ade_p50_m", "ade_p90_m"),
    *("fde_m", "fde_p50_m", "fde_p90_m", "ade_entity_mean_m", "skill"),
)
METRICS = pa.schema(
    {
        "split": pa.string(),
        "model": pa.string(),
        "track": pa.string(),
        "horizon_steps": pa.int32(),
        "num_windows": pa.int64(),
        "num_entities": pa.int64(),
        **dict.fromkeys(STATISTICS, pa.float64()),
    }
)


def statistics(
    windows: Split, errors: Sequence[Errors], baselines: Sequence[str], rules: EvaluateRules
) -> list[dict[str, Any]]:
    """One row per forecaster, track and horizon, with its skill against the best baseline."""
    from model.metrics import skill

    rows = [
        statistic(windows, item, place, rules)
        for item in errors
        for place in range(len(rules.horizons))
    ]
    for row in rows:
        rivals = [
            other["ade_m"]
            for other in rows
            if other["model"] in baselines
            and all(other[name] == row[name] for name in ("track", "horizon_steps"))
        ]
        row["skill"] = skill(row["ade_m"], rivals)
    return rows


def statistic(windows: Split, errors: Errors, place: int, rules: EvaluateRules) -> dict[str, Any]:
    """The averages of one forecaster at one horizon."""
    import torch

    from model import metrics

    ade_m_B, fde_m_B = (
        torch.cat(parts)[:, place].double() for parts in (errors.ade_m, errors.fde_m)
    )
    low_m, high_m = metrics.interval_over_entities(
        ade_m_B, windows.entity_id, rules.seed, rules.num_bootstrap
    )
    return {
        "split": errors.split,
        "model": errors.model,
        "track": errors.track,
        "horizon_steps": rules.horizons[place],
        "num_windows": int((~ade_m_B.isnan()).sum()),
        "num_entities": len(set(windows.entity_id)),
        "ade_m": metrics.mean_over_windows(ade_m_B),
        "ade_low_m": low_m,
        "ade_high_m": high_m,
        "ade_p50_m": metrics.percentile_over_windows(ade_m_B, 50),
        "ade_p90_m": metrics.percentile_over_windows(ade_m_B, 90),
        "fde_m": metrics.mean_over_windows(fde_m_B),
        "fde_p50_m": metrics.percentile_over_windows(fde_m_B, 50),
        "fde_p90_m": metrics.percentile_over_windows(fde_m_B, 90),
        "ade_entity_mean_m": metrics.mean_over_entities(ade_m_B, windows.entity_id),
    }


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
    from model.data import read_windows

    index = pq.read_table(shards.folder / "windows.parquet", columns=["split", "window_id"])
    ids = sorted(row["window_id"] for row in index.to_pylist() if row["split"] == "test")
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


EVALUATE = Stage("evaluate", build)
