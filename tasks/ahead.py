"""Work of two threads in turn: the next item is made while the present one is used."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items in the same order, one of them made ahead by another thread.

    An error is raised where its item would come. Only one thread works on `items` at a time, and
    none any more once this iterator is closed or has failed.
    """
    made = (item for item in items)
    context = copy_context()
    with closing(made), ThreadPoolExecutor(1, "ahead") as pool:
        waiting = pool.submit(context.run, next_of, made)
        while found := waiting.result():
            waiting = pool.submit(context.run, next_of, made)
            yield found[0]


def next_of(items: Generator[Item, None, None]) -> list[Item]:
    """The next item, or nothing at the end."""
    for item in items:
        return [item]
    return []
