"""Runs without Prefect: by choice from the start, or from where its server was lost.

Stages are named by what they hold, so a run that begins again only looks up what is finished.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
from collections.abc import Callable
from typing import Any

from flows.error_lines import chain
from tasks.runtime.errors import FoundryError, Unavailable
from tasks.runtime.stage import without_orchestrator

CLIENTS = frozenset({"anyio", "httpcore", "httpx", "websockets"})
LINE = "%(asctime)s.%(msecs)03d | %(message)s"


class ServerEnded(Unavailable):
    """A server of ours has ended by itself, or never began to answer."""


def run_plain(work: Callable[..., Any], *given: Any) -> Any:
    """Run the plain function of a flow, and show the line of each stage."""
    ours = logging.getLogger("tasks")
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(logging.Formatter(LINE, "%H:%M:%S"))
    level, propagates = ours.level, ours.propagate
    ours.setLevel(logging.INFO)
    ours.propagate = False  # Prefect shows whatever reaches the root, in its own words
    ours.addHandler(shown)
    try:
        with without_orchestrator():
            return work(*given)
    finally:
        ours.removeHandler(shown)
        ours.setLevel(level)
        ours.propagate = propagates


def run_through(wait_for_server: Callable[[], None], flow: Any, *given: Any) -> Any:
    """Run a flow in Prefect; where its server is lost, say so once and go on without it."""
    try:
        wait_for_server()
        return flow(*given)
    except Unavailable as error:
        if not isinstance(error, ServerEnded):
            raise
        reason = str(error)
    except Exception as error:
        if not is_lost(error):
            raise
        reason = type(error).__name__
    silence_prefect()
    forget_unsent()
    print(
        f"trajfoundry: Prefect's server does not answer ({reason}); the run goes on without it and "
        "ends with the same results",
        file=sys.stderr,
    )
    return run_plain(flow.fn, *given)


def is_lost(error: BaseException) -> bool:
    """Whether an error is of the way to Prefect's server, and none of the work itself."""
    kinds = {kind for cause in chain(error) for kind in type(cause).__mro__}
    return not isinstance(error, FoundryError) and any(
        kind.__module__.partition(".")[0] in CLIENTS for kind in kinds
    )


def silence_prefect() -> None:
    """Let Prefect say no more: each line that it cannot send would be an error of its own."""
    logging.raiseExceptions = False
    for name, logger in [*logging.root.manager.loggerDict.items()]:
        if name.partition(".")[0] in {"prefect", *CLIENTS} and isinstance(logger, logging.Logger):
            logger.disabled = True


def forget_unsent() -> None:
    """Drop what waits to be sent: at its end the process would try each of it for seconds."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker.instance(), APILogWorker.instance()):
        with contextlib.suppress(queue.Empty):
            while True:
                worker._queue.get_nowait()
