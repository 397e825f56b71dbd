"""Progress of a long step: a bar in the terminal and a progress artifact in Prefect."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

logger = logging.getLogger(__name__)

Tell = Callable[[float, str], None]
SECONDS_BETWEEN_UPDATES = 2.0


def log(line: str, level: int = logging.INFO) -> None:
    """Into the log of the run, where there is one."""
    if is_in_run():
        from prefect.logging import get_run_logger

        get_run_logger().log(level, "%s", line)
    else:
        logger.log(level, "%s", line)


def log_once(line: str, told: set[str]) -> None:
    """Log what was not told before."""
    if line not in told:
        told.add(line)
        log(line)


@contextlib.contextmanager
def progress(stage: str, description: str) -> Iterator[Tell]:
    """A function that takes the share done (0 to 1) and a short text, and shows both.

    The bar is drawn only where the error output is a terminal, the artifact only inside a run.
    """
    artifact = _Artifact(stage, description)
    with _bar(stage) as advance:

        def tell(share: float, text: str = "") -> None:
            advance(share, text)
            artifact.update(share)

        yield tell
        artifact.update(1.0, is_last=True)


@contextlib.contextmanager
def _bar(stage: str) -> Iterator[Tell]:
    if not sys.stderr.isatty():
        yield lambda share, text: None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    *columns, remaining = Progress.get_default_columns()
    columns = [*columns, TextColumn("{task.fields[text]}"), remaining]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(stage, total=1.0, text="")
        yield lambda share, text: bar.update(task, completed=share, text=text)


class _Artifact:
    """The progress artifact of the present Prefect run, if there is one.

    Losing Prefect's server must not stop the work, so a failed update is only logged.
    """

    def __init__(self, stage: str, description: str) -> None:
        self.shown_s = time.monotonic()
        self.id: UUID | None = None
        if is_in_run():
            from prefect.artifacts import create_progress_artifact

            with _unharmed():
                made: Any = create_progress_artifact(
                    progress=0.0, key=f"{stage}-progress", description=description
                )
                self.id = made

    def update(self, share: float, *, is_last: bool = False) -> None:
        now_s = time.monotonic()
        if self.id is None or (now_s - self.shown_s < SECONDS_BETWEEN_UPDATES and not is_last):
            return
        from prefect.artifacts import update_progress_artifact

        self.shown_s = now_s
        with _unharmed():
            update_progress_artifact(self.id, progress=round(100 * min(share, 1.0), 1))


def is_in_run() -> bool:
    """Whether a flow or a task of Prefect runs here; a plain call does not load Prefect."""
    if "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext, TaskRunContext

    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def flow_run_id() -> str | None:
    """The id of the flow run of Prefect that this is part of, if there is one."""
    if not is_in_run():
        return None
    from prefect.runtime import flow_run

    return str(flow_run.id) if flow_run.id else None


@contextlib.contextmanager
def _unharmed() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        logger.warning("progress could not be shown: %s", type(error).__name__)
