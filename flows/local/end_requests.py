"""End requests: Ctrl-C, and signals that mean the same, heard once whatever hides them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOST_S = 0.05
_asked = threading.Event()


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    _asked.set()
    raise KeyboardInterrupt


def ignore_requests() -> None:
    """Let no further request cut short what a process does at its end, or change its exit code."""
    for number in REQUESTS:
        signal.signal(number, signal.SIG_IGN)


def is_asked_to_end() -> bool:
    """Whether the present command was asked to end; libraries make other errors of it."""
    return _asked.is_set()


@contextlib.contextmanager
def requests_call(
    handler: Callable[[int, FrameType | None], NoReturn] | signal.Handlers,
) -> Iterator[None]:
    """Handle requests to end, by Ctrl-C or by a signal that means the same, in one way."""
    before = {number: signal.signal(number, handler) for number in REQUESTS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextlib.contextmanager
def requests_heard() -> Iterator[None]:
    """Let a request end a command, and send it again where it was lost.

    What a handler raises while Python removes an object is ignored, and told to this hook alone.
    """
    before, again = sys.unraisablehook, []

    def hear(lost: Any) -> None:
        if isinstance(lost.exc_value, Exception):
            before(lost)
        else:
            number = getattr(lost.exc_value, "signal", signal.SIGINT)  # Prefect's has the number
            timer = threading.Timer(LOST_S, os.kill, (os.getpid(), number))  # after this hook
            again.append(timer)
            timer.start()

    _asked.clear()
    sys.unraisablehook = hear
    try:
        with requests_call(interrupt):
            yield
    finally:
        sys.unraisablehook = before
        for timer in again:  # a request that was heard after all is not sent to whoever comes next
            timer.cancel()
