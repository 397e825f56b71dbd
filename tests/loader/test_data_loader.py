"""The loader for torch users: the same stream for any number of workers, and its identical rest."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time

import pyarrow.parquet as pq
import pytest
from helpers.batches import assert_all_same
from helpers.shards import write_shards
from torch.utils.data import DataLoader

from model.data.loader import StateError, TripLoader
from model.data.options import Reading
from model.data.reading import read_batches
from model.data.shards import Shards
from model.data.streams import prefetched

# A machine with fewer cores than workers is slow, not wrong.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
LENGTHS = [5, 1, 40, 17, 2, 33, 90, 8, 12, 64, 3, 29]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, {"train": LENGTHS}, rows_per_group=3)


def loader_of(shards, **changes):
    options = {"split": "train", "seed": 7, "batch_size": 4, "max_points": 16, "num_epochs": 2}
    return TripLoader(shards, **(options | changes))


@pytest.fixture(scope="module")
def whole(shards):
    return list(read_batches(shards, Reading("train", 7, 4, 16), num_epochs=2))


def in_workers(loader, num_workers):
    # Workers are given their tensors by file descriptor; batches are whole, so nothing is collated.
    return DataLoader(loader, batch_size=None, num_workers=num_workers)


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_any_number_of_workers_gives_the_same_stream(shards, whole, num_workers):
    assert_all_same(list(in_workers(loader_of(shards), num_workers)), whole)


def test_more_workers_than_batches_are_no_harm(tmp_path):
    shards = write_shards(tmp_path, {"train": [5]})
    (batch,) = in_workers(loader_of(shards, num_epochs=1), 3)
    assert batch.num_points == 5


def test_workers_that_do_not_share_would_be_noticed(shards, whole, monkeypatch):
    monkeypatch.setattr("model.data.loader.get_worker_info", lambda: None)
    with pytest.raises((AssertionError, ValueError)):
        assert_all_same(list(in_workers(loader_of(shards), 2)), whole)


@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_loader_goes_on_from_its_state(shards, whole, prefetch):
    """What the thread has made ahead counts for nothing: the state is that of the consumer."""
    for place in range(len(whole)):
        first = loader_of(shards, prefetch=prefetch)
        taken = list(itertools.islice(first, place))
        second = loader_of(shards, prefetch=prefetch)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert_all_same([*taken, *second], whole)


def test_an_iteration_goes_on_where_the_last_one_ended(shards, whole):
    loader = loader_of(shards)
    taken = list(itertools.islice(loader, 5))
    assert_all_same([*taken, *loader], whole)
    assert list(loader) == []


@pytest.mark.parametrize("place", [1, 4, 9])
def test_two_workers_go_on_from_the_last_batch(shards, whole, place):
    """Killed at a batch: its cursor is the state, and the number of workers may change."""
    first = loader_of(shards)
    running = iter(in_workers(first, 2))
    taken = [next(running) for _ in range(place)]
    del running
    for num_workers in (0, 2, 3):
        second = loader_of(shards)
        second.load_state_dict(first.state_at(taken[-1].cursor))
        assert_all_same([*taken, *in_workers(second, num_workers)], whole)


def test_a_worker_goes_on_from_its_own_state(shards, whole, monkeypatch):
    """What torchdata's StatefulDataLoader does: it saves and loads the state in each worker."""

    class Worker:
        id, num_workers = 1, 2

    monkeypatch.setattr("model.data.loader.get_worker_info", Worker)
    mine = whole[1::2]
    for place in range(len(mine)):
        first, second = loader_of(shards), loader_of(shards)
        taken = list(itertools.islice(first, place))
        second.load_state_dict(first.state_dict())
        assert_all_same([*taken, *second], mine)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata's import
def test_a_stateful_data_loader_goes_on(shards, whole):
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")
    for num_workers, place in ((0, 3), (2, 5)):
        options = {"batch_size": None, "num_workers": num_workers}
        first = torchdata.StatefulDataLoader(loader_of(shards), **options)
        taken = list(itertools.islice(first, place))
        second = torchdata.StatefulDataLoader(loader_of(shards), **options)
        second.load_state_dict(first.state_dict())
        assert_all_same([*taken, *second], whole)


def test_a_state_of_other_settings_is_refused(shards, tmp_path):
    state = loader_of(shards).state_dict()
    for changes in ({"seed": 8}, {"batch_size": 5}, {"max_points": 8}, {"batching": "packed"}):
        with pytest.raises(StateError):
            loader_of(shards, **changes).load_state_dict(state)
    with pytest.raises(StateError):
        loader_of(write_shards(tmp_path, {"train": LENGTHS[1:]})).load_state_dict(state)
    loader_of(shards, rank=1, world=2).load_state_dict(state)  # ranks may change


def test_a_loader_of_a_mixture_goes_on_whoever_makes_its_batches(shards, tmp_path):
    sources = [(shards, 0.7), (write_shards(tmp_path, {"train": [9] * 9}), 0.3)]
    whole = list(itertools.islice(loader_of(sources, num_epochs=None), 30))
    loader = loader_of(sources, num_epochs=None)
    taken = list(itertools.islice(in_workers(loader, 2), 13))
    loader.load_state_dict(loader.state_at(taken[-1].cursor))
    assert_all_same([*taken, *itertools.islice(loader, 17)], whole)
    with pytest.raises(ValueError, match="no epochs"):
        loader_of(sources, num_epochs=1)


# The thread that works ahead


def live_threads():
    return {thread for thread in threading.enumerate() if thread.is_alive()}


def ends_as(before):
    """Whether, within seconds, no thread lives but those of before: none is waited for."""
    until = time.monotonic() + 10
    while live_threads() - before and time.monotonic() < until:
        time.sleep(0.01)
    return live_threads() <= before


def test_working_ahead_changes_nothing(shards, whole):
    ahead = read_batches(shards, Reading("train", 7, 4, 16), num_epochs=2, prefetch=3)
    assert_all_same(list(ahead), whole)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_the_thread_ends_when_the_consumer_stops_early(shards, taken):
    before = live_threads()
    ahead = read_batches(shards, Reading("train", 7, 4, 16), prefetch=2)
    for _ in range(taken):
        next(ahead)
    assert taken == 0 or live_threads() - before
    ahead.close()
    assert ends_as(before)


def fail_at_the_first(batches):
    for _ in batches:
        raise ZeroDivisionError


def test_the_thread_ends_when_the_consumer_fails_or_forgets(shards):
    before = live_threads()
    with pytest.raises(ZeroDivisionError):
        fail_at_the_first(read_batches(shards, Reading("train", 7, 4, 16), prefetch=2))
    ahead = read_batches(shards, Reading("train", 7, 4, 16), prefetch=2)
    next(ahead)
    del ahead
    assert ends_as(before)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_dropped_stream_ends_where_no_thread_can_be_joined(shards, prefetch):
    before = live_threads()
    dropped = read_batches(shards, Reading("train", 7, 4, 16), prefetch=prefetch)
    next(dropped)
    go, is_closed = threading.Event(), threading.Event()

    def close():
        go.wait()
        dropped.close()
        is_closed.set()

    closing = threading.Thread(target=close)
    closing.start()
    # The collector closes what was dropped at any allocation, also at those under this lock.
    with threading._shutdown_locks_lock:
        go.set()
        was_closed = is_closed.wait(5)
    closing.join()
    assert was_closed
    assert ends_as(before)


def test_a_stream_that_is_held_to_the_end_lets_python_end(shards):
    program = (
        "from pathlib import Path; from model.data.options import Reading; "
        "from model.data.reading import read_batches; from model.data.shards import Shards; "
        f"shards = Shards.open(Path({str(shards.folder)!r})); "
        "held = read_batches(shards, Reading('train', 7, 4, 16), prefetch=2); next(held)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_no_thread_of_a_stream_outlives_python():
    """One that came back from C++ to a Python that had ended would abort the process."""
    program = (
        "import atexit, threading; from itertools import count; "
        "atexit.register(lambda: print(threading.active_count())); "
        "from model.data.streams import prefetched; held = prefetched(count(), 3); next(held)"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    assert ended.stdout.split() == ["1"]


def test_the_thread_is_bounded_and_hands_on_what_fails():
    made = []

    def counting():
        try:
            for number in range(50):
                made.append(number)
                if number == 20:
                    raise RuntimeError("broken at 20")
                yield number
        finally:
            made.append("closed")

    ahead = prefetched(counting(), 3)
    assert next(ahead) == 0
    time.sleep(0.05)
    assert len(made) <= 6  # three ready, one in the hand of the thread, one being made
    with pytest.raises(RuntimeError, match="broken at 20"):
        list(ahead)
    assert made[-1] == "closed"
    with pytest.raises(ValueError, match="at least one"):
        next(prefetched(iter([]), 0))


# Shards that are few or empty


def test_one_shard_is_shared_by_four_workers(tmp_path):
    shards = write_shards(tmp_path, {"train": LENGTHS}, rows_per_group=100)
    [_] = tmp_path.glob("train-*.parquet")
    batches = list(in_workers(loader_of(shards, num_epochs=1), 4))
    assert_all_same(batches, list(read_batches(shards, Reading("train", 7, 4, 16), num_epochs=1)))


def test_an_empty_shard_adds_nothing(tmp_path):
    alone = write_shards(tmp_path / "alone", {"train": LENGTHS})
    beside = write_shards(tmp_path / "beside", {"train": LENGTHS})
    full = next((tmp_path / "beside").glob("train-*.parquet"))
    pq.write_table(pq.read_table(full).slice(0, 0), full.with_name("train-001.parquet"))
    beside = Shards.open(beside.folder)
    assert_all_same(list(in_workers(loader_of(beside), 2)), list(loader_of(alone)))
