"""HTTP, as far as a download needs it: a patience for every byte, and passwords that stay here."""

from __future__ import annotations

import base64
import http.client
import io
import socket
import time
import urllib.request
from collections.abc import Mapping
from typing import IO, Any
from urllib.parse import urlsplit

from tasks.runtime.errors import ConfigError
from tasks.runtime.redaction import parted, redacted

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
TIMEOUT_S = 60.0
MIN_BYTES_PER_S = 1_000
_credentials: dict[str, str] = {}  # by host and port


class Timed(io.RawIOBase):
    """The bytes of an answer as they come, as long as they come fast enough.

    Status lines, headers and interim answers have to be over in time, however many they are.
    """

    def __init__(self, raw: Any) -> None:
        self.raw, self.began_s, self.num_bytes, self.has_begun = raw, time.monotonic(), 0, False

    def begin_body(self) -> None:
        self.began_s, self.num_bytes, self.has_begun = time.monotonic(), 0, True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        num_bytes: int | None = self.raw.readinto(buffer)
        self.num_bytes += num_bytes or 0
        took_s = time.monotonic() - self.began_s
        if took_s > TIMEOUT_S and not self.has_begun:
            raise TimeoutError(f"no complete answer in {TIMEOUT_S:g} s")
        if took_s > TIMEOUT_S and self.num_bytes < MIN_BYTES_PER_S * took_s:
            raise TimeoutError(f"less than {MIN_BYTES_PER_S:,} bytes a second")
        return num_bytes

    def close(self) -> None:
        self.raw.close()
        super().close()


class Answer(http.client.HTTPResponse):
    """An answer that is read with patience, not for ever."""

    def __init__(self, sock: socket.socket, *given: Any, **options: Any) -> None:
        super().__init__(sock, *given, **options)
        self.timed = Timed(self.fp.detach())
        self.fp = io.BufferedReader(self.timed)

    def begin(self) -> None:
        super().begin()
        self.timed.begin_body()


class Plain(http.client.HTTPConnection):
    """A connection whose answers are timed."""

    response_class = Answer


class Secure(http.client.HTTPSConnection):
    """The same over TLS."""

    response_class = Answer


class Opener(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens http and https addresses, in place of the handlers of both."""

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(Plain, req)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(Secure, req)


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
                f"{req.full_url} redirects to another host, {redacted(after.netloc)}; "
                "give that address itself if you trust it"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_address(address: str) -> None:
    parts = urlsplit(address)
    is_local = parts.scheme == "http" and parts.hostname in LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or is_local):
        raise ConfigError(
            f"only https addresses are fetched, not {redacted(address)}; check --source"
        )


def keep_credentials(address: str) -> str:
    """An address without its user and password, which this process alone remembers.

    What is asked of a flow is stored by Prefect, so that no password may stand there.
    """
    bare, user, password = parted(address)
    if user or password:
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        _credentials[urlsplit(bare).netloc] = f"Basic {token}"  # RFC 7617
    return bare


def open_address(address: str, headers: Mapping[str, str] | None = None) -> Any:
    """An answer to a request, which says the user and password that are known for its host."""
    bare = keep_credentials(address)
    host = urlsplit(bare).netloc
    credentials = {"Authorization": _credentials[host]} if host in _credentials else {}
    handlers: list[urllib.request.BaseHandler] = [SameHost(), Opener()]
    if urlsplit(bare).hostname in LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    fixed = {"User-Agent": "trajfoundry", "Accept-Encoding": "identity"}
    request = urllib.request.Request(bare, headers=fixed | credentials | dict(headers or {}))
    return opener.open(request, timeout=TIMEOUT_S)
