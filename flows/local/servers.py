"""Servers of one store: Prefect, its worker and MLflow, on this machine only.

Each server leads its own process group. However `serve` ends, it stops those groups and whatever
they started, and no process that it did not start.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.local.end_requests import interrupt, requests_call
from flows.local.environment import answers, served_address
from flows.local.without_prefect import ServerEnded, silence_prefect
from tasks.runtime.errors import ConfigError, Unavailable
from tasks.runtime.machine import Machine
from tasks.runtime.redaction import redacted
from tasks.runtime.store import Store

HOST = "127.0.0.1"
POOL = "trajfoundry"
PREFECT_PORT, MLFLOW_PORT = 4200, 5000
START_S, STOP_S, LOOK_S = 180.0, 10.0, 0.5
DEPLOYMENTS = Path(__file__).with_name("prefect.yaml")
CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Server:
    """A process that was started here, and where it writes what it has to say."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Say plainly that a server has ended, and where the reason stands."""
        if self.process.poll() is not None:
            raise ServerEnded(f"{self.name} ended by itself; its last words are in {self.log}")


@dataclass
class Servers:
    """Everything that was started for one store, in order."""

    store: Store
    started: list[Server] = field(default_factory=list)

    def start(self, name: str, command: list[str], folder: Path | None = None) -> Server:
        """Start a module of this environment as the leader of its own process group.

        It works in the folder of its log: Prefect looks for flows in its working folder first.
        """
        log = self.store.root / "logs" / f"{name.rpartition(' ')[2].lower()}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", str(CHILD), str(os.getpid()), *command],
                cwd=folder or log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(Server(name, process, log))
        return self.started[-1]

    def finish(self, name: str, command: list[str]) -> None:
        """Run a module of this environment to its end."""
        server = self.start(name, command)
        if server.process.wait(START_S):
            raise Unavailable(f"{name} failed; the reason is in {server.log}")
        self.started.remove(server)

    def watch(self) -> None:
        """Return only by an error: one of the servers ended by itself."""
        while True:
            time.sleep(LOOK_S)
            for server in self.started:
                server.check()


def serve(store: Store, prefect_port: int | None, mlflow_port: int | None) -> None:
    """Start everything, print the addresses, and wait until asked to stop."""
    prefect_at = address(prefect_port, PREFECT_PORT, "--prefect_port")
    mlflow_at = address(mlflow_port, MLFLOW_PORT, "--mlflow_port")
    until_asked = contextlib.suppress(KeyboardInterrupt)
    with requests_call(interrupt), until_asked, stopped_at_the_end(Servers(store)) as servers:
        mlflow_at, mlflow = start_mlflow(servers, mlflow_at)
        prefect = start_prefect(servers, prefect_at)
        wait_for(prefect, prefect_at, "/api/health")
        deploy(servers)
        if mlflow is not None:
            wait_for(mlflow, mlflow_at, "/health")
        servers.start("the worker", ["prefect", "worker", "start", "--pool", POOL])
        print(f"Prefect  {prefect_at}\nMLflow   {mlflow_at}\nStore    {store.root}")
        print("Runs, deployments and models are there. Ctrl-C stops all of it.", flush=True)
        with announced(served_address(store.root), prefect_at):
            servers.watch()


def server_for_one_run(store: Store) -> Callable[[], None]:
    """A Prefect server of this process, unless the user or `trajfoundry ui` has one already.

    It starts while the caller imports what it needs, and the caller then calls what it was given
    to wait for it. Unlike Prefect's own temporary server it does not hear Ctrl-C, so that the run
    can still say how it ended. It stops when the process ends, after Prefect's last words to it:
    what is registered first is run last.
    """
    if any(name in os.environ for name in ("PREFECT_API_URL", "PREFECT_PROFILE")):
        return lambda: None
    at = f"http://{HOST}:{any_free_port()}"
    ending = contextlib.ExitStack()
    servers = ending.enter_context(stopped_at_the_end(Servers(store)))
    atexit.register(ending.close)
    # A run can go on without this server, so there is no use in minutes of patience with it.
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "1")
    server = start_prefect(servers, at, ["--no-ui", "--no-scheduler", "--no-late-runs"])
    threading.Thread(target=silent_after, args=(server,), daemon=True).start()
    return lambda: wait_for(server, at, "/api/health")


def silent_after(server: Server) -> None:
    """Once a server has ended, keep Prefect from complaining that it does not answer."""
    server.process.wait()
    silence_prefect()


def start_prefect(servers: Servers, address: str, options: Sequence[str] = ()) -> Server:
    """The Prefect server; pages of other origins may not use it from a browser."""
    own_origins = f"{address},{address.replace(HOST, 'localhost')}"
    os.environ["PREFECT_API_URL"] = f"{address}/api"
    os.environ.setdefault("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", own_origins)
    os.environ.setdefault("PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED", "true")
    return servers.start(
        "Prefect", ["prefect", "server", "start", *host_and_port(address), *options]
    )


def start_mlflow(servers: Servers, address: str) -> tuple[str, Server | None]:
    """The MLflow interface of the store's own registry, or the address that the user set."""
    tracking = Machine().tracking_uri
    if not tracking.startswith("sqlite:"):
        return redacted(tracking), None
    os.environ["TRAJFOUNDRY_MLFLOW_PAGE"] = address
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # eight idle processes
    artifacts = (servers.store.root / "mlflow-artifacts").as_uri()
    backend = ["--backend-store-uri", tracking, "--artifacts-destination", artifacts]
    # Left alone, uvicorn looks for modules in the working folder first.
    safe = ["--uvicorn-opts", f"--app-dir={shlex.quote(sysconfig.get_path('purelib'))}"]
    command = ["mlflow", "server", *backend, *host_and_port(address), "--workers", "1", *safe]
    # The address of its database may be a relative one.
    return address, servers.start("MLflow", command, Path.cwd())


def deploy(servers: Servers) -> None:
    """The work pool and the deployments of this project."""
    pool = ["work-pool", "create", POOL, "--type", "process", "--overwrite"]
    every = ["--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)]
    servers.finish("prefect work-pool", ["prefect", *pool])
    servers.finish("prefect deploy", ["prefect", *every])


def address(asked: int | None, usual: int, flag: str) -> str:
    """The address to serve at: as asked, else the usual port, else any free one."""
    if asked is not None and not is_free(asked):
        raise ConfigError(f"{flag}: port {asked} is in use; give another one")
    port = asked or (usual if is_free(usual) else any_free_port())
    return f"http://{HOST}:{port}"


def is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server((HOST, port)):
        return True
    return False


def any_free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def host_and_port(address: str) -> list[str]:
    return ["--host", HOST, "--port", address.rpartition(":")[2]]


def wait_for(server: Server, address: str, path: str) -> None:
    """Wait until a server answers, or say where to read why it does not."""
    deadline_s = time.monotonic() + START_S
    while not answers(address, path):
        server.check()
        if time.monotonic() > deadline_s:
            raise ServerEnded(f"{server.name} did not answer in {START_S:.0f} s; see {server.log}")
        time.sleep(LOOK_S)


@contextlib.contextmanager
def announced(file: Path, address: str) -> Iterator[None]:
    """Let runs on the same store find this server for as long as it runs."""
    file.write_text(f"{address}\n", encoding="utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def stopped_at_the_end(servers: Servers) -> Iterator[Servers]:
    """Stop all servers at the end, the last one first, and whatever they started."""
    try:
        yield servers
    finally:
        with requests_call(signal.SIG_IGN):  # a second request cuts this no shorter
            ours = family(server.process.pid for server in servers.started)
            for server in reversed(servers.started):
                stop(server)
            for process in ours:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def stop(server: Server) -> None:
    """Ask the group of a server to end, and insist where it does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if server.process.poll() is None:
            os.killpg(server.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(STOP_S)


def family(roots: Iterable[int]) -> list[psutil.Process]:
    """The processes that the given ones started, directly or not, and these themselves.

    Each knows when it began, so that a later process of the same number is never taken for it.
    """
    found: list[psutil.Process] = []
    for pid in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            found += [root, *root.children(recursive=True)]
    return found
