"""Synthetic reader: each line of an order becomes the trajectories it asks for, with their truth.

A line is one JSON object: `world` (`model/synthetic/world.py`), and the entities from `start` up to
`stop`. Its records are the points of all of them, in that order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from model.synthetic.processes import moved
from model.synthetic.world import Trajectory, World, trajectories
from tasks.ingest.readers.records import Piece, Reader, RecordBlock, placed

AS_THEY_ARE = (
    *("lon_deg", "lat_deg", "true_lon_deg", "true_lat_deg"),
    *("is_after_gap", "is_outlier", "is_anomaly"),
)
TRUTH_SCHEMA = pa.schema(
    {
        "file_id": pa.int64(),
        "entity_id": pa.string(),
        "event": pa.string(),
        "name": pa.string(),
        "started_at": pa.timestamp("us", "UTC"),
        "finished_at": pa.timestamp("us", "UTC"),
        "lon_deg": pa.float64(),
        "lat_deg": pa.float64(),
    }
)


def generated(pieces: Iterable[Piece]) -> Iterator[RecordBlock]:
    """One block a line: as many points as an order asks for, and no more, are in memory."""
    for piece in pieces:
        for line_number, text in piece.lines():
            yield order_block(piece, line_number, text)


def order_block(piece: Piece, line_number: int, text: bytes) -> RecordBlock:
    try:
        order = json.loads(text)
        world = World(**order["world"])
        made = list(trajectories(world, order["start"], order["stop"]))
        records = trajectory_records(piece.file_id, line_number, made)
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError):
        return RecordBlock.of(piece, NO_RECORDS, [line_number])
    return replace(RecordBlock.of(piece, records), truth=truth_of(piece.file_id, world, made))


def trajectory_records(file_id: int, line_number: int, made: Sequence[Trajectory]) -> pa.Table:
    """The points of trajectories, one after the other."""
    num_T = [len(one.tracked_us_T) for one in made]
    index = np.arange(sum(num_T))
    region = np.concatenate([one.region_T for one in made]).astype(np.int64)
    columns = {
        "entity_id": repeated([one.entity_id for one in made], np.repeat(range(len(made)), num_T)),
        "tracked_at": instants(np.concatenate([one.tracked_us_T for one in made])),
        "mode": repeated(made[0].modes, np.concatenate([one.mode_T for one in made])),
        "region_id": pa.array(region, mask=region < 0),
    }
    for name in AS_THEY_ARE:
        columns[name] = pa.array(np.concatenate([getattr(one, f"{name}_T") for one in made]))
    return placed(file_id, np.full_like(index, line_number), pa.table(columns), index)


def repeated(names: Sequence[str], codes: np.ndarray) -> pa.Array:
    """Texts by their codes; each text is kept once."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names))


def instants(unix_us: np.ndarray) -> pa.Array:
    return pa.array(unix_us).cast(pa.timestamp("us", "UTC"))


def truth_of(file_id: int, world: World, made: Sequence[Trajectory]) -> pa.Table:
    """One row per event: stops, visits, gaps, anomalies; with a place where it has one."""
    started = [(one, event) for one in made for event in one.events]
    base = np.array([one.started_us for one, _event in started], dtype=np.int64)
    begin, end, east, north = (
        np.array([getattr(event, name) for _one, event in started], dtype=np.float64)
        for name in ("started_s", "finished_s", "east_m", "north_m")
    )
    lon, lat = moved(np.array(world.lon_deg), np.array(world.lat_deg), east, north)
    columns = [
        pa.array(np.full(len(started), file_id)),
        [one.entity_id for one, _event in started],
        [event.event for _one, event in started],
        [event.name for _one, event in started],
        instants(base + np.rint(begin * 1e6).astype(np.int64)),
        instants(base + np.rint(end * 1e6).astype(np.int64)),
        pa.array(lon, mask=np.isnan(east)),
        pa.array(lat, mask=np.isnan(east)),
    ]
    return pa.table(columns, schema=TRUTH_SCHEMA)


NO_RECORDS = trajectory_records(
    0, 1, list(trajectories(World(kind="markov", num_points=2), 0, 1))
).slice(2)
READER = Reader(generated)
