"""The errors that a person is meant to read: each is one line that says what to do next."""

from __future__ import annotations


class FoundryError(Exception):
    """Base of the errors whose message is shown as it is, without a traceback."""

    exit_code = 1


class ConfigError(FoundryError):
    """The request itself is wrong: asking again as it is cannot help."""

    exit_code = 2


class DataError(FoundryError):
    """The input data cannot be used: asking again as it is cannot help."""

    exit_code = 3


class Damaged(DataError):
    """A finished folder is not as it was written: whoever can makes it again."""


class TooManyRejected(DataError):
    """More of a source was rejected than its dataset allows.

    `parts` are the recipes of the parts that hold what was read of it, `file_ids` its files.
    """

    def __init__(self, message: str, parts: tuple[str, ...], file_ids: tuple[int, ...]) -> None:
        super().__init__(message)
        self.parts, self.file_ids = parts, file_ids


class StorageError(FoundryError):
    """The store could not be written or read: space or rights are missing."""

    exit_code = 4


class UnreadableVersion(StorageError):
    """A finished folder has a form that a newer version of this project wrote."""


class StorageFull(StorageError):
    """The disk is full: asking again cannot help before somebody has freed space."""


class MemoryFull(StorageError):
    """The memory limit is too small: asking again as it is cannot help, a higher limit can."""


class Unavailable(FoundryError):
    """A service or a network source did not answer: the same request may succeed later."""

    exit_code = 5
    retry_after_s = 0.0  # as the service asks for, where it does


class Stopped(FoundryError):
    """A signal asked a step to stop; what it saved lets the next run go on."""

    exit_code = 130


def is_passing(error: BaseException) -> bool:
    """Whether the cause of an error may pass by itself, so that a retry makes sense."""
    if isinstance(error, FoundryError):
        return isinstance(error, Unavailable)
    return isinstance(error, ConnectionError | TimeoutError)
