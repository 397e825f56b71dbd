"""Bundle of a registered model: the source of its inference, its weights, and its facts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from model.evaluation.judged_tasks import GENERATE, RECOVER
from model.families import (
    MODULES,
    MODULES_FILE,
    POINTS,
    VISITS,
    module_named,
    reads,
    tasks_of,
    tells_familiar,
)
from tasks.config.pipeline import PipelineConfig
from tasks.prepare.conventions import CALIBRATION_FILE, MEMORY_FILE, PLACES_FILE, SEEN_FILE
from tasks.registry.initial_weights import stored_files
from tasks.registry.model_code import code_digest
from tasks.release.origin import ORIGIN_FILE, Origin
from tasks.runtime.code_closure import code_hashes, module_path, package_folder
from tasks.runtime.store import canonical_json, sha256_file, write_synced

ENTRY = Path(__file__).with_name("pyfunc_entry.py")
# The module that is asked with frames, by what a family reads.
FRAMES = {POINTS: "point_frames", VISITS: "visit_frames"}
# Ranges, so that a stranger's own builds will do; never this project's own distribution.
REQUIREMENTS = (
    "mlflow>=3.17,<4",
    "numpy>=2.1,<3",
    "pandas>=2.2,<4",
    "pyarrow>=20",
    "safetensors>=0.5",
    "torch>=2.13,<3",
    "tzdata>=2024.1",
)

# What tells the region of a place.
REGION_REQUIREMENTS = ("h3>=4.1,<5",)
# What searches a memory of past trips, or a table of named places.
SEARCH_REQUIREMENTS = ("scipy>=1.13,<2",)

PLACE = {"lon_deg": "double", "lat_deg": "double"}
# What a task answers, by column and MLflow's name of the type. It is asked alike for all, and some
# families say more (`answer_of`).
ANSWERS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "forecast": {
            "trajectory_id": "string",
            "step": "long",
            "tracked_at": "datetime",
            "horizon_s": "double",
            **PLACE,
            "radius_p50_m": "double",
            "radius_p80_m": "double",
            "radius_p95_m": "double",
            "is_extrapolated": "boolean",
        },
        "recover": {
            "trajectory_id": "string",
            "tracked_at": "datetime",
            **PLACE,
            "is_recovered": "boolean",
        },
        "generate": {"trajectory_id": "string", "tracked_at": "datetime", **PLACE},
        "next_visit": {
            "entity_id": "string",
            "rank": "long",
            "cell": "string",
            **PLACE,
            "probability": "double",
            "arrived_at": "datetime",
            "travel_s": "double",
            "travel_p10_s": "double",
            "travel_p90_s": "double",
            "stay_s": "double",
            "stay_p10_s": "double",
            "stay_p90_s": "double",
            "left_before_at": "datetime",
            "num_unknown": "long",
        },
    }
)


def answer_of(task: str, family: str) -> dict[str, str]:
    """The columns of an answer, and their types."""
    familiar = {"is_familiar": "boolean"} if task == "forecast" and tells_familiar(family) else {}
    return {**ANSWERS[task], **familiar}


def source_digest(family: str) -> str:
    """The name of the source that a bundle of this family made now would hold."""
    return code_digest(served_source(family), ENTRY)


def default_params(config: PipelineConfig) -> dict[str, Any]:
    """What is asked of a model where the caller does not choose: what its family is made for."""
    family = config.model.family
    asked: dict[str, Any] = {"horizon": config.windowing.num_horizon, "num_samples": 64}
    if reads(family) == VISITS:
        asked = {"top_k": 5, "num_samples": 1, "controls": ""}
    elif GENERATE in tasks_of(family):
        asked["num_points"] = config.windowing.num_points
    return {"task": tasks_of(family)[0], **asked, "seed": 0, "zone": config.source_row.zone}


def requirements_of(bundle: Path) -> tuple[str, ...]:
    """What a bundle needs beside itself."""
    family = json.loads((bundle / "config.json").read_bytes())["family"]
    regions = REGION_REQUIREMENTS if reads(family) == VISITS else ()
    is_searched = any((bundle / name).exists() for name in (MEMORY_FILE, PLACES_FILE))
    return REQUIREMENTS + regions + (SEARCH_REQUIREMENTS if is_searched else ())


def served_source(family: str) -> dict[str, str]:
    """The modules that serving a family runs, by name: its own folder and no sibling of it."""
    return code_hashes(f"model.inference.{FRAMES[reads(family)]}", (module_named(family),))


def write_bundle(
    folder: Path,
    trained: Path,
    defaults: dict[str, Any],
    evaluated: Path | None = None,
    origin: Origin | None = None,
) -> Path:
    """Fill a new folder with all that serving a trained model needs.

    A memory of past trips holds raw positions: where these are of people it stays in the store.
    `defaults` are the parameters for which the caller names none. What evaluation has calibrated is
    carried too, and so is the origin of the weights.
    """
    folder.mkdir()
    for name in stored_files(trained):
        shutil.copyfile(trained / name, folder / name)
    if may_be_passed_on(trained):
        shutil.copyfile(trained / MEMORY_FILE, folder / MEMORY_FILE)
    if (trained / PLACES_FILE).exists():
        shutil.copyfile(trained / PLACES_FILE, folder / PLACES_FILE)
    if evaluated is not None:
        shutil.copyfile(evaluated / CALIBRATION_FILE, folder / CALIBRATION_FILE)
        shutil.copyfile(trained / SEEN_FILE, folder / SEEN_FILE)
    family = json.loads((folder / "config.json").read_bytes())["family"]
    copy_source(folder / "model", family)
    facts = {
        "frames": FRAMES[reads(family)],
        "params": defaults,
        "weights_sha256": sha256_file(folder / "weights.safetensors"),
    }
    write_synced(folder / "serving.json", canonical_json(facts) + "\n")
    if origin is not None:
        write_synced(folder / ORIGIN_FILE, origin.model_dump_json(indent=2) + "\n")
    return folder


def may_be_passed_on(trained: Path) -> bool:
    """Whether a model has a memory, and none of people."""
    if not (trained / MEMORY_FILE).exists():
        return False
    from model.interface.memory.joint import read_memory

    memory = read_memory(trained)
    return memory is not None and not memory.is_personal


def copy_source(folder: Path, family: str) -> None:
    """Copy the modules that serving runs, and no others; one family has a name there."""
    package = package_folder("model")
    for module in served_source(family):
        path = module_path(module)
        if path is None:
            raise ModuleNotFoundError(module)
        copy = folder / path.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    named = folder / MODULES_FILE.relative_to(package)
    write_synced(named, canonical_json({family: MODULES[family]}) + "\n")


def example_visits() -> pa.Table:
    """Three made-up stays far out at sea, the last of which goes on: nobody's day."""
    return pa.table(
        {
            "entity_id": ["example"] * 3,
            "arrived_at": [f"2024-01-01T{hour}:00:00Z" for hour in ("00", "09", "18")],
            "left_at": ["2024-01-01T08:00:00Z", "2024-01-01T17:30:00Z", None],
            "lon_deg": [-150.0, -150.4, -150.0],
            "lat_deg": [0.0, 0.2, 0.0],
        }
    )


def example_points(task: str = "forecast") -> pa.Table:
    """Five made-up points far out at sea: how an input looks, and nobody's trip.

    One that is to be recovered lacks its place, and what is to be made up has a start alone.
    """
    lon_deg = [-150.0, -150.4, -150.9, -151.3, -151.8]
    lat_deg = [0.0, 0.2, 0.3, 0.5, 0.8]
    if task == RECOVER:
        lon_deg[2] = lat_deg[2] = float("nan")
    points = pa.table(
        {
            "trajectory_id": ["example"] * 5,
            "tracked_at": [f"2024-01-01T{6 * hour:02d}:00:00Z" for hour in range(4)]
            + ["2024-01-02T00:00:00Z"],
            "lon_deg": lon_deg,
            "lat_deg": lat_deg,
        }
    )
    return points.slice(0, 1) if task == GENERATE else points
