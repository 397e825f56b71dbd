"""A working folder with modules of well-known names: no process of ours runs one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import PROJECT
from helpers.planted import marks, plant

from flows.local.environment import set_environment

SERVERS = """
import sys
from flows.local.environment import set_environment
from flows.local.servers import Servers, stopped_at_the_end
from tasks.runtime.store import Store
store = Store(sys.argv[1])
store.prepare()
set_environment(store.root)
with stopped_at_the_end(Servers(store)) as servers:
    servers.finish("prefect", ["prefect", "version"])
    servers.finish("uvicorn", ["uvicorn", "--version"])
    servers.finish("flow", ["timeit", "-n1", "-r1", LOADED])
    servers.finish("grandchild", ["timeit", "-n1", "-r1", CHILD])
"""
# As the deployment of a flow, and the process of its run, load it.
LOADED = "from prefect.utilities.importtools import import_object as f; f('flows.ingest.ingest')"
# What a server starts inherits nothing but the environment.
CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import secrets'])"


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    free = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=free | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_folder_is_as_hostile_as_it_looks(tmp_path):
    assert run_in(plant(tmp_path), "-c", "import secrets").returncode == 0
    assert marks(tmp_path) == ["secrets"]


def test_the_command_line_runs_nothing_of_it(tmp_path):
    done = run_in(plant(tmp_path), "-m", "flows.cli", "show", "--store", "store")
    assert done.stderr.startswith("trajfoundry: ")
    assert marks(tmp_path) == []


def test_children_run_nothing_of_it(tmp_path):
    script = SERVERS.replace("CHILD", repr(CHILD)).replace("LOADED", repr(LOADED))
    done = run_in(plant(tmp_path), "-P", "-c", script, "store")
    assert done.returncode == 0, done.stderr
    assert marks(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [(":/lib", "/lib"), (".:/lib:", "/lib"), ("/a:/b", "/a:/b"), ("src", "")],
)
def test_a_search_path_for_modules_loses_the_working_folder(monkeypatch, tmp_path, given, kept):
    for name in ("TRAJFOUNDRY_STORE", "PYTHONSAFEPATH", "PREFECT_API_URL"):
        monkeypatch.setenv(name, "set")
    monkeypatch.setenv("PYTHONPATH", given)
    set_environment(tmp_path)
    assert os.environ["PYTHONPATH"] == kept
    assert os.environ["PYTHONSAFEPATH"] == "1"
