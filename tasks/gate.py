"""The gate: which version may be champion, decided on stored validation windows, in plain words.

Nothing here knows the registry; `tasks/promote.py` asks it and keeps what is decided.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.config import PipelineConfig
from tasks.errors import Unavailable
from tasks.scoring import TIMES_GIVEN
from tasks.store import Frozen, Manifest, Receipt, Store, canonical_json, sha256_text

if TYPE_CHECKING:
    from model.data import WindowBatch

GATE_SPLIT = "validation"
REPRODUCED_WITHIN = 1e-3  # relative: float32 sums differ between batch sizes and machines
CLEAN_PROCESS_S = 1_800
WINDOWS_AT_ONCE = 1_024
# The project's packages are barred, so that only the registered copy can answer.
CLEAN_PROCESS = """
import sys
sys.modules.update(dict.fromkeys(("model", "tasks", "sql", "flows")))
import mlflow
uri, points, target_at, output = sys.argv[1:]
served = mlflow.pyfunc.load_model(uri).unwrap_python_model()
served.forecast_files(points, target_at, output, num_samples=0)
"""


class Score(Frozen):
    """The mean ADE of one version at the gate's step, and the windows that it was measured on."""

    version: str
    ade_m: float
    windows: str


class Decision(Frozen):
    """Whether a version passes the gate, and why."""

    is_promoted: bool
    reason: str


class NotReproduced(Exception):
    """A registered version does not load by itself, or forecasts something else."""


def windows_digest(shards: Manifest, num_context: int, gate_horizon: int) -> str:
    """The name of what the gate measures on: two scores compare only where it agrees."""
    files = {
        file.name: file.sha256
        for file in shards.files
        if file.name == "windows.parquet" or file.name.startswith(f"{GATE_SPLIT}-")
    }
    parts = {"files": files, "num_context": num_context, "gate_horizon": gate_horizon}
    return sha256_text(canonical_json(parts))[:32]


def score_tags(config: PipelineConfig, evaluated: Receipt, store: Store) -> dict[str, str]:
    """The gate's own measurement of a model, as tags: the error, and the windows' name."""
    model_m, _ = gate_errors(config, evaluated, store)
    return {"score_ade_m": repr(model_m), "score_windows": gate_windows(config, evaluated, store)}


def gate_windows(config: PipelineConfig, evaluated: Receipt, store: Store) -> str:
    manifest = store.manifest(shards_of(evaluated, store))
    return windows_digest(manifest, config.window.num_context, config.assess.gate_horizon)


def shards_of(evaluated: Receipt, store: Store) -> Receipt:
    recipe = str(store.manifest(evaluated).recipe.inputs["shards"])
    return Receipt(stage="shards", dataset=evaluated.dataset, recipe=recipe, counts={})


def gate_errors(
    config: PipelineConfig, evaluated: Receipt, store: Store
) -> tuple[float, dict[str, float]]:
    """Mean ADE at the gate's step on validation windows: the model's, and each baseline's."""
    table = pq.read_table(
        store.folder(evaluated) / "metrics.parquet",
        filters=[
            ("split", "=", GATE_SPLIT),
            ("track", "=", TIMES_GIVEN),
            ("horizon_steps", "=", config.assess.gate_horizon),
        ],
        columns=["model", "ade_m"],
    )
    errors = {row["model"]: row["ade_m"] for row in table.to_pylist()}
    return errors.pop(config.model.family), errors


def decide(
    candidate: Score,
    baselines: Mapping[str, float],
    champion: Score | None,
    step: int,
    reproduced_m: Callable[[], float],
    champion_error: str = "",
) -> Decision:
    """Judge a candidate; the costly clean process runs only if everything else is passed."""
    baseline, baseline_m = min(baselines.items(), key=lambda item: (item[1], item[0]))
    measured = f"ADE at step {step} on {GATE_SPLIT} windows is {candidate.ade_m:,.1f} m"
    if not candidate.ade_m < baseline_m:
        return refused(f"{measured}, not below the {baseline_m:,.1f} m of {spoken(baseline)}")
    beaten = f"below the {baseline_m:,.1f} m of {spoken(baseline)}, the best simple baseline"
    if champion is not None:
        # The two may be measured in different processes: what rounding explains is no gain.
        if not candidate.ade_m < champion.ade_m * (1 - REPRODUCED_WITHIN):
            return refused(
                f"{measured}, {beaten}, but not below the {champion.ade_m:,.1f} m of the present "
                f"champion, version {champion.version}, by more than {REPRODUCED_WITHIN:.1%}"
            )
        beaten += (
            f", and below the {champion.ade_m:,.1f} m of version {champion.version}, "
            "the champion before"
        )
    elif champion_error:
        beaten += f"; the champion before could not be scored: {champion_error}"
    try:
        again_m = reproduced_m()
    except NotReproduced as error:
        return refused(f"{measured}, but {error}")
    if not math.isclose(again_m, candidate.ade_m, rel_tol=REPRODUCED_WITHIN):
        return refused(f"{measured}, but a clean process measures {again_m:,.1f} m")
    return Decision(is_promoted=True, reason=f"{measured}, {beaten}; a clean process reproduces it")


def leak_refusal(evaluated: Receipt, store: Store) -> Decision | None:
    """The refusal of whatever was judged on windows between its training windows, if it was."""
    if store.manifest(shards_of(evaluated, store)).counts.get("is_leaky"):
        return refused(
            "the split random_window is a control that leaks: validation lies between training "
            "stretches of the same trips, so its errors say nothing of new data"
        )
    return None


def refused(reason: str) -> Decision:
    return Decision(is_promoted=False, reason=reason)


def spoken(model: str) -> str:
    return model.replace("_", " ")


def clean_ade_m(
    uri: str, tracking_uri: str, shards: Path, zone: str, num_context: int, step: int, scratch: Path
) -> float:
    """Mean ADE at a step of a registered version that runs in a process of its own, in metres."""
    from model.data import read_windows
    from model.shards import Shards

    opened = Shards.open(shards, zone)
    points, target_at, output = (
        scratch / f"{name}.parquet" for name in ("points", "target_at", "forecast")
    )
    batches = list(read_windows(opened, GATE_SPLIT, WINDOWS_AT_ONCE, num_context))
    write_groups(points, [rows_of(batch, 0, num_context) for batch in batches])
    write_groups(target_at, [rows_of(batch, num_context, num_context + step) for batch in batches])
    run_clean_process(uri, tracking_uri, points, target_at, output, scratch)
    return mean_ade_m(output, batches, num_context, step)


def mean_ade_m(forecast: Path, batches: list[WindowBatch], num_context: int, step: int) -> float:
    """Mean over windows of the mean displacement over the first steps, in metres."""
    import torch

    from model.geometry import haversine_m

    found = pq.read_table(forecast, columns=["lon_deg", "lat_deg"])
    lon_deg_BH, lat_deg_BH = (
        torch.tensor(found[name].to_numpy()).reshape(-1, step) for name in ("lon_deg", "lat_deg")
    )
    true_lon_deg_BH, true_lat_deg_BH = (
        torch.cat([getattr(b.batch, name)[:, num_context : num_context + step] for b in batches])
        for name in ("lon_deg_BT", "lat_deg_BT")
    )
    if lon_deg_BH.shape != true_lon_deg_BH.shape:
        raise NotReproduced("a clean process gives another number of forecasts")
    away_m_BH = haversine_m(lon_deg_BH, lat_deg_BH, true_lon_deg_BH, true_lat_deg_BH)
    return float(away_m_BH.mean())


def rows_of(windows: WindowBatch, start: int, stop: int) -> pa.Table:
    """Some points of each window as a long table, one trajectory a window."""
    batch = windows.batch
    time_us_BT = (batch.time_s_BT[:, start:stop] * 1e6).round().long()
    instant_us_BT = windows.started_us_B.unsqueeze(1) + time_us_BT
    window_id_BT = batch.window_id_B.unsqueeze(1).expand_as(instant_us_BT)
    return pa.table(
        {
            "trajectory_id": window_id_BT.flatten().numpy(),
            "tracked_at": pa.array(instant_us_BT.flatten().numpy()).cast(pa.timestamp("us", "UTC")),
            "lon_deg": batch.lon_deg_BT[:, start:stop].flatten().numpy(),
            "lat_deg": batch.lat_deg_BT[:, start:stop].flatten().numpy(),
        }
    )


def write_groups(path: Path, tables: list[pa.Table]) -> None:
    """Write each table as one row group."""
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=table.num_rows)


def run_clean_process(
    uri: str, tracking_uri: str, points: Path, target_at: Path, output: Path, scratch: Path
) -> None:
    """Load a registered version and forecast, where nothing of this process can help."""
    inherited = {key: text for key, text in os.environ.items() if not key.startswith("PYTHON")}
    arguments = [uri, *map(str, (points, target_at, output))]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", CLEAN_PROCESS, *arguments],
            cwd=scratch,
            env=inherited | {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_REGISTRY_URI": ""},
            capture_output=True,
            text=True,
            timeout=CLEAN_PROCESS_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"the clean process for {uri} took over {CLEAN_PROCESS_S} s; run again"
        ) from error
    if done.returncode < 0:
        raise Unavailable(f"the clean process for {uri} was killed; free memory and run again")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NotReproduced(f"it does not load in a clean process: {last[:300]}")


def decision_key(parts: Mapping[str, str]) -> str:
    """The name of everything that a decision rests on."""
    return sha256_text(json.dumps(dict(parts), sort_keys=True))[:16]
