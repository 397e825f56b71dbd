"""Our trips beside those of movingpandas' gap splitter, on every sample that is here.

Both are given the clean points and the longest gap. Run with `make bench`; only answers are judged.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from bench_rounds import PEERS
from helpers.places import PROJECT

from tasks.config.datasets import dataset_named
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.ingest import ingest
from tasks.prepare import clean
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3_600)]

# Dataset: its sample, and how many entities movingpandas is asked for (many take a while).
SHARED = "../shared/data"
SAMPLES = {
    "hurdat2": ("", None),
    "bus_avl": (f"{SHARED}/bods-liverpool-route14.csv", None),
    "ais_noaa": (f"{SHARED}/ais-noaa-sample.zip", None),
    "ais_tracktable": (f"{SHARED}/ais-tracktable-traj.zip", 150),
    "tdrive": (f"{SHARED}/tdrive-two-taxis.zip", None),
    "geolife": (f"{SHARED}/geolife-sample.zip", 5),
    "cabspotting": (f"{SHARED}/cabspotting-sample.tar.gz", 5),
    "porto": (f"{SHARED}/porto-sample.zip", 100),
    "opensky": (f"{SHARED}/opensky-quickstart.json.gz", 100),
    "icebergs": (f"{SHARED}/icebergs-consol.zip", None),
}
Trip = tuple[str, str, str, int]  # entity, first and last instant, points


@pytest.fixture
def source(dataset: str) -> str:
    path, _num_entities = SAMPLES[dataset]
    if not PEERS.is_file():
        pytest.skip(f"no peers in {PEERS.parent.parent.name}; `make bench` installs them")
    if path and not (PROJECT / path).exists():
        pytest.skip(f"the sample of {dataset} is not here")
    return path and str(PROJECT / path)


@pytest.mark.parametrize("dataset", SAMPLES)
def test_the_trips_are_those_of_movingpandas(dataset: str, source: str, tmp_path: Path):
    points = clean_points(dataset, source, Store(tmp_path / "store"))
    entities = sorted(set(points["entity_id"].to_pylist()))[: SAMPLES[dataset][1]]
    points = points.filter(pc.is_in(points["entity_id"], pa.array(entities)))
    pq.write_table(points, tmp_path / "points.parquet")
    ours = trips_of(points)
    theirs = gap_split(tmp_path / "points.parquet", dataset_named(dataset).max_gap_s)
    print(f"{dataset}: {len(ours):,} trips of {len(entities):,} entities")
    assert len(ours) > 0
    assert Counter(theirs) == Counter(ours)


def clean_points(dataset: str, source: str, store: Store) -> pa.Table:
    """The points that cleaning keeps, each with its trip."""
    store.prepare()
    config = PipelineConfig(dataset=dataset)
    with without_orchestrator():
        receipts = clean.clean(config, ingest(config, source, store), store)
    columns = ["entity_id", "source_trip_id", "trip_id", "tracked_at", "lon_deg", "lat_deg"]
    paths = [store.folder(receipt) / "clean_points.parquet" for receipt in receipts]
    return pa.concat_tables(pq.read_table(path, columns=columns) for path in paths)


def trips_of(points: pa.Table) -> list[Trip]:
    rows = points.group_by(["entity_id", "trip_id"]).aggregate(
        [("tracked_at", "min"), ("tracked_at", "max"), ("tracked_at", "count")]
    )
    return [
        (
            row["entity_id"],
            row["tracked_at_min"].isoformat(timespec="microseconds"),
            row["tracked_at_max"].isoformat(timespec="microseconds"),
            row["tracked_at_count"],
        )
        for row in rows.to_pylist()
    ]


def gap_split(points: Path, max_gap_s: float) -> list[Trip]:
    """The trips of movingpandas, of two points or more."""
    done = subprocess.run(
        [PEERS, PROJECT / "tests" / "bench" / "bench_trips.py", points, str(max_gap_s)],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return [tuple(trip) for trip in json.loads(done.stdout.splitlines()[-1])]
