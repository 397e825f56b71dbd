"""A store that was moved or copied keeps its models, and says so where it cannot."""

from __future__ import annotations

import shutil
import sqlite3
import warnings
from pathlib import Path

import pytest
from helpers.served import stored

from flows import cli
from tasks.registry.client import experiment_id, registry
from tasks.registry.models import fetch_bundle
from tasks.registry.moved import heal
from tasks.release import register
from tasks.release.bundle import ENTRY, example_points, write_bundle
from tasks.runtime.errors import ConfigError
from tasks.runtime.store import Store

NAME = "trajfoundry-chemin-toy"
DEFAULTS = {"task": "forecast", "horizon": 4, "num_samples": 8, "seed": 3, "zone": "UTC"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store, with a blank in its name, that holds one registered model."""
    root = tmp_path_factory.mktemp("made") / "a store"
    store = Store(root)
    store.prepare()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

    with (
        registry(store) as client,
        mlflow.start_run(experiment_id=experiment_id(client, store)) as run,
    ):
        bundle = write_bundle(root / "bundle", stored(root, "chemin"), DEFAULTS)
        model = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(ENTRY),
            artifacts={"bundle": bundle.as_uri()},
            signature=register.signature(DEFAULTS, "chemin"),
            pip_requirements=["mlflow"],
        )
        client.create_registered_model(NAME)
        client.create_model_version(NAME, model.model_uri, run.info.run_id, model_id=model.model_id)
        client.set_registered_model_alias(NAME, "candidate", "1")
    return root


@pytest.fixture
def copied(made, tmp_path) -> Store:
    """A copy of the store, whose original is still there."""
    shutil.copytree(made, tmp_path / "copy")
    return Store(tmp_path / "copy")


def num_weights(store: Store) -> int:
    """The size of the weights that the registry of a store leads to."""
    with store.draft() as scratch:
        folder = fetch_bundle(f"models:/{NAME}@candidate", store, scratch, "--train.init")
        return (folder / "weights.safetensors").stat().st_size


def addresses(store: Store) -> str:
    with sqlite3.connect(store.root / "mlflow.db") as database:
        text = "\n".join(database.iterdump())
    database.close()
    return text


def test_a_copy_has_files_of_its_own(made, copied):
    assert made.as_uri() in addresses(copied)
    assert num_weights(copied) > 0
    assert made.as_uri() not in addresses(copied)
    assert copied.root.as_uri() in addresses(copied)
    assert num_weights(Store(made)) > 0
    assert copied.root.as_uri() not in addresses(Store(made))


def test_a_moved_store_is_healed_by_cache_rebuild(made, copied, tmp_path, capsys):
    """MLflow alone finds the files afterwards, without any other command of ours."""
    original = made.rename(made.with_name("hidden"))
    try:
        assert cli.main(["cache", "rebuild", "--store", str(copied.root)]) == 0
        told = capsys.readouterr().out.splitlines()
        assert told[0] == str(copied.warehouse)
        assert "addresses put right" in told[1]
        assert len(told) == 2
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{copied.root / 'mlflow.db'}")
        try:
            model = mlflow.pyfunc.load_model(f"models:/{NAME}@candidate")
        finally:
            mlflow.set_tracking_uri("")
        assert len(model.predict(example_points())) == 4
        assert cli.main(["cache", "rebuild", "--store", str(copied.root)]) == 0
        assert capsys.readouterr().out.splitlines() == [str(copied.warehouse)]
    finally:
        original.rename(made)


def test_a_version_of_a_moved_store_is_found_again(made, copied):
    with registry(copied) as client:
        version = client.get_model_version(NAME, "1")
        assert register.has_files(client, version)
        location = client.get_logged_model(
            version.source.removeprefix("models:/")
        ).artifact_location
        assert location.startswith(copied.root.as_uri())
        assert experiment_id(client, copied) == "1"


def test_files_that_are_nowhere_are_told_in_a_line(made, copied, capsys):
    original = made.rename(made.with_name("hidden"))
    shutil.rmtree(copied.root / "mlflow-artifacts")
    try:
        assert cli.main(["cache", "rebuild", "--store", str(copied.root)]) == 0
        told = capsys.readouterr().out
        assert "the files of 1 model are missing" in told
        assert "put the folder mlflow-artifacts" in told
        with pytest.raises(
            ConfigError, match=r"files of models:.* are missing; if the store was moved"
        ):
            num_weights(copied)
    finally:
        original.rename(made)


def test_a_copy_of_the_database_alone_still_reads_the_files_of_the_original(made, copied):
    shutil.rmtree(copied.root / "mlflow-artifacts")
    assert heal(copied).num_addresses == 0
    assert num_weights(copied) > 0


def test_a_store_without_a_registry_has_nothing_to_heal(store):
    assert heal(store).lines == []
