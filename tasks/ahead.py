"""Work of two threads in turn: the next item is made while the present one is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items in the same order, one of them made ahead by another thread.

    An error is raised where its item would come. Only one thread works on `items` at a time, and
    none any more once this iterator is closed.
    """
    context = copy_context()
    end = object()
    with closing(items), ThreadPoolExecutor(1, "ahead") as pool:  # type: ignore[type-var]
        waiting = pool.submit(context.run, next, items, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(context.run, next, items, end)
            yield item  # type: ignore[misc]
