"""Orphans of the registry: runs that nobody will end, and models that no version names.

A registration that is killed leaves them. Whoever holds the lock of the registry knows that none
is at work on the store's own database; of another server that cannot be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tasks.registry.client import EXPERIMENT, registry, tracking_uri
from tasks.runtime.frozen import Frozen
from tasks.runtime.store import Store

RECIPE_TAGS = ("train_recipe", "evaluate_recipe", "report_recipe")
PAGE = 100


class RegisteredVersion(Frozen):
    """A version of a registered model, and the recipes of the steps that it was made of."""

    name: str
    version: str
    recipes: tuple[str, ...]


class RegistryState(Frozen):
    """What the registry holds of this project: its versions, and what belongs to none.

    Only of the store's own database is it known that nobody is at work on it.
    """

    is_own: bool = True
    versions: tuple[RegisteredVersion, ...] = ()
    running: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


def registry_state(store: Store, *, mends: bool = False) -> RegistryState:
    """The versions and the orphans; if asked to, those of the store's own database are mended.

    A run is ended, a model's folder set aside.
    """
    database = store.root / "mlflow.db"
    is_own = tracking_uri(store) == f"sqlite:///{quote(str(database))}"
    if is_own and not database.exists():
        return RegistryState()
    with registry(store) as client:
        ours = client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT}%'")
        ids = [found.experiment_id for found in ours]
        versions = list(pages(client.search_model_versions))
        asked = {"experiment_ids": ids, "filter_string": "attributes.status = 'RUNNING'"}
        running = sorted(run.info.run_id for run in pages(client.search_runs, **asked))
        known = {one.model_id for one in pages(client.search_logged_models, experiment_ids=ids)}
        models = known - named_models(versions)
        if is_own:
            models |= stored_models(store) - known
        if mends and is_own:
            for run_id in running:
                client.set_terminated(run_id, status="KILLED")
            for model_id in models:
                if model_id in known:
                    client.delete_logged_model(model_id)
                if (folder := model_folder(store, model_id)).is_dir():
                    store.set_aside(folder)
    return RegistryState(
        is_own=is_own,
        versions=tuple(version_of(found) for found in versions),
        running=tuple(running),
        models=tuple(sorted(models)),
    )


def pages(search: Callable[..., Any], **asked: Any) -> Iterator[Any]:
    """All that a search of MLflow finds, which it gives page by page."""
    token = None
    while True:
        found = search(max_results=PAGE, page_token=token, **asked)
        yield from found
        if not (token := found.token):
            return


def named_models(versions: list[Any]) -> set[str]:
    """The models that versions name, in one way or another."""
    sources = {str(found.source).removeprefix("models:/") for found in versions}
    return sources | {str(found.model_id) for found in versions}


def stored_models(store: Store) -> set[str]:
    """The models that have a folder in this store."""
    return {path.name for path in model_folder(store, "").glob("m-*") if path.is_dir()}


def model_folder(store: Store, model_id: str) -> Path:
    return store.root / "mlflow-artifacts" / "models" / model_id


def version_of(found: Any) -> RegisteredVersion:
    recipes = tuple(found.tags[tag] for tag in RECIPE_TAGS if tag in found.tags)
    return RegisteredVersion(name=found.name, version=str(found.version), recipes=recipes)
