"""Addresses: what may pass is tried again, what is wrong is said once, nothing is poisoned."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.raw_files import ingested, walk, zipped

from tasks.config.datasets import dataset_named
from tasks.ingest import http_client
from tasks.ingest.download import fetched, file_name
from tasks.ingest.http_client import check_address
from tasks.runtime import stage
from tasks.runtime.errors import ConfigError, DataError, Unavailable
from tasks.runtime.store import Store

Answer = tuple[int, dict[str, str], bytes]
ROW = dataset_named("geolife")


@dataclass
class Site:
    """A web server on this machine that gives the answers in turn, the last one for ever."""

    address: str
    answers: list[Answer] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    ranges: list[tuple[str | None, str | None]] = field(default_factory=list)
    drip_s: float = 0.0

    def next_answer(self, path: str, headers: Message) -> Answer:
        self.requests.append(path)
        self.ranges.append((headers["Range"], headers["If-Range"]))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = made.next_answer(self.path, self.headers)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(body) if made.drip_s else 0, 10):
                    self.wfile.write(body[start : start + 10])
                    time.sleep(made.drip_s)
                self.wfile.write(body if not made.drip_s else b"")

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


def test_a_release_that_was_changed_in_the_store_is_fetched_again(site, store, release) -> None:
    url = f"{site.address}/x.zip"
    good = ROW.model_copy(update={"url": url, "sha256": hashlib.sha256(release).hexdigest()})
    site.answers = [(200, {}, release)]
    place = fetched(good, url, store)
    place.write_bytes(release[:-1] + b"x")
    assert fetched(good, url, store) == place
    assert (place.read_bytes(), len(site.requests)) == (release, 2)
    [aside] = store.aside.iterdir()
    assert (aside / "x.zip").read_bytes() == release[:-1] + b"x"


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
    monkeypatch.setattr(time, "sleep", waited.append)
    with pytest.raises(Unavailable):
        stage.patiently(raiser(Unavailable("no")), (1.0, 2.0))()
    assert waited == [1.0, 2.0]


def raiser(error: Exception) -> Callable[[], Path]:
    def attempt() -> Path:
        raise error

    return attempt


# Transfers that break and go on.


def part_of(body: bytes, start: int, total: int | None = None, etag: str = '"v1"') -> Answer:
    """The rest of a body as a site that knows ranges gives it."""
    total = len(body) if total is None else total
    headers = {"ETag": etag, "Content-Range": f"bytes {start}-{total - 1}/{total}"}
    return 206, headers, body[start:]


def cut(body: bytes, num_bytes: int, etag: str = '"v1"') -> Answer:
    """The begin of a body whose whole length is announced."""
    return 200, {"ETag": etag, "Content-Length": str(len(body))}, body[:num_bytes]


def test_a_broken_transfer_goes_on_where_it_broke(site, store, release) -> None:
    site.answers = [cut(release, 100), (503, {}, b""), part_of(release, 100)]
    assert fetch(site, store).read_bytes() == release
    assert site.ranges == [(None, None)] + [("bytes=100-", '"v1"')] * 2


def test_a_site_that_knows_no_ranges_begins_again(site, store, release) -> None:
    site.answers = [cut(release, 100), (200, {"ETag": '"v1"'}, release)]
    assert fetch(site, store).read_bytes() == release


@pytest.mark.parametrize("etag", ["", 'W/"v1"'])
def test_nothing_is_resumed_without_a_strong_name_of_the_version(
    site, store, release, etag: str
) -> None:
    site.answers = [cut(release, 100, etag), (200, {}, release)]
    assert fetch(site, store).read_bytes() == release
    assert site.ranges[1] == (None, None)


@pytest.mark.parametrize(
    "second",
    [
        (416, {}, b""),
        (206, {"Content-Range": "bytes 0-9/10"}, b"x" * 10),
        (206, {}, b"x" * 10),
        part_of(b"x" * 5_000, 100),  # the same ETag, and another length than was announced
    ],
    ids=["refused", "another part", "unnamed part", "another length"],
)
def test_a_rest_that_does_not_fit_is_not_glued_on(site, store, release, second: Answer) -> None:
    site.answers = [cut(release, 100), second, (200, {}, release)]
    assert fetch(site, store).read_bytes() == release
    assert site.ranges[2] == (None, None)


def test_the_same_etag_for_a_new_body_is_seen_by_the_checksum(site, store, release) -> None:
    """Two versions met in one file of the right length: it is fetched whole once more."""
    url = f"{site.address}/x.zip"
    good = ROW.model_copy(update={"url": url, "sha256": hashlib.sha256(release).hexdigest()})
    old = bytes(byte ^ 1 for byte in release)
    site.answers = [cut(old, 100), part_of(release, 100), (200, {}, release)]
    assert fetched(good, url, store, retry_delays_s=(0, 0)).read_bytes() == release
    assert len(site.requests) == 3
    site.answers = [cut(old, 100), part_of(release, 100), (200, {}, old)]
    with pytest.raises(DataError, match="other bytes"):
        fetched(good, url, Store(store.root / "other"), retry_delays_s=(0, 0))


def test_two_versions_in_one_archive_are_seen_by_its_checksums(site, store, tmp_path) -> None:
    """Without a known checksum of the release, those of the archive tell."""
    first, second = (
        zipped(tmp_path / f"{i}.zip", {"000/Trajectory/a.plt": walk(i, 900)}).read_bytes()
        for i in range(2)
    )
    mixed = first[:200] + second[200:]
    site.answers = [(200, {}, mixed)]
    with pytest.raises(DataError):
        ingested(f"{site.address}/mixed.zip", store)


def test_a_drip_is_not_waited_for(site, store, release, monkeypatch) -> None:
    monkeypatch.setattr(http_client, "TIMEOUT_S", 0.2)
    site.answers, site.drip_s = [(200, {}, release * 50)], 0.02
    begun_at = time.monotonic()
    with pytest.raises(Unavailable, match="bytes a second"):
        fetched(ROW, site.address + "/x.zip", store, retry_delays_s=())
    assert time.monotonic() - begun_at < 5


def test_silence_is_not_waited_for(site, store, release, monkeypatch) -> None:
    monkeypatch.setattr(http_client, "TIMEOUT_S", 0.2)
    site.answers, site.drip_s = [(200, {}, release)], 1.0
    with pytest.raises(Unavailable):
        fetched(ROW, site.address + "/x.zip", store, retry_delays_s=())
    site.drip_s = 0.0


def test_a_site_may_ask_for_a_longer_delay(site, store, release, monkeypatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    site.answers = [
        (429, {"Retry-After": "7"}, b""),
        (503, {"Retry-After": "999999"}, b""),
        (503, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}, b""),
        (200, {}, release),
    ]
    fetched(ROW, site.address + "/x.zip", store, retry_delays_s=(1.0, 2.0, 3.0))
    assert waited == [7.0, stage.MAX_RETRY_AFTER_S, 3.0]


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1/x", "https://127.0.0.1/x", "http://[::1]/x", "https://example.org:444/x",
     "http://example.org/x", "ftp://example.org/x"],
)  # fmt: skip
def test_a_public_address_leads_to_no_inner_one(target: str) -> None:
    request = urllib.request.Request("https://example.org/x.zip")
    with pytest.raises(ConfigError):
        http_client.SameHost().redirect_request(request, None, 302, "", {}, target)
