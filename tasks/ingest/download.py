"""Download of raw files from an address: streamed into the store and named by their content.

Only https is fetched, and plain http from this machine itself. A redirect stays on its host.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import urllib.error
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from tasks.config.datasets import Dataset
from tasks.ingest.archive import CHUNK_BYTES, kind_of
from tasks.ingest.http_client import check_address, open_address
from tasks.runtime.errors import Damaged, DataError, Unavailable
from tasks.runtime.limits import storage_errors
from tasks.runtime.progress import progress
from tasks.runtime.redaction import redacted
from tasks.runtime.stage import patiently
from tasks.runtime.store import Recipe, Store, sha256_file

MAX_BYTES = 100 << 30
RETRY_DELAYS_S = (2.0, 10.0)
PARTIAL, RANGE_REFUSED = 206, 416
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


def is_address(source: str) -> bool:
    """Whether a source is an address rather than a path."""
    return "://" in source


def fetched(
    row: Dataset,
    address: str,
    store: Store,
    *,
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """The file behind an address, in the store; one whose checksum is known is fetched once."""
    check_address(address)
    name, sha256 = file_name(address), row.sha256 if address == row.url else ""
    if sha256 and store.is_complete(known := raw_recipe(row, address, sha256)):
        with contextlib.suppress(Damaged):  # fetched again
            return store.verify(known) / name
    with storage_errors(store.root, "the download"), store.draft() as draft:
        body = Body(draft / name, address, max_bytes)
        fetch = patiently(body.download, retry_delays_s)  # each attempt goes on with the last
        found = fetch()
        if sha256 and found != sha256 and body.was_resumed:
            body.forget()  # two versions of a file may have met in it
            found = fetch()
        if sha256 and found != sha256:
            raise DataError(
                f"{body.shown} gave other bytes than the known release of {row.name} "
                f"(SHA-256 {found}, not {sha256}); look at {row.homepage}"
            )
        check_is_data(draft / name, address, row)
        recipe = raw_recipe(row, address, found)
        store.publish(draft, recipe, {"num_files": 1}, licence=row.licence)
    return store.folder(recipe) / name


def raw_recipe(row: Dataset, address: str, sha256: str) -> Recipe:
    """A raw file is named by its content; its file name counts since it may carry the entity."""
    return Recipe(
        stage="raw",
        dataset=row.name,
        code={},
        sql={},
        settings={"file_name": file_name(address)},
        inputs={"sha256": sha256},
    )


def check_is_data(path: Path, address: str, row: Dataset) -> None:
    try:
        kind_of(path)
    except DataError as error:
        reason = str(error).replace(str(path), redacted(address))
        raise DataError(f"{reason} (homepage of {row.name}: {row.homepage})") from error


def file_name(address: str) -> str:
    """The last part of the address as a harmless file name."""
    last = unquote(urlsplit(address).path).rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]", "_", last)[-100:].lstrip(".-") or "download"


@dataclass
class Body:
    """The body of an address on its way into a file.

    A broken transfer is resumed where the site names the version by a strong ETag and gives the
    rest of that version (RFC 9110, If-Range) with the length it announced at first; everything
    else begins again.
    """

    path: Path
    address: str
    max_bytes: int
    etag: str = ""
    total_bytes: int = -1
    was_resumed: bool = False

    @property
    def shown(self) -> str:
        """The address for people: without the password that it may hold."""
        return redacted(self.address)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self.etag, self.total_bytes, self.was_resumed = "", -1, False

    def download(self) -> str:
        """Fetch what is missing; return the SHA-256 of the file."""
        try:
            with open_address(self.address, self._rest()) as response:
                self._take(response)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == RANGE_REFUSED:
                self.forget()
            if error.code not in {*PASSING_STATUS, RANGE_REFUSED}:
                raise DataError(
                    f"{self.shown} answered {error.code} {error.reason}; check --source"
                ) from error
            raise self._broken(f"answered {error.code} {error.reason}", error) from error
        except urllib.error.URLError as error:
            raise Unavailable(f"cannot reach {self.shown}: {error.reason}; try later") from error
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise self._broken(f"broke off: {error or type(error).__name__}") from error
        return sha256_file(self.path)

    def _rest(self) -> dict[str, str]:
        """The headers that ask for the missing rest of the same version, if it can be told."""
        num_bytes = self.path.stat().st_size if self.path.exists() else 0
        if not (num_bytes and self.etag):
            return {}
        return {"Range": f"bytes={num_bytes}-", "If-Range": self.etag}

    def _take(self, response: Any) -> None:
        num_bytes = self.path.stat().st_size if self.path.exists() else 0
        announced = -1 if response.length is None else response.length
        if response.status == PARTIAL:
            total = f"bytes {num_bytes}-{self.total_bytes - 1}/{self.total_bytes}"
            if response.headers.get("Content-Range") != total:
                self.forget()
                raise self._broken("gave another part than the one asked for")
            self.was_resumed = True
        else:
            num_bytes, self.total_bytes, self.was_resumed = 0, announced, False
            etag = response.headers.get("ETag", "")
            self.etag = etag if etag.startswith('"') and announced > 0 else ""
        with self.path.open("ab" if num_bytes else "wb") as file:
            self._copy(response, file, num_bytes)

    def _copy(self, response: Any, file: IO[bytes], num_bytes: int) -> None:
        """Write what comes, as it comes."""
        total_bytes, most = self.total_bytes, self.max_bytes
        with progress("download", f"Fetching {file_name(self.shown)}") as tell:
            while chunk := response.read1(CHUNK_BYTES):
                num_bytes += len(chunk)
                if max(num_bytes, total_bytes) > most:
                    raise DataError(f"{self.shown} is larger than {most >> 20:,} MiB; refused")
                file.write(chunk)
                tell(num_bytes / max(num_bytes, total_bytes), f"{num_bytes / 1e6:,.0f} MB")
        if num_bytes < total_bytes:
            raise self._broken(f"broke off after {num_bytes:,} of {total_bytes:,} bytes")

    def _broken(self, reason: str, error: urllib.error.HTTPError | None = None) -> Unavailable:
        found = Unavailable(f"{self.shown} {reason}; try later")
        asked = error.headers.get("Retry-After", "") if error else ""
        found.retry_after_s = float(asked) if asked.isdigit() else 0.0
        return found
