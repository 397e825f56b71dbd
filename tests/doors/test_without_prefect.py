"""Runs without Prefect: asked for, or from where its server was lost, with the same results."""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
import pytest
from helpers.places import PROJECT

from flows.local.without_prefect import ServerEnded, is_lost, run_through
from tasks.runtime import stage
from tasks.runtime.errors import DataError, Unavailable
from tasks.runtime.store import Store, read_manifest

QUICK = ("--model.preset", "tiny", "--train.max_steps", "5", "--assess.num_bootstrap", "100")


class Flow:
    """A flow whose server is gone, or which fails by itself."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, *given: Any) -> Any:
        raise self.error

    def fn(self, number: int) -> str:
        orchestrated = stage.as_task(str.upper) is str.upper
        return f"{number} {orchestrated}"


def nothing() -> None:
    pass


def ended() -> None:
    raise ServerEnded("Prefect ended by itself")


def test_a_lost_server_is_said_once_and_the_run_goes_on(capsys, monkeypatch):
    monkeypatch.setattr("flows.local.without_prefect.silence_prefect", nothing)
    monkeypatch.setattr("flows.local.without_prefect.forget_unsent", nothing)
    lost = Flow(httpx.ConnectError("refused"))
    assert run_through(nothing, lost, 7) == "7 False"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Prefect's server does not answer (ConnectError); the run goes on" in said
    assert run_through(ended, lost, 8) == "8 False"


@pytest.mark.parametrize("error", [DataError("bad"), Unavailable("away"), ValueError("odd")])
def test_an_error_of_the_work_stays_one(error):
    with pytest.raises(type(error)):
        run_through(nothing, Flow(error), 7)


def test_a_lost_server_behind_another_error_is_seen():
    error = RuntimeError("no state")
    error.__cause__ = httpx.ReadTimeout("slow")
    assert is_lost(error)
    assert not is_lost(RuntimeError("no state"))


def test_without_prefect_what_may_pass_is_tried_again(monkeypatch):
    monkeypatch.setattr(stage, "RETRY_DELAYS_S", [0, 0, 0])
    errors: list[Exception] = [Unavailable("away"), ConnectionError("reset"), DataError("bad")]
    tried = []

    def work(number: int) -> int:
        tried.append(number)
        if errors:
            raise errors.pop(0)
        return number

    with stage.without_orchestrator():
        with pytest.raises(DataError):
            stage.as_task(work)(1)
        assert len(tried) == 3
        assert stage.as_task(work)(2) == 2
        errors[:] = [Unavailable("away")] * 9
        with pytest.raises(Unavailable):
            stage.as_task(work)(3)
    assert tried.count(3) == 4


# Whole runs


def started(store: Path, *flags: str, **env: str) -> subprocess.Popen[str]:
    ours = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    command = [sys.executable, "-m", "flows.cli", "run", *QUICK, "--store", str(store), *flags]
    return subprocess.Popen(
        command,
        cwd=PROJECT,
        env=ours | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def contents(store: Path) -> dict[str, str]:
    """What the folders of a store hold, by their place; registered models by their tags."""
    found = {}
    for path in store.glob("*/*/*/manifest.json"):
        manifest = read_manifest(path.parent)
        assert manifest is not None
        assert Store(store).is_complete(manifest.recipe)
        found[str(path.parent.relative_to(store))] = manifest.content
    return found


_folder = TemporaryDirectory(prefix="oracle-")


@cache
def oracle() -> tuple[dict[str, str], float]:
    """The store of a run without any server, and how long that took."""
    store, began_s = Path(_folder.name) / "store", time.monotonic()
    process = started(store, "--no-server")
    connections, said = set(), None
    while said is None:
        with contextlib.suppress(psutil.Error):
            ours = psutil.Process(process.pid)
            connections |= {place.laddr for place in ours.net_connections()}
        with contextlib.suppress(subprocess.TimeoutExpired):
            said, _ = process.communicate(timeout=0.2)
    assert process.returncode == 0, said
    assert connections == set()
    assert list(store.glob(".prefect/*.db*")) == []
    return contents(store), time.monotonic() - began_s


@pytest.mark.slow
def test_a_run_without_a_server_opens_no_port_and_is_repeated_for_nothing():
    expected, _ = oracle()
    store = Path(_folder.name) / "store"
    noted = {"PYTHONPROFILEIMPORTTIME": "1"}
    said, _ = started(store, "--no-server", "--json", **noted).communicate()
    assert '"is_cached":false' not in said.replace(" ", "")
    loaded = set(re.findall(r"^import time:.*\| *(\w+)$", said, re.MULTILINE))
    assert "pyarrow" in loaded
    assert loaded & {"torch", "mlflow", "prefect", "sqlalchemy"} == set()
    assert "done before, kept" in said
    assert contents(store) == expected
    assert {place.split("/")[0] for place in expected} >= {"snapshot", "train", "report"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_server_that_is_killed_changes_nothing(tmp_path, seed):
    expected, took_s = oracle()
    store = tmp_path / "store"
    process = started(store)
    time.sleep(random.Random(seed).uniform(1, took_s))
    for child in psutil.Process(process.pid).children(recursive=True):
        if "prefect" in child.cmdline():
            child.kill()
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert said.count("does not answer") <= 1
    assert "Traceback" not in said
    assert contents(store) == expected
