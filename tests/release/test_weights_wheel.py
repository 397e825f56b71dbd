"""Weights that ship: a wheel of a registered model, what it answers, and what is never built."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
from helpers import ships
from helpers.past import flat
from helpers.places import PROJECT
from helpers.walks import STARTED_US, walk

from flows import cli
from model.inference.shipped import EXAMPLE, MANIFEST, hashes_of, load_shipped
from model.interface.memory.fitting import fitted_memory
from model.interface.memory.joint import JointMemory, read_memory, write_memory
from model.interface.memory.memory import MEMORY_FILE, Memory
from model.interface.memory.paths import PastPaths
from model.interface.named_places import PLACES_FILE
from tasks.config.datasets import DATASETS
from tasks.config.pipeline import ForecastConfig
from tasks.registry.client import registry
from tasks.registry.models import loaded_model
from tasks.release import weights_module, weights_wheel
from tasks.release.bundle import example_points
from tasks.release.origin import ORIGIN_FILE, Origin, Source
from tasks.release.register import register
from tasks.release.weights_wheel import (
    MAX_BYTES,
    build_weights,
    check_code,
    check_origin,
    keep_memory_of_things,
    keep_to_size,
    note,
)
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.store import Store
from tasks.serve.batch_predict import forecast_file

MODEL = "models:/trajfoundry-chemin-hurdat2@candidate"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SimpleNamespace:
    """A registered model in a store of its own, its bundle, and the wheel that is built of it."""
    root = tmp_path_factory.mktemp("weights")
    unmade = shutil.ignore_patterns("mlflow*")
    shutil.copytree(ships.good().store.root, root / "store", ignore=unmade)
    run = replace(ships.good(), store=Store(root / "store"))
    version = register(run, run.reported)
    with registry(run.store) as client:
        source = client.get_model_version(version.name, version.version).source
        where = client.get_logged_model(source.removeprefix("models:/")).artifact_location
    bundle = Path(unquote(urlsplit(where).path)) / "artifacts" / "bundle"
    wheel = build_weights(MODEL, "0.1.2", root / "dist", run.store)
    return SimpleNamespace(store=run.store, bundle=bundle, wheel=wheel, root=root)


@pytest.fixture(scope="module")
def installed(made) -> Path:
    """A folder into which pip has put the wheel, and nothing else."""
    place = made.root / "installed"
    asked = ("install", "--quiet", "--no-index", "--no-deps", "--target", str(place))
    call(sys.executable, "-m", "pip", *asked, made.wheel.path)
    return place


def call(*command: str, **how: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(installed, tmp_path) -> Path:
    """A copy of the installed weights, for whoever damages them."""
    return Path(shutil.copytree(installed / "trajfoundry_weights" / "weights", tmp_path / "copy"))


# The wheel --------------------------------------------------------------------------------------


def test_a_wheel_holds_tensors_json_a_card_and_one_module(made):
    with zipfile.ZipFile(made.wheel.path) as wheel:
        names = {Path(name) for name in wheel.namelist()}
        (metadata,) = (path for path in names if path.name == "METADATA")
        told = wheel.read(metadata.as_posix()).decode()
    assert Path(made.wheel.path).name == "trajfoundry_weights-0.1.2-py3-none-any.whl"
    inside = {path for path in names if path.parts[0] == "trajfoundry_weights"}
    assert {path.suffix for path in inside} == {".safetensors", ".json", ".md", ".py"}
    assert [path.name for path in inside if path.suffix == ".py"] == ["__init__.py"]
    assert "Requires-Dist: trajfoundry~=0." in told
    assert DATASETS["hurdat2"].licence in told  # the card is the page of the package


def test_the_same_weights_make_the_same_wheel(made, tmp_path):
    again = build_weights(MODEL, "0.1.2", tmp_path, made.store)
    assert Path(again.path).read_bytes() == Path(made.wheel.path).read_bytes()
    other = build_weights(MODEL, "0.1.3", tmp_path, made.store)
    assert Path(other.path).read_bytes() != Path(made.wheel.path).read_bytes()


SHUT = """\
import socket
def shut(*given, **named): raise OSError("no network here")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = shut
import sys, pandas as pd
frame = pd.read_json(sys.argv[1], dtype={"trajectory_id": str}, convert_dates=["tracked_at"])
from trajfoundry_weights import load
found = load().forecast(frame, horizon=3, num_samples=0)
heavy = {"mlflow", "prefect", "duckdb"} & {*sys.modules}
print(found[["lon_deg", "lat_deg"]].to_numpy().tolist(), sorted(heavy))
"""


def test_three_lines_answer_offline_as_the_registered_model_does(made, installed, tmp_path):
    frame = example_points().to_pandas()
    frame.to_json(tmp_path / "frame.json", orient="records")
    paths = {"PYTHONPATH": f"{installed}:{PROJECT}", "PATH": "/usr/bin:/bin"}
    told = call(
        *(sys.executable, "-c", SHUT, str(tmp_path / "frame.json")), cwd=tmp_path, env=paths
    )
    with loaded_model(MODEL, made.store) as model:
        expected = model.forecast(frame, horizon=3, num_samples=0)
    # As text, so that no number is rounded; and neither registry nor scheduler is imported.
    assert told == f"{expected[['lon_deg', 'lat_deg']].to_numpy().tolist()} []\n"


# Loading ----------------------------------------------------------------------------------------


def mended(folder: Path) -> None:
    """Tell the manifest of a folder of what its files are now."""
    told = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(told | {"files": hashes_of(folder)}))


def with_manifest(folder: Path, **changes: object) -> None:
    told = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(told | changes))


def flip(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def answer_otherwise(folder: Path) -> None:
    told = json.loads((folder / EXAMPLE).read_text())
    last = np.array([told["points"][-1][name] for name in ("lon_deg", "lat_deg")])
    told["answer"][-1][0] += 0.05 * np.abs(np.array(told["answer"]) - last).max()
    (folder / EXAMPLE).write_text(json.dumps(told))
    mended(folder)


FAULTS: dict[Callable[[Path], object], str] = {
    flip: "damaged: weights.safetensors was changed",
    lambda folder: (folder / "normaliser.json").unlink(): "normaliser.json is missing",
    lambda folder: (folder / "memory.safetensors").touch(): "memory.safetensors does not belong",
    lambda folder: (folder / MANIFEST).unlink(): "no readable manifest.json",
    lambda folder: (folder / MANIFEST).write_text("[]"): "no readable manifest.json",
    lambda folder: with_manifest(folder, schema=2): "are written in form 2",
    lambda folder: with_manifest(folder, trajfoundry="0.0.7"): "were built for trajfoundry 0.0,",
    answer_otherwise: "makes other answers of these weights",
}


@pytest.mark.parametrize("plant", FAULTS)
def test_damaged_or_other_weights_are_refused(folder, plant):
    load_shipped(folder)  # as they came
    plant(folder)
    with pytest.raises(ValueError, match=FAULTS[plant]):
        load_shipped(folder)


def test_without_the_code_the_wheel_says_what_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "model.inference.shipped", None)
    with pytest.raises(ModuleNotFoundError, match="pip install trajfoundry"):
        weights_module.load()


# The command line -------------------------------------------------------------------------------


def test_a_file_is_forecast_by_what_is_installed(made, installed, tmp_path, monkeypatch):
    given, output = tmp_path / "points.parquet", tmp_path / "found.parquet"
    points = example_points().to_pandas()
    points.to_parquet(given)
    asked = ForecastConfig(model="weights", horizon=3)
    with pytest.raises(ConfigError, match="trajfoundry-weights is not installed; pip install"):
        forecast_file(asked, str(given), str(output), made.store)
    monkeypatch.syspath_prepend(str(installed))
    forecast_file(asked, str(given), str(output), made.store)
    with loaded_model(MODEL, made.store) as model:
        expected = model.forecast(points, horizon=3, num_samples=64, seed=0)
    pd.testing.assert_frame_equal(pd.read_parquet(output), expected)
    flip(installed / "trajfoundry_weights" / "weights")
    try:
        with pytest.raises(DataError, match=r"damaged: weights\.safetensors was changed"):
            forecast_file(asked, str(given), str(output), made.store)
    finally:
        flip(installed / "trajfoundry_weights" / "weights")


def test_the_command_builds_and_tells_what(made, tmp_path, capsys):
    given = ("--model", MODEL, "--out", str(tmp_path), "--store", str(made.store.root))
    assert cli.main(["weights", *given, "--version", "0.2.0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert Path(told["path"]) == tmp_path / "trajfoundry_weights-0.2.0-py3-none-any.whl"
    assert told["num_tensor_bytes"] == made.wheel.num_tensor_bytes
    assert told["weights_sha256"] == hashes_of(made.bundle)["weights.safetensors"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--version", "newest"], "newest is no version"),
        (["--model", "/tmp"], "/tmp is not registered; give models:/NAME@candidate"),
        (["--model", "models:/nobody@candidate"], "no model models:/nobody@candidate"),
    ],
)
def test_a_wrong_request_is_told(made, tmp_path, capsys, flags, said):
    asked = ["weights", "--store", str(made.store.root), "--out", str(tmp_path), *flags]
    assert cli.main(asked) == ConfigError.exit_code
    assert said in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


# What is never built ----------------------------------------------------------------------------


def source(name: str, **changes: object) -> Source:
    return Source.of(DATASETS[name], {}).model_copy(update=changes)


def test_a_version_carries_what_it_was_trained_on(made):
    origin = Origin.model_validate_json((made.bundle / ORIGIN_FILE).read_bytes())
    assert [one.dataset for one in origin.sources] == ["hurdat2"]
    assert origin.sources[0].split_hash
    assert not origin.init


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (Origin(sources=(source("hurdat2"), source("geolife"))), "GeoLife.*may not be passed on"),
        (Origin(sources=(source("opensky"),)), "OpenSky.*may not be passed on"),
        (Origin(sources=()), "nothing that is known"),
        (Origin(sources=(source("hurdat2"),), init="models:/other@candidate"), "went on from"),
    ],
)
def test_what_may_not_be_passed_on_is_not_built(made, tmp_path, origin, said):
    with pytest.raises(ConfigError, match=said):
        check_origin(origin, MODEL)
    # And through the whole command, of a version that says so of itself.
    kept = (made.bundle / ORIGIN_FILE).read_bytes()
    (made.bundle / ORIGIN_FILE).write_text(origin.model_dump_json())
    try:
        with pytest.raises(ConfigError, match=said):
            build_weights(MODEL, "", tmp_path, made.store)
    finally:
        (made.bundle / ORIGIN_FILE).write_bytes(kept)
    assert not [*tmp_path.iterdir()]


def test_a_version_that_does_not_tell_is_not_built(made, tmp_path):
    kept = (made.bundle / ORIGIN_FILE).rename(tmp_path / "kept.json")
    try:
        with pytest.raises(ConfigError, match="does not tell what it was trained on"):
            build_weights(MODEL, "", tmp_path / "dist", made.store)
    finally:
        kept.rename(made.bundle / ORIGIN_FILE)


def test_weights_of_other_code_are_not_built(made, tmp_path):
    bundle = Path(shutil.copytree(made.bundle, tmp_path / "bundle"))
    check_code(bundle, MODEL)
    with (bundle / "model" / "inference" / "serving.py").open("a") as file:
        file.write("\nTRAJECTORIES_AT_ONCE = 7\n")
    with pytest.raises(ConfigError, match="answered by other code than this"):
        check_code(bundle, MODEL)
    told = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps(told | {"family": "trajgpt"}))
    with pytest.raises(ConfigError, match="trajgpt does not forecast points"):
        check_code(bundle, MODEL)


def memory_of_walks(seed: int, is_personal: bool = False) -> Memory:
    lon_deg_BT, lat_deg_BT, time_s_BT = (value.numpy() for value in walk(8, 24, seed=seed))
    trips = list(zip(time_s_BT, lon_deg_BT, lat_deg_BT, strict=True))
    memory = fitted_memory(PastPaths.of(flat(trips, STARTED_US), np.arange(8)))
    return replace(memory, is_personal=is_personal)


def test_a_memory_goes_along_without_what_is_made_up(tmp_path):
    real, made_up, also = (memory_of_walks(seed) for seed in (1, 2, 3))
    write_memory(tmp_path, JointMemory((real, None, made_up, also)))
    sources = [source(name) for name in ("hurdat2", "gpx", "synthetic", "ais_noaa")]
    keep_memory_of_things(tmp_path, sources)
    kept = read_memory(tmp_path)
    assert isinstance(kept, JointMemory)
    for found, expected in zip(kept.members, (real, also), strict=True):
        np.testing.assert_array_equal(found.paths.points.lon_deg_N, expected.paths.points.lon_deg_N)
    with pytest.raises(DataError, match="of other data than it was trained on"):
        keep_memory_of_things(tmp_path, sources)
    write_memory(tmp_path, made_up)
    keep_memory_of_things(tmp_path, [source("synthetic")])
    assert not (tmp_path / MEMORY_FILE).exists()
    assert "carries no memory" in note(tmp_path, [source("synthetic")])
    write_memory(tmp_path, real)
    told = note(tmp_path, [source("synthetic"), source("hurdat2"), source("gpx")])
    assert "HURDAT2" in told
    assert "Made-up" not in told
    assert "GPX" not in told


def test_a_memory_of_people_is_never_built(tmp_path):
    write_memory(tmp_path, memory_of_walks(1, is_personal=True))
    with pytest.raises(DataError, match="holds the trips of people"):
        keep_memory_of_things(tmp_path, [source("hurdat2")])


def test_a_wheel_stays_small(tmp_path):
    """The memory is left out first; what is too large without it is refused."""
    (tmp_path / "weights.safetensors").write_bytes(bytes(MAX_BYTES))
    keep_to_size(tmp_path)
    (tmp_path / MEMORY_FILE).write_bytes(b"1")
    keep_to_size(tmp_path)
    assert not (tmp_path / MEMORY_FILE).exists()
    (tmp_path / "weights.safetensors").write_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=r"10,000,001 bytes of safetensors.* smaller preset"):
        keep_to_size(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"")
    (tmp_path / PLACES_FILE).write_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="smaller table of places"):
        keep_to_size(tmp_path)


def test_a_title_cannot_change_how_the_wheel_is_built(tmp_path):
    folder = tmp_path / weights_wheel.MODULE / "weights"
    folder.mkdir(parents=True)
    (folder / "card.md").write_text("card")
    title = 'x"\nversion = "9\\'
    weights_wheel.write_project(folder, "0.1.0", title)
    told = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    assert (told["version"], told["description"]) == (
        "0.1.0",
        "Weights of Trajectory Foundry: xversion = 9",
    )
