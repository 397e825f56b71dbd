"""The drift watch: a model that falls behind the baselines on new data is marked, and said so."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import ships
from helpers.places import PROJECT

from tasks.catalog.run import recorded_run
from tasks.evaluate.transfer import transfer
from tasks.registry.client import registry
from tasks.release import register
from tasks.release.drift_watch import HOLDS, require_registered, watched
from tasks.runtime.errors import ConfigError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

NAME = "trajfoundry-chemin-hurdat2"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """A store of its own with two versions: one that is good, and one that hardly learned."""
    good, bad = ships.good(), ships.bad()
    root = tmp_path_factory.mktemp("watched") / "store"
    shutil.copytree(
        good.store.root, root, ignore=shutil.ignore_patterns("mlflow*", "mlartifacts", ".released")
    )
    for made in (good, bad):
        own = replace(made, store=Store(root))
        register.register(own, own.reported)
    return Store(root)


def found_of(store: Store, number: int, num_test_trips: int = 24):
    address = f"models:/{NAME}/{number}"
    with without_orchestrator(), recorded_run(store, "watch", "hurdat2"):
        sizes = {"train": 20, "validation": 4, "test": num_test_trips}
        shards = ships.stored_shards(store, seed=5, sizes=sizes)  # what was ingested since
        scores = transfer(ships.config_of(max_steps=40), address, shards, store)
        return watched("hurdat2", address, scores, store)


def tags_of(store: Store, number: int) -> dict[str, str]:
    with registry(store) as client:
        return dict(client.get_model_version(NAME, str(number)).tags)


def test_a_model_that_holds_is_marked_as_such(store):
    found = found_of(store, 1)
    assert found.behind == ()
    assert "nowhere" in found.line
    tags = tags_of(store, 1)
    assert (tags["drift"], tags["drift_dataset"]) == (HOLDS, "hurdat2")


def test_a_model_that_fell_behind_names_the_questions(store):
    found = found_of(store, 2)
    assert any(one.startswith("forecast at step 4, times given (skill -") for one in found.behind)
    assert found.line.startswith(f"models:/{NAME}/2 has fallen behind the best baseline")
    assert tags_of(store, 2)["drift"] == "; ".join(found.behind)
    assert tags_of(store, 1)["drift"] == HOLDS


def test_too_few_windows_say_nothing_of_a_model(store):
    found = found_of(store, 2, num_test_trips=4)
    assert (found.behind, found.is_judged) == ((), False)
    assert "too few to judge" in found.line
    assert tags_of(store, 2)["drift"] == "too few to judge"


def test_only_what_is_registered_can_be_marked():
    require_registered("models:/a@champion")
    with pytest.raises(ConfigError, match="some/folder is not registered"):
        require_registered("some/folder")


@pytest.mark.slow
def test_a_fall_is_an_event_of_prefect(tmp_path):
    """The storms' own model, hardly trained, watched on the storms through a real server."""
    store, model = tmp_path / "store", f"models:/{NAME}/1"
    trained = ("--model.preset", "tiny", "--train.max_steps", "1", "--no-server")
    ran(tmp_path, "run", "--store", str(store), *trained)
    told = json.loads(ran(tmp_path, "watch", "--store", str(store), "--model", model, "--json"))
    assert told["behind"]
    events = [
        row
        for path in store.rglob("prefect.db")
        for row in sqlite3.connect(path).execute(
            "select resource_id, payload from events where event = 'trajfoundry.model.fell-behind'"
        )
    ]
    [(resource, payload)] = events
    assert resource == f"trajfoundry.model.{NAME}"
    assert json.loads(payload)["behind"] == told["behind"]


def ran(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
