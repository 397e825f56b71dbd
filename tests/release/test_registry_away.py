"""A registry that is down, hangs or fails: waited for with a bound, and made up for later."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import ships

from tasks.registry.client import registry
from tasks.release.register import register
from tasks.runtime import stage
from tasks.runtime.errors import Unavailable
from tasks.runtime.store import Store

FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops"
BUSY = FAILURE.replace(b"500 Internal Server Error", b"503 Service Unavailable")
PAGE = FAILURE.replace(b"500 Internal Server Error", b"200 OK")
ANSWERS = {"hangs": b"", "500": FAILURE, "503": BUSY, "answers with a page": PAGE, "hangs up": None}


@contextlib.contextmanager
def site(answer: bytes | None, asked: list[bytes]) -> Iterator[str]:
    """A server that gives everybody the same answer; an empty one keeps them waiting."""
    held: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                held.append(connection)
                asked.append(connection.recv(65_536))
                if answer is None:
                    connection.close()
                elif answer:
                    connection.sendall(answer)
                    connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


@pytest.fixture
def made(tmp_path) -> ships.Assessed:
    """A trained model in a store that has no registry yet."""
    root = tmp_path / "store"
    shutil.copytree(ships.good().store.root, root, ignore=shutil.ignore_patterns("mlflow*"))
    return replace(ships.good(), store=Store(root))


@pytest.mark.parametrize("kind", ANSWERS)
def test_it_is_tried_again_with_a_bound_and_registered_later(made, monkeypatch, kind):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(stage, "RETRY_DELAYS_S", [0, 0, 0])
    asked: list[bytes] = []
    began_s = time.monotonic()
    with site(ANSWERS[kind], asked) as address, monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", address)
        with (
            stage.without_orchestrator(),
            pytest.raises(Unavailable, match="`trajfoundry register` registers it alone"),
        ):
            stage.as_task(register)(made, made.reported)
    assert time.monotonic() - began_s < 60
    assert len(asked) == 4
    later = register(made, made.reported)
    assert later.is_new
    with registry(made.store) as client:
        [version] = client.search_model_versions()
    assert str(version.version) == later.version
    assert Path(made.store.root / "mlflow.db").exists()
