"""Environment before Prefect and MLflow are imported: no telemetry, patience, readable lines."""

import http.client
import logging
import os
import sys
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tasks.runtime.redaction import redacted

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Threads that wait give way: spinning ones made a training step 4 times slower beside any load.
    "OMP_WAIT_POLICY": "passive",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FLOW_RUN_FMT": "%(asctime)s.%(msecs)03d | %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_TASK_RUN_FMT": "%(asctime)s.%(msecs)03d | %(message)s",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
WORTH_SHOWING = {
    "prefect.flow_runs": ("Beginning flow run", "Finished in state Completed"),
    "prefect.task_runs": ("Task run failed with exception",),  # the line before a retry
}
CHOSEN_BY_THE_USER = ("PREFECT_HOME", "PREFECT_API_URL", "PREFECT_PROFILE")


def set_environment(store: Path) -> None:
    """Set what the user has not: telemetry off, and the store's own Prefect database.

    A run while `trajfoundry ui` serves the same store reports to that server.
    """
    os.environ["TRAJFOUNDRY_STORE"] = str(store)
    leave_working_folder_out()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if "PREFECT_HOME" in os.environ:
        os.environ["PREFECT_HOME"] = str(prefect_home(store))
    if any(name in os.environ for name in CHOSEN_BY_THE_USER):
        chosen = os.environ.get("PREFECT_API_URL", "")
        if chosen and not is_on_this_machine(chosen):
            say(f"this run is reported to {redacted(chosen)}, which is not this machine")
        return
    os.environ["PREFECT_HOME"] = str(prefect_home(store))
    with suppress(OSError):
        address = served_address(store).read_text(encoding="utf-8").strip()
        if not is_on_this_machine(address):
            say(
                f"{served_address(store)} names {redacted(address)!r}, which is not this machine, "
                "so nothing is reported there; set PREFECT_API_URL if it should be"
            )
        elif answers(address, "/api/health"):
            os.environ["PREFECT_API_URL"] = f"{address}/api"


def is_on_this_machine(address: str) -> bool:
    with suppress(ValueError):
        return urlsplit(address).hostname in ("127.0.0.1", "::1", "localhost")
    return False


def say(line: str) -> None:
    print(f"trajfoundry: {line}", file=sys.stderr)


def leave_working_folder_out() -> None:
    """Let no process that starts from here on take a module from the working folder."""
    os.environ["PYTHONSAFEPATH"] = "1"
    if given := os.environ.get("PYTHONPATH"):
        kept = [place for place in given.split(os.pathsep) if os.path.isabs(place)]
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)


def prefect_home(store: Path) -> Path:
    """Where Prefect keeps its database: in the store, unless the user chose a place."""
    return Path(os.environ.get("PREFECT_HOME", store / ".prefect")).expanduser().absolute()


def served_address(store: Path) -> Path:
    """The file that names the Prefect server of this store while one runs."""
    return prefect_home(store) / "served-at"


def answers(address: str, path: str) -> bool:
    """Whether a server on this machine answers, asked directly and never through a proxy."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=2)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    return False


class Readable(logging.Filter):
    """One line a stage: Prefect's own lines on tasks and its tracebacks are left out.

    The record of the run and Prefect's interface keep them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if "prefect" not in Path(record.pathname).parts:
            return True
        return record.getMessage().startswith(WORTH_SHOWING.get(record.name, ()))


def make_console_readable() -> None:
    """Show on the terminal what a person needs; called after Prefect was imported."""
    import prefect  # noqa: F401  (sets up the handlers)

    for handler in logging.getLogger().handlers:
        handler.addFilter(Readable())
