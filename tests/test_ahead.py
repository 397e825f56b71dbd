"""Items made ahead by another thread: the same, in order, with the same error at the same place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ahead import ahead

word: ContextVar[str] = ContextVar("word")


@given(st.lists(st.none() | st.integers()))
def test_items_stay_as_they_are(items: list[int | None]) -> None:
    assert list(ahead(iter(items))) == items


def failing(num_good: int) -> Iterator[int]:
    yield from range(num_good)
    raise OSError("the disk is gone")


@pytest.mark.parametrize("num_good", [0, 1, 5])
def test_an_error_comes_in_its_turn(num_good: int) -> None:
    taken = ahead(failing(num_good))
    assert [next(taken) for _ in range(num_good)] == list(range(num_good))
    with pytest.raises(OSError, match="the disk is gone"):
        next(taken)


def test_the_maker_runs_in_another_thread_and_in_the_callers_context() -> None:
    word.set("told")

    def items() -> Iterator[tuple[int, str]]:
        for _ in range(3):
            yield threading.get_ident(), word.get()

    threads, words = zip(*ahead(items()), strict=True)
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
    assert set(words) == {"told"}


def test_no_more_than_one_item_is_made_ahead_and_none_after_closing() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    taken = ahead(items())
    assert next(taken) == 0
    taken.close()  # type: ignore[attr-defined]
    assert made in ([0], [0, 1])
