"""`trajfoundry ui`: everything answers on this machine, and nothing is left afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers.places import PROJECT
from helpers.planted import marks, plant

from flows.local import servers
from flows.local.environment import answers, served_address
from tasks.runtime.errors import ConfigError, Unavailable
from tasks.runtime.run_records import read_records
from tasks.runtime.store import Store

# A process that starts another one in a session of its own, and does not end when asked to.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be read does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends_soon(pid: int) -> bool:
    """Whether a process that was killed is gone once the kernel has had time to do it."""
    deadline_s = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return not is_alive(pid)


def test_a_free_usual_port_is_taken_and_a_busy_one_is_passed_over():
    with socket.socket() as taken:
        taken.bind((servers.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert servers.address(None, port, "--p") != f"http://127.0.0.1:{port}"
    assert servers.address(None, port, "--p") == f"http://127.0.0.1:{port}"


def test_a_busy_port_that_was_asked_for_is_an_error_that_names_it():
    with socket.socket() as taken:
        taken.bind((servers.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--prefect_port: port {port} is in use"):
            servers.address(port, 4200, "--prefect_port")


def test_stubborn_servers_and_what_they_started_are_stopped(monkeypatch, tmp_path, store):
    monkeypatch.setattr(servers, "STOP_S", 0.5)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        with servers.stopped_at_the_end(servers.Servers(store)) as group:
            (tmp_path / "stubborn.py").write_text(STUBBORN)
            monkeypatch.setenv("PYTHONPATH", str(tmp_path))
            server = group.start("stubborn", ["stubborn"])
            child = int(first_line(server.log))
            assert is_alive(child)
        assert not is_alive(server.process.pid)
        assert ends_soon(child)
        assert is_alive(bystander.pid)
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own promise")
def test_a_server_ends_with_a_parent_that_was_killed(tmp_path, monkeypatch):
    log = tmp_path / "patient.log"
    (tmp_path / "patient.py").write_text(
        "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
    )
    monkeypatch.setenv("PYTHONPATH", f"{PROJECT}:{tmp_path}")
    script = (
        "import os, subprocess, sys, time;"
        f"command = [sys.executable, '-P', {str(servers.CHILD)!r}, str(os.getpid()), 'patient'];"
        "subprocess.Popen(command, start_new_session=True); time.sleep(600)"
    )
    with log.open("wb") as output:
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=output)
    child = int(first_line(log))
    assert is_alive(child)
    parent.kill()
    parent.wait()
    assert ends_soon(child)


def first_line(log: Path) -> str:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        if (text := log.read_text()).endswith("\n"):
            return text
        time.sleep(0.1)
    raise AssertionError("nothing was printed")


def test_a_server_that_ends_by_itself_is_one_line(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(Unavailable, match="MLflow ended by itself; its last words are in"):
        servers.Server("MLflow", process, tmp_path / "mlflow.log").check()


def test_nothing_answers_where_nothing_listens():
    assert not answers(f"http://127.0.0.1:{servers.any_free_port()}", "/")


@pytest.fixture(scope="module")
def ui(tmp_path_factory) -> Iterator[tuple[subprocess.Popen[str], Path, str, str]]:
    """The interfaces of an empty store: the process, the store, and the two addresses."""
    store, folder = tmp_path_factory.mktemp("ui") / "store", plant(tmp_path_factory.mktemp("x"))
    ports = servers.any_free_port(), servers.any_free_port()
    free = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    asked = ["--prefect_port", str(ports[0]), "--mlflow_port", str(ports[1])]
    with subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "ui", "--store", str(store), *asked],
        cwd=folder,
        env=free | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C stops all of it" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        addresses = [f"http://127.0.0.1:{port}" for port in ports]
        assert all(address in said for address in addresses)
        yield process, store, *addresses
        assert marks(folder) == []
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)


@pytest.mark.slow
def test_both_interfaces_answer_and_the_deployments_are_there(ui):
    _, store, prefect, mlflow = ui
    assert answers(prefect, "/api/health")
    assert answers(mlflow, "/health")
    assert served_address(store).read_text().strip() == prefect


@pytest.mark.slow
def test_a_flow_that_is_asked_for_there_runs_to_completion(ui):
    _, store, prefect, _ = ui
    outcome = asyncio.run(outcome_of("ingest/on-demand", f"{prefect}/api"))
    assert outcome == "COMPLETED"
    (record,) = read_records(Store(store))
    assert (record.flow, record.outcome) == ("ingest", "completed")


async def outcome_of(deployment: str, api: str) -> str:
    """Ask for a run of a deployment and wait for its end."""
    from prefect.client.orchestration import PrefectClient

    async with PrefectClient(api) as client:
        found = await client.read_deployment_by_name(deployment)
        run = await client.create_flow_run_from_deployment(found.id)
        for _ in range(180):
            run = await client.read_flow_run(run.id)
            if run.state is not None and run.state.is_final():
                return str(run.state.type.value)
            await asyncio.sleep(1)
    return "still running"


@pytest.mark.slow
def test_when_asked_to_end_nothing_is_left(ui):
    process, store, *addresses = ui
    ours = servers.family([process.pid])
    assert len(ours) > 3
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0
    _, left = psutil.wait_procs(ours, timeout=10)
    assert left == []
    assert not any(answers(address, "/") for address in addresses)
    assert not served_address(store).exists()
