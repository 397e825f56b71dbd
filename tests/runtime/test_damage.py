"""Damage: a flipped byte is found before it is used, and its folder is made again."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
from helpers.small_store import SMALL, copied, flip, folders, hashes, largest, run
from helpers.storms import storms

import tasks.runtime.store as store_module
from flows.steps import prepared
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.ingest import ingest
from tasks.pretrain.train import train
from tasks.registry.initial_weights import SERVING, WEIGHTS, initial_digest, stored_files
from tasks.runtime.errors import Damaged, DataError, UnreadableVersion
from tasks.runtime.file_hashes import TICK_NS, sha256_file
from tasks.runtime.manifest import MANIFEST, Recipe
from tasks.runtime.run_records import read_records
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store

# A setting of each stage that reads what the stage before has made.
LATER = {
    "part": {"clean": {"min_points": 6}},
    "snapshot": {"clean": {"min_points": 6}},
    "clean": {"region": {"min_count": 3}},
    "features": {"window": SMALL["window"] | {"stride": 3}},
    "split": {"window": SMALL["window"] | {"stride": 3}},
    "regions": {"window": SMALL["window"] | {"stride": 3}},
    "shards": {"train": {"max_steps": 3}},
    "train": {"assess": SMALL["assess"] | {"num_bootstrap": 101}},
}
UNTIL = {"shards": "train", "train": "evaluate"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "hurdat2-made-up.txt"
    path.write_text(storms(40, 16))
    return path


@pytest.fixture(scope="module")
def sound(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("sound") / "store", source).root


@pytest.mark.parametrize("stage", LATER)
def test_a_flipped_byte_is_found_and_made_again(stage, sound, source, tmp_path):
    until = UNTIL.get(stage, "shards")
    expected = hashes(run(copied(sound, tmp_path / "1"), source, until, **LATER[stage]).root)
    root = copied(sound, tmp_path / "2")
    if stage == "train":
        run(root, source, "train")
    folder = min((root / stage).glob("*/*"))
    path = largest(folder)
    flip(path, path.stat().st_size // 2, times_stay=True)
    store = run(root, source, until, **LATER[stage])
    assert hashes(root) == expected
    [aside] = store.aside.iterdir()
    assert aside.name.startswith(f"{stage}-hurdat2-{folder.name}-")
    assert (aside / path.name).is_file(), "it is kept, whatever it holds"
    newest = read_records(store)[-1]
    receipts = [one for found in newest.receipts.values() for one in found]
    assert len(receipts) == len({receipt.place for receipt in receipts})


def test_in_a_flow_the_stage_before_runs_again_as_a_task(sound, source, tmp_path, prefect_api_url):
    from prefect import flow

    changes = {"window": SMALL["window"] | {"stride": 3}, "clean": {"min_points": 6}}
    expected = hashes(run(copied(sound, tmp_path / "1"), source, **changes).root)
    root = copied(sound, tmp_path / "2")
    run(root, source, clean={"min_points": 6})
    for stage in ("part", "clean", "features"):
        path = largest(max((root / stage).glob("*/*"), key=lambda path: path.stat().st_mtime))
        flip(path, path.stat().st_size // 2)
    config = PipelineConfig(**(SMALL | changes))

    @flow
    def again() -> None:
        store = Store(root)
        prepared(config, ingest(config, str(source), store), store)

    again()
    found = hashes(root)
    assert {name: found[name] for name in expected} == expected
    asides = sorted(path.name.partition("-")[0] for path in Store(root).aside.iterdir())
    assert asides == ["clean", "features", "part"]


def test_what_nobody_here_can_make_again_is_named_and_set_aside(sound, tmp_path):
    store = Store(copied(sound, tmp_path))
    folder = min((store.root / "clean").glob("*/*"))
    names = {path.name for path in folder.iterdir()}
    flip(folder / "trips.parquet", 100)
    receipt = Receipt(stage="clean", dataset="hurdat2", recipe=folder.name, counts={})
    with pytest.raises(Damaged, match=r"trips\.parquet was changed after it was written"):
        store.sound(receipt)
    assert not folder.exists()
    [aside] = store.aside.iterdir()
    store.sweep()
    assert {path.name for path in aside.iterdir()} == names
    with pytest.raises(Damaged, match="is missing; run the pipeline again"):
        store.sound(receipt)


def test_a_folder_that_another_process_has_made_again_is_not_set_aside(
    sound, tmp_path, monkeypatch
):
    """It was damaged when this process began to read, and is sound when it has read."""
    store = Store(copied(sound, tmp_path))
    folder = min((store.root / "clean").glob("*/*"))
    receipt = Receipt(stage="clean", dataset="hurdat2", recipe=folder.name, counts={})
    twin = Path(shutil.copytree(folder, tmp_path / "twin"))
    flip(folder / "trips.parquet", 100)
    reading = store_module.fault_of

    def slowly(path: Path, names: tuple[str, ...] = ()) -> str:
        fault = reading(path, names)
        if fault:
            path.rename(tmp_path / "set-aside")
            twin.rename(path)
        return fault

    monkeypatch.setattr(store_module, "fault_of", slowly)
    assert store.verify(receipt) == folder
    assert not store.aside.exists()


def test_a_file_that_cannot_be_read_is_damage(sound, tmp_path, monkeypatch):
    store = Store(copied(sound, tmp_path))
    folder = min((store.root / "clean").glob("*/*"))
    receipt = Receipt(stage="clean", dataset="hurdat2", recipe=folder.name, counts={})

    def broken(_path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("tasks.runtime.file_hashes.sha256_file", broken)
    with pytest.raises(Damaged, match="cannot be read: Input/output error"):
        store.verify(receipt)


def test_a_file_that_does_not_belong_is_damage_and_what_a_desktop_hides_is_not(sound, tmp_path):
    store = Store(copied(sound, tmp_path))
    [folder] = (store.root / "shards").glob("*/*")
    receipt = Receipt(stage="shards", dataset="hurdat2", recipe=folder.name, counts={})
    (folder / ".DS_Store").write_text("x")
    assert store.verify(receipt) == folder
    shutil.copy(largest(folder), folder / "train-999.parquet")
    with pytest.raises(Damaged, match=r"train-999\.parquet does not belong to it"):
        store.verify(receipt)


def test_a_step_that_is_made_again_otherwise_is_not_taken_for_the_same(sound, source, tmp_path):
    """As after an upgrade of a library: the name that a later recipe holds would not be true."""
    store = Store(copied(sound, tmp_path))
    config = PipelineConfig(**SMALL)
    with without_orchestrator():
        data = prepared(config, ingest(config, str(source), store), store)
        other = data.shards.model_copy(update={"content": "0" * 32})
        with pytest.raises(DataError, match="holds something else than before"):
            train(config, other, store)


def test_damaged_weights_are_not_gone_on_from(store, tmp_path):
    """A trained model in a store, and one that was copied from the registry."""
    made = Recipe(stage="train", dataset="toy", code={}, sql={}, settings={}, inputs={})
    with store.draft() as draft:
        for name in stored_files(draft):
            (draft / name).write_text(name * 99)
        store.publish(draft, made, {}, licence="ours")
    folder = store.folder(made)
    bundle = Path(shutil.copytree(folder, tmp_path / "bundle"))
    (bundle / MANIFEST).unlink()
    facts = {"weights_sha256": sha256_file(folder / WEIGHTS)}
    (bundle / SERVING).write_text(json.dumps(facts))
    assert initial_digest(str(folder), store) == initial_digest(str(bundle), store)
    for place in (folder, bundle):
        flip(place / WEIGHTS, 100)
        with pytest.raises(DataError, match=r"is damaged: weights\.safetensors was changed"):
            initial_digest(str(place), store)


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(bytes(1_000))
    later_ns = path.stat().st_ctime_ns + 2 * TICK_NS
    monkeypatch.setattr("time.time_ns", lambda: later_ns)
    before = sha256_file(path)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert sha256_file(path) == before, "it is not read"
    monkeypatch.undo()
    flip(path, 10, times_stay=True)
    assert sha256_file(path) != before


def flips(root: Path, stride: int) -> list[tuple[Path, int]]:
    """Each n-th byte of the files of a store, counted through all of them; of each at least one."""
    found, passed = [], 0
    for folder in folders(root):
        for path in sorted(folder.iterdir()):
            size = path.stat().st_size
            places = range(-passed % stride, size, stride) or [size // 2]
            found += [(path, place) for place in places]
            passed += size
    return found


@pytest.mark.parametrize("stride", [39_997, pytest.param(997, marks=pytest.mark.slow)])
def test_every_flip_is_found_by_whoever_reads_the_folder(stride, sound, tmp_path):
    root = copied(sound, tmp_path)
    store, flipped = Store(root), flips(root, stride)
    assert len(flipped) > len(hashes(root))
    for path, place in flipped:
        stage, dataset, recipe = path.parent.relative_to(root).parts
        receipt = Receipt(stage=stage, dataset=dataset, recipe=recipe, counts={})
        flip(path, place)
        with pytest.raises((Damaged, UnreadableVersion)):  # one is the number of the schema
            store.verify(receipt)
        for aside in store.aside.glob("*"):
            aside.rename(path.parent)
        flip(path, place)
        assert store.verify(receipt) == path.parent, "it is put right"


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_one_flip_in_every_file_changes_nothing_that_is_made_of_it(sound, source, tmp_path):
    changes = {"clean": {"min_points": 6}, "window": SMALL["window"] | {"stride": 3}}
    expected = hashes(run(copied(sound, tmp_path / "expected"), source, **changes).root)
    for number, (path, place) in enumerate(flips(sound, 1 << 40)):
        root = copied(sound, tmp_path / str(number))
        flip(root / path.relative_to(sound), place)
        run(root, source, **changes)
        found = hashes(root)
        for name, digest in expected.items():
            is_unread = (root / name) == (root / path.relative_to(sound))
            assert found[name] == digest or is_unread, (path, name)
        shutil.rmtree(root)
