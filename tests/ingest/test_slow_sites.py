"""Sites that answer a few bytes at a time, for ever: each is given up in a bounded time."""

from __future__ import annotations

import base64
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tasks.config.datasets import dataset_named
from tasks.ingest import http_client
from tasks.ingest.download import fetched
from tasks.runtime.errors import ConfigError, DataError, Unavailable

ROW = dataset_named("geolife")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def drip(text: bytes) -> Iterator[bytes]:
    """One byte in a while, and the last one again and again."""
    for number in itertools.count():
        time.sleep(0.02)
        yield text[min(number, len(text) - 1) :][:1]


HOSTILE: dict[str, Callable[[], Iterator[bytes]]] = {
    "status line": lambda: drip(b"HTTP/1.1 200 OKK"),
    "header name": lambda: itertools.chain([OK], drip(b"X")),
    "header lines": lambda: itertools.chain([OK], (part for part in drip_lines())),
    "interim answers, slow": lambda: itertools.cycle(drip_of(CONTINUE)),
    "interim answers, fast": lambda: itertools.repeat(CONTINUE * 400),
    "interim header": lambda: itertools.chain([b"HTTP/1.1 100 Continue\r\n"], drip(b"X")),
    "body": lambda: itertools.chain([OK + b"\r\n"], drip(b"x")),
    "size of a chunk": lambda: itertools.chain([CHUNKED], drip(b"0")),
    "trailer": lambda: itertools.chain([CHUNKED + b"0\r\n"], drip(b"X")),
}


def drip_lines() -> Iterator[bytes]:
    for number in range(90):
        time.sleep(0.02)
        yield f"X{number}: y\r\n".encode()
    yield from drip(b"X")


def drip_of(text: bytes) -> list[bytes]:
    return [text[place : place + 1] for place in range(len(text))]


@contextlib.contextmanager
def site(parts: Callable[[], Iterator[bytes]], requests: list[bytes]) -> Iterator[str]:
    """A site that answers any request with some bytes until nobody listens."""
    ended = threading.Event()

    def answer() -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                requests.append(connection.recv(65_536))
                for part in parts():
                    if ended.is_set():
                        return
                    if len(part) == 1:
                        time.sleep(0.01)
                    connection.sendall(part)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize("name", HOSTILE)
def test_no_drip_is_waited_for(store, monkeypatch, name):
    monkeypatch.setattr(http_client, "TIMEOUT_S", 0.4)
    began_s = time.monotonic()
    with site(HOSTILE[name], []) as host, pytest.raises(Unavailable, match="broke off: "):
        fetched(ROW, f"http://{host}/x.zip", store, retry_delays_s=())
    assert time.monotonic() - began_s < 5


def test_a_password_is_sent_as_a_header_and_shown_nowhere(store):
    requests: list[bytes] = []
    refusal = [b"HTTP/1.1 404 gone\r\nContent-Length: 0\r\n\r\n"]
    with site(lambda: iter(refusal), requests) as host, pytest.raises(DataError) as caught:
        fetched(ROW, f"http://reader:s%40cret@{host}/x.zip", store, retry_delays_s=())
    assert f"http://***@{host}/x.zip answered 404" in str(caught.value)
    token = base64.b64encode(b"reader:s@cret")
    assert b"Authorization: Basic " + token in requests[0]
    assert f"Host: {host}".encode() in requests[0]


@pytest.mark.parametrize(
    "address", ["http://reader:secret@example.org/x", "https://reader:secret@/x"]
)
def test_an_address_that_is_refused_keeps_its_password(store, address):
    with pytest.raises(ConfigError) as caught:
        fetched(ROW, address, store, retry_delays_s=())
    assert "secret" not in str(caught.value)
    assert "reader" not in str(caught.value)


def test_nobody_hears_the_password_of_a_site_that_is_away(store):
    with pytest.raises(Unavailable, match=r"cannot reach http://\*\*\*@127\.0\.0\.1:9/") as caught:
        fetched(ROW, "http://reader:secret@127.0.0.1:9/x.zip", store, retry_delays_s=())
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret" not in str(error)
        error = error.__cause__ or error.__context__
