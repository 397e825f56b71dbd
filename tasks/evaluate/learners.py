"""Learners: small forecasters, each of which learns from some trips and from nothing else.

They tell what made-up trips are worth to whoever has no others. All begin with the same weights and
take as many steps, so that only the trips differ; all have the scales of train.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.data.shards import POINT_COLUMNS, STEP_COLUMNS, TRIP_SCHEMA, WINDOW_SCHEMA
from model.earth.arrays import Ints
from model.evaluation.generation.generation_table import LEAST_TRIPS
from model.families.chemin.network import FAMILY
from model.features.point_features import steps_of
from model.inference.serving import Trained, load_trained
from model.interface.trips import Trips
from model.training.config import FitConfig
from model.training.fit import Interrupted, TrainingError
from model.training.launch import Training, run
from tasks.runtime.errors import Stopped
from tasks.runtime.progress import log

NAME, PRESET, NORMALISER_FILE = "chemin", "tiny", "normaliser.json"
BATCH_SIZE, LEARNING_RATE, NUM_VALIDATION = 64, 3e-3, 64


def learner_of(
    trips: Trips, shards: Path, zone: str, num_steps: int, seed: int, draft: Path
) -> Trained | None:
    """What learnt from trips, with the scales of shards; None where nothing can be learnt.

    It leaves nothing in the draft.
    """
    if len(trips) < LEAST_TRIPS:
        return None
    with tempfile.TemporaryDirectory(dir=draft) as scratch:
        lesson, folder = Path(scratch) / "lesson", Path(scratch) / "learner"
        write_lesson(lesson, trips)
        shutil.copy(shards / NORMALISER_FILE, lesson)
        folder.mkdir()
        try:
            run(Training(str(lesson), NAME, PRESET, fitting(trips, num_steps, seed), zone), folder)
        except Interrupted as stop:
            raise Stopped("learning from trips was stopped; run again") from stop
        except TrainingError as error:
            log(f"nothing can be learnt from some of the trips: {error}")
            return None
        return load_trained(folder)


def fitting(trips: Trips, num_steps: int, seed: int) -> FitConfig:
    """How a learner learns: it is validated at the end alone, so that no other trips choose."""
    longest = int(np.diff(trips.offset_R).max())
    return FitConfig(
        max_steps=num_steps,
        batch_size=BATCH_SIZE,
        max_points=min(longest, FAMILY.presets[PRESET].max_points),
        learning_rate=LEARNING_RATE,
        warmup_steps=num_steps // 10,
        validate_every=num_steps,
        seed=seed,
        checkpoint_every_s=3_600.0,
    )


def write_lesson(folder: Path, trips: Trips) -> None:
    """Write shards of trips, without windows; the first of them are validation, too."""
    folder.mkdir()
    rows = trip_rows(trips)
    tables = {
        "train-000": rows,
        "validation-000": rows.slice(0, NUM_VALIDATION),
        "windows": pa.schema(WINDOW_SCHEMA).empty_table(),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", write_page_checksum=True)


def trip_rows(trips: Trips) -> pa.Table:
    """Trips as the rows of shards, each of somebody else."""
    import torch

    points, offset_R = trips.points, trips.offset_R
    started_us_R = points.instant_us_N[offset_R[:-1]]
    t_s_N = (points.instant_us_N - started_us_R[points.trajectory_N]) / 1e6
    place_N = t_s_N, points.lon_deg_N, points.lat_deg_N
    lon_lat_t = (torch.from_numpy(column_N) for column_N in (*place_N[1:], t_s_N))
    step_NF = steps_of(*lon_lat_t).numpy()
    step_NF[offset_R[:-1]] = 0.0  # nothing comes before a first point
    names, columns = (*POINT_COLUMNS, *STEP_COLUMNS), (*place_N, *step_NF.T)
    number = pa.array([f"{trip:09d}" for trip in range(len(trips))])
    given = {
        "trip_id": number,
        "entity_id": number,
        "started_at": pa.array(started_us_R).cast(pa.timestamp("us", "UTC")),
        **{name: lists(offset_R, value_N) for name, value_N in zip(names, columns, strict=True)},
    }
    return pa.table(given).cast(pa.schema(TRIP_SCHEMA))


def lists(offset_R: Ints, value_N: np.ndarray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offset_R, pa.int32()), pa.array(value_N))
