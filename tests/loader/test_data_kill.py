"""Killed at a batch and started again, the rest of the stream is identical, in each form of use."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import time

import psutil
import pytest
import torch
import torch.distributed as dist
from helpers.batches import crops, used
from helpers.shards import write_shards
from torch.utils.data import DataLoader

from model.data.loader import TripLoader
from model.interface.batch import Cursor

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
LENGTHS = [5, 1, 40, 17, 2, 33, 90, 8, 12, 64, 3, 29]
NUM_EPOCHS = 3


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    shards = write_shards(folder, {"train": LENGTHS}, rows_per_group=3)
    for batching in ("bucketed", "packed"):  # compiled here, for all processes that follow
        list(loader_of(shards, batching))
    return shards


def loader_of(shards, batching):
    return TripLoader(shards, "train", 7, 4, 16, NUM_EPOCHS, batching=batching, pool_points=80)


def told(batch):
    """All of a batch in a line: its crops, a digest of its tensors, and the place after it."""
    digest = hashlib.sha256()
    for name, value in batch.columns().items():
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return {
        "crops": crops([batch]),
        "digest": digest.hexdigest(),
        "cursor": batch.cursor.to_json(),
    }


def be_reader(shards, batching, num_workers, rank, world, meeting, start, hold_at, log):
    """Tell each batch; ranks meet at each step, and one with fewer steps would be waited for."""
    torch.set_num_threads(1)
    os.setpgrp()  # its workers end with it, also one that does not watch it yet
    if world > 1:
        options = {"init_method": f"file://{meeting}", "rank": rank, "world_size": world}
        dist.init_process_group("gloo", **options)
    loader = loader_of(shards, batching)
    if start is not None:
        loader.load_state_dict(loader.state_at(Cursor.from_json(start)))
    with log.open("w") as file:
        batches = DataLoader(loader, batch_size=None, num_workers=num_workers)
        for number, batch in enumerate(batches, 1):
            if world > 1:
                dist.all_reduce(torch.ones(()))
            file.write(json.dumps(told(batch)) + "\n")
            file.flush()
            if number == hold_at:
                time.sleep(60)  # it is killed here at the latest
    if world > 1:
        dist.destroy_process_group()


def run(folder, shards, form, start=None, kill_at=None):
    """What each rank told; killed from outside once all of them have told `kill_at` batches."""
    world = form[2]
    hold_at = None if kill_at is None else kill_at + 1
    folder.mkdir()
    logs = [folder / f"{rank}.jsonl" for rank in range(world)]
    ranks = [
        multiprocessing.get_context("fork").Process(
            target=be_reader,
            args=(shards, *form[:2], rank, world, folder / "meeting", start, hold_at, log),
        )
        for rank, log in enumerate(logs)
    ]
    for rank in ranks:
        rank.start()
    if kill_at is not None:
        until_s = time.monotonic() + 60
        while min(len(lines_of(log)) for log in logs) < kill_at:
            assert time.monotonic() < until_s
            time.sleep(0.001)
        for rank in ranks:
            os.killpg(rank.pid, signal.SIGKILL)
    for rank in ranks:
        rank.join(timeout=60)
    assert [rank.exitcode for rank in ranks] == [0 if kill_at is None else -signal.SIGKILL] * world
    return [lines_of(log) for log in logs]


def lines_of(log):
    """The lines that were finished."""
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


FORMS = {
    "alone": ("bucketed", 0, 1),
    "alone, packed": ("packed", 0, 1),
    "two workers": ("bucketed", 2, 1),
    "two ranks": ("bucketed", 0, 2),
    "two ranks of two workers": ("packed", 2, 2),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_killed_at_a_batch_and_resumed_the_rest_is_identical(shards, tmp_path, monkeypatch, form):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    whole = run(tmp_path / "whole", shards, form)
    assert len({len(lines) for lines in whole}) == 1
    for place in (1, len(whole[0]) - 2):
        killed = run(tmp_path / f"killed at {place}", shards, form, kill_at=place)
        # Killed between two steps of another rank: what all have finished counts.
        done = min(map(len, killed))
        start = killed[0][done - 1]["cursor"]
        rest = run(tmp_path / f"resumed at {place}", shards, form, start)
        for before, after, expected in zip(killed, rest, whole, strict=True):
            assert before[:done] + after == expected


@pytest.mark.parametrize("batching", ["bucketed", "packed"])
def test_ranks_and_workers_share_out_exactly_the_set(shards, tmp_path, monkeypatch, batching):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    alone = used(loader_of(shards, batching))
    for num_workers in (0, 3):
        ranks = run(tmp_path / str(num_workers), shards, (batching, num_workers, 2))
        assert len(ranks[0]) == len(ranks[1])
        taken = [tuple(crop) for lines in ranks for line in lines for crop in line["crops"]]
        assert sorted(taken) == sorted(alone.elements())


def test_a_reader_that_starts_a_batch_late_would_be_noticed(shards, tmp_path):
    form = FORMS["alone"]
    [whole] = run(tmp_path / "whole", shards, form)
    [killed] = run(tmp_path / "killed", shards, form, kill_at=3)
    [rest] = run(tmp_path / "resumed", shards, form, whole[len(killed)]["cursor"])
    assert killed + rest != whole


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_is_an_error_in_time_and_costs_no_batch(shards, tmp_path, victim):
    """What was told before, and what a reader tells from there on, is each batch once."""
    form = FORMS["two workers"]
    [whole] = run(tmp_path / "whole", shards, form)
    log = tmp_path / "told.jsonl"
    reader = multiprocessing.get_context("fork").Process(
        target=be_reader, args=(shards, *form[:2], 0, 1, tmp_path / "meeting", None, 3, log)
    )
    reader.start()
    until_s = time.monotonic() + 60
    while len(lines_of(log)) < 3:
        assert time.monotonic() < until_s
        time.sleep(0.01)
    workers = sorted(psutil.Process(reader.pid).children(), key=lambda worker: worker.pid)
    assert len(workers) == 2
    workers[victim].kill()
    reader.join(timeout=40)  # by itself it would go on after a minute
    assert reader.exitcode == 1
    told_before = lines_of(log)
    [rest] = run(tmp_path / "rest", shards, form, start=told_before[-1]["cursor"])
    assert told_before + rest == whole
