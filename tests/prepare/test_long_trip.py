"""A trip of ten million points: it is prepared to the end, in memory that a setting bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.places import PROJECT
from helpers.points import SCHEMA, made_recipe, table_of, walk

from tasks.database import scratch
from tasks.ingest.row_digests import RowDigests
from tasks.ingest.snapshot import CONTENTS, INDEX, LEDGER, index_of
from tasks.runtime.errors import MemoryFull
from tasks.runtime.store import Receipt, Store

START_US = 1_714_607_400_000_000  # 2024-05-01 23:50 UTC
ROWS_AT_ONCE = 1_000_000
BYTES_A_POINT = 400
PREPARE = """
import json, resource, sys
sys.path.insert(0, "tests")
from helpers.points import prepared
from tasks.config.pipeline import PipelineConfig
from tasks.runtime.store import Receipt, Store
store, receipt = Store(sys.argv[1]), Receipt.model_validate_json(sys.argv[2])
config = PipelineConfig(dataset="hurdat2", clean={"max_gap_s": 600.0},
    split={"validation_percent": 25, "test_percent": 25})
made = prepared(config, receipt, store)
peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"peak_mib": peak_mib, "counts": made.counts}))
"""


def long_trip(num_points: int) -> Iterator[pa.Table]:
    """One entity at a point a second, some metres a step, once around the Earth and more."""
    for start in range(0, num_points, ROWS_AT_ONCE):
        number = np.arange(start, min(start + ROWS_AT_ONCE, num_points))
        columns = {
            "point_id": number + 1,
            "entity_id": np.full(len(number), "long"),
            "tracked_at": pa.array(START_US + number * 1_000_000, pa.timestamp("us", tz="UTC")),
            "lon_deg": (number * 1e-4 + 180) % 360 - 180,
            "lat_deg": 60 * np.sin(number / 1e6),
            "file_id": np.full(len(number), 1),
            "line_number": number + 1,
        }
        absent = pa.nulls(len(number))
        yield pa.table({field.name: columns.get(field.name, absent) for field in SCHEMA}).cast(
            SCHEMA
        )


def snapshot_of(store: Store, num_points: int) -> Receipt:
    """A snapshot of the long trip and of a few short ones beside it, in one bucket."""
    others = table_of((row for n in range(20) for row in walk(f"e{n}", 60, n)), file_id=2)
    others = others.set_column(0, "point_id", pa.array(range(10**12, 10**12 + len(others))))
    recipe = made_recipe("part", "hurdat2", others, f"{num_points}")
    with store.draft() as draft:
        with pq.ParquetWriter(draft / "points-000.parquet", SCHEMA) as writer:
            for table in long_trip(num_points):
                writer.write_table(table)
            writer.write_table(others)
        digests = RowDigests()
        digests.add("points", 0, others)
        digests.write(draft / CONTENTS)
        store.publish(draft, recipe, {}, licence="made up")
    with store.draft() as draft:
        index = index_of("made up", 1, {recipe.digest: [1, 2]}, {1: [0], 2: [0]})
        (draft / INDEX).write_text(index.model_dump_json())
        pq.write_table(pa.table({"file_id": [1, 2]}), draft / LEDGER)
        whole = made_recipe("snapshot", "hurdat2", others, recipe.digest)
        return store.publish(draft, whole, {}, licence="made up")


def prepare(
    store: Store, num_points: int, memory_limit_mb: int
) -> subprocess.CompletedProcess[str]:
    """Clean to shards in a process of its own, of which memory is measured."""
    receipt = snapshot_of(store, num_points)
    environment = os.environ | {
        "TRAJFOUNDRY_MEMORY_LIMIT_MB": str(memory_limit_mb),
        "TRAJFOUNDRY_NUM_THREADS": "2",
    }
    return subprocess.run(
        [sys.executable, "-c", PREPARE, str(store.root), receipt.model_dump_json()],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_ten_million_points_of_one_trip_are_prepared(store: Store) -> None:
    """Beside what the database may use, a trip is held whole as one row, and copied once."""
    done = prepare(store, 10_000_000, memory_limit_mb=2_000)
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"peak {found['peak_mib']:,.0f} MiB")
    num_points = sum(found["counts"][f"points_{s}"] for s in ("train", "validation", "test"))
    assert num_points == 10_000_000 - 1 + 20 * 60  # one stands on null island
    assert found["peak_mib"] < 2_000 + 10_000_000 * BYTES_A_POINT / 2**20


def test_a_step_that_needs_more_memory_than_it_may_use_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TRAJFOUNDRY_MEMORY_LIMIT_MB", "256")
    with (
        pytest.raises(MemoryFull, match=r"256 MB .* TRAJFOUNDRY_MEMORY_LIMIT_MB higher") as caught,
        scratch(tmp_path) as connection,
    ):
        connection.execute("select len(list(i)) from range(100_000_000) as numbers(i)").fetchall()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.duckdb"))
