"""Prefetch: a thread that works ahead of its consumer, a bounded number of items."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
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
    run, thread = copy_context().run, ThreadPoolExecutor(1)

    def following() -> list[Item]:
        return list(islice(items, 1))

    try:
        ahead = deque(thread.submit(run, following) for _ in range(depth))
        while found := ahead.popleft().result():
            ahead.append(thread.submit(run, following))
            yield from found
    finally:
        thread.shutdown(cancel_futures=True)
        if isinstance(items, Generator):
            items.close()
