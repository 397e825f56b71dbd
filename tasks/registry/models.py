"""Registered models: loaded, copied, and found by their aliases."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.registry.client import is_away, registry, tracking_uri
from tasks.registry.model_code import UnknownCode, carried_digest
from tasks.runtime.errors import ConfigError
from tasks.runtime.progress import log
from tasks.runtime.redaction import redacted
from tasks.runtime.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CANDIDATE, CHAMPION = "candidate", "champion"
# Of a model that the registry knows, and whose files are not where it says.
NO_FILES = ("No such artifact", "No such file")


def alias_version(client: MlflowClient, name: str, alias: str) -> str | None:
    """The version that an alias points at."""
    found = client.get_registered_model(name).aliases.get(alias)
    return None if found is None else str(found)


# Load -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def loaded_model(model_uri: str, store: Store, *, trust_model_code: bool = False) -> Iterator[Any]:
    """A registered model as its own object, whose tasks take frames and Arrow tables.

    Whoever trusts the code of a model has it run, whatever it is and whoever wrote it.
    """
    import mlflow

    with store.draft() as scratch:
        with registry(store) as client, known_model(model_uri, store, "--model"):
            if trust_model_code:
                log(f"{redacted(model_uri)}: its own code is run, as --trust-model-code says")
                place = model_uri
            else:
                place = str(known_code(client, model_uri, scratch))
            model = mlflow.pyfunc.load_model(place).unwrap_python_model()
        yield model


def known_code(client: MlflowClient, model_uri: str, scratch: Path) -> Path:
    """A copy of a model whose code a version of the registry has recorded, else an error.

    Nothing of the model is imported. Bytecode is left out, for no hash could tell what it is.
    """
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=str(scratch)))
    for cache in [*folder.rglob("__pycache__")]:
        shutil.rmtree(cache)
    try:
        digest = carried_digest(folder, mlflow.models.Model.load(str(folder)).flavors)
        if not client.search_model_versions(f"tags.source = '{digest}'", max_results=1):
            raise UnknownCode(f"no registered version recorded its code ({digest})")
    except (UnknownCode, OSError, SyntaxError, ValueError) as error:
        raise ConfigError(
            f"{redacted(model_uri)} is not loaded: {error}; nothing of it was run. Give --model "
            "models:/NAME@candidate, or --trust-model-code to run whatever code it brings"
        ) from error
    return folder


def fetch_bundle(model_uri: str, store: Store, scratch: Path, flag: str) -> Path:
    """A copy of what a registered model carries; none of its code is run."""
    import mlflow

    with registry(store), known_model(model_uri, store, flag):
        copied = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=str(scratch)))
        # Of a folder that is gone MLflow copies nothing, without a word.
        if not (copied / "MLmodel").is_file():
            raise FileNotFoundError(f"No such file: {copied / 'MLmodel'}")
    return copied / "artifacts" / "bundle"


@contextlib.contextmanager
def known_model(model_uri: str, store: Store, flag: str) -> Iterator[None]:
    """What MLflow says of an address that it does not know, in a line."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        if any(words in str(error) for words in NO_FILES):
            raise ConfigError(
                f"the files of {model_uri} are missing; if the store was moved or copied, "
                f"put its folder mlflow-artifacts beside {store.root / 'mlflow.db'}, else run "
                "again what made it"
            ) from error
        if isinstance(error, OSError) or is_away(error):
            raise
        raise ConfigError(
            f"no model {redacted(model_uri)} in {redacted(tracking_uri(store))}: "
            f"{redacted(error.message)}; "
            f"give {flag} models:/NAME@candidate or models:/NAME/VERSION{unpassed(model_uri)}"
        ) from error


def unpassed(model_uri: str) -> str:
    """Why there may be no champion."""
    is_champion = model_uri.endswith(f"@{CHAMPION}")
    return "; a model has no champion before a version passes the gate" if is_champion else ""
