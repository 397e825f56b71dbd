"""Compression: what the first bytes of a file tell of it, and the streams that undo it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

HEAD_BYTES = 512
BUFFER_BYTES = 1 << 16


def zstd_stream(stream: BinaryIO) -> Any:
    return pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd")


STREAMS: dict[str, tuple[bytes, Callable[[Any], Any]]] = {
    ".gz": (rb"\x1f\x8b", gzip.open),
    ".xz": (rb"\xfd7zXZ\x00", lzma.open),
    ".bz2": (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", bz2.open),
    ".zst": (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", zstd_stream),
}
SPREADSHEET = "is a spreadsheet or a document, which is not read: save it as CSV"
UNPACK = "unpack it, and name what comes out as the source"
CLOSED: dict[bytes, str] = {
    rb"7z\xbc\xaf\x27\x1c": f"is a 7z archive, which is not read: {UNPACK}",
    rb"Rar!\x1a\x07": f"is a RAR archive, which is not read: {UNPACK}",
    rb"\x1f[\x9d\xa0]": f"is compressed by compress (.Z), which is not read: {UNPACK}",
    rb"\x04\x22\x4d\x18": f"is compressed with LZ4, which is not read: {UNPACK}",
    rb"LZIP\x01": f"is compressed with lzip, which is not read: {UNPACK}",
    rb"PK\x03\x04.{26}(\[Content_Types\]|_rels/|docProps/|xl/|mimetypeapp)": SPREADSHEET,
    rb"PK(\x03\x04|\x05\x06)": "is a zip archive, which its name does not tell: name it .zip",
    rb".{257}ustar": "is a tar archive, which its name does not tell: name it .tar",
}
UNREADABLE = (
    OSError,
    EOFError,
    LookupError,  # a sparse map that is cut
    RuntimeError,
    ValueError,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
    pa.ArrowException,
)
BROKEN = (*UNREADABLE, OverflowError, struct.error)  # of a directory


def without_suffix(name: str) -> tuple[str, str]:
    """A name without that of its compression, and the latter, if there is any."""
    suffix = next((suffix for suffix in STREAMS if name.lower().endswith(suffix)), "")
    return (name[: -len(suffix)], suffix) if suffix else (name, "")


def compression_of(head: bytes) -> str:
    """The suffix of the compression that a file begins with, or none."""
    found = (suffix for suffix, (magic, _opener) in STREAMS.items() if re.match(magic, head))
    return next(found, "")


def decompressed(stream: Any, suffix: str) -> Any:
    return STREAMS[suffix][1](stream) if suffix else stream


def closed_form(head: bytes) -> str:
    """Why a file with these first bytes is not read although it may hold much, or nothing."""
    found = (words for magic, words in CLOSED.items() if re.match(magic, head, re.DOTALL))
    return next(found, "")


def reason_of(error: BaseException) -> str:
    """What went wrong in one line, without the path: the ledger must not depend on places."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def is_cut_short(error: BaseException) -> bool:
    return isinstance(error, EOFError) or "truncated" in str(error).lower()


class Part(io.RawIOBase):
    """The bytes of a file from one place to another, as a stream that keeps no file open."""

    def __init__(self, read_at: Callable[[int, int], bytes], num_bytes: int) -> None:
        self._read_at, self._num_bytes, self._place = read_at, num_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._num_bytes}[whence]
        if start + offset < 0:
            raise OSError("a place before the beginning")
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        wanted = max(min(len(buffer), self._num_bytes - self._place), 0)
        found = self._read_at(self._place, wanted)
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)


def part_of(path: Path) -> BinaryIO:
    """A file on the disk, opened only for as long as each read takes."""

    def read_at(place: int, num_bytes: int) -> bytes:
        with path.open("rb", buffering=0) as stream:
            stream.seek(place)
            return stream.read(num_bytes)

    whole: Any = Part(read_at, path.stat().st_size)
    return io.BufferedReader(whole, BUFFER_BYTES)
