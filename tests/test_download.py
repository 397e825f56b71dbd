"""Addresses: what may pass is tried again, what is wrong is said once, nothing is poisoned."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from raw_files import ingested, walk, zipped

from tasks import download
from tasks.datasets import dataset_named
from tasks.download import check_address, fetched, file_name
from tasks.errors import ConfigError, DataError, Unavailable
from tasks.store import Store

Answer = tuple[int, dict[str, str], bytes]
ROW = dataset_named("geolife")


@dataclass
class Site:
    """A web server on this machine that gives the answers in turn, the last one for ever."""

    address: str
    answers: list[Answer] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def next_answer(self, path: str) -> Answer:
        self.requests.append(path)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = made.next_answer(self.path)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(site: Site, store: Store, path: str = "/x.zip", **changes) -> Path:
    return fetched(ROW, site.address + path, store, retry_delays_s=(0, 0), **changes)


@pytest.fixture
def release(tmp_path: Path) -> bytes:
    return zipped(tmp_path / "r.zip", {"000/Trajectory/a.plt": walk(0, 9)}).read_bytes()


def test_an_address_gives_what_the_file_gives(site, store, release, tmp_path) -> None:
    site.answers = [(200, {}, release)]
    by_address = ingested(f"{site.address}/geo.zip?x=1", store)
    assert by_address == ingested(tmp_path / "r.zip", store)
    [place] = store.root.glob("raw/geolife/*/geo.zip")
    assert place.read_bytes() == release


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_trouble_is_tried_again(site, store, release, status: int) -> None:
    site.answers = [(status, {}, b""), (200, {}, release)]
    assert fetch(site, store).read_bytes() == release
    assert len(site.requests) == 2


def test_a_lasting_trouble_is_unavailable_in_the_end(site, store) -> None:
    site.answers = [(503, {}, b"")]
    with pytest.raises(Unavailable, match="503"):
        fetch(site, store)
    assert len(site.requests) == 3


def test_a_wrong_address_is_not_tried_again(site, store) -> None:
    site.answers = [(404, {}, b"")]
    with pytest.raises(DataError, match="404"):
        fetch(site, store)
    assert len(site.requests) == 1


def test_a_body_cut_short_is_not_taken(site, store, release) -> None:
    site.answers = [(200, {"Content-Length": str(len(release) + 5)}, release), (200, {}, release)]
    assert fetch(site, store).read_bytes() == release
    assert len(site.requests) == 2


def test_nobody_listening_is_unavailable(store) -> None:
    with pytest.raises(Unavailable, match="cannot reach"):
        fetched(ROW, "http://127.0.0.1:9/x.zip", store, retry_delays_s=())


@pytest.mark.parametrize("body", [b"<!doctype html><p>log in", b"", b"not a zip"])
def test_a_page_in_place_of_data_is_not_stored(site, store, body: bytes) -> None:
    site.answers = [(200, {}, body)]
    with pytest.raises(DataError, match=site.address):
        fetch(site, store)
    assert not (store.root / "raw").exists()


def test_other_bytes_than_the_known_release_are_refused(site, store, release) -> None:
    url = f"{site.address}/x.zip"
    good = ROW.model_copy(update={"url": url, "sha256": hashlib.sha256(release).hexdigest()})
    site.answers = [(200, {}, release)]
    place = fetched(good, url, store)
    assert fetched(good, url, store) == place
    assert len(site.requests) == 1
    bad = good.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DataError, match="other bytes"):
        fetched(bad, url, store)


def test_more_bytes_than_allowed_are_refused(site, store, release) -> None:
    site.answers = [(200, {}, release)]
    with pytest.raises(DataError, match="larger than"):
        fetch(site, store, max_bytes=100)


def test_a_redirect_stays_on_its_host(site, store, release) -> None:
    site.answers = [(302, {"Location": "/there.zip"}, b""), (200, {}, release)]
    assert fetch(site, store).read_bytes() == release
    for target in ("http://localhost:1/x", "https://example.org/x.zip", "file:///etc/passwd"):
        site.answers = [(302, {"Location": target}, b"")]
        with pytest.raises((ConfigError, DataError)):
            fetch(site, store)


@pytest.mark.parametrize(
    "address", ["http://example.org/x", "ftp://example.org/x", "file:///etc/passwd", "https:///x"]
)
def test_only_safe_addresses_are_fetched(address: str) -> None:
    with pytest.raises(ConfigError, match="only https"):
        check_address(address)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://h/a/b.zip?x=/../y", "b.zip"),
        ("https://h/", "download"),
        ("https://h/..%2f..%2fetc", "etc"),
        ("https://h/.hidden", "hidden"),
        ("https://h/a%20b%00.zip", "a_b_.zip"),
    ],
)
def test_the_file_name_of_an_address_is_harmless(address: str, name: str) -> None:
    assert file_name(address) == name


def test_nothing_is_left_of_a_download_that_failed(site, store) -> None:
    site.answers = [(404, {}, b"")]
    with pytest.raises(DataError):
        fetch(site, store)
    assert not [path for path in store.drafts.iterdir() if path.suffix != ".lock"]


def test_it_waits_between_attempts(monkeypatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waited.append)
    with pytest.raises(Unavailable):
        download.patiently(raiser(Unavailable("no")), (1.0, 2.0))
    assert waited == [1.0, 2.0]


def raiser(error: Exception) -> Callable[[], Path]:
    def attempt() -> Path:
        raise error

    return attempt
