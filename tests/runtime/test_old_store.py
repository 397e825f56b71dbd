"""A store that was written before manifests had a number: it is read, and its champion answers.

It was made of `storms(40, 16)`. Its reports and what MLflow logged beside the model are left out,
and its addresses stand for a folder that is no more.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from helpers.places import FIXTURES
from helpers.storms import storms

from flows.steps import prepared
from tasks.catalog.run import recorded_run
from tasks.catalog.warehouse import current_receipts, points_in_force
from tasks.config.pipeline import ForecastConfig, PipelineConfig
from tasks.ingest.ingest import ingest
from tasks.ingest.snapshot import read_snapshot
from tasks.release.bundle import example_points
from tasks.runtime.errors import UnreadableVersion
from tasks.runtime.manifest import MANIFEST, SCHEMA, checksum_of, read_manifest
from tasks.runtime.run_records import read_records
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store
from tasks.serve.batch_predict import forecast_file

PREPARED = {"snapshot", "clean", "split", "features", "regions", "shards"}
STAGES = PREPARED | {"part", "probe", "train", "evaluate"}
SMALL = {
    "window": {"num_context": 4, "num_horizon": 4, "stride": 4},
    "assess": {"horizons": (1, 4), "gate_horizon": 4},
}
ADDRESSES = {
    "runs": "artifact_uri",
    "experiments": "artifact_location",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """The store as it was, at a place of this test."""
    with tarfile.open(FIXTURES / "old_store" / "schema-1.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    store = Store(tmp_path / "store")
    registry = sqlite3.connect(store.root / "mlflow.db")
    for table, column in ADDRESSES.items():
        query = f"update {table} set {column} = replace({column}, '/store-of-before', ?)"
        registry.execute(query, (str(store.root),))
    registry.commit()
    registry.close()
    return store


def folders(store: Store) -> list[Path]:
    return sorted(path.parent for path in store.root.glob(f"*/*/*/{MANIFEST}"))


def receipt_at(folder: Path) -> Receipt:
    stage, dataset, recipe = folder.parts[-3:]
    return Receipt(stage=stage, dataset=dataset, recipe=recipe, counts={})


def test_every_folder_is_read_and_sound(old):
    """Were the fixture made anew, it would test nothing."""
    found = folders(old)
    assert {folder.parts[-3] for folder in found} == STAGES
    for folder in found:
        assert "schema" not in json.loads((folder / MANIFEST).read_text())
        manifest = read_manifest(folder)
        assert manifest is not None
        assert manifest.version == SCHEMA
        assert old.verify(receipt_at(folder)) == folder


def test_its_points_are_those_in_force(old):
    current = current_receipts(old, read_records(old))["hurdat2"]
    assert PREPARED <= set(current)
    snapshot = read_snapshot(old, points_in_force("hurdat2", old))
    paths = {path for bucket in snapshot.buckets for path, _ in snapshot.points(bucket)}
    assert sum(pq.read_metadata(path).num_rows for path in paths) == 640


def test_a_run_goes_on_in_it_and_removes_nothing(old, tmp_path):
    before = folders(old)
    source = tmp_path / "hurdat2-made-up.txt"
    source.write_text(storms(40, 16))
    config = PipelineConfig(**SMALL)
    with without_orchestrator(), recorded_run(old, "prepare", config.dataset):
        prepared(config, ingest(config, str(source), old), old)
    assert set(before) <= set(folders(old))
    assert not old.aside.exists()


def test_its_champion_answers(old, tmp_path):
    points, answer = tmp_path / "points.csv", tmp_path / "answer.csv"
    pyarrow.csv.write_csv(example_points(), points)
    old.prepare()
    config = ForecastConfig(
        model="models:/trajfoundry-chemin-hurdat2@champion", horizon=3, num_samples=16
    )
    told = forecast_file(config, str(points), str(answer), old)
    assert (told.num_points, told.num_trajectories) == (3, 1)


# Newer forms ------------------------------------------------------------------------------------


def rewritten(folder: Path, **changes: object) -> None:
    """A manifest as a newer version would have written it, with its own checksum."""
    told = json.loads((folder / MANIFEST).read_text()) | changes
    (folder / MANIFEST).write_text(json.dumps(told | {"checksum": checksum_of(told)}))


def test_fields_that_a_newer_version_added_are_read(old):
    folder = folders(old)[0]
    told = json.loads((folder / MANIFEST).read_text())
    files = [file | {"row_groups": 3} for file in told["files"]]
    rewritten(folder, schema=SCHEMA + 1, files=files, signature={"key": "k"})
    assert old.verify(receipt_at(folder)) == folder
    assert old.is_complete(receipt_at(folder))


def test_a_form_that_cannot_be_read_is_refused_and_left_where_it_is(old, tmp_path):
    [folder] = (old.root / "split").glob("*/*")
    versions = {"trajfoundry": "9.1.0"}
    rewritten(folder, schema=SCHEMA + 7, files={"split.parquet": 3}, versions=versions)
    said = r"was written by trajfoundry 9\.1\.0 \(schema 9\) and cannot be read by this version"
    with pytest.raises(UnreadableVersion, match=said):
        old.verify(receipt_at(folder))
    with pytest.raises(UnreadableVersion, match=said):
        old.receipt(receipt_at(folder))
    assert not old.is_complete(receipt_at(folder))
    assert (folder / "split.parquet").is_file()


def test_a_run_that_would_make_it_anew_stops_at_once(store, tmp_path):
    source = tmp_path / "hurdat2-made-up.txt"
    source.write_text(storms(40, 16))
    config = PipelineConfig(**SMALL)
    with without_orchestrator(), recorded_run(store, "prepare", config.dataset):
        prepared(config, ingest(config, str(source), store), store)
    [folder] = (store.root / "split").glob("*/*")
    rewritten(folder, schema=SCHEMA + 1, files={})
    before = sorted(folder.iterdir())
    with (
        pytest.raises(UnreadableVersion, match="was written by trajfoundry"),
        without_orchestrator(),
        recorded_run(store, "prepare", config.dataset),
    ):
        prepared(config, ingest(config, str(source), store), store)
    assert sorted(folder.iterdir()) == before
    assert [record.outcome for record in read_records(store)] == ["completed", "failed"]


# What is swept ----------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["none", "newer", "edited", "damaged"])
def test_nothing_whole_is_ever_swept(change, old):
    """As drafts of killed processes, and as folders that earlier versions moved aside."""
    old.prepare()
    [folder] = (old.root / "split").glob("*/*")
    table = (folder / "split.parquet").read_bytes()
    if change == "newer":
        rewritten(folder, schema=SCHEMA + 1, files={"split.parquet": 1})
    elif change == "edited":
        told = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(told | {"licence": "mine"}))
    elif change == "damaged":
        (folder / "split.parquet").write_bytes(table[:-1] + b"x")
    folder.rename(old.drafts / "aside-1")
    old.sweep()
    assert not any(old.drafts.iterdir())
    if change == "none":
        assert old.verify(receipt_at(folder)) == folder, "it is whole: it is published"
    else:
        [aside] = old.aside.iterdir()
        assert {path.name for path in aside.iterdir()} == {MANIFEST, "split.parquet"}


def test_what_is_not_whole_is_swept(old):
    old.prepare()
    [folder] = (old.root / "split").glob("*/*")
    (folder / "split.parquet").unlink()
    folder.rename(old.drafts / "half")
    old.sweep()
    assert not any(old.drafts.iterdir())
    assert not old.aside.exists()
