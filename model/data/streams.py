"""Streams: items gathered into groups, and items that a thread makes ahead of its consumer."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

Item = TypeVar("Item")
PATIENCE_S = 1.0  # what a closed stream waits for its thread to put down what it holds
_ENDINGS: set[Callable[[], None]] = set()  # of the streams that are open


def gathered(
    items: Iterable[Item], size_of: Callable[[Item], int], enough: int
) -> Iterator[list[Item]]:
    """Items in groups, each closed as soon as it is large enough."""
    group: list[Item] = []
    size = 0
    for item in items:
        group.append(item)
        size += size_of(item)
        if size >= enough:
            yield group
            group, size = [], 0
    if group:
        yield group


def prefetched(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """The same items in the same order, up to `depth` of them made ahead in a thread.

    What fails in the thread fails here, where its item would come. The thread runs in the context
    of the consumer; it ends with the items, or soon after the consumer closes this generator, drops
    it, or fails.
    """
    if depth < 1:
        raise ValueError(f"a thread works at least one item ahead, not {depth}")
    ready: SimpleQueue[list[Item]] = SimpleQueue()  # one item each, none at the end
    room, is_over, is_done = Semaphore(depth), Event(), Event()

    failures: list[BaseException] = []

    def produce() -> None:
        try:
            for item in items:
                ready.put([item])
                room.acquire()
                if is_over.is_set():
                    break
            if isinstance(items, Generator):
                items.close()
        except BaseException as failure:
            failures.append(failure)
        ready.put([])
        is_done.set()

    def end() -> None:
        is_over.set()
        room.release()
        is_done.wait(PATIENCE_S)  # never for ever: see `threads_let_go`

    # A daemon: Python would wait at its end for a thread that waits for a consumer.
    _ENDINGS.add(end)
    Thread(target=copy_context().run, args=(produce,), daemon=True).start()
    try:
        while found := ready.get():
            room.release()
            yield from found
        for failure in failures:
            raise failure
    finally:
        _ENDINGS.discard(end)
        end()


@atexit.register
def end_streams() -> None:
    """End what is still open before Python does.

    A thread that comes back from C++ to a Python that has ended is unwound there, and C++ may take
    that for an error and abort the whole process.
    """
    for end in [*_ENDINGS]:
        end()


@contextmanager
def threads_let_go(num_threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for a generator: at its end they are told to end and are not waited for.

    The garbage collector closes a generator that was dropped, at any allocation of any thread, also
    where `threading` holds the lock without which no thread can be joined. To wait there would be
    to wait for ever.
    """
    threads = ThreadPoolExecutor(num_threads)
    try:
        yield threads
    finally:
        threads.shutdown(wait=False)
