"""Requests to end, in every stage: one line, the exit code 130, no child left, and it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from helpers.fault_runs import SMALL_FLAGS, child, content, environment, finished, storm_file, whole
from helpers.places import PROJECT

from flows.error_lines import line_and_code

# What a run says before each stage that is worth stopping.
BEFORE = {
    "the server": "",
    "ingest": "file to read",
    "clean": "snapshot of",
    "split": "clean of",
    "regions": "features of",
    "quality": "regions of",
    "training": "shards of",
    "evaluation": "train of",
    "report": "evaluate of",
    "registration": "report of",
}


@contextmanager
def running(store: Path, source: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command line as a person starts it, in a group of its own."""
    command = [sys.executable, "-m", "flows.cli", "run", "--store", store, "--source", source]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*map(str, command), *SMALL_FLAGS],
            cwd=PROJECT,
            env=environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(words: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + 240
    while words not in log.read_text() and process.poll() is None:
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.05)
    assert words in log.read_text(), f"it ended without having said {words!r}: {log.read_text()}"


def check_stopped(process: subprocess.Popen[bytes], log: Path, send) -> None:
    children = psutil.Process(process.pid).children(recursive=True)
    send()
    assert process.wait(90) == 130, log.read_text()
    said = [line for line in log.read_text().splitlines() if line.startswith("trajfoundry: ")]
    assert len(said) == 1
    assert "stopped" in said[0]
    assert "Traceback" not in log.read_text()
    assert psutil.wait_procs(children, timeout=20)[1] == []


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_end_is_heard_in_every_stage(tmp_path, number):
    """SIGTERM comes to the process alone, Ctrl-C to all of its group."""
    store, source, log = tmp_path / "store", storm_file(tmp_path), tmp_path / "log"
    whole(tmp_path / "oracle", source)
    for words in BEFORE.values():
        with running(store, source, log) as process:
            time.sleep(2)
            wait_for(words, process, log)
            send = os.kill if number == signal.SIGTERM else os.killpg
            check_stopped(process, log, lambda: send(process.pid, number))  # noqa: B023
    with running(store, source, log) as process:
        assert process.wait(300) == 0, log.read_text()
    assert content(store) == content(tmp_path / "oracle")
    assert list((store / ".tmp").iterdir()) == []


# Queries one after the other: DuckDB tells of a request in words of its own.
QUERIES = """
import sys
from flows import cli
from tasks import database
from pathlib import Path

class Long:
    def execute(self):
        many = "range(10000) as a(x), range(10000) as b(y)"
        with database.scratch(Path(sys.argv[1])) as connection:
            print("begun", flush=True)
            while True:
                connection.execute(f"select count(*) from {many} where (x * y) % 7 = 3").fetchall()

sys.exit(cli.execute(Long(), with_trace=False))
"""


# Asks while Python removes an object, when it ignores whatever is raised.
UNLUCKY = """
import os, sys, time
from flows import cli

class Asking:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0)

class Unlucky:
    def execute(self):
        Asking()
        time.sleep(30)

sys.exit(cli.execute(Unlucky(), with_trace=False))
"""


# A library makes an error of its own of the request, as pydantic does while it builds a model; what
# was lost beside it comes again only after the command has ended.
HIDDEN = """
import os, sys, time
from flows import cli
from flows.local import end_requests

end_requests.LOST_S = 1.0

class Asking:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0)

class Hidden:
    def execute(self):
        Asking()
        raise ValueError("Error building a validator")

code = cli.execute(Hidden(), with_trace=False)
time.sleep(2)
sys.exit(code)
"""


def test_what_prefect_makes_of_a_request_is_known():
    from prefect.exceptions import TerminationSignal

    hidden = ValueError("Task run is not set")
    assert line_and_code(hidden)[1] == 1
    hidden.__context__ = TerminationSignal(signal=signal.SIGTERM)
    assert line_and_code(hidden)[1] == 130
    hidden.__context__ = hidden
    assert line_and_code(hidden)[1] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_that_a_library_hides_is_heard_once(number):
    code, _, complained = finished(child(HIDDEN, str(int(number))), timeout_s=60)
    assert code == 130
    assert complained.startswith("trajfoundry: stopped")
    assert complained.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_that_python_would_ignore_is_heard(number):
    begun_s = time.monotonic()
    code, _, complained = finished(child(UNLUCKY, str(int(number))), timeout_s=60)
    assert code == 130
    assert time.monotonic() - begun_s < 25
    assert complained.startswith("trajfoundry: stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_queries_end_when_asked(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-c", QUERIES, str(tmp_path)],
        cwd=PROJECT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    process.send_signal(number)
    code, _, complained = finished(process, timeout_s=60)
    assert code == 130
    assert complained.splitlines() == [
        "trajfoundry: stopped; finished stages are kept, the same command goes on"
    ]
    assert list(tmp_path.glob("scratch*")) == []
