"""Items made ahead by another thread: the same, in order, with the same error at the same place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.streams import prefetched

word: ContextVar[str] = ContextVar("word")


@given(st.lists(st.none() | st.integers()))
def test_items_stay_as_they_are(items: list[int | None]) -> None:
    assert list(prefetched(iter(items), 1)) == items


def failing(num_good: int) -> Iterator[int]:
    yield from range(num_good)
    raise OSError("the disk is gone")


@pytest.mark.parametrize("num_good", [0, 1, 5])
def test_an_error_comes_in_its_turn(num_good: int) -> None:
    taken = prefetched(failing(num_good), 1)
    assert [next(taken) for _ in range(num_good)] == list(range(num_good))
    with pytest.raises(OSError, match="the disk is gone"):
        next(taken)


def test_the_maker_runs_in_another_thread_and_in_the_callers_context() -> None:
    word.set("told")

    def items() -> Iterator[tuple[int, str]]:
        for _ in range(3):
            yield threading.get_ident(), word.get()

    threads, words = zip(*prefetched(items(), 1), strict=True)
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
    assert set(words) == {"told"}


def test_a_bounded_number_is_made_ahead_and_none_after_closing() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    taken = prefetched(items(), 1)
    assert next(taken) == 0
    taken.close()  # type: ignore[attr-defined]
    assert len(made) <= 3, "one taken, one ready, one in the making"
    num_made = len(made)
    time.sleep(0.05)
    assert len(made) == num_made
