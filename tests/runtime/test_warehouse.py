"""The warehouse: what a person sees, that it never blocks, and that it can be made again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.fault_runs import child, finished

from tasks.catalog.run import recorded_run
from tasks.catalog.warehouse import current_receipts, rebuild
from tasks.runtime.run_records import note_stage, read_records
from tasks.runtime.store import Recipe, Store


def numbered(num: int) -> pa.Table:
    return pa.table({"trip_id": [f"t{k}" for k in range(num)]})


def clean(store: Store, bucket: int, num: int) -> None:
    """A made-up clean bucket of `num` trips, noted in the present run."""
    recipe = Recipe(
        stage="clean", dataset="toy", code={}, sql={}, settings={"b": bucket, "n": num}, inputs={}
    )
    with store.draft() as draft:
        pq.write_table(numbered(num), draft / "trips.parquet")
        receipt = store.publish(draft, recipe, {"trips": num}, licence="ours")
    note_stage(receipt, is_cached=False)


def fail_after_cleaning(store: Store) -> None:
    with recorded_run(store, "prepare", "toy"):
        clean(store, 0, 100)
        raise RuntimeError("on purpose")


def count(store: Store, table: str) -> int:
    with duckdb.connect(str(store.warehouse), read_only=True) as connection:
        [(rows,)] = connection.execute(f"select count(*) from {table}").fetchall()
    return rows


def test_views_show_the_newest_completed_run(store):
    with recorded_run(store, "prepare", "toy"):
        clean(store, 0, 3)
        clean(store, 1, 4)
    assert count(store, "toy.trips") == 7
    with recorded_run(store, "prepare", "toy"):
        clean(store, 0, 3)
        clean(store, 1, 5)
    assert count(store, "toy.trips") == 8
    with pytest.raises(RuntimeError, match="on purpose"):
        fail_after_cleaning(store)
    assert count(store, "toy.trips") == 8, "a failed run is recorded, never current"
    assert [record.outcome for record in read_records(store)] == ["completed"] * 2 + ["failed"]
    assert count(store, "ops.runs") == 3
    assert count(store, "ops.stages") == 5


def test_an_evaluation_of_before_the_one_table_of_scores_stops_nobody(store):
    recipe = Recipe(stage="evaluate", dataset="toy", code={}, sql={}, settings={}, inputs={})
    with recorded_run(store, "assess", "toy"):
        with store.draft() as draft:
            pq.write_table(numbered(2), draft / "metrics.parquet")
            receipt = store.publish(draft, recipe, {}, licence="ours")
        note_stage(receipt, is_cached=False)
    assert count(store, "ops.runs") == 1


def test_a_folder_that_is_gone_is_not_current(store):
    with recorded_run(store, "prepare", "toy"):
        clean(store, 0, 3)
    [receipt] = current_receipts(store, read_records(store))["toy"]["clean"]
    (store.folder(receipt) / "trips.parquet").unlink()
    assert current_receipts(store, read_records(store)) == {}
    rebuild(store)
    with pytest.raises(duckdb.CatalogException):
        count(store, "toy.trips")


def test_a_reader_keeps_its_content_and_blocks_nobody(store, tmp_path):
    with recorded_run(store, "prepare", "toy"):
        clean(store, 0, 3)
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True)\n"
        "ask = 'select count(*) from toy.trips'\n"
        "for line in sys.stdin: print(c.execute(ask).fetchall()[0][0], flush=True)"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code, str(store.warehouse)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert reader.stdin is not None
    assert reader.stdout is not None

    def ask() -> int:
        reader.stdin.write("count\n")
        reader.stdin.flush()
        return int(reader.stdout.readline())

    assert ask() == 3
    with recorded_run(store, "prepare", "toy"):
        clean(store, 0, 9)
    assert ask() == 3
    assert count(store, "toy.trips") == 9
    reader.stdin.close()
    assert reader.wait(timeout=30) == 0
    reader.stdout.close()


def test_paths_with_quotes_and_glob_signs_are_just_paths(tmp_path: Path):
    odd = Store(tmp_path / "it's [a] st*re")
    with recorded_run(odd, "prepare", "toy"):
        clean(odd, 0, 2)
    assert count(odd, "toy.trips") == 2


def test_the_warehouse_is_made_again_after_a_move(store, tmp_path):
    with recorded_run(store, "prepare", "toy"):
        clean(store, 0, 3)
    os.rename(store.root, tmp_path / "moved")
    moved = Store(tmp_path / "moved")
    rebuild(moved)
    assert count(moved, "toy.trips") == 3


# A query that takes long enough for a progress bar which may begin at once.
LONG_QUERY = """
import sys
from pathlib import Path
from tasks import database

database.SESSION = "set progress_bar_time = 1; " + database.SESSION
with getattr(database, sys.argv[2])(Path(sys.argv[1])) as connection:
    connection.execute("create table t as select sum(hash(n)) from range(100_000_000) as r(n)")
print("answer")
"""


@pytest.mark.parametrize("opened", ["scratch", "new_file"])
def test_a_long_query_says_nothing_among_what_a_command_prints(opened, tmp_path):
    place = tmp_path if opened == "scratch" else tmp_path / "file.duckdb"
    assert finished(child(LONG_QUERY, place, opened))[:2] == (0, "answer\n")
