"""Raw files from an address: streamed into the store and named by their content.

Only https is fetched, and plain http from this machine itself. A redirect stays on its host.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from tasks.archive import CHUNK_BYTES, kind_of
from tasks.datasets import Dataset
from tasks.errors import ConfigError, DataError, Unavailable
from tasks.progress import progress
from tasks.store import Recipe, Store, storage_errors

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
MAX_BYTES = 100 << 30
TIMEOUT_S = 60
RETRY_DELAYS_S = (2.0, 10.0)
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
    sha256 = row.sha256 if address == row.url else ""
    if sha256:
        recipe = raw_recipe(row, address, sha256)
        if store.is_complete(recipe):
            return store.folder(recipe) / file_name(address)
    return patiently(lambda: fetch(row, address, store, sha256, max_bytes), retry_delays_s)


def patiently(attempt: Callable[[], Path], retry_delays_s: Sequence[float]) -> Path:
    """Try again after each delay what may pass by itself."""
    for delay_s in retry_delays_s:
        try:
            return attempt()
        except Unavailable:
            time.sleep(delay_s)
    return attempt()


def fetch(row: Dataset, address: str, store: Store, sha256: str, max_bytes: int) -> Path:
    """Stream, check, publish."""
    name = file_name(address)
    with storage_errors(store.root, "raw"), store.draft() as draft:
        found = stream_to(draft / name, address, max_bytes)
        if sha256 and found != sha256:
            raise DataError(
                f"{address} gave other bytes than the known release of {row.name} "
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
        reason = str(error).replace(str(path), address)
        raise DataError(f"{reason} (homepage of {row.name}: {row.homepage})") from error


def file_name(address: str) -> str:
    """The last part of the address as a harmless file name."""
    last = unquote(urlsplit(address).path).rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]", "_", last)[-100:].lstrip(".-") or "download"


def check_address(address: str) -> None:
    parts = urlsplit(address)
    is_local = parts.scheme == "http" and parts.hostname in LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or is_local):
        raise ConfigError(f"only https addresses are fetched, not {address}; check --source")


class SameHost(urllib.request.HTTPRedirectHandler):
    """Follow a redirect only to the same host by an address that may be fetched."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        check_address(newurl)
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if (before.scheme, before.netloc) != (after.scheme, after.netloc):
            raise ConfigError(
                f"{req.full_url} redirects to another host, {after.netloc}; "
                "give that address itself if you trust it"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_address(address: str) -> Any:
    handlers: list[urllib.request.BaseHandler] = [SameHost()]
    if urlsplit(address).hostname in LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(
        address, headers={"User-Agent": "trajfoundry", "Accept-Encoding": "identity"}
    )
    return opener.open(request, timeout=TIMEOUT_S)


def stream_to(path: Path, address: str, max_bytes: int) -> str:
    """Write the body of an address to a file; return its SHA-256."""
    try:
        with open_address(address) as response, path.open("wb") as file:
            return copy_body(response, file, address, max_bytes)
    except urllib.error.HTTPError as error:
        if error.code in PASSING_STATUS:
            raise Unavailable(
                f"{address} answered {error.code} {error.reason}; try later"
            ) from error
        raise DataError(
            f"{address} answered {error.code} {error.reason}; check --source"
        ) from error
    except urllib.error.URLError as error:
        raise Unavailable(f"cannot reach {address}: {error.reason}; try later") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise Unavailable(
            f"{address} broke off: {error or type(error).__name__}; try later"
        ) from error


def copy_body(response: Any, file: IO[bytes], address: str, max_bytes: int) -> str:
    digest = hashlib.sha256()
    num_bytes = 0
    announced = response.length or -1
    with progress("download", f"Fetching {file_name(address)}") as tell:
        while chunk := response.read(CHUNK_BYTES):
            num_bytes += len(chunk)
            if max(num_bytes, announced) > max_bytes:
                raise DataError(f"{address} is larger than {max_bytes >> 20:,} MiB; refused")
            digest.update(chunk)
            file.write(chunk)
            tell(num_bytes / max(num_bytes, announced), f"{num_bytes / 1e6:,.0f} MB")
    if 0 <= num_bytes < announced:
        raise Unavailable(f"{address} broke off after {num_bytes:,} of {announced:,} bytes")
    return digest.hexdigest()
