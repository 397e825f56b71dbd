"""Finished folders that are deleted, cut or emptied: made again, with the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.fault_runs import content, prepare, storm_file

STAGES = ("part", "snapshot", "clean", "split", "features", "regions", "quality", "shards")


def largest_file(folder: Path) -> Path:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"]
    return max(files or list(folder.glob("*.json")), key=lambda path: path.stat().st_size)


def cut(folder: Path) -> None:
    path = largest_file(folder)
    path.write_bytes(path.read_bytes()[:-1])


def grow(folder: Path) -> None:
    with largest_file(folder).open("ab") as file:
        file.write(b"x")


FAULTS = {
    "deleted": shutil.rmtree,
    "a file deleted": lambda folder: largest_file(folder).unlink(),
    "cut": cut,
    "grown": grow,
    "manifest edited": lambda folder: (folder / "manifest.json").write_text("{}"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("made")
    source = storm_file(folder)
    prepare(folder / "store", source)
    return folder / "store", source, content(folder / "store")


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_is_lost_or_changed_is_made_again(made, fault: Callable[[Path], object]):
    """Every stage loses a folder at once; nothing stale is used."""
    root, source, whole = made
    for stage in STAGES:
        fault(next(iter(sorted((root / stage).glob("*/*/")))))
    prepare(root, source)
    assert content(root) == whole


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_makes_its_own_output_again(made, stage):
    root, source, whole = made
    for fault in FAULTS.values():
        for folder in sorted((root / stage).glob("*/*/")):
            fault(folder)
        prepare(root, source)
        assert content(root) == whole
