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
        running = running_runs(client, ids)
        models = nameless_models(client, ids, versions)
        if is_own:
            models |= unknown_folders(client, ids, store)
        if mends and is_own:
            for run_id in running:
                client.set_terminated(run_id, status="KILLED")
            for model_id, is_known in models.items():
                if is_known:
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


def running_runs(client: Any, experiment_ids: list[str]) -> list[str]:
    asked = {"experiment_ids": experiment_ids, "filter_string": "attributes.status = 'RUNNING'"}
    return sorted(run.info.run_id for run in pages(client.search_runs, **asked))


def nameless_models(client: Any, experiment_ids: list[str], versions: list[Any]) -> dict[str, bool]:
    """The logged models that no version names; MLflow knows of them."""
    named = {str(found.model_id) for found in versions}
    named |= {str(found.source).removeprefix("models:/") for found in versions}
    models = pages(client.search_logged_models, experiment_ids=experiment_ids)
    return {found.model_id: True for found in models if found.model_id not in named}


def unknown_folders(client: Any, experiment_ids: list[str], store: Store) -> dict[str, bool]:
    """The folders of models in this store of which MLflow does not know."""
    models = pages(client.search_logged_models, experiment_ids=experiment_ids)
    known = {found.model_id for found in models}
    found = (path.name for path in model_folder(store, "").glob("m-*") if path.is_dir())
    return {name: False for name in found if name not in known}


def model_folder(store: Store, model_id: str) -> Path:
    return store.root / "mlflow-artifacts" / "models" / model_id


def version_of(found: Any) -> RegisteredVersion:
    recipes = tuple(found.tags[tag] for tag in RECIPE_TAGS if tag in found.tags)
    return RegisteredVersion(name=found.name, version=str(found.version), recipes=recipes)
