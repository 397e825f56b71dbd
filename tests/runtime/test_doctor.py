"""Doctor: what is bad in a store is told, with what hangs on it, and mended without deleting."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.small_store import copied, flip, folders, hashes, run
from helpers.storms import storms

from flows import cli
from tasks.catalog.doctor import examine, lines_of, mend
from tasks.registry.client import experiment_id, registry
from tasks.runtime.errors import StorageError
from tasks.runtime.manifest import MANIFEST, SCHEMA, checksum_of
from tasks.runtime.run_records import read_records
from tasks.runtime.store import Store


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Keep what a command sets in the environment from the tests that follow."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "hurdat2-made-up.txt"
    path.write_text(storms(40, 16))
    return path


@pytest.fixture(scope="module")
def sound(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("sound") / "store", source).root


@pytest.fixture
def ill(sound: Path, tmp_path: Path) -> Store:
    return Store(copied(sound, tmp_path))


def place_of(store: Store, stage: str) -> str:
    return min((store.root / stage).glob("*/*")).relative_to(store.root).as_posix()


def test_a_sound_store_is_told_to_be_so(ill, capsys):
    found = examine(ill)
    assert (found.num_faults, found.num_folders) == (0, len(folders(ill.root)))
    assert found.num_files == len(hashes(ill.root))
    assert lines_of(found)[-1] == "Nothing is wrong."
    assert not (ill.root / "mlflow.db").exists(), "to look makes no registry"
    assert cli.main(["doctor", "--store", str(ill.root)]) == 0
    assert capsys.readouterr().out.splitlines() == lines_of(found)


def test_a_bad_folder_is_told_with_all_that_hangs_on_it(ill):
    clean = place_of(ill, "clean")
    flip(ill.root / clean / "trips.parquet", 50)
    [bad] = examine(ill).bad
    assert (bad.place, bad.fault) == (clean, "trips.parquet was changed after it was written")
    stages = {name.partition("/")[0] for name in bad.dependants}
    assert stages == {"features", "split", "regions", "quality", "shards"}
    assert f"{clean} is bad: {bad.fault}." in lines_of(examine(ill))


@pytest.mark.parametrize("stage", ["part", "snapshot", "clean", "shards"])
def test_what_is_mended_is_made_again_by_the_next_run(stage, ill, sound, source):
    place = place_of(ill, stage)
    flip(ill.root / place / MANIFEST, 300)
    told = mend(ill, examine(ill))
    assert told[-1].endswith(f" trajfoundry run --dataset hurdat2 --store {ill.root}")
    [aside] = ill.aside.iterdir()
    assert f"{place} is set aside as {aside}." in told
    run(ill.root, source)
    assert hashes(ill.root) == hashes(sound)
    assert examine(ill).num_faults == 0
    assert (aside / MANIFEST).is_file()


def test_a_lost_part_is_a_fault_of_the_snapshot_that_points_to_it(ill):
    part = place_of(ill, "part")
    shutil.rmtree(ill.root / part)
    [bad] = examine(ill).bad
    assert bad.fault == f"it points to {part}, which is not there"
    assert bad.place == place_of(ill, "snapshot")


def test_a_folder_of_a_newer_version_is_told_and_left_alone(ill):
    folder = ill.root / place_of(ill, "split")
    told = json.loads((folder / MANIFEST).read_text()) | {"schema": SCHEMA + 1, "files": {}}
    (folder / MANIFEST).write_text(json.dumps(told | {"checksum": checksum_of(told)}))
    before = sorted(folder.iterdir())
    found = examine(ill)
    assert f"(schema {SCHEMA + 1})" in found.newer[0]
    assert found.bad == ()
    mend(ill, found)
    assert sorted(folder.iterdir()) == before


def test_a_changed_run_record_is_told_and_not_believed(ill):
    [path] = ill.runs.glob("*.json")
    path.write_text(path.read_text().replace('"is_cached": false', '"is_cached": true '))
    assert read_records(ill) == []
    found = examine(ill)
    assert found.records == (path.name,)
    mend(ill, found)
    assert examine(ill).num_faults == 0


def test_orphans_in_mlflow_are_told_and_mended(ill):
    with registry(ill) as client:
        experiment = experiment_id(client, ill)
        run_id = client.create_run(experiment).info.run_id
        client.set_terminated(client.create_run(experiment).info.run_id)
        nameless = client.create_logged_model(experiment, name="nameless").model_id
        named = client.create_logged_model(experiment, name="named").model_id
        client.create_registered_model("named")
        made_of = {"train_recipe": place_of(ill, "shards").rpartition("/")[2]}
        client.create_model_version("named", f"models:/{named}", model_id=named, tags=made_of)
    models = ill.root / "mlflow-artifacts" / "models"
    for name in (nameless, named, "m-unknown"):
        (models / name).mkdir(parents=True)
    flip(ill.root / place_of(ill, "split") / "split.parquet", 50)

    found = examine(ill)
    assert found.registry.running == (run_id,)
    assert found.registry.models == tuple(sorted([nameless, "m-unknown"]))
    assert found.bad[0].dependants[-1] == "version 1 of named"
    told = mend(ill, found)
    assert "1 run of MLflow ended as killed." in told
    assert "2 models without a version set aside." in told
    assert examine(ill).num_faults == 0
    assert [path.name for path in models.iterdir()] == [named]
    asides = {path.name.rpartition("-")[0] for path in ill.aside.iterdir()}
    assert {f"mlflow-artifacts-models-{name}" for name in (nameless, "m-unknown")} <= asides
    with registry(ill) as client:
        assert client.get_run(run_id).info.status == "KILLED"


def test_other_libraries_than_the_installed_ones_are_told(ill):
    folder = ill.root / place_of(ill, "split")
    told = json.loads((folder / MANIFEST).read_text())
    told["versions"]["numpy"] = "1.0.0"
    (folder / MANIFEST).write_text(json.dumps(told | {"checksum": checksum_of(told)}))
    found = examine(ill)
    assert found.libraries["numpy"]["1.0.0"] == 1
    assert any(line.startswith("1 folder made with numpy 1.0.0; now ") for line in lines_of(found))
    assert found.num_faults == 0, "to know is enough"


def test_the_command_ends_with_a_line_that_says_how_to_mend(ill, capsys):
    flip(ill.root / place_of(ill, "split") / "split.parquet", 50)
    assert cli.main(["doctor", "--store", str(ill.root), "--json"]) == StorageError.exit_code
    printed = capsys.readouterr()
    assert json.loads(printed.out)["bad"][0]["place"] == place_of(ill, "split")
    assert printed.err.startswith("trajfoundry: faults in the store: 1; mend ")
    assert cli.main(["doctor", "--store", str(ill.root), "--mend"]) == 0
    assert cli.main(["doctor", "--store", str(ill.root)]) == 0
    said = capsys.readouterr().out
    assert "1 folder set aside earlier can be looked at, or deleted, in " in said


def test_without_a_store_there_is_nothing_to_verify(tmp_path, capsys):
    assert cli.main(["doctor", "--store", str(tmp_path / "none")]) == 2
    assert "there is no store at " in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
