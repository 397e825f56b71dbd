"""Servers that are away: a Prefect that is killed, an MLflow that hangs, fails or is not there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from helpers.fault_runs import child, content, finished, storm_file, whole
from test_signals import running, wait_for

from tasks.registry.client import registry
from tasks.runtime.store import Store

REGISTERING = """
import json, sys
from pathlib import Path
from helpers.fault_runs import whole
from tasks.runtime.errors import Unavailable
try:
    whole(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps("registered"))
except Unavailable as error:
    print(json.dumps(str(error)))
"""


@contextmanager
def broken_registry(answer: str) -> Iterator[str]:
    """The address of a server that answers 500, or keeps everyone waiting."""
    over = threading.Event()

    class Broken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if answer == "hangs":
                over.wait(60)
            self.send_error(500)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def no_registry(_answer: str) -> Iterator[str]:
    yield "http://127.0.0.1:9"


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["away", "500", "hangs"])
def test_without_a_registry_training_is_kept_and_registering_repeats_alone(tmp_path, answer):
    root, source = tmp_path / "store", storm_file(tmp_path)
    with (no_registry if answer == "away" else broken_registry)(answer) as address:
        given = {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}
        code, said, complained = finished(child(REGISTERING, root, source, **given))
    assert code == 0, complained
    told = json.loads(said.splitlines()[-1])
    assert "did not answer" in told
    assert "\n" not in told
    made = content(root)
    assert any(place.startswith("train/") for place in made)

    registered = [whole(root, source) for _ in range(2)]
    assert [(one.version, one.is_new) for one in registered] == [("1", True), ("1", False)]
    assert content(root) == made
    assert logged(root, registered[0].run_id) == trained_curve(root)


def logged(root: Path, run_id: str) -> list[tuple[int, float]]:
    """The curve of the training as the registry tells it."""
    with registry(Store(root)) as client:
        history = client.get_metric_history(run_id, "train/loss")
    return [(metric.step, metric.value) for metric in history]


def trained_curve(root: Path) -> list[tuple[int, float]]:
    """The curve of the training as it was written: each step once, in order."""
    [path] = root.glob("train/*/*/metrics.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


@pytest.mark.slow
@pytest.mark.parametrize("words", ["snapshot of", "shards of"])
def test_a_prefect_server_killed_in_a_run_costs_nothing(tmp_path, words):
    """However the run ends, it ends soon, leaves no process, and the same command ends whole."""
    store, source, log = tmp_path / "store", storm_file(tmp_path), tmp_path / "log"
    whole(tmp_path / "oracle", source)
    with running(store, source, log) as process:
        wait_for(words, process, log)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children, "there is no server to kill"
        for one in children:
            one.kill()
        begun_s = time.monotonic()
        process.wait(240)
        assert time.monotonic() - begun_s < 240
    assert psutil.wait_procs(children, timeout=10)[1] == []
    with running(store, source, log) as process:
        assert process.wait(240) == 0, log.read_text()
    assert content(store) == content(tmp_path / "oracle")


@pytest.mark.slow
def test_a_prefect_server_that_is_not_there_is_said_before_anything_is_read(tmp_path):
    log = tmp_path / "log"
    away = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    process = child(
        "import sys; from flows import cli; sys.exit(cli.main(sys.argv[1:]))",
        "run",
        "--store",
        tmp_path / "store",
        **away,
    )
    code, said, complained = finished(process, timeout_s=240)
    log.write_text(said + complained)
    if code != 0:  # it may go on without one
        told = [line for line in complained.splitlines() if line.startswith("trajfoundry: ")]
        assert len(told) == 1
        assert list((tmp_path / "store" / ".tmp").iterdir()) == []
