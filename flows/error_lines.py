"""Error lines: what an error of a command means to a person, and its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from tasks.runtime.errors import FoundryError, StorageFull, Unavailable
from tasks.runtime.limits import full_disk, is_out_of_room, no_room
from tasks.runtime.machine import Machine

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

STOPPED = 130


def chain(error: BaseException) -> list[BaseException]:
    """An error, and what led to it, the nearest first."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    return causes


def line_and_code(error: BaseException, *, is_asked: bool = False) -> tuple[str, int]:
    """What an error means to a person, and the exit code that says so to a program.

    Of a command that was asked to end, an error that nobody knows is what a library made of that.
    Where Prefect heard it, what led to the error is no `Exception`.
    """
    if (full := full_disk_behind(error)) is not None:
        return str(full), full.exit_code
    if isinstance(error, FoundryError):
        return str(error), error.exit_code
    if is_asked or any(not isinstance(cause, Exception) for cause in chain(error)):
        return "stopped; finished stages are kept, the same command goes on", STOPPED
    line = next(iter(str(error).splitlines()), "no message")
    return (
        f"unexpected {type(error).__name__}: {line}; the traceback is in the newest file of "
        f"{Machine().store / 'runs'}, or shown with --debug"
    ), 1


def full_disk_behind(error: BaseException) -> StorageFull | None:
    """The full disk that led to an error, also where it was a server that it stopped."""
    if isinstance(error, KeyboardInterrupt) or (
        isinstance(error, FoundryError) and not isinstance(error, Unavailable)
    ):
        return None
    root = Machine().store
    return full_disk(error, root, "results") or (
        StorageFull(no_room(root, "results")) if is_out_of_room(root) else None
    )


def problems(error: ValidationError) -> list[str]:
    """One line a problem, named by its flag, with what was given."""
    return [problem_line(problem) for problem in error.errors()]


def problem_line(problem: ErrorDetails) -> str:
    flag = ".".join(str(part) for part in problem["loc"][1:])
    text, given = problem["msg"].removeprefix("Value error, "), problem["input"]
    is_shown = problem["type"] != "value_error" and isinstance(given, str | int | float)
    named = f"--{flag}: {text}" if flag else text
    return f"{named}, not {given}" if is_shown else named
