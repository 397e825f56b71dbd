"""What our loader does, run in its own environment: one process a measurement.

`source` is GeoLife as a folder or a zip, `folder` the shards that `shards` makes of it: a row for
each window of 64 to 200 points, so that every contestant reads the same windows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from bench_clock import Answers, Clock, main

from model.data.epoch_plan import EpochPlan
from model.data.options import Batching, Reading
from model.data.reading import assembled, planned
from model.data.shards import POINT_COLUMNS, STEP_COLUMNS, WINDOW_SCHEMA, Shards
from model.earth.arrays import Ints
from model.families import build
from model.features.normaliser import Normaliser
from model.features.point_features import steps_of
from model.interface.batch import Batch, Cursor
from model.training.launch import PREFETCHED_BATCHES
from tasks.config.datasets import dataset_named
from tasks.ingest.archive import opened_sources
from tasks.ingest.inventory import inventory
from tasks.ingest.readers.formats import reader_named
from tasks.prepare.shards import ENCODING, GROUP_POINTS, SCHEMA

NUM_FILES, BATCH_SIZE, MIN_POINTS, MAX_POINTS = 8, 128, 64, 200
NUM_EPOCHS = 3  # that are timed, after one that is not
NUM_STEPS = 20
KM_PER_DEG = 111.195
SUMS = ("sum_east", "sum_north", "sum_minutes")
NORMALISER = Normaliser.from_json(
    {
        "num_steps": 1,
        "step_s": {"p10": 1.0, "p50": 2.0, "p90": 5.0},
        "speed_mps": {"p10": 0.5, "p50": 3.0, "p90": 15.0},
        "step_m": {"p10": 1.0, "p50": 8.0, "p90": 60.0},
    }
)


# The windows ------------------------------------------------------------------------------------


def shards(clock: Clock, source: Path, folder: Path) -> None:
    """GeoLife cut into windows of 64 to 200 points, in files as the pipeline writes them."""
    folder.mkdir(parents=True)
    with clock.measure("shards") as answers:
        points = points_of(source)
        first_W, num_points_W = windows_of(points)
        in_order_W = np.random.default_rng(1).permutation(len(first_W))
        for number, chosen in enumerate(np.array_split(in_order_W, NUM_FILES)):
            table = as_trips(points, first_W[chosen], num_points_W[chosen], number)
            write_file(folder / f"train-{number:03d}.parquet", table, num_points_W[chosen])
        nothing = pa.schema(WINDOW_SCHEMA).empty_table()
        pq.write_table(nothing, folder / "windows.parquet")
    answers |= {"windows": len(first_W), "points": int(num_points_W.sum())}


def points_of(source: Path) -> pa.Table:
    """The points of all files, one file after the other, as they were recorded."""
    row = dataset_named("geolife")
    with opened_sources([source]) as entries:
        members = [member for member in inventory(entries, row.members) if member.state == "ready"]
        decoder = reader_named(row.decoder)
        blocks = [block.records for block in decoder.decode(decoder.cut(members), row.layout)]
    columns = ["file_id", "tracked_at", "lon_deg", "lat_deg"]
    return pa.concat_tables([block.select(columns) for block in blocks]).combine_chunks()


def windows_of(points: pa.Table) -> tuple[Ints, Ints]:
    """First point and size of consecutive windows of each file; a rest under 64 is left out."""
    file_N = points["file_id"].to_numpy()
    edges = np.flatnonzero(np.r_[True, file_N[1:] != file_N[:-1], True]).tolist()
    draws = np.random.default_rng(0)
    first_W, num_points_W = [], []
    for first, end in pairwise(edges):
        while end - first >= MIN_POINTS:
            size = min(int(draws.integers(MIN_POINTS, MAX_POINTS + 1)), end - first)
            first_W.append(first)
            num_points_W.append(size)
            first += size
    return np.array(first_W), np.array(num_points_W)


def as_trips(points: pa.Table, first_W: Ints, num_points_W: Ints, number: int) -> pa.Table:
    """Windows as rows of a shard."""
    ends_W = np.cumsum(num_points_W)
    starts_W = ends_W - num_points_W
    point_N = np.arange(ends_W[-1]) + np.repeat(first_W - starts_W, num_points_W)
    lon_deg_N, lat_deg_N = (points[name].to_numpy()[point_N] for name in ("lon_deg", "lat_deg"))
    tracked_us_N = points["tracked_at"].cast(pa.int64()).to_numpy()[point_N]
    t_s_N = (tracked_us_N - np.repeat(tracked_us_N[starts_W], num_points_W)) / 1e6
    step_NF = steps_of(*(torch.from_numpy(value) for value in (lon_deg_N, lat_deg_N, t_s_N)))
    step_NF[starts_W] = 0
    east_m_N, north_m_N, step_s_N = step_NF.float().numpy().T
    zero_N = np.zeros(len(t_s_N), np.float32)
    values = (t_s_N, lon_deg_N, lat_deg_N, step_s_N, east_m_N, north_m_N, zero_N, zero_N)
    offsets = pa.array(np.r_[0, ends_W], pa.int32())
    names = [f"{number}-{row:05d}" for row in range(len(first_W))]
    columns = [["geolife"] * len(names), names, names, ["train"] * len(names)]
    started_at = pa.array(tracked_us_N[starts_W]).cast(SCHEMA.field("started_at").type)
    lists = [pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(v))) for v in values]
    return pa.table([*map(pa.array, columns), started_at, *lists], SCHEMA.names).cast(SCHEMA)


def write_file(path: Path, trips: pa.Table, num_points_W: Ints) -> None:
    """The rows in groups of the pipeline's size."""
    group_W = np.cumsum(num_points_W) // GROUP_POINTS
    with pq.ParquetWriter(path, SCHEMA, **ENCODING) as writer:
        for group in range(int(group_W[-1]) + 1):
            part = trips.slice(*span_of(group_W, group))
            writer.write_table(part, row_group_size=part.num_rows)


def span_of(group_W: Ints, group: int) -> tuple[int, int]:
    """First row and number of rows of a group."""
    first, end = np.searchsorted(group_W, [group, group + 1]).tolist()
    return first, end - first


# The contestants --------------------------------------------------------------------------------


def decode(clock: Clock, folder: Path) -> None:
    """The limit: pyarrow decodes the columns that the loader reads, and nothing is made of them."""
    columns = ["started_at", *POINT_COLUMNS, *STEP_COLUMNS]

    def epoch() -> int:
        num_points = 0
        for path in sorted(folder.glob("train-*.parquet")):
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=columns)
                    num_points += sum(len(chunk.values) for chunk in table["t_s"].chunks)
        return num_points

    epoch()
    with clock.measure("load") as answers:
        answers["points"] = sum(epoch() for _ in range(NUM_EPOCHS)) / NUM_EPOCHS
    clock.share("load", NUM_EPOCHS)


def padded(clock: Clock, folder: Path) -> None:
    load(clock, folder, "bucketed")


def packed(clock: Clock, folder: Path) -> None:
    load(clock, folder, "packed")


def load(clock: Clock, folder: Path, batching: Batching) -> None:
    """A first epoch that tells what it holds, then others that are timed."""
    plan = EpochPlan.of(Shards.open(folder), Reading("train", 7, BATCH_SIZE, MAX_POINTS, batching))
    with clock.measure("first") as answers:
        answers |= told(assembled(planned(plan, num_epochs=1)))
    with clock.measure("load") as answers:
        batches = assembled(planned(plan, Cursor(1, 0), 1 + NUM_EPOCHS))
        answers["points"] = sum(batch.num_points for batch in batches) / NUM_EPOCHS
    clock.share("load", NUM_EPOCHS)


def told(batches: Iterable[Batch]) -> Answers:
    """Windows, points, and the sums of their km east and north and minutes from the first point."""
    num_windows, num_points, sums_C = 0, 0, np.zeros(3)
    for batch in batches:
        is_point_BT = ~batch.is_pad_BT
        is_first_BT = is_point_BT & ~batch.is_target_BT
        sequence_N = torch.cumsum(is_first_BT[is_point_BT], 0) - 1
        for c, value_BT in enumerate((batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT)):
            moved_N = value_BT[is_point_BT] - value_BT[is_first_BT][sequence_N]
            sums_C[c] += float(moved_N.abs().sum())
        num_windows += int(is_first_BT.sum())
        num_points += len(sequence_N)
    sums_C *= (KM_PER_DEG, KM_PER_DEG, 1 / 60)
    return {"windows": num_windows, "points": num_points, **dict(zip(SUMS, sums_C, strict=True))}


def train(clock: Clock, folder: Path) -> None:
    """Steps of the small model, and the part of their time that they wait for a batch."""
    plan = EpochPlan.of(Shards.open(folder), Reading("train", 7, BATCH_SIZE, MAX_POINTS))
    model = build("chemin", "small", NORMALISER)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    with closing(assembled(planned(plan), PREFETCHED_BATCHES)) as batches:
        next(batches)  # compiles
        waited_s = 0.0
        with clock.measure("train") as answers:
            for _ in range(NUM_STEPS):
                asked_s = time.perf_counter()
                batch = next(batches)
                waited_s += time.perf_counter() - asked_s
                loss = model.loss(batch)
                optimiser.zero_grad()
                (loss.total / loss.count).backward()
                optimiser.step()
    answers["steps"] = NUM_STEPS
    clock.measures["wait"] = {**clock.measures["train"], "wall_s": waited_s, "cpu_s": 0.0}


if __name__ == "__main__":
    main({"shards": shards, "decode": decode, "padded": padded, "packed": packed, "train": train})
