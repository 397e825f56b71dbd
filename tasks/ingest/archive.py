"""Archives, folders and files of raw data: each a list of named byte streams, read safely.

Nothing is ever unpacked to a name that an archive chose: members are streamed. Names that lead
out of the folder refuse the whole archive; links, encrypted members and bombs fail as members.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import posixpath
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.limits import FULL_DISK
from tasks.runtime.store import sha256_file

CHUNK_BYTES = 1 << 20
NUM_HASHERS = 2
MAX_MEMBERS = 1_000_000
MAX_TOTAL_BYTES = 500 << 30
MAX_RATIO = 200
RATIO_GRACE_BYTES = 1 << 20  # small members of one repeated byte are no bomb
MAX_LINE_BYTES = 64 << 20
WITHOUT_LINES = (".json", ".gpx")  # formats whose readers bound their records themselves
MAX_NAME_BYTES = 1_024
SINGLE: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
    ".gz": (b"\x1f\x8b", gzip.open),
    ".xz": (b"\xfd7zXZ\x00", lzma.open),
}
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz")
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES, ".tar.bz2", ".7z", ".rar")
STAYS_CLOSED = "is an archive inside the source: unpack it, or name it as the source"
UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)
Opener = Callable[[], contextlib.AbstractContextManager[Any]]


class Unreadable(DataError):
    """One file of a source cannot be read; the others can."""


@dataclass(frozen=True)
class Entry:
    """One file inside a source, not read yet. `problem` says why it cannot be read at all.

    Where entries share one stream (`is_alone`), only one of them may be read at a time.
    """

    path: str
    opener: Opener
    problem: str = ""
    max_bytes: int = MAX_TOTAL_BYTES
    is_alone: bool = False

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the file; whatever hinders reading them is an `Unreadable`."""
        if self.problem:
            raise Unreadable(self.problem)
        num_bytes, unbroken = 0, 0
        try:
            with self.opener() as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    num_bytes += len(chunk)
                    has_end = b"\n" in chunk or self.path.lower().endswith(WITHOUT_LINES)
                    unbroken = 0 if has_end else unbroken + len(chunk)
                    if num_bytes > self.max_bytes:
                        raise Unreadable(f"expands to more than {MAX_RATIO} times its size")
                    if unbroken > MAX_LINE_BYTES:
                        raise Unreadable(f"holds a line longer than {MAX_LINE_BYTES >> 20} MiB")
                    yield chunk
        except UNREADABLE as error:
            raise Unreadable(f"cannot be read: {reason_of(error)}") from error


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


def reason_of(error: BaseException) -> str:
    """What went wrong in one line, without the path: the ledger must not depend on places."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


@contextlib.contextmanager
def opened_sources(sources: Sequence[Path], spool: Path | None = None) -> Iterator[list[Entry]]:
    """The files inside the sources: a folder, an archive, or single files.

    A compressed tar archive is unrolled once into a nameless file in the `spool` folder.
    """
    with contextlib.ExitStack() as stack:
        yield [entry for path in sources for entry in entries_of(path, spool, stack)]


def entries_of(path: Path, spool: Path | None, stack: contextlib.ExitStack) -> list[Entry]:
    """The files inside one source, which the stack keeps open."""
    kind = kind_of(path)
    if kind == "folder":
        return folder_entries(path)
    if kind == "zip":
        return zip_entries(path, stack)
    if kind == "tar":
        return tar_entries(path, spool, stack)
    return [file_entry(path, path.name)]


def kind_of(path: Path) -> str:
    """What a source is, by its first bytes: folder, zip, tar or file; else one clear error."""
    if path.is_dir():
        return "folder"
    head = head_of(path)
    if not head:
        raise DataError(f"{path} is empty; fetch it again")
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html)", head, re.IGNORECASE):
        raise DataError(
            f"{path} is a web page (HTML), not data; open its address in a browser and save "
            "the file behind it"
        )
    name = path.name.lower()
    if name.endswith(TAR_SUFFIXES):
        return "tar"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if name.endswith(".zip"):
        raise DataError(f"{path} is not a zip archive although its name says so; fetch it again")
    return "file"


def head_of(path: Path, num_bytes: int = 512) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(num_bytes)
    except FileNotFoundError:
        raise ConfigError(f"no file or folder {path}; check --source") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check --source") from error


def folder_entries(folder: Path) -> list[Entry]:
    """All files below a folder. Links are listed, not followed: they may lead anywhere."""
    entries = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            entries.append(Entry(printable(name), partial(path.open, "rb"), problem="is a link"))
        elif path.is_file():
            entries.append(file_entry(path, name))
    if not entries:
        raise DataError(f"{folder} holds no files; check --source")
    return entries


def file_entry(path: Path, name: str) -> Entry:
    """A plain file, or one that is compressed by itself and named without that suffix."""
    suffix = path.suffix.lower()
    if suffix not in SINGLE or name.lower().endswith(TAR_SUFFIXES):
        return Entry(printable(name), partial(path.open, "rb"))
    magic, decompressed = SINGLE[suffix]
    problem = "" if head_of(path).startswith(magic) else f"is no {suffix} file"
    limit = MAX_RATIO * path.stat().st_size + RATIO_GRACE_BYTES
    return Entry(printable(name[: -len(suffix)]), partial(decompressed, path), problem, limit)


def printable(name: str) -> str:
    """A file name as text that any table can hold, also where its bytes are no UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def zip_entries(path: Path, stack: contextlib.ExitStack) -> list[Entry]:
    with whole_archive(path, "zip"):
        archive = stack.enter_context(zipfile.ZipFile(path))
    files = [info for info in archive.infolist() if not info.is_dir()]
    check_members(path, [(info.filename, info.file_size) for info in files])
    return [zip_entry(archive, info) for info in files]


def zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    limit = MAX_RATIO * info.compress_size + RATIO_GRACE_BYTES
    problem = ""
    if info.flag_bits & 1:
        problem = "is encrypted"
    elif info.file_size > limit:
        problem = f"expands to more than {MAX_RATIO} times its size"
    elif stat.S_ISLNK(info.external_attr >> 16):
        problem = "is a link"
    return Entry(info.filename, partial(archive.open, info), problem, limit)


def tar_entries(path: Path, spool: Path | None, stack: contextlib.ExitStack) -> list[Entry]:
    with whole_archive(path, "tar"):
        stream = stack.enter_context(unrolled(path, spool))
        archive = stack.enter_context(tarfile.open(fileobj=stream, mode="r:"))
        infos = [info for info in archive.getmembers() if not info.isdir()]
    check_members(path, [(info.name, info.size) for info in infos])
    return [tar_entry(archive, info) for info in infos]


@contextlib.contextmanager
def whole_archive(path: Path, kind: str) -> Iterator[None]:
    """What hinders opening an archive is the archive's fault, save for a disk without room."""
    try:
        yield
    except UNREADABLE as error:
        if getattr(error, "errno", None) in FULL_DISK:
            raise
        raise DataError(
            f"{path} is a broken or truncated {kind} archive ({reason_of(error)}); fetch it again"
        ) from error


@contextlib.contextmanager
def unrolled(path: Path, spool: Path | None) -> Iterator[BinaryIO]:
    """The bytes of a tar archive without its compression, so that any member is at hand."""
    head = head_of(path)
    opener = next((opener for magic, opener in SINGLE.values() if head.startswith(magic)), None)
    if opener is None:
        with path.open("rb") as stream:
            yield stream
        return
    limit = MAX_RATIO * path.stat().st_size + RATIO_GRACE_BYTES
    with opener(path) as stream, tempfile.TemporaryFile(dir=spool) as bare:
        while chunk := stream.read(CHUNK_BYTES):
            bare.write(chunk)
            if bare.tell() > limit:
                raise DataError(f"{path} expands to more than {MAX_RATIO} times its size; refused")
        bare.seek(0)
        yield bare


def tar_entry(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Entry:
    problem = "" if info.isreg() else "is a link or a device"
    opener: Any = partial(archive.extractfile, info)  # a stream for each regular file
    return Entry(printable(info.name), opener, problem, is_alone=True)


def check_members(path: Path, members: Sequence[tuple[str, int]]) -> None:
    """Refuse an archive with a name that could lead out of a folder, or with far too much."""
    if len(members) > MAX_MEMBERS or sum(size for _name, size in members) > MAX_TOTAL_BYTES:
        raise DataError(
            f"{path} holds more than {MAX_MEMBERS:,} files or {MAX_TOTAL_BYTES >> 30} GiB; refused"
        )
    hostile = next((name for name, _size in members if is_hostile(name)), None)
    if hostile is not None:
        raise DataError(f"{path} holds a member with a hostile name, {hostile[:200]!r}; refused")


def is_hostile(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or re.match(r"[A-Za-z]:", name) is not None
        or re.search(r"[\x00-\x1f\x7f]", name) is not None
        or len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES
    )


def inventory(entries: Sequence[Entry], pattern: str, labels: str = "") -> list[Member]:
    """Every file with its content hash, in order of names; read once, as a stream.

    Names are relative to the folder in which the pattern begins, so that an archive and the
    folder unpacked from it, at whatever depth, give the same names.
    """
    kinds = [kind_of_entry(entry, pattern, labels) for entry in entries]
    points = {entry.path for entry, kind in zip(entries, kinds, strict=True) if kind == "points"}
    root = posixpath.commonpath([head_of_match(path, pattern) for path in points] or [""])
    members: dict[str, Member] = {}
    for member in read_members(entries, kinds, root):
        name = f"ignored {member.entry.path}" if member.state == "ignored" else member.name
        twin = members.setdefault(name, member)
        if twin.sha256 != member.sha256:
            raise DataError(f"two different files are both named {member.name}; keep one of them")
    return sorted(members.values(), key=lambda member: (member.name, member.sha256))


def kind_of_entry(entry: Entry, pattern: str, labels: str) -> str:
    """What a file holds by its name: points, labels, or nothing, as what a system left behind."""
    path = PurePosixPath(entry.path)
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
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
    state, reason = "ready", ""
    try:
        for chunk in entry.chunks():
            digest.update(chunk)
            num_bytes += len(chunk)
    except Unreadable as error:
        digest.update(b"\0unreadable")
        state, reason = "failed", str(error)
    if not kind:
        state, reason = "ignored", "holds no trajectories of this dataset"
    if name.lower().endswith(ARCHIVE_SUFFIXES):
        state, reason = "failed" if kind else "ignored", STAYS_CLOSED
    return Member(name, digest.hexdigest(), num_bytes, state, reason, entry, kind or "points")


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
    is_archived = any(kind_of(path) in ("zip", "tar") for path in sources)
    return print_of(members), None if is_archived else members


def is_one_archive(sources: Sequence[Path]) -> bool:
    return len(sources) == 1 and kind_of(sources[0]) in ("zip", "tar")


def print_of(members: Sequence[Member]) -> str:
    """The fingerprint of an inventory."""
    lines = sorted(f"{member.name}\n{member.sha256}\n{member.state}\n" for member in members)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
