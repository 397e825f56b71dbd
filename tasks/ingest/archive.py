"""Archives, folders and files of raw data: each a list of named byte streams, read safely.

Nothing is ever unpacked to a name that an archive chose: members are streamed, and an archive
inside an archive is put down in a nameless file. Names that lead out of the folder refuse the
whole archive; links, encrypted members and bombs fail as members.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from tasks.ingest.compression import (
    BROKEN,
    HEAD_BYTES,
    SPREADSHEET,
    STREAMS,
    UNPACK,
    UNREADABLE,
    Part,
    closed_form,
    compression_of,
    decompressed,
    is_cut_short,
    part_of,
    reason_of,
    without_suffix,
)
from tasks.ingest.tar_headers import BoundedHeader
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.limits import FULL_DISK

CHUNK_BYTES = 1 << 20
MAX_MEMBERS = 1_000_000
MAX_TOTAL_BYTES = 500 << 30
MAX_RATIO = 200
RATIO_GRACE_BYTES = 1 << 20  # small members of one repeated byte are no bomb
MAX_LINE_BYTES = 64 << 20
MAX_DEPTH = 2  # archives around a file, from the outermost
WITHOUT_LINES = (".json", ".geojson", ".gpx", ".kml")  # their readers bound records themselves
MAX_NAME_BYTES = 1_024
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ZIP_SUFFIXES = (".zip", ".kmz")
TAR_SUFFIXES = (".tar", ".tgz", ".tbz2", ".txz", ".tzst", *(f".tar{suffix}" for suffix in STREAMS))
ARCHIVE_SUFFIXES = (*ZIP_SUFFIXES, *TAR_SUFFIXES, ".7z", ".rar")
TOO_DEEP = f"is an archive inside an archive inside an archive: {UNPACK}"
EXPANDS = f"expands to more than {MAX_RATIO} times its size"
Opener = Callable[[], contextlib.AbstractContextManager[Any]]


class Unreadable(DataError):
    """One file of a source cannot be read; the others can."""


class Closed(Unreadable):
    """A file that may hold many, or is compressed in a way that is not read."""


@dataclass(frozen=True)
class Entry:
    """One file inside a source, not read yet. `problem` says why it cannot be read at all.

    Its bytes come without the compression that they begin with; `suffix` is the one that its name
    told, and `path` is without that. Where entries share one stream (`is_alone`), only one of them
    may be read at a time. Those of an archive are gone once it is closed (`is_archived`), and those
    on the disk have a place.
    """

    path: str
    opener: Opener
    problem: str = ""
    max_bytes: int = MAX_TOTAL_BYTES
    is_alone: bool = False
    is_archived: bool = False
    suffix: str = ""
    place: Path | None = None

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the file; whatever hinders reading them is an `Unreadable`."""
        num_bytes, unbroken = 0, 0
        try:
            for chunk in self.pieces():
                if not num_bytes and (words := closed_form(chunk[:HEAD_BYTES])):
                    raise (Unreadable if words == SPREADSHEET else Closed)(words)
                num_bytes += len(chunk)
                has_end = b"\n" in chunk or self.path.lower().endswith(WITHOUT_LINES)
                unbroken = 0 if has_end else unbroken + len(chunk)
                if unbroken > MAX_LINE_BYTES:
                    raise Unreadable(f"holds a line longer than {MAX_LINE_BYTES >> 20} MiB")
                yield chunk
        except UNREADABLE as error:
            how = "cannot be read to its end" if is_cut_short(error) else "cannot be read"
            raise Unreadable(f"{how}: {reason_of(error)}") from error

    def pieces(self) -> Iterator[bytes]:
        """The bytes without their compression, which may not grow beyond all bounds."""
        if self.problem:
            raise Unreadable(self.problem)
        num_bytes = 0
        with self.opener() as raw:
            compression = compression_of(raw.read(HEAD_BYTES))
            if self.suffix and not compression:
                raise Unreadable(f"is no {self.suffix} file")
            raw.seek(0)
            with decompressed(raw, compression) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    num_bytes += len(chunk)
                    if num_bytes > self.max_bytes:
                        raise Unreadable(EXPANDS)
                    yield chunk


@dataclass
class Opening:
    """What is being opened: what stays open until the end, and how much archives hold so far."""

    stack: contextlib.ExitStack
    folder: Path | None
    num_members: int = 0
    num_bytes: int = 0

    @cached_property
    def spool(self) -> BinaryIO:
        """A nameless file for archives inside others and for compressed ones."""
        return cast(BinaryIO, self.stack.enter_context(tempfile.TemporaryFile(dir=self.folder)))

    def put_down(self, entry: Entry) -> Part:
        """The bytes of an entry in the spool, where any of them is at hand."""
        start = self.spool.seek(0, os.SEEK_END)
        for chunk in entry.pieces():
            self.spool.write(chunk)
        self.spool.flush()
        number = self.spool.fileno()
        num_bytes = self.spool.tell() - start
        return Part(lambda place, count: os.pread(number, count, start + place), num_bytes)

    def admit(self, members: Sequence[tuple[str, int]]) -> None:
        """Refuse an archive with a name that could lead out of a folder, or with far too much."""
        self.num_members += len(members)
        self.num_bytes += sum(size for _name, size in members)
        if self.num_members > MAX_MEMBERS or self.num_bytes > MAX_TOTAL_BYTES:
            most = f"{MAX_MEMBERS:,} files or {MAX_TOTAL_BYTES >> 30} GiB"
            raise Unreadable(f"holds more than {most}; refused")
        hostile = next((name for name, _size in members if is_hostile(name)), None)
        if hostile is not None:
            raise Unreadable(f"holds a member with a hostile name, {hostile[:200]!r}; refused")


@contextlib.contextmanager
def opened_sources(sources: Sequence[Path], spool: Path | None = None) -> Iterator[list[Entry]]:
    """The files inside the sources: a folder, an archive, or single files.

    A compressed tar archive, or one inside another, is unrolled once into a nameless file in the
    `spool` folder.
    """
    with contextlib.ExitStack() as stack:
        opening = Opening(stack, spool)
        yield [entry for path in sources for entry in entries_of(path, opening)]


def entries_of(path: Path, opening: Opening) -> list[Entry]:
    """The files inside one source, which stays open."""
    kind = kind_of(path)
    if kind == "folder":
        return [inner for entry in folder_entries(path) for inner in unpacked(entry, opening)]
    whole = file_entry(path, path.name)
    if kind == "file":
        return [whole]
    try:
        members = members_of(whole, kind, opening)
    except Unreadable as error:
        raise DataError(f"{path} {error}") from error
    return [inner for entry in members for inner in unpacked(entry, opening, depth=1)]


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
    words = closed_form(head)
    if words.startswith("is a tar") or path.name.lower().endswith(TAR_SUFFIXES):
        return "tar"
    if words.startswith("is a zip"):
        return "zip"
    if words:
        raise DataError(f"{path} {words}")
    if path.name.lower().endswith(ZIP_SUFFIXES):
        raise DataError(f"{path} is not a zip archive although its name says so; fetch it again")
    return "file"


def head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
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
    """A file on the disk; one that is compressed by itself is named without that suffix."""
    limit = MAX_RATIO * path.stat().st_size + RATIO_GRACE_BYTES
    return named(Entry(printable(name), partial(path.open, "rb"), max_bytes=limit, place=path))


def named(entry: Entry) -> Entry:
    """A file by its name without the suffix of its compression, unless many files are in it."""
    if entry.path.lower().endswith(TAR_SUFFIXES):
        return entry
    path, suffix = without_suffix(entry.path)
    return replace(entry, path=path, suffix=suffix)


def printable(name: str) -> str:
    """A file name as text that any table can hold, also where its bytes are no UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def unpacked(entry: Entry, opening: Opening, depth: int = 0) -> list[Entry]:
    """The files inside an archive that stands in a source; any other file is itself.

    An archive of one file that bears its name stands for that file.
    """
    kind = kind_by_name(entry.path)
    if not kind or entry.problem or is_left_behind(entry.path):
        return [entry]
    if depth == MAX_DEPTH:
        return [replace(entry, problem=TOO_DEEP)]
    try:
        members = members_of(entry, kind, opening)
    except Unreadable as error:
        return [replace(entry, problem=str(error))]
    folder = stem_of(entry.path)
    paths = [f"{folder}/{member.path}" for member in members]
    if len(members) == 1 and is_namesake(members[0].path, PurePosixPath(folder).name):
        paths = [str(PurePosixPath(folder).parent / members[0].path)]
    placed = [replace(member, path=path) for member, path in zip(members, paths, strict=True)]
    return [inner for member in placed for inner in unpacked(member, opening, depth + 1)]


def kind_by_name(name: str) -> str:
    if name.lower().endswith(TAR_SUFFIXES):
        return "tar"
    return "zip" if name.lower().endswith(ZIP_SUFFIXES) else ""


def stem_of(name: str) -> str:
    """An archive's name without what tells that it is one."""
    return name[: -max(len(end) for end in ARCHIVE_SUFFIXES if name.lower().endswith(end))]


def is_namesake(member: str, archive: str) -> bool:
    return archive in (member, str(PurePosixPath(member).with_suffix("")))


def members_of(entry: Entry, kind: str, opening: Opening) -> list[Entry]:
    """The files of an archive; what hinders opening it is an `Unreadable`, save for a full disk."""
    try:
        stream = seekable(entry, opening)
        found = zip_members(stream, opening) if kind == "zip" else tar_members(stream, opening)
    except BROKEN as error:
        if getattr(error, "errno", None) in FULL_DISK:
            raise
        raise Unreadable(
            f"is a broken or truncated {kind} archive ({reason_of(error)}); fetch it again"
        ) from error
    limited = [
        replace(member, max_bytes=min(member.max_bytes, entry.max_bytes), is_archived=True)
        for member in found
    ]
    return [named(member) for member in limited]


def seekable(entry: Entry, opening: Opening) -> BinaryIO:
    """The bytes of an archive: where they lie, or unrolled if they are not at hand there."""
    if entry.place and not compression_of(head_of(entry.place)):
        return part_of(entry.place)
    return cast(BinaryIO, opening.put_down(entry))


def zip_members(stream: BinaryIO, opening: Opening) -> list[Entry]:
    archive = opening.stack.enter_context(zipfile.ZipFile(stream))
    files = [info for info in archive.infolist() if not path_in(info.filename).endswith("/")]
    opening.admit([(path_in(info.filename), info.file_size) for info in files])
    return [zip_entry(archive, info) for info in files]


def path_in(name: str) -> str:
    """A member's name as a path: some writers put back slashes between its parts."""
    return name.replace("\\", "/")


def zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    limit = MAX_RATIO * info.compress_size + RATIO_GRACE_BYTES
    problem = ""
    if info.flag_bits & 1:
        problem = f"is encrypted: {UNPACK} (its password is needed)"
    elif info.compress_type not in ZIP_METHODS:
        problem = f"is compressed by method {info.compress_type}, which is not read: {UNPACK}"
    elif info.file_size > limit:
        problem = EXPANDS
    elif stat.S_ISLNK(info.external_attr >> 16):
        problem = "is a link"
    return Entry(path_in(info.filename), partial(archive.open, info), problem, limit)


def tar_members(stream: BinaryIO, opening: Opening) -> list[Entry]:
    tar = tarfile.open(fileobj=stream, mode="r:", tarinfo=BoundedHeader)
    archive = opening.stack.enter_context(tar)
    infos = [info for info in archive.getmembers() if not info.isdir()]
    opening.admit([(path_in(info.name), info.size) for info in infos])
    return [tar_entry(archive, info) for info in infos]


def tar_entry(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Entry:
    problem = "" if info.isreg() else "is a link or a device"
    problem = "is sparse, of holes that were never written" if info.issparse() else problem
    opener: Any = partial(archive.extractfile, info)  # a stream for each regular file
    limit = MAX_RATIO * info.size + RATIO_GRACE_BYTES
    return Entry(printable(path_in(info.name)), opener, problem, limit, is_alone=True)


def is_hostile(name: str) -> bool:
    path = PurePosixPath(path_in(name))
    return (
        path.is_absolute()
        or ".." in path.parts
        or re.match(r"[A-Za-z]:", name) is not None
        or re.search(r"[\x00-\x1f\x7f]", name) is not None
        or len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES
    )


def is_left_behind(name: str) -> bool:
    """Whether a file is none of the user's, but what a system left behind."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
