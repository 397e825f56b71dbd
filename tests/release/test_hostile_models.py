"""Models that bring code of their own: refused by name before anything of them is run."""

from __future__ import annotations

import os
import pickle
import py_compile
import shutil
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from helpers import ships
from pydantic_settings import CliApp, get_subcommand

from flows import cli
from model.families import FAMILIES_OF_POINTS
from tasks.config.pipeline import ForecastConfig
from tasks.registry.client import registry
from tasks.registry.model_code import carried_modules
from tasks.registry.models import loaded_model
from tasks.release.bundle import copy_source, example_points, served_source
from tasks.release.promote import promote
from tasks.release.register import Registration, register
from tasks.runtime.errors import ConfigError
from tasks.runtime.store import Store
from tasks.serve.batch_predict import forecast_file


class Planted:
    """A pickle that leaves a mark where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


@dataclass(frozen=True)
class Registered:
    """A model that was registered as usual, in a store of its own."""

    made: ships.Assessed
    registration: Registration
    folder: Path

    @property
    def store(self) -> Store:
        return self.made.store


@pytest.fixture(scope="module")
def registered(tmp_path_factory) -> Registered:
    root = tmp_path_factory.mktemp("registered") / "store"
    shutil.copytree(ships.good().store.root, root, ignore=shutil.ignore_patterns("mlflow*"))
    made = replace(ships.good(), store=Store(root))
    version = register(made, made.reported)
    with registry(made.store) as client:
        source = client.get_model_version(version.name, version.version).source
        where = client.get_logged_model(source.removeprefix("models:/")).artifact_location
    return Registered(made, version, Path(unquote(urlsplit(where).path)))


@pytest.fixture
def copy(registered, tmp_path) -> Path:
    return Path(shutil.copytree(registered.folder, tmp_path / "model"))


def open_and_close(address: str, store: Store) -> None:
    with loaded_model(address, store):
        pass


def described(folder: Path, **changes: object) -> None:
    """Change what MLflow is told of a model; None takes a line away."""
    text = yaml.safe_load((folder / "MLmodel").read_text())
    flavor = text["flavors"]["python_function"]
    flavor.update(changes)
    text["flavors"]["python_function"] = {k: v for k, v in flavor.items() if v is not None}
    (folder / "MLmodel").write_text(yaml.safe_dump(text))


def marking(mark: Path) -> str:
    return f"\nfrom pathlib import Path as _P\n_P({str(mark)!r}).touch()\n"


def plant_pickle(folder: Path, mark: Path) -> None:
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Planted(mark)))
    described(
        folder,
        python_model="python_model.pkl",
        model_code_path=None,
        loader_module="mlflow.pyfunc.model",
    )


def plant_loader(folder: Path, mark: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "own_loader.py").write_text(marking(mark))
    described(folder, code="code", loader_module="own_loader")


def plant_code_path(folder: Path, mark: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "own.py").write_text(marking(mark))
    described(folder, code="code")


def plant_entry(folder: Path, mark: Path) -> None:
    with (folder / "pyfunc_entry.py").open("a") as file:
        file.write(marking(mark))


def plant_module(folder: Path, mark: Path) -> None:
    with (folder / "artifacts/bundle/model/inference/serving.py").open("a") as file:
        file.write(marking(mark))


def plant_new_module(folder: Path, mark: Path) -> None:
    (folder / "artifacts/bundle/model/inference/secrets.py").write_text(marking(mark))


def plant_library(folder: Path, mark: Path) -> None:
    (folder / "artifacts/bundle/model/inference/serving.so").write_bytes(b"anything")


def plant_other_folder(folder: Path, mark: Path) -> None:
    shutil.copytree(folder, folder / "other")
    plant_entry(folder / "other", mark)
    described(folder, data="other")


def plant_other_bundle(folder: Path, mark: Path) -> None:
    shutil.copytree(folder / "artifacts/bundle", folder / "artifacts/other")
    plant_module_in = folder / "artifacts/other/model/inference/serving.py"
    plant_module_in.write_text(plant_module_in.read_text() + marking(mark))
    place = {"path": "artifacts/other", "uri": "artifacts/other"}
    described(folder, artifacts={"bundle": place})


PLANTS: dict[Callable[[Path, Path], None], str] = {
    plant_pickle: "it holds a pickle",
    plant_loader: "a loader of its own, own_loader",
    plant_code_path: "names other code",
    plant_entry: "no registered version recorded its code",
    plant_module: "no registered version recorded its code",
    plant_new_module: "no registered version recorded its code",
    plant_library: "holds another file, inference/serving.so",
    plant_other_folder: "names other code",
    plant_other_bundle: "names another bundle",
}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_model_with_other_code_is_refused_by_name(registered, copy, tmp_path, plant):
    mark = tmp_path / "mark"
    plant(copy, mark)
    with pytest.raises(ConfigError, match=f"is not loaded: .*{PLANTS[plant]}") as caught:
        open_and_close(str(copy), registered.store)
    assert str(copy) in str(caught.value)
    assert not mark.exists()


def test_every_way_of_naming_it_ends_alike(registered, copy, tmp_path):
    store, mark = registered.store, tmp_path / "mark"
    plant_pickle(copy, mark)
    with registry(store) as client:
        run = client.create_run(client.search_experiments()[0].experiment_id)
        client.log_artifacts(run.info.run_id, str(copy), "model")
        client.create_registered_model("evil")
        client.create_model_version("evil", copy.as_uri(), run.info.run_id)
        client.set_registered_model_alias("evil", "champion", "1")
    try:
        addresses = (copy.as_uri(), f"runs:/{run.info.run_id}/model", "models:/evil/1")
        for address in (*addresses, "models:/evil@champion"):
            with pytest.raises(ConfigError, match="is not loaded: it holds a pickle"):
                open_and_close(address, store)
        assert not mark.exists()
    finally:
        with registry(store) as client:
            client.delete_registered_model("evil")


def test_code_that_the_registry_knows_is_loaded_wherever_it_lies(registered, copy):
    with loaded_model(str(copy), registered.store) as served:
        assert len(served.forecast(example_points(), horizon=3)) == 3


def test_bytecode_beside_the_source_is_passed_over(registered, copy, tmp_path, monkeypatch):
    """As Python left it, or planted: of the size and date that it expects."""
    mark = tmp_path / "mark"
    source = copy / "artifacts/bundle/model/__init__.py"
    text = source.read_text()
    source.write_text(marking(mark))
    os.utime(source, (1_700_000_000, 1_700_000_000))
    planted = Path(py_compile.compile(str(source), doraise=True))
    header = bytearray(planted.read_bytes())
    source.write_text(text)
    os.utime(source, (1_700_000_000, 1_700_000_000))
    header[12:16] = struct.pack("<I", source.stat().st_size)
    planted.write_bytes(header)
    for trusts in (False, True):
        for name in [name for name in sys.modules if name.startswith("trajfoundry_model_")]:
            monkeypatch.delitem(sys.modules, name)  # loaded before, it would not be read again
        with loaded_model(str(copy), registered.store, trust_model_code=trusts):
            assert mark.exists() is trusts


def test_whoever_trusts_its_code_has_it_run(registered, copy, tmp_path):
    mark = tmp_path / "mark"
    plant_entry(copy, mark)
    with loaded_model(str(copy), registered.store, trust_model_code=True):
        assert mark.exists()


def test_a_file_is_not_forecast_by_a_hostile_model_and_the_flag_is_plain(
    registered, copy, tmp_path
):
    mark, points = tmp_path / "mark", tmp_path / "x.csv"
    plant_entry(copy, mark)
    example_points().to_pandas().to_csv(points, index=False)
    config = ForecastConfig(model=str(copy), horizon=3)
    with pytest.raises(ConfigError, match="--trust-model-code"):
        forecast_file(config, str(points), str(tmp_path / "y.csv"), registered.store)
    assert not mark.exists()
    for flag in ("--trust-model-code", "--trust_model_code"):
        files = ("--input", str(points), "--output", "y.csv")
        command = get_subcommand(CliApp.run(cli.Commands, cli_args=["forecast", *files, flag]))
        assert isinstance(command, cli.Forecast)
        assert command.config.trust_model_code


def test_a_training_begins_with_weights_and_runs_no_code_of_their_folder(
    registered, copy, tmp_path
):
    from tasks.registry.initial_weights import initial_digest

    store, mark = registered.store, tmp_path / "mark"
    plant_pickle(copy, mark)
    with pytest.raises(ConfigError, match=r"train\.init"):
        initial_digest(str(copy), store)
    plant_entry(copy, mark)
    initial_digest(str(copy / "artifacts" / "bundle"), store)
    assert not mark.exists()


def test_the_gate_runs_no_code_that_was_planted_in_a_version(registered, tmp_path):
    """The files of a registered version are changed: the gate's own process must not run them."""
    made, mark = registered.made, tmp_path / "mark"
    entry = registered.folder / "pyfunc_entry.py"
    before = entry.read_text()
    plant_entry(registered.folder, mark)
    try:
        refusal = promote(made, registered.registration)
        assert not refusal.is_champion
        assert "no registered version recorded its code" in refusal.reason
        assert not mark.exists()
    finally:
        entry.write_text(before)


@pytest.mark.parametrize("family", FAMILIES_OF_POINTS)
def test_what_a_bundle_carries_is_what_its_version_records(tmp_path, family):
    copy_source(tmp_path / "model", family)
    assert carried_modules(tmp_path / "model") == dict(sorted(served_source(family).items()))
