"""Memory and spill that are too small: a step ends whole, or in one line that says what to set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.fault_runs import child, finished

# A stage that sorts so many rows of ten numbers, 80 bytes each.
SORTING = """
import json, resource, sys
from pathlib import Path
from tasks import database
from tasks.runtime.errors import FoundryError
from tasks.runtime.frozen import Frozen
from tasks.runtime.stage import Stage
from tasks.runtime.store import Recipe, Store

root, num_rows, spill = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
settings = database.engine_settings
limited = {"max_temp_directory_size": spill} if spill else {}


def build(draft, job):
    columns = ", ".join(f"(n * {i} + 0.5) as c{i}" for i in range(9))
    query = f"select n, {columns} from range({num_rows}) as t(n) order by hash(n)"
    with database.scratch(draft) as connection:
        connection.execute(f"create view numbers as {query}")
        rows = database.write_query(connection, "from numbers", draft / "sorted.parquet")
    return {"rows": rows}


build.__module__ = "tasks.prepare.clean"
stage, store = Stage("sort", build), Store(root)
job = stage.job("toy", Frozen(), {}, store, licence="ours")
told = ""
try:
    with_limit = lambda folder: settings(folder) | limited
    database.engine_settings = with_limit
    rows = stage.plain(job).counts["rows"]
except FoundryError as error:
    told, rows = f"{type(error).__name__}: {error}", 0
left = [path.name for path in store.drafts.iterdir()]
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps([told, rows, left, store.is_complete(job.recipe), peak_mb]))
"""
LIMIT = {"TRAJFOUNDRY_MEMORY_LIMIT_MB": "256", "TRAJFOUNDRY_NUM_THREADS": "2"}


def sorted_rows(root, num_rows: int, spill: str = "", **env: str):
    process = child(SORTING, root, str(num_rows), spill, **(LIMIT | env))
    code, said, complained = finished(process, timeout_s=900)
    assert code == 0, complained
    return json.loads(said.splitlines()[-1])


def test_a_full_spill_is_told_with_what_to_do_and_leaves_nothing_half(tmp_path):
    told, rows, left, is_complete, _ = sorted_rows(tmp_path, 5_000_000, "1MB")
    assert told.startswith("MemoryFull: this step needs more than the 256 MB")
    assert "TRAJFOUNDRY_MEMORY_LIMIT_MB" in told
    assert "free space" in told
    assert (rows, left, is_complete) == (0, [], False)
    told, rows, left, is_complete, _ = sorted_rows(tmp_path, 5_000_000)
    assert (told, rows, left, is_complete) == ("", 5_000_000, [], True)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_ten_times_the_memory_is_sorted_within_it(tmp_path):
    _, _, _, _, small_mb = sorted_rows(tmp_path / "small", 1_000)
    told, rows, left, is_complete, peak_mb = sorted_rows(tmp_path / "large", 32_000_000)
    assert (told, rows, left, is_complete) == ("", 32_000_000, [], True)
    assert peak_mb < small_mb + 2 * 256  # of 2,560 MB


# A training whose process may not take more memory than it has, from its first step on.
TRAINING = """
import json, resource, sys
from helpers import ships
from model.training import fit
from tasks.pretrain.train import train
from tasks.runtime.errors import FoundryError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

store, megabytes = Store(sys.argv[1]), int(sys.argv[2])
config = ships.config_of(max_steps=6)
shards = ships.stored_shards(store)
told = ""
gradient = fit._Run._gradient


def short_of_memory(self, batches):
    if megabytes:
        used_kb = next(int(line.split()[1]) for line in open("/proc/self/status")
                       if line.startswith("VmSize"))
        resource.setrlimit(resource.RLIMIT_AS, ((used_kb << 10) + (megabytes << 20),) * 2)
    return gradient(self, batches)


fit._Run._gradient = short_of_memory
try:
    with without_orchestrator():
        train(config, shards, store)
except FoundryError as error:
    told = f"{type(error).__name__}: {error}"
left = [path.name for path in store.drafts.iterdir()]
weights = [str(path) for path in store.root.glob("train/*/*/weights.safetensors")]
print(json.dumps([told, left, weights]))
"""


def trained(root, megabytes: int):
    process = child(TRAINING, root, str(megabytes), TRAJFOUNDRY_NUM_THREADS="1")
    code, said, complained = finished(process)
    assert code == 0, complained
    return json.loads(said.splitlines()[-1])


@pytest.mark.slow
def test_a_training_without_memory_is_told_and_goes_on_with_it(tmp_path):
    told, left, weights = trained(tmp_path / "short", 1)
    assert told.startswith("MemoryFull: the train stage needs more memory")
    assert "\n" not in told
    assert (left, weights) == ([], [])
    [again] = trained(tmp_path / "short", 0)[2]
    [unharmed] = trained(tmp_path / "unharmed", 0)[2]
    assert Path(again).read_bytes() == Path(unharmed).read_bytes()
