"""Inventory: every file of a source with its content hash, and what it holds by its name."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from tasks.ingest.archive import (
    ARCHIVE_SUFFIXES,
    Closed,
    Entry,
    Unreadable,
    is_left_behind,
    kind_of,
    opened_sources,
)
from tasks.runtime.errors import DataError
from tasks.runtime.store import sha256_file

NUM_HASHERS = 2
NO_TRAJECTORIES = "holds no trajectories of this dataset"
OTHER_FORMS = {
    ".fit": "is a recording in FIT, which is not read: export it as GPX",
    ".tcx": "is a recording in TCX, which is not read: export it as GPX",
}


@dataclass(frozen=True)
class Member:
    """A file of the inventory: its name inside the dataset, its content hash, its bytes.

    `state` is `ready`, `failed` (cannot be read) or `ignored` (holds no trajectories), with the
    reason for the last two. `kind` is `points`, or `labels` for a file that tells of points.
    """

    name: str
    sha256: str
    num_bytes: int
    state: str
    reason: str
    entry: Entry
    kind: str = "points"

    @cached_property
    def file_id(self) -> int:
        """The first 63 bits of the SHA-256 of (name, content hash): equal for equal files."""
        digest = hashlib.sha256(f"{self.name}\n{self.sha256}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the file, which must still be those of the inventory."""
        digest = hashlib.sha256()
        for chunk in self.entry.chunks():
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != self.sha256:
            raise DataError(f"{self.name} changed while it was read; run again")


def inventory(entries: Sequence[Entry], pattern: str, labels: str = "") -> list[Member]:
    """Every file with its content hash, in order of names; read once, as a stream.

    Names are relative to the folder in which the pattern begins, so that an archive and the
    folder unpacked from it, at whatever depth, give the same names.
    """
    kinds = [kind_of_entry(entry, pattern, labels) for entry in entries]
    points = {entry.path for entry, kind in zip(entries, kinds, strict=True) if kind == "points"}
    root = posixpath.commonpath([head_of_match(path, pattern) for path in points] or [""])
    members: dict[str, Member] = {}
    for member in without_copies(read_members(entries, kinds, root)):
        name = f"ignored {member.entry.path}" if member.state == "ignored" else member.name
        twin = members.setdefault(name, member)
        if twin.sha256 != member.sha256:
            raise DataError(f"two different files are both named {member.name}; keep one of them")
    return sorted(members.values(), key=lambda member: (member.name, member.sha256))


def kind_of_entry(entry: Entry, pattern: str, labels: str) -> str:
    """What a file holds by its name: points, labels, or nothing, as what a system left behind."""
    path = PurePosixPath(entry.path)
    if is_left_behind(entry.path):
        return ""
    if labels and path.match(labels):
        return "labels"
    return "points" if path.match(pattern) else ""


def head_of_match(path: str, pattern: str) -> str:
    """The folders before those that the pattern speaks of."""
    return "/".join(PurePosixPath(path).parts[: -len(PurePosixPath(pattern).parts)])


def relative(path: str, root: str) -> str:
    place = PurePosixPath(path)
    return str(place.relative_to(root) if place.is_relative_to(root) else place)


def read_members(entries: Sequence[Entry], kinds: Sequence[str], root: str) -> list[Member]:
    """Every file hashed, by several threads where each file has a stream of its own."""
    names = [relative(entry.path, root) for entry in entries]
    num_hashers = 1 if any(entry.is_alone for entry in entries) else NUM_HASHERS
    with ThreadPoolExecutor(num_hashers, "hashers") as pool:
        return list(pool.map(read_member, entries, names, kinds))


def read_member(entry: Entry, name: str, kind: str) -> Member:
    """Hash one file; where it cannot be read, the hash of what could be read stands in."""
    digest = hashlib.sha256()
    num_bytes = 0
    state, reason, holds_many = "ready", "", False
    try:
        for chunk in entry.chunks():
            digest.update(chunk)
            num_bytes += len(chunk)
    except Unreadable as error:
        digest.update(b"\0unreadable")
        state, reason = "failed", str(error)
        holds_many = isinstance(error, Closed) or name.lower().endswith(ARCHIVE_SUFFIXES)
    if is_left_behind(entry.path) or not (kind or holds_many):
        state = "ignored"
        reason = reason or OTHER_FORMS.get(PurePosixPath(name.lower()).suffix, NO_TRAJECTORIES)
    return Member(name, digest.hexdigest(), num_bytes, state, reason, entry, kind or "points")


def without_copies(members: Sequence[Member]) -> list[Member]:
    """The files without those of an archive that lies unpacked beside itself."""
    unpacked = {
        (PurePosixPath(member.name).name, member.sha256): member.name
        for member in members
        if member.state == "ready" and not member.entry.is_archived
    }
    kept = []
    for member in members:
        twin = unpacked.get((PurePosixPath(member.name).name, member.sha256))
        if twin and member.entry.is_archived and member.state == "ready":
            member = replace(member, state="ignored", reason=f"is a copy of {twin}")
        kept.append(member)
    return kept


def looked_at(
    sources: Sequence[Path], pattern: str, labels: str = ""
) -> tuple[str, list[Member] | None]:
    """The fingerprint of a source, and its inventory where that stays open: not of an archive.

    The fingerprint is the same wherever a source lies: that of an archive is of its bytes, else it
    is of names and content.
    """
    if is_one_archive(sources):
        return sha256_file(sources[0]), None
    with opened_sources(sources) as entries:
        members = inventory(entries, pattern, labels)
    is_archived = any(entry.is_archived for entry in entries)
    return print_of(members), None if is_archived else members


def is_one_archive(sources: Sequence[Path]) -> bool:
    return len(sources) == 1 and kind_of(sources[0]) in ("zip", "tar")


def print_of(members: Sequence[Member]) -> str:
    """The fingerprint of an inventory."""
    lines = sorted(f"{member.name}\n{member.sha256}\n{member.state}\n" for member in members)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
