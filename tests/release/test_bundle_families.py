"""What a version carries of the families: its own folder, and nothing of another family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.served import stored

from model.families import FAMILIES_OF_POINTS, MODULES
from tasks.release.bundle import served_source, source_digest, write_bundle
from tasks.runtime import code_closure

FOLDERS = {family: row["module"].partition(".")[0] for family, row in MODULES.items()}


def families_in(modules: list[str]) -> set[str]:
    """The folders of families that modules lie in."""
    return {name.split(".")[2] for name in modules if name.startswith("model.families.")}


def folders_written(family: str, folder: Path) -> set[str]:
    """The folders of families in a bundle that is really written."""
    (folder / "trained").mkdir()
    trained = stored(folder / "trained", family)
    bundle = write_bundle(folder / "bundle", trained, {})
    return {path.name for path in (bundle / "model" / "families").iterdir() if path.is_dir()}


@pytest.mark.parametrize("family", FAMILIES_OF_POINTS)
def test_a_bundle_holds_its_own_family_alone(family, tmp_path):
    assert families_in(list(served_source(family))) == {FOLDERS[family]}
    assert folders_written(family, tmp_path) == {FOLDERS[family]}


@pytest.mark.parametrize(
    "planted",
    ["from ..patch import network", "def late():\n    import model.families.patch.network"],
)
def test_a_planted_import_of_another_family_is_seen(planted, tmp_path, monkeypatch):
    read = code_closure.source_text

    def source_text(path: Path) -> str:
        is_own = path.match("families/chemin/network.py")
        return read(path) + (f"\n{planted}\n" if is_own else "")

    monkeypatch.setattr(code_closure, "source_text", source_text)
    assert families_in(list(served_source("chemin"))) == {"chemin", "patch"}
    assert folders_written("chemin", tmp_path) == {"chemin", "patch"}


def test_a_bundle_names_its_own_family_alone(tmp_path, monkeypatch):
    before = source_digest("chemin")
    monkeypatch.setitem(MODULES, "another", MODULES["patch"])
    folders_written("chemin", tmp_path)
    named = tmp_path / "bundle" / "model" / "families" / "modules.json"
    assert json.loads(named.read_bytes()) == {"chemin": MODULES["chemin"]}
    assert source_digest("chemin") == before
