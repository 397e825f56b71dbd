"""Several processes on one store, and locks that a killed process held."""

from __future__ import annotations

import time

import pytest
from helpers.fault_runs import child, content, finished, prepare, storm_file

from tasks.registry.client import registry
from tasks.runtime.store import Store

# Waits for a file to appear, so that all begin at one instant.
TOGETHER = """
import sys, time
from pathlib import Path
from helpers.fault_runs import prepare, whole

root, source, gate, upto = sys.argv[1:]
Path(f"{gate}-{time.monotonic_ns()}").touch()
while not Path(gate).exists():
    time.sleep(0.01)
(whole if upto == "whole" else prepare)(Path(root), Path(source))
"""


def at_once(tmp_path, number: int, upto: str = "prepare"):
    root, source, gate = tmp_path / "store", storm_file(tmp_path), tmp_path / "gate"
    twins = [child(TOGETHER, root, source, gate, upto) for _ in range(number)]
    while len(list(tmp_path.glob("gate-*"))) < number:
        assert all(twin.poll() is None for twin in twins)
        time.sleep(0.05)
    gate.touch()
    for twin in twins:
        code, _, complained = finished(twin)
        assert code == 0, complained
    return root


@pytest.mark.parametrize("number", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_runs_at_once_end_as_one(tmp_path, number):
    prepare(tmp_path / "alone", storm_file(tmp_path))
    root = at_once(tmp_path, number)
    assert content(root) == content(tmp_path / "alone")
    assert list((root / ".tmp").iterdir()) == []
    assert len(list((root / "runs").glob("*.json"))) == number


@pytest.mark.slow
def test_runs_at_once_register_one_version(tmp_path):
    root = at_once(tmp_path, 3, "whole")
    with registry(Store(root)) as client:
        assert len(client.search_model_versions()) == 1
    assert len(list(root.glob("train/*/*/"))) == 1


# Holds every lock of the store until it is killed.
HOLDER = """
import sys, time
from filelock import FileLock
from tasks.runtime.store import Store

store = Store(sys.argv[1])
store.prepare()
with (FileLock(store.root / ".warehouse.lock"), FileLock(store.root / ".mlflow.lock"),
      store.draft() as draft):
    (draft / "half.parquet").write_bytes(b"half")
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_locks_of_a_killed_process_hold_up_nobody(tmp_path):
    root, source = tmp_path / "store", storm_file(tmp_path)
    prepare(tmp_path / "alone", source)
    holder = child(HOLDER, root)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    waiting = child(TOGETHER, root, source, tmp_path, "prepare")
    time.sleep(3)
    assert waiting.poll() is None, "it ended although a lock is held"
    holder.kill()
    finished(holder)
    code, _, complained = finished(waiting, timeout_s=120)
    assert code == 0, complained
    assert content(root) == content(tmp_path / "alone")
    prepare(root, source)
    assert list((root / ".tmp").iterdir()) == []
