"""Registered models: loaded, copied, and found by their aliases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.registry.client import is_away, registry, shown, tracking_uri
from tasks.runtime.errors import ConfigError
from tasks.runtime.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CANDIDATE, CHAMPION = "candidate", "champion"


def alias_version(client: MlflowClient, name: str, alias: str) -> str | None:
    """The version that an alias points at."""
    found = client.get_registered_model(name).aliases.get(alias)
    return None if found is None else str(found)


# Load -------------------------------------------------------------------------------------------


def load_model(model_uri: str, store: Store) -> Any:
    """A registered model as its own object, whose tasks take frames and Arrow tables."""
    import mlflow

    with registry(store), known_model(model_uri, store, "--model"):
        return mlflow.pyfunc.load_model(model_uri).unwrap_python_model()


def fetch_bundle(model_uri: str, store: Store, scratch: Path) -> Path:
    """A copy of what a registered model carries; none of its code is run."""
    import mlflow

    with registry(store), known_model(model_uri, store, "--train.init"):
        copied = mlflow.artifacts.download_artifacts(model_uri, dst_path=str(scratch))
    return Path(copied) / "artifacts" / "bundle"


@contextlib.contextmanager
def known_model(model_uri: str, store: Store, flag: str) -> Iterator[None]:
    """What MLflow says of an address that it does not know, in a line."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        if is_lost(error):
            raise ConfigError(
                f"the files of {shown(model_uri)} are missing; if the store was moved or copied, "
                f"put its folder mlflow-artifacts beside {store.root / 'mlflow.db'}, else run "
                "again what made it"
            ) from error
        if isinstance(error, OSError) or is_away(error):
            raise
        raise ConfigError(
            f"no model {model_uri} in {shown(tracking_uri(store))}: {error.message}; "
            f"give {flag} models:/NAME@candidate"
        ) from error


def is_lost(error: Exception) -> bool:
    """Whether the registry knows a model whose files are not where it says."""
    return any(words in str(error) for words in ("No such artifact", "No such file"))
