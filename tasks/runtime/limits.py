"""Limits of the machine: full and broken disks, rights and memory, each told in one line."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks.runtime.errors import FoundryError, MemoryFull, StorageError, StorageFull

LEAST_BYTES = 64 << 10  # less room than this is none
FULL_DISK = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
NO_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
BROKEN_DISK = (errno.EIO, errno.ESTALE)
# As torch, its kernels and C++ spell it.
NO_MEMORY_WORDS = ("can't allocate memory", "could not create a primitive", "bad_alloc")
# As libraries that hide the number of the error spell it: SQLite, DuckDB, Arrow, MLflow.
FULL_WORDS = ("No space left on device", "database or disk is full", "Disk quota exceeded")


@contextlib.contextmanager
def storage_errors(root: Path, what: str, draft: Path | None = None) -> Iterator[None]:
    """Turn what the system says about space, rights, memory and disks into one clear line.

    `draft` is the folder that is being written: its size is the least that is needed.
    """
    try:
        yield
    except FoundryError:
        raise
    except Exception as error:
        told = full_disk(error, root, what, draft) or refused(error, root, what)
        if told is None:
            raise
        raise told from error


def full_disk(
    error: BaseException, root: Path, what: str, draft: Path | None = None
) -> StorageFull | None:
    """The line on a full disk, where that is what lies behind an error."""
    for cause in causes(error):
        if isinstance(cause, StorageFull):
            return cause
        if is_full(cause):
            return StorageFull(no_room(root, what, draft))
    return None


def no_room(root: Path, what: str, draft: Path | None = None) -> str:
    """The line on a full disk: how much is needed, what there is, and what to do."""
    return (
        f"no room to write {what} below {root}: {needed(root, draft)}; free space there "
        f"({largest(root)}) and run again, finished stages are kept"
    )


def is_out_of_room(root: Path) -> bool:
    """Whether so little is left that nothing works."""
    return root.exists() and shutil.disk_usage(root).free < LEAST_BYTES


def is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL_DISK
    return any(words in str(error) for words in FULL_WORDS)


def refused(error: Exception, root: Path, what: str) -> StorageError | None:
    """The line on missing rights, on a disk that fails or on too little memory."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY_WORDS):
        return MemoryFull(
            f"{what} needs more memory than it was given; end other programs or make batches "
            "smaller, and run again"
        )
    number = error.errno if isinstance(error, OSError) else None
    if number in NO_RIGHTS:
        return StorageError(
            f"may not write {what} below {root}; give a writable folder with --store DIR"
        )
    if number in BROKEN_DISK:
        return StorageError(
            f"the disk failed ({os.strerror(number)}) while {what} was written below {root}; "
            "see to the disk and run again, finished stages are kept"
        )
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it, the last one first."""
    seen: set[int] = set()
    present: BaseException | None = error
    while present is not None and id(present) not in seen:
        seen.add(id(present))
        yield present
        present = present.__cause__ or present.__context__


def needed(root: Path, draft: Path | None) -> str:
    """How much was written in vain, and how much there is."""
    free_mb = shutil.disk_usage(root).free / 1e6 if root.exists() else 0.0
    needed_mb = max(size_bytes(draft), LEAST_BYTES) / 1e6
    return f"more than {needed_mb:.1f} MB are needed, {free_mb:.1f} MB are free"


def largest(root: Path) -> str:
    """The largest of the store's own folders and files."""
    sizes = {path.name: size_bytes(path) for path in root.glob("*")}
    if not sizes:
        return "the store itself is empty"
    name = max(sizes, key=lambda name: sizes[name])
    return f"the largest part of the store is {name}, {sizes[name] / 1e6:.1f} MB"


def size_bytes(path: Path | None) -> int:
    """What a file, or all files of a folder, take; a file that has just gone takes nothing."""
    total = 0
    for file in [] if path is None else [path, *path.rglob("*")]:
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total
