"""Streams: items gathered into groups, and items that a thread makes ahead of its consumer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue
from threading import Event, Semaphore
from typing import TypeVar

Item = TypeVar("Item")


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
    of the consumer; it ends with the items, or when the consumer closes this generator, drops it,
    or fails.
    """
    if depth < 1:
        raise ValueError(f"a thread works at least one item ahead, not {depth}")
    ready: SimpleQueue[list[Item]] = SimpleQueue()  # one item each, none at the end
    room, is_over = Semaphore(depth), Event()

    def produce() -> None:
        for item in items:
            ready.put([item])
            room.acquire()
            if is_over.is_set():
                break
        if isinstance(items, Generator):
            items.close()

    with ThreadPoolExecutor(1) as thread:
        produced = thread.submit(copy_context().run, produce)
        produced.add_done_callback(lambda _: ready.put([]))
        try:
            while found := ready.get():
                room.release()
                yield from found
            produced.result()
        finally:
            is_over.set()
            room.release()
