"""File hashes: what the files of a folder hold, read once in a process and compared ever after."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.runtime.manifest import MANIFEST, Manifest, readable_manifest, told_by

# Clocks of file systems tick this seldom: a change within one tick would not show in the times.
TICK_NS = 20_000_000
_known: dict[tuple[int, ...], str] = {}


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, read anew only if its place, size or times have changed."""
    found = path.stat()
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if key not in _known:
        began_ns = time.time_ns()
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if began_ns - max(found.st_mtime_ns, found.st_ctime_ns) < TICK_NS:
            return digest
        _known[key] = digest
    return _known[key]


def fault_of(folder: Path, names: Iterable[str] = ()) -> str:
    """What is wrong with a finished folder, in words; empty if it is as it was written."""
    manifest = readable_manifest(folder)
    if manifest is None or manifest.recipe.digest != folder.name:
        return f"its {MANIFEST} is missing or was changed after it was written"
    return fault_in(folder, manifest, names)


def fault_in(folder: Path, manifest: Manifest, names: Iterable[str] = ()) -> str:
    """What is wrong with the files of a folder, in words; empty if they are as they were written.

    Where `names` are given, only those files are looked at.
    """
    wanted = set(names)
    for file in manifest.files:
        if wanted and file.name not in wanted:
            continue
        num_bytes = size_of(folder / file.name)
        if num_bytes is None:
            return f"{file.name} is missing"
        if num_bytes != file.num_bytes:
            return f"{file.name} has {num_bytes:,} bytes instead of {file.num_bytes:,}"
        try:
            if sha256_file(folder / file.name) != file.sha256:
                return f"{file.name} was changed after it was written"
        except PermissionError:
            raise
        except OSError as error:
            return f"{file.name} cannot be read: {error.strerror}"
    known = {file.name for file in manifest.files}
    strays = [] if wanted else [name for name in names_under(folder) if name not in known]
    return next((f"{name} does not belong to it" for name in strays if not is_hidden(name)), "")


def is_whole(folder: Path) -> bool:
    """Whether all files that a manifest lists are there, or it cannot be told that one is not."""
    told = told_by(folder)
    if told is None:
        return False
    try:
        return all(size_of(folder / file["name"]) == file["num_bytes"] for file in told["files"])
    except (KeyError, TypeError):
        return True


def names_under(folder: Path) -> Iterator[str]:
    """The files below a folder, by their place in it, but manifests."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return (path.relative_to(folder).as_posix() for path in found)


def is_hidden(name: str) -> bool:
    """Whether a file is one of those that a desktop leaves behind."""
    return name.rpartition("/")[2].startswith(".")


def size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
