"""Client of the registry: MLflow's database and files, reached by one process at a time."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from tasks.registry.moved import heal
from tasks.runtime.errors import Unavailable
from tasks.runtime.limits import storage_errors
from tasks.runtime.machine import Machine
from tasks.runtime.redaction import parted, redacted
from tasks.runtime.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

EXPERIMENT = "trajfoundry"
LOCK_S = 900
# Short, so that a registry that is away is said to be away; a user's own choice goes first.
CLIENT_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}


def warm_up() -> None:
    """Import MLflow, which takes seconds, before anybody waits for it."""
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.tracking  # noqa: F401


@contextlib.contextmanager
def registry(store: Store) -> Iterator[MlflowClient]:
    """A client of the registry, held by one process of this store at a time.

    The lock also keeps two processes from creating MLflow's database at once, which kills one.
    """
    warm_up()
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    uri = tracking_uri(store)
    place = redacted(uri)
    try:
        with (
            storage_errors(store.root, "the registry"),
            FileLock(store.root / ".mlflow.lock", timeout=LOCK_S),
            pointed_at(uri) as bare,
        ):
            client = mlflow.MlflowClient(bare, bare)
            prepare(client, store)
            yield client
    except Timeout as error:
        raise Unavailable(f"another process has held {place} for {LOCK_S} s; run again") from error
    except MlflowException as error:
        if is_away(error):
            raise Unavailable(
                f"the model registry at {place} did not answer; start it, or unset "
                "MLFLOW_TRACKING_URI to use the store's own, and run again; what a run has trained "
                "is kept, and `trajfoundry register` registers it alone"
            ) from error
        raise
    except SQLAlchemyError as error:
        line = redacted(str(error).splitlines()[0])
        raise Unavailable(
            f"the registry's database {place} cannot be used: {line}; "
            "see that its folder is there and writable, and run again"
        ) from error


@contextlib.contextmanager
def pointed_at(uri: str) -> Iterator[str]:
    """MLflow's global address, which it also writes to the environment, for a while."""
    import mlflow

    bare, credentials = as_mlflow_is_told(uri)
    addresses = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    logger = logging.getLogger("mlflow")
    level = logger.level
    given = {name: os.environ.get(name) for name in (*addresses, *credentials)}
    try:
        with warnings.catch_warnings():
            # What MLflow says about its own parts helps nobody here.
            warnings.simplefilter("ignore")
            logger.setLevel(logging.WARNING)
            os.environ.update(credentials)
            mlflow.set_tracking_uri(bare)
            mlflow.set_registry_uri(bare)
            # MLflow writes its address there only where it changes.
            os.environ.update(dict.fromkeys(addresses, bare))
            yield bare
    finally:
        logger.setLevel(level)
        mlflow.set_tracking_uri(given[addresses[0]] or "")
        mlflow.set_registry_uri(given[addresses[1]] or "")
        for name, text in given.items():
            os.environ.pop(name, None)
            if text is not None:
                os.environ[name] = text


def as_mlflow_is_told(uri: str) -> tuple[str, dict[str, str]]:
    """The address of a server without its password, and the variables in which MLflow takes it.

    MLflow's own messages hold the address that it was given.
    """
    bare, user, password = parted(uri)
    if not uri.startswith("http") or not user:
        return uri, {}
    return bare, {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}


def tracking_uri(store: Store) -> str:
    return Machine(store=store.root).tracking_uri


def is_away(error: MlflowException) -> bool:
    """Whether MLflow's error is of a kind that passes: no connection, too busy, a locked file."""
    passing = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
    return error.error_code in passing or error.message.startswith("API request to")


def prepare(client: MlflowClient, store: Store) -> None:
    """Make the database if there is none, for its owner's eyes only."""
    client.search_experiments(max_results=1)
    database = store.root / "mlflow.db"
    if database.exists():
        database.chmod(0o600)
        heal(store)


def experiment_id(client: MlflowClient, store: Store) -> str:
    """The experiment whose artifacts lie in this store; a moved store gets a new one."""
    if not tracking_uri(store).startswith("sqlite:"):
        found = client.get_experiment_by_name(EXPERIMENT)
        return found.experiment_id if found else client.create_experiment(EXPERIMENT)
    folder = store.root / "mlflow-artifacts"
    folder.mkdir(mode=0o700, exist_ok=True)
    ours = client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT}%'")
    for found in ours:
        if found.artifact_location == folder.as_uri():
            return found.experiment_id
    name = f"{EXPERIMENT}-{len(ours) + 1}" if ours else EXPERIMENT
    return client.create_experiment(name, artifact_location=folder.as_uri())
