"""The store: what is complete, what is published, and what a killed process leaves behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.places import PROJECT

from tasks.runtime.errors import ConfigError, DataError, StorageError
from tasks.runtime.store import MANIFEST, Recipe, Store, canonical_json


def recipe(stage: str = "double", **settings: int) -> Recipe:
    return Recipe(stage=stage, dataset="toy", code={}, sql={}, settings=settings, inputs={})


def publish(store: Store, made: Recipe, text: str = "x") -> Path:
    with store.draft() as draft:
        (draft / "data.txt").write_text(text)
        pq.write_table(pa.table({"n": [1, 2, 3]}), draft / "numbers.parquet")
        store.publish(draft, made, {"rows": 3}, licence="ours")
    return store.folder(made)


def test_a_published_folder_is_complete_and_says_what_it_holds(store):
    folder = publish(store, recipe(n=1))
    assert store.is_complete(recipe(n=1))
    assert not store.is_complete(recipe(n=2))
    manifest = store.manifest(recipe(n=1))
    assert [file.name for file in manifest.files] == ["data.txt", "numbers.parquet"]
    assert manifest.files[1].num_rows == 3
    assert manifest.files[1].columns == {"n": "int64"}
    assert folder.name == recipe(n=1).digest
    assert store.receipt(recipe(n=1)).counts == {"rows": 3}


def test_a_recipe_is_one_name_for_equal_content_whatever_the_order():
    one = Recipe(stage="s", dataset="d", code={"a": "1", "b": "2"}, sql={}, settings={}, inputs={})
    two = Recipe(stage="s", dataset="d", code={"b": "2", "a": "1"}, sql={}, settings={}, inputs={})
    assert one.digest == two.digest
    assert recipe("double", n=1).digest != recipe("triple", n=1).digest


def test_a_value_that_json_cannot_say_is_refused():
    with pytest.raises(ConfigError):
        canonical_json({"x": float("nan")})


@pytest.mark.parametrize("fault", ["missing", "cut", "no manifest", "edited", "renamed"])
def test_a_damaged_folder_is_not_complete_and_is_replaced(store, fault):
    folder = publish(store, recipe(n=1))
    if fault == "missing":
        (folder / "data.txt").unlink()
    elif fault == "cut":
        os.truncate(folder / "numbers.parquet", 10)
    elif fault == "no manifest":
        (folder / MANIFEST).unlink()
    elif fault == "edited":
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["counts"]["rows"] = 4
        (folder / MANIFEST).write_text(json.dumps(manifest))
    else:
        folder.rename(folder.with_name("0" * 32))
        folder = folder.with_name("0" * 32)
        assert not store._is_sound(folder)
    assert not store.is_complete(recipe(n=1))
    publish(store, recipe(n=1), "again")
    assert store.is_complete(recipe(n=1))
    assert (store.folder(recipe(n=1)) / "data.txt").read_text() == "again"


def test_a_finished_folder_never_changes(store):
    folder = publish(store, recipe(n=1), "first")
    inode = folder.stat().st_ino
    publish(store, recipe(n=1), "second")
    assert (folder / "data.txt").read_text() == "first"
    assert folder.stat().st_ino == inode
    assert not any(store.drafts.iterdir())


def test_a_flipped_byte_is_found_before_use(store):
    folder = publish(store, recipe(n=1))
    assert store.verify(recipe(n=1)) == folder
    (folder / "data.txt").write_text("y")
    assert store.is_complete(recipe(n=1)), "same size: only the content hash can tell"
    with pytest.raises(DataError, match="was changed"):
        store.verify(recipe(n=1))


def test_a_pointing_folder_is_complete_only_with_what_it_points_to(store):
    part = publish(store, recipe("part", n=1))
    snapshot = recipe("snapshot", n=1)
    with store.draft() as draft:
        (draft / "list.txt").write_text("part")
        place = f"part/toy/{recipe('part', n=1).digest}"
        store.publish(draft, snapshot, {}, licence="ours", requires=(place,))
    assert store.is_complete(snapshot)
    (part / "data.txt").unlink()
    assert not store.is_complete(snapshot)


def test_drafts_of_the_living_stay_and_those_of_the_dead_go(store):
    code = textwrap.dedent("""
        import os, sys, time
        from tasks.runtime.store import Store
        with Store(sys.argv[1]).draft() as draft:
            (draft / "half.txt").write_text("half")
            print(draft, flush=True)
            time.sleep(60)
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    try:
        assert child.stdout is not None
        left = Path(child.stdout.readline().strip())
        store.sweep()
        assert (left / "half.txt").exists(), "its process lives"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    store.sweep()
    assert not any(store.drafts.iterdir())


def _publish_at_once(root: str, barrier) -> None:
    twin = Store(root)
    with twin.draft() as draft:
        (draft / "data.txt").write_text(str(os.getpid()))
        barrier.wait()
        twin.publish(draft, recipe(n=7), {"rows": 1}, licence="ours")


def test_four_processes_at_once_give_one_folder(store):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    twins = [
        context.Process(target=_publish_at_once, args=(str(store.root), barrier)) for _ in range(4)
    ]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    assert [twin.exitcode for twin in twins] == [0, 0, 0, 0]
    assert store.is_complete(recipe(n=7))
    assert len(list((store.root / "double" / "toy").iterdir())) == 1
    assert not any(store.drafts.iterdir())


def test_a_store_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="--store DIR"):
        Store(tmp_path / "file" / "store").prepare()


def test_receipts_are_private(store):
    assert (store.root / ".receipts").stat().st_mode & 0o777 == 0o700
