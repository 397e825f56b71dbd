"""A disk that fails once, at any operation: a typed error, and the same run again ends whole."""

from __future__ import annotations

import json

import pytest
from helpers.fault_runs import child, content, finished, prepare, storm_file

# One process tries every given operation: each fails once, then the same run goes on.
FAILING = """
import errno, json, os, sys, shutil
from pathlib import Path
import pyarrow.parquet as pq
from helpers.fault_runs import content, prepare
from tasks.runtime.errors import StorageError

folder, source, every = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
done, fatal = 0, 0


def watched(function):
    def call(*arguments, **named):
        global done
        done += 1
        if done == fatal:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return function(*arguments, **named)
    return call


for name in ("fsync", "rename", "replace"):
    setattr(os, name, watched(getattr(os, name)))
pq.ParquetWriter.write_table = watched(pq.ParquetWriter.write_table)
pq.ParquetWriter.close = watched(pq.ParquetWriter.close)

prepare(folder / "unharmed", source)
total, whole, typed, faults = done, content(folder / "unharmed"), 0, []
numbers = range(1, total + 1, int(every)) if every.isdecimal() else [
    max(1, round(float(share) * total)) for share in every.split(",")
]
for number in numbers:
    root, done, fatal = folder / "store", 0, number
    try:
        prepare(root, source)
        faults.append(f"{number}: is not noticed")
    except StorageError as error:
        typed += "\\n" not in str(error)
    except Exception as error:
        faults.append(f"{number}: {type(error).__name__}: {error}")
    fatal = 0
    prepare(root, source)
    if content(root) != whole:
        faults.append(f"{number}: ends differently")
    if left := list((root / ".tmp").iterdir()):
        faults.append(f"{number}: leaves {left}")
    shutil.rmtree(root)
print(json.dumps([len(list(numbers)), typed, faults]))
"""


def check(tmp_path, every: str) -> None:
    code, said, complained = finished(
        child(FAILING, tmp_path, storm_file(tmp_path), every), timeout_s=3_000
    )
    assert code == 0, complained
    num_tried, num_typed, faults = json.loads(said.splitlines()[-1])
    assert faults == []
    assert num_typed == num_tried


def test_a_disk_that_fails_once_on_the_way_is_told_and_costs_nothing(tmp_path):
    check(tmp_path, "0.3,0.99")


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_disk_that_fails_once_at_any_step_is_told_and_costs_nothing(tmp_path):
    check(tmp_path, "5")


def test_equal_runs_are_equal(tmp_path):
    """What the others rest on: two stores of one file hold the same."""
    source = storm_file(tmp_path)
    for name in ("one", "two"):
        prepare(tmp_path / name, source)
    assert content(tmp_path / "one") == content(tmp_path / "two") != {}
