"""Passwords in addresses: after a whole run they stand nowhere, whatever went wrong."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.places import PROJECT

from flows import cli
from tasks.catalog.run import recorded_run
from tasks.registry.client import as_mlflow_is_told, pointed_at
from tasks.runtime.errors import Unavailable
from tasks.runtime.redaction import parted, redacted
from tasks.runtime.run_records import read_records

SOURCE_PASSWORD, REGISTRY_PASSWORD = "canary-of-the-source", "canary-of-the-registry"
STORMS = PROJECT / "tasks" / "ingest" / "samples" / "hurdat2-atlantic.txt.xz"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://a:b@host/x", "https://***@host/x"),
        ("cannot reach http://a:b@h:1/x?y=1: no", "cannot reach http://***@h:1/x?y=1: no"),
        ("postgresql+psycopg2://a:p@ss@h/db", "postgresql+psycopg2://***@h/db"),
        ("two: s3://k@b/c, https://t@d", "two: s3://***@b/c, https://***@d"),
        ("https://host/a@b, mail@host, /a@b/c", "https://host/a@b, mail@host, /a@b/c"),
    ],
)
def test_what_stands_before_a_host_is_not_shown(given, shown):
    assert redacted(given) == shown


def test_an_address_is_parted_and_a_path_is_not():
    assert parted("https://a:b%40c@host:1/x?y") == ("https://host:1/x?y", "a", "b@c")
    for path in ("/data/a@b:c", "x@y.csv", "https://host/a@b", ""):
        assert parted(path) == (path, "", "")


def test_mlflow_is_told_a_password_by_its_own_variables(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "mine")
    assert as_mlflow_is_told("sqlite:////x@y/mlflow.db") == ("sqlite:////x@y/mlflow.db", {})
    with pointed_at("http://reader:secret@127.0.0.1:9"):
        assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"
        assert os.environ["MLFLOW_TRACKING_USERNAME"] == "reader"
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "secret"
    assert "MLFLOW_TRACKING_USERNAME" not in os.environ
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "mine"


def test_a_record_and_a_line_hide_what_an_error_says(store, capsys):
    error = Unavailable(f"no http://a:{SOURCE_PASSWORD}@h/x")
    with pytest.raises(Unavailable), recorded_run(store, "ingest", "hurdat2"):
        raise error
    (record,) = read_records(store)
    assert "http://***@h/x" in record.error
    assert SOURCE_PASSWORD not in record.model_dump_json()
    cli.refuse(str(error), 5)
    assert "http://***@h/x" in capsys.readouterr().err


def test_a_log_and_its_traceback_hide_it(store, caplog):
    import logging

    from tasks.runtime.redaction import redact_logs

    redact_logs()
    logger = logging.getLogger("somebody.else")
    try:
        raise OSError(f"no way to https://a:{SOURCE_PASSWORD}@h/")
    except OSError:
        logger.exception("away: %s", f"https://a:{SOURCE_PASSWORD}@h/x")
    logger.warning("plain %s", "words")
    assert SOURCE_PASSWORD not in caplog.text
    assert "away: https://***@h/x" in caplog.text
    assert "OSError: no way to https://***@h/" in caplog.text
    assert "plain words" in caplog.text


@contextlib.contextmanager
def closed_site(body: bytes) -> Iterator[str]:
    """A site that gives its file to whoever knows the password."""
    token = base64.b64encode(f"reader:{SOURCE_PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.headers["Authorization"] == f"Basic {token}"
            self.send_response(200 if is_known else 401)
            self.send_header("Content-Length", str(len(body) if is_known else 0))
            self.end_headers()
            self.wfile.write(body if is_known else b"")

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def trajfoundry(store: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    free = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    quick = ("--model.preset", "tiny", "--train.max_steps", "5", "--assess.num_bootstrap", "100")
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, *quick, "--store", str(store)],
        cwd=PROJECT,
        env=free | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def places_of(canary: str, store: Path) -> list[str]:
    needles = (canary.encode(), base64.b64encode(f"reader:{canary}".encode()))
    files = [path for path in store.rglob("*") if path.is_file()]
    assert any(path.name.startswith("prefect.db") for path in files)
    return [str(path) for path in files for needle in needles if needle in path.read_bytes()]


@pytest.mark.slow
def test_after_a_run_with_passwords_none_is_found_and_its_model_is_registered_later(tmp_path):
    """The registry is away: the training is kept, and `register` does the rest alone."""
    store = tmp_path / "store"
    away = f"http://writer:{REGISTRY_PASSWORD}@127.0.0.1:9"
    with closed_site(STORMS.read_bytes()) as host:
        source = f"http://reader:{SOURCE_PASSWORD}@{host}/{STORMS.name}"
        done = trajfoundry(
            store, "run", "--source", source, "--debug", TRAJFOUNDRY_MLFLOW_TRACKING_URI=away
        )
        wrong = source.replace(SOURCE_PASSWORD, "canary-of-nobody")
        refused = trajfoundry(tmp_path / "other", "run", "--source", wrong, "--debug")
    assert done.returncode == 5, done.stderr
    assert "the model registry at http://***@127.0.0.1:9 did not answer" in done.stderr
    assert refused.returncode == 3, refused.stderr
    assert "answered 401" in refused.stderr
    for canary in (SOURCE_PASSWORD, REGISTRY_PASSWORD):
        assert places_of(canary, store) == []
        assert canary not in done.stdout + done.stderr
    assert places_of("canary-of-nobody", tmp_path / "other") == []
    assert "canary-of-nobody" not in refused.stdout + refused.stderr

    later = trajfoundry(store, "register")
    assert later.returncode == 0, later.stderr
    assert "@candidate, version 1 (new)" in later.stdout
    assert later.stderr.count("done before, kept") >= 10
    assert all("kept" in line for line in later.stderr.splitlines() if " of hurdat2: " in line)
