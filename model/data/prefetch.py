"""Prefetch: a thread that works ahead of its consumer, a bounded number of items."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")


def prefetched(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """The same items in the same order, up to `depth` of them made ahead in a thread.

    What fails in the thread fails here, where its item would come. The thread runs in the context
    of the consumer; it ends with the items, or when the consumer closes this generator, drops it,
    or fails.
    """
    if depth < 1:
        raise ValueError(f"a thread works at least one item ahead, not {depth}")
    return _consume(items, depth)


def _consume(items: Iterator[Item], depth: int) -> Iterator[Item]:
    ready: queue.Queue[tuple[str, object]] = queue.Queue(depth)
    is_over = threading.Event()
    run = copy_context().run
    thread = threading.Thread(target=run, args=(_produce, items, ready, is_over), daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]
    finally:
        is_over.set()
        while thread.is_alive():  # room for what it is about to put down
            try:
                ready.get(timeout=0.01)
            except queue.Empty:
                continue
        thread.join()


def _produce(
    items: Iterator[Item], ready: queue.Queue[tuple[str, object]], is_over: threading.Event
) -> None:
    try:
        for item in items:
            ready.put(("item", item))
            if is_over.is_set():
                return
        ready.put(("end", None))
    except BaseException as error:
        ready.put(("error", error))
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
